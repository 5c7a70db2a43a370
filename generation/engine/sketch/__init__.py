"""Where the files of the built-in model `dreamsketch-tiny` lie, and what their SHA-256 must be.

`generation.training` makes them; `manage.py train_sketch` notes their sums in SHA256SUMS, as `sha256sum` writes it.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
WEIGHTS = FOLDER / "weights"
"""A diffusers pipeline folder."""
UPSCALER = FOLDER / "enlarger.safetensors"
"""The upscaler `sketch-2x` (SRVGGNet)."""
JUDGE = FOLDER / "judge.safetensors"
"""The classifier that measures the model; `generation.training.judge` reads it."""
SUMS = FOLDER / "SHA256SUMS"


def expected_sums() -> dict[Path, str]:
    """The SHA-256 in hex of each file of weights that belongs to this repository, by its path."""
    lines = SUMS.read_text().splitlines() if SUMS.exists() else []
    return {FOLDER / name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def write_sums() -> None:
    """Note the sums of the files as they are now: after training, and never otherwise."""
    SUMS.write_text("".join(f"{digest}  {file.relative_to(FOLDER)}\n" for file, digest in _present_sums()))


def _present_sums() -> Iterator[tuple[Path, str]]:
    for file in sorted(FOLDER.rglob("*.safetensors")):
        with file.open("rb") as stream:
            yield file, hashlib.file_digest(stream, "sha256").hexdigest()
