"""Local models: those in the models' folder, with their family and size told from configuration and tensor shapes.

    scan_models_dir("/models", known={"sdxl-base"})    -> [ModelSpec(key="anime-v3", family="sd", …)]

`<name>/` is a folder as diffusers saves one, `<name>.safetensors` a checkpoint as Civitai hands them out; a
folder of the same name beside it may hold its configuration. No torch, and no weights are read.
"""

import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from .families import FAMILIES, MODES, Family, denoiser_family
from .model_files import MAX_HEADER_BYTES, is_ready
from .models import Catalog, ModelSpec, local_model

log = logging.getLogger(__name__)

ADDON_FOLDERS = {"loras", "controlnet", "ip_adapter", "upscalers", "embeddings", "preprocessors"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
# Tensor names of a checkpoint in the original layout.
FIRST_CONV = "model.diffusion_model.input_blocks.0.0.weight"
CROSS_ATTENTION_KEYS = re.compile(r"model\.diffusion_model\..*\.attn2\.to_k\.weight")
LATENT_CHANNELS, INPAINTING_CHANNELS = 4, 9
"""What a UNet takes: latents; for inpainting a mask and the latents of the masked picture beside them."""
_STEP_LOOP_FAMILIES = [family for family in FAMILIES.values() if family.step_loop]


class LiveCatalog(Catalog):
    """A catalogue with the models in a folder, or in none. They come and go with their files; nobody is restarted."""

    def __init__(self, specs: Iterable[ModelSpec], models_dir: str | Path | None):
        super().__init__(specs)
        self._fixed = self.specs
        self._folder = Path(models_dir) if models_dir else None
        self._state: tuple | None = None

    def get(self, name: str) -> ModelSpec:
        self._refresh()
        return super().get(name)

    def __iter__(self) -> Iterator[ModelSpec]:
        self._refresh()
        return super().__iter__()

    def _refresh(self) -> None:
        state = _folder_state(self._folder)
        if state != self._state:
            known = {name for spec in self._fixed for name in (spec.key, *spec.aliases)}
            super().__init__((*self._fixed, *scan_models_dir(self._folder, known=known)))
            self._state = state


def _folder_state(folder: Path | None) -> tuple | None:
    """What changes when a model comes, goes or is completed."""
    if folder is None:
        return None
    try:
        models = list(folder.iterdir())
        parts = [part for model in models if model.is_dir() for part in model.iterdir() if part.is_dir()]
        return tuple(sorted((str(entry), entry.stat().st_mtime_ns) for entry in (folder, *models, *parts)))
    except OSError:
        return ()


def scan_models_dir(models_dir: str | Path, *, known: Collection[str] = ()) -> list[ModelSpec]:
    """The complete models in the folder whose names are not `known`, in order of name. What is no model is left out."""
    folder = Path(models_dir).absolute()
    known = {name.casefold() for name in known}
    if not folder.is_dir():
        return []
    specs: dict[str, ModelSpec] = {}
    for entry in sorted(folder.iterdir()):
        single = entry.suffix == ".safetensors" and entry.is_file()
        name = entry.stem if single else entry.name
        if not (single or entry.is_dir()) or name in ADDON_FOLDERS or not NAME.fullmatch(name):
            continue
        if name.casefold() in known:
            continue
        try:
            spec = _checkpoint_spec(name, entry) if single else _folder_spec(name, entry)
        except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            log.warning("%s is not offered: %s: %s", entry, type(error).__name__, error)
            continue
        if spec and is_ready(spec):
            # A file goes before the folder of its name, which only describes it.
            specs[name.casefold()] = spec if single else specs.get(name.casefold(), spec)
    return list(specs.values())


def _folder_spec(name: str, folder: Path) -> ModelSpec | None:
    if (folder / "unet" / "config.json").is_file():
        config = _json(folder / "unet" / "config.json")
        family = _family_with_encoders(folder)
        spec = _unet_spec(name, folder, family, _native_side(config, family), config.get("in_channels", 4))
        return replace(spec, zero_snr=_is_zero_snr(folder))
    if (folder / "transformer" / "config.json").is_file():
        # A name to look up in our own table; nothing is imported by it.
        family = denoiser_family(_json(folder / "transformer" / "config.json").get("_class_name"))
        return local_model(name, folder, family=family.key) if family else None
    return None


def _is_zero_snr(folder: Path) -> bool:
    """By its noise schedule: diffusers' `rescale_betas_zero_snr`."""
    schedule = folder / "scheduler" / "scheduler_config.json"
    return schedule.is_file() and _json(schedule).get("rescale_betas_zero_snr") is True


def _family_with_encoders(folder: Path) -> Family:
    """Of the families with a UNet, the one with as many text encoders as the folder has: SDXL has two."""
    count = 2 if (folder / "text_encoder_2").is_dir() else 1
    return next(family for family in _STEP_LOOP_FAMILIES if len(family.text_encoders) == count)


def _checkpoint_spec(name: str, file: Path) -> ModelSpec | None:
    tensors = _header(file)
    channels = tensors[FIRST_CONV]["shape"][1]
    width = next(tensor["shape"][1] for key, tensor in tensors.items() if CROSS_ATTENTION_KEYS.fullmatch(key))
    family, side = _family_of_width(width)
    beside = file.with_suffix("") / "unet" / "config.json"
    if beside.is_file():
        config = _json(beside)
        takes_sizes = config.get("addition_embed_type") == "text_time"
        family = family or next(family for family in _STEP_LOOP_FAMILIES if family.size_conditioning == takes_sizes)
        side = _native_side(config, family)
    return _unet_spec(name, file, family, side, channels) if family else None


def _family_of_width(width: int) -> tuple[Family | None, int]:
    """The family whose UNets attend to text of that width, and their native side; None and 0 if there is none."""
    for family in _STEP_LOOP_FAMILIES:
        for variant in family.variants:
            if variant.text_width == width:
                return family, variant.native_side
    return None, 0


def _native_side(config: dict, family: Family) -> int:
    """Pixels along the side of the square that the UNet was trained on, by its configuration."""
    return int(config.get("sample_size") or 64) * family.vae_scale


def _unet_spec(name: str, path: Path, family: Family, side: int, channels: int) -> ModelSpec:
    spec = local_model(name, path, family=family.key)
    side = max(side // spec.size_multiple * spec.size_multiple, spec.size_multiple)
    spec = replace(
        spec,
        native_width=side,
        native_height=side,
        min_side=min(spec.min_side, side),
        max_side=max(side, min(spec.max_side, side * 2)),
    )
    if channels == INPAINTING_CHANNELS:
        return replace(
            spec,
            summary="A local model for changing parts of pictures.",
            modes=tuple(mode for mode in MODES if mode in ("inpaint", "outpaint")),
        )
    if channels != LATENT_CHANNELS:
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
