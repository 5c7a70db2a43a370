"""The upscalers on offer, by name. No torch here; `pictures.upscale` enlarges."""

from pathlib import Path

from generation.engine.errors import InvalidRequest
from generation.engine.sketch import UPSCALER

UPSCALERS = ("lanczos", "nearest")
"""Those that need no model. The first is the default."""
BUILT_IN = {"sketch-2x": UPSCALER}
"""Those whose model lies in this repository: for drawings, which is what it was trained on."""
LATENT = "latent"
"""The upscaler of second passes that enlarges latents; the others enlarge pixels (see `pictures.upscale`)."""
UPSCALER_FOLDER = "upscalers"


def upscaler_title(name: str) -> str:
    """As the web UI and people write it: `Lanczos` for `lanczos`; a model keeps its name."""
    return name.title() if name in (*UPSCALERS, LATENT) else name


def upscaler_files(models_dir: str | Path | None) -> dict[str, Path]:
    """The models of this repository and those in `<models_dir>/upscalers/`, by name: safetensors only, the name is
    the file's."""
    folder = Path(models_dir, UPSCALER_FOLDER) if models_dir else None
    if folder is None or not folder.is_dir():
        return dict(BUILT_IN)
    return BUILT_IN | {
        file.stem: file
        for file in sorted(folder.glob("*.safetensors"))
        if file.is_file() and file.stem not in UPSCALERS
    }


def upscaler_names(models_dir: str | Path | None) -> tuple[str, ...]:
    """Names of all upscalers of this installation; the first is the default."""
    return (*UPSCALERS, *upscaler_files(models_dir))


def upscaler_file(name: str, models_dir: str | Path | None) -> Path:
    """Raises InvalidRequest where no model of that name is installed."""
    try:
        return upscaler_files(models_dir)[name]
    except KeyError:
        raise InvalidRequest(f"There is no upscaler called “{name[:80]}”.", "upscaler") from None
