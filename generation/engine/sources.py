"""Where a model's files are, whether they are complete, and how they get here. No torch: the web asks too.

Only safetensors count. A folder that holds pickles alone is treated as if it held nothing, because
unpickling a file runs whatever its author wrote into it.

    is_ready(spec, models_dir="/models")              -> True when nothing needs to be downloaded
    fetch(spec, models_dir="/models").path            -> Path, downloading if need be
"""

import hashlib
import json
import logging
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .catalog import ModelSpec
from .errors import ModelUnavailable

log = logging.getLogger(__name__)

# The parts of each family that have weights, and the file stem their weights have.
WEIGHTED_PARTS = {
    "sd": {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"},
    "sdxl": {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model",
             "text_encoder_2": "model"},
}
PLAIN_PARTS = {"sd": ("tokenizer", "scheduler"), "sdxl": ("tokenizer", "tokenizer_2", "scheduler")}

MAX_HEADER_BYTES = 8 * 2**20
MAX_TENSORS = 20_000


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model was found: `name` as written in the catalogue, `path` a folder or .safetensors file."""

    name: str
    path: Path

    def __str__(self) -> str:
        return self.name


def locate(spec: ModelSpec, *, models_dir=None, cache_dir=None) -> Source | None:
    """The first complete source of `spec` on this machine, or None.

    Looked at in order: local paths of the catalogue, `<models_dir>/<key>`, then what the Hub client has
    in its cache (`cache_dir`, or its own default). Reads directory entries only, no weights.
    """
    for name in _candidates(spec, models_dir):
        path = Path(name)
        if _is_single_file(path) or _is_complete(spec, path):
            return Source(name, path)
    for name in _hub_ids(spec):
        path = _cached_snapshot(name, spec.revision, cache_dir)
        if path and _is_complete(spec, path):
            return Source(name, path)
    return None


def is_ready(spec: ModelSpec, *, models_dir=None, cache_dir=None) -> bool:
    """Whether the model can be loaded without a network."""
    return locate(spec, models_dir=models_dir, cache_dir=cache_dir) is not None


def fetch(
    spec: ModelSpec,
    *,
    models_dir=None,
    cache_dir=None,
    allow_download: bool = True,
    hf_token: str | None = None,
    on_fraction: Callable[[float], None] = lambda fraction: None,
) -> Source:
    """Find the model here, else download it from the first Hub id that has it.

    `on_fraction` is called with 0.0 to 1.0 while bytes arrive; what it raises ends the download. Raises
    ModelUnavailable, whose `details` say what is wrong with each source; also when a file is damaged.
    """
    if spec.family not in WEIGHTED_PARTS:
        reason = f"no engine here runs the family {spec.family}"
        raise ModelUnavailable(f"{spec.title} cannot be run here.", [reason])
    found = locate(spec, models_dir=models_dir, cache_dir=cache_dir)
    tried = [f"{name}: no complete safetensors model there" for name in _candidates(spec, models_dir)]
    if found is None and allow_download:
        for name in _hub_ids(spec):
            try:
                found = Source(name, _download(spec, name, cache_dir, hf_token, on_fraction))
                break
            except (OSError, ValueError, ModelUnavailable) as error:
                log.warning("Cannot download %s from %s: %s", spec.key, name, error)
                tried.append(f"{name}: {_one_line(error)}")
    elif found is None:
        tried += [f"{name}: not downloaded, and downloading is switched off" for name in _hub_ids(spec)]
    if found is None:
        raise ModelUnavailable(f"{spec.title} is not available here.", tried)
    for file in weight_files(spec, found.path):
        check_safetensors(file)
    return found


def weight_files(spec: ModelSpec, path: Path, part: str | None = None) -> list[Path]:
    """The weight files of one part of the model, or of all parts, in a fixed order."""
    if path.is_file():
        return [path]
    parts = WEIGHTED_PARTS[spec.family]
    files = []
    for name in [part] if part else parts:
        chosen, _ = choose_weights(_names_in(path / name), parts[name], spec.variant)
        files += [path / name / file for file in chosen]
    return files


def choose_weights(names: Iterable[str], stem: str, variant: str | None) -> tuple[list[str], str | None]:
    """Of the file names in a part's folder, those to load, and the variant that they are.

    The wanted variant comes first, then the plain files; whole before sharded. `([], None)` if there are
    no safetensors, or if some of their shards are missing.
    """
    names = set(names)
    for tag, found in ((f".{variant}", variant), ("", None)) if variant else (("", None),):
        whole = f"{stem}{tag}.safetensors"
        if whole in names:
            return [whole], found
        pattern = re.compile(rf"{re.escape(stem + tag)}-\d{{5}}-of-(\d{{5}})\.safetensors")
        shards = {name: int(match[1]) for name in names if (match := pattern.fullmatch(name))}
        indexed = f"{stem}.safetensors.index{tag}.json" in names
        if indexed and set(shards.values()) == {len(shards)}:
            return sorted(shards), found
    return [], None


def check_safetensors(file: Path) -> int:
    """Refuse a file that is not whole, well-formed safetensors; return how many numbers it holds.

    Raises ModelUnavailable.

    Reads the header only. The format: eight bytes of little-endian length, that much JSON, then the data
    (huggingface/safetensors, README "Format").
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise _damaged(file, "is not a safetensors file")
        try:
            header = json.loads(stream.read(length))
            tensors = [entry for name, entry in header.items() if name != "__metadata__"]
            end = max(entry["data_offsets"][1] for entry in tensors)
            values = sum(math.prod(entry["shape"]) for entry in tensors)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            raise _damaged(file, "is not a safetensors file") from None
    if len(tensors) > MAX_TENSORS or 8 + length + end != size:
        raise _damaged(file, "is damaged or was not downloaded to its end")
    return values


def _damaged(file, what) -> ModelUnavailable:
    return ModelUnavailable("The files of this model are damaged.", [f"{file} {what}"])


def weights_hash(files: list[Path]) -> str:
    """SHA-256 in hex of one weight file, or of the concatenated digests of several.

    For one whole file this is the number that Civitai and A1111 show (they cut it to ten digits).
    """
    digests = [_sha256(file) for file in files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


_known_digests: dict[tuple, str] = {}


def _sha256(file: Path) -> str:
    real = file.resolve()
    if re.fullmatch("[0-9a-f]{64}", real.name):
        return real.name  # the Hub cache names its large files by their SHA-256
    stat = real.stat()
    key = (real, stat.st_size, stat.st_mtime_ns)
    if key not in _known_digests:
        with real.open("rb") as stream:
            _known_digests[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _known_digests[key]


def _candidates(spec, models_dir) -> list[str]:
    local = [name for name in spec.sources if Path(name).is_absolute()]
    if models_dir:
        local.append(str(Path(models_dir).absolute() / spec.key))
    return local


def _hub_ids(spec) -> list[str]:
    return [name for name in spec.sources if not Path(name).is_absolute()]


def _is_single_file(path) -> bool:
    # The exact suffix: loaders that fold case have been led to unpickle a ".Safetensors".
    return path.suffix == ".safetensors" and path.is_file()


def _is_complete(spec, path) -> bool:
    parts, plain = WEIGHTED_PARTS.get(spec.family), PLAIN_PARTS.get(spec.family)
    if parts is None or not path.is_dir():
        return False
    for part, stem in parts.items():
        names = _names_in(path / part)
        if "config.json" not in names or not choose_weights(names, stem, spec.variant)[0]:
            return False
    return all(_names_in(path / part) for part in plain)


def _names_in(folder) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def _cached_snapshot(repository, revision, cache_dir) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repository, "unet/config.json", cache_dir=cache_dir, revision=revision)
    return Path(config).parent.parent if isinstance(config, str) else None


def _download(spec, repository, cache_dir, token, on_fraction) -> Path:
    from huggingface_hub import HfApi, hf_hub_download

    info = HfApi(token=token).model_info(repository, revision=spec.revision, files_metadata=True)
    sizes = {entry.rfilename: entry.size or 0 for entry in info.siblings}
    wanted = _wanted_files(spec, sizes)
    meter = _meter(sum(sizes[name] for name in wanted), on_fraction)
    for name in wanted:
        # By branch and not by commit: the cache then knows the branch, and finds it without a network.
        path = Path(hf_hub_download(
            repository, name, revision=spec.revision, cache_dir=cache_dir, token=token, tqdm_class=meter
        ))
    folder = path.parents[name.count("/")]
    if not _is_complete(spec, folder):
        raise ModelUnavailable("it changed while it was being downloaded")
    return folder


def _wanted_files(spec, names) -> list[str]:
    wanted = []
    for part, stem in WEIGHTED_PARTS[spec.family].items():
        inside = [name.removeprefix(f"{part}/") for name in names if name.startswith(f"{part}/")]
        weights, _ = choose_weights(inside, stem, spec.variant)
        if not weights:
            raise ModelUnavailable(f"it has no safetensors weights for “{part}”")
        wanted += [f"{part}/{name}" for name in weights]
        described = [name for name in inside if name == "config.json" or ".safetensors.index" in name]
        wanted += [f"{part}/{name}" for name in described]
    for part in PLAIN_PARTS[spec.family]:
        wanted += [name for name in names if name.startswith(f"{part}/") and name.endswith((".json", ".txt"))]
    return wanted


def _meter(total, on_fraction):
    """A tqdm class that prints nothing and adds up the bytes of all files."""
    from tqdm import tqdm

    done = 0

    class Meter(tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs | {"disable": True})

        def update(self, n=1):
            nonlocal done
            done += n or 0
            on_fraction(min(done / total, 1.0) if total else 0.0)

    return Meter


def _one_line(error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
