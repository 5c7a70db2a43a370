"""Models that somebody put into the models' folder: found by looking, told by their configuration and tensors.

    found_models("/models", known={"sdxl-base"})    -> [ModelSpec(key="anime-v3", family="sd", …)]

`<name>/` is a folder as diffusers saves one, `<name>.safetensors` a checkpoint as Civitai hands them out; a
folder of the same name beside it may hold its configuration. No torch, and no weights are read.
"""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

from .model_files import MAX_HEADER_BYTES, is_ready
from .models import MODES, Catalog, ModelSpec, local_model

log = logging.getLogger(__name__)

NOT_MODELS = {"loras", "controlnet", "ip_adapter", "upscalers", "embeddings", "preprocessors"}
"""Folders of add-ons."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
TRANSFORMERS = {
    "QwenImageTransformer2DModel": "qwen-image",
    "FluxTransformer2DModel": "flux",
    "SD3Transformer2DModel": "sd3",
}
# Of a checkpoint in the original layout.
FIRST_CONV = "model.diffusion_model.input_blocks.0.0.weight"
TEXT_KEYS = re.compile(r"model\.diffusion_model\..*\.attn2\.to_k\.weight")
TEXT_WIDTHS = {768: ("sd", 512), 1024: ("sd", 768), 2048: ("sdxl", 1024)}
"""By the width of the text embeddings: family and native side."""


class LiveCatalog(Catalog):
    """A catalogue with the models in a folder, or in none. They come and go with their files; nobody is restarted."""

    def __init__(self, specs, models_dir):
        super().__init__(specs)
        self._fixed = self.specs
        self._folder = Path(models_dir) if models_dir else None
        self._seen: tuple | None = None

    def get(self, name: str) -> ModelSpec:
        self._look()
        return super().get(name)

    def __iter__(self):
        self._look()
        return super().__iter__()

    def _look(self) -> None:
        seen = _state(self._folder)
        if seen != self._seen:
            known = {name for spec in self._fixed for name in (spec.key, *spec.aliases)}
            super().__init__((*self._fixed, *found_models(self._folder, known=known)))
            self._seen = seen


def _state(folder: Path | None) -> tuple | None:
    """What changes when a model comes, goes or is completed."""
    if folder is None:
        return None
    try:
        models = list(folder.iterdir())
        parts = [part for model in models if model.is_dir() for part in model.iterdir() if part.is_dir()]
        return tuple(sorted((str(entry), entry.stat().st_mtime_ns) for entry in (folder, *models, *parts)))
    except OSError:
        return ()


def found_models(models_dir, *, known=()) -> list[ModelSpec]:
    """The complete models in the folder whose names are not `known`, in order of name. Odd ones are left out."""
    folder = Path(models_dir).absolute()
    known = {name.casefold() for name in known}
    if not folder.is_dir():
        return []
    found = {}
    for entry in sorted(folder.iterdir()):
        single = entry.suffix == ".safetensors" and entry.is_file()
        name = entry.stem if single else entry.name
        if not (single or entry.is_dir()) or name in NOT_MODELS or not NAME.fullmatch(name):
            continue
        if name.casefold() in known:
            continue
        try:
            spec = _single(name, entry) if single else _folder(name, entry)
        except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            log.warning("%s is not offered: %s: %s", entry, type(error).__name__, error)
            continue
        if spec and is_ready(spec):
            # A file goes before the folder of its name, which only describes it.
            found[name.casefold()] = spec if single else found.get(name.casefold(), spec)
    return list(found.values())


def _folder(name: str, folder: Path) -> ModelSpec | None:
    if (folder / "unet" / "config.json").is_file():
        config = _json(folder / "unet" / "config.json")
        family = "sdxl" if (folder / "text_encoder_2").is_dir() else "sd"
        side = int(config.get("sample_size") or 64) * 8
        return _spec(name, folder, family, side, config.get("in_channels", 4))
    if (folder / "transformer" / "config.json").is_file():
        # A name to look up in our own table; nothing is imported by it.
        family = TRANSFORMERS.get(_json(folder / "transformer" / "config.json").get("_class_name"))
        return local_model(name, folder, family=family) if family else None
    return None


def _single(name: str, file: Path) -> ModelSpec | None:
    tensors = _header(file)
    channels = tensors[FIRST_CONV]["shape"][1]
    width = next(tensor["shape"][1] for key, tensor in tensors.items() if TEXT_KEYS.fullmatch(key))
    family, side = TEXT_WIDTHS.get(width) or (None, 0)
    beside = file.with_suffix("") / "unet" / "config.json"
    if beside.is_file():
        config = _json(beside)
        side = int(config.get("sample_size") or 64) * 8
        family = family or ("sdxl" if config.get("addition_embed_type") == "text_time" else "sd")
    return _spec(name, file, family, side, channels) if family else None


def _spec(name, path, family, side, channels) -> ModelSpec:
    spec = local_model(name, path, family=family)
    side = max(side // 8 * 8, 8)
    spec = replace(
        spec,
        native_width=side,
        native_height=side,
        min_side=min(spec.min_side, side),
        max_side=max(side, min(spec.max_side, side * 2)),
    )
    if channels == 9:
        return replace(
            spec,
            summary="A local model for changing parts of pictures.",
            modes=tuple(mode for mode in MODES if mode in ("inpaint", "outpaint")),
        )
    if channels != 4:
        raise ValueError(f"its UNet takes {channels} channels")
    return spec


def _header(file: Path) -> dict:
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= MAX_HEADER_BYTES:
            raise ValueError("it is not a safetensors file")
        return json.loads(stream.read(length))


def _json(file: Path) -> dict:
    content = json.loads(file.read_text())
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} is not an object")
    return content
