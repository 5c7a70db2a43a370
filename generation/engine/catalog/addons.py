"""Installed add-ons: the LoRAs, ControlNets and IP-Adapters in MODELS_DIR, and which models they fit. No torch here.

    MODELS_DIR/loras/<key>.safetensors           as Civitai (kohya) or the Hub (diffusers, PEFT) hand them out
    MODELS_DIR/controlnet/<key>/                 diffusers' layout: config.json and safetensors
    MODELS_DIR/ip_adapter/<key>/                 ip_adapter.safetensors and image_encoder/

Files may come and go while the site runs: every question looks at the folder again. Which models an add-on
fits is told by the width of the text that its layers attend to: 768 for Stable Diffusion 1.x, 1024 for
2.x, 2048 for SDXL. LoRAs for the transformers of Flux, SD3 and Qwen-Image are told by their names; where these
do not say which, loading one finds out. Upscaler models are listed by `upscalers`.
"""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from generation.engine.errors import EngineError, InvalidRequest

from .addon_checks import ANY_TRANSFORMER, ip_adapter_kind, ip_adapter_problem, lora_problem, transformer_family
from .control_kinds import control_kind
from .families import FAMILIES, UNET_VARIANTS
from .model_files import check_safetensors, locate, weights_hash
from .models import ModelSpec

log = logging.getLogger(__name__)

LORA_FOLDER, CONTROLNET_FOLDER, IP_ADAPTER_FOLDER = "loras", "controlnet", "ip_adapter"
IP_ADAPTER_FILE = "ip_adapter.safetensors"

TextWidth = int | str | None
"""What an add-on must share with its model: a UNet's `cross_attention_dim`, the key of a family with a transformer
(or ANY_TRANSFORMER), or None where it is not known."""


@dataclass(frozen=True, slots=True)
class AddOn:
    """One installed add-on."""

    key: str
    path: Path
    title: str
    width: TextWidth
    """Of the text that it attends to."""
    kind: str = ""
    """Of a ControlNet: of `control_kinds.CONTROL_KINDS`. Of an IP-Adapter: plain, plus or full. "" where unknown."""
    problem: str = ""
    """Why it cannot be used with any model, or ""."""

    @property
    def family(self) -> str:
        """`sd`, `sd2`, `sdxl`, the key of a family with a transformer, ANY_TRANSFORMER, or "" where that is not
        known."""
        if isinstance(self.width, str):
            return self.width
        return next((key for key, variant in UNET_VARIANTS.items() if variant.text_width == self.width), "")

    def fits(self, width: TextWidth) -> bool:
        """Whether it may suit a model of that text width; what is not known may."""
        if self.width == ANY_TRANSFORMER:
            return width is None or isinstance(width, str)
        return self.width is None or width is None or self.width == width

    def digest(self) -> str:
        """SHA-256 of its weights; computed once for as long as the file stays the same."""
        if self.path.is_file():
            return weights_hash([self.path])
        return weights_hash(sorted(self.path.glob("*.safetensors")))


class Addons:
    """The add-ons in one MODELS_DIR, which may be None or missing: then there are none."""

    def __init__(self, models_dir: str | Path | None = None):
        self.folder = Path(models_dir) if models_dir else None

    @property
    def loras(self) -> dict[str, AddOn]:
        return self._usable(LORA_FOLDER, _read_lora)

    @property
    def controlnets(self) -> dict[str, AddOn]:
        return self._usable(CONTROLNET_FOLDER, _read_controlnet)

    @property
    def ip_adapters(self) -> dict[str, AddOn]:
        return self._usable(IP_ADAPTER_FOLDER, _read_ip_adapter)

    def lora(self, key: str) -> AddOn:
        """Raises InvalidRequest if there is none of that key, or no model can use it."""
        return self._by_key(LORA_FOLDER, _read_lora, key, "LoRA", "loras")

    def controlnet(self, key: str) -> AddOn:
        """Raises as `lora` does."""
        return self._by_key(CONTROLNET_FOLDER, _read_controlnet, key, "ControlNet", "control")

    def ip_adapter_for(self, width: TextWidth) -> AddOn:
        """The IP-Adapter for a model of that text width: the first that fits. Raises InvalidRequest."""
        installed = self._installed(IP_ADAPTER_FOLDER, _read_ip_adapter).values()
        fitting = [adapter for adapter in installed if adapter.fits(width)]
        if not fitting:
            raise InvalidRequest("This model cannot follow a reference picture here.", "reference")
        usable = next((adapter for adapter in fitting if not adapter.problem), None)
        return usable or _refuse_unusable(fitting[0], "IP-Adapter", "reference")

    def _installed(self, name: str, read: Callable[[Path], AddOn | None]) -> dict[str, AddOn]:
        folder = self.folder / name if self.folder else None
        if folder is None or not folder.is_dir():
            return {}
        addons = (_read_cached(read, path, _stamp(path)) for path in sorted(folder.iterdir()))
        return {addon.key: addon for addon in addons if addon}

    def _usable(self, name: str, read) -> dict[str, AddOn]:
        return {key: addon for key, addon in self._installed(name, read).items() if not addon.problem}

    def _by_key(self, name: str, read, key: str, label: str, param: str) -> AddOn:
        # By listing and never by joining: a key comes from a stranger and may hold dots and slashes.
        try:
            return _refuse_unusable(self._installed(name, read)[key], label, param)
        except KeyError:
            raise InvalidRequest(f"There is no {label} called “{key[:80]}” here.", param) from None


def _refuse_unusable(addon: AddOn, label: str, param: str) -> AddOn:
    """Raises InvalidRequest if no model can use it."""
    if addon.problem:
        raise InvalidRequest(f"The {label} “{addon.key}” cannot be used here: {addon.problem}.", param)
    return addon


def misfit(label: str, key: str, spec: ModelSpec, param: str) -> InvalidRequest:
    """The error for an add-on that was made for another model. `label`: what people call its kind."""
    return InvalidRequest(f"The {label} “{key}” was not made for {spec.title}.", param)


def text_width(spec: ModelSpec, models_dir: str | Path | None = None) -> TextWidth:
    """The model's, from its files, or where they are not here from its size. For a family with a transformer its
    key."""
    family = FAMILIES.get(spec.family)
    if family and not family.step_loop:
        return family.key
    source = locate(spec, models_dir=models_dir)
    if source and source.path.is_dir():
        try:
            return json.loads((source.path / "unet" / "config.json").read_text()).get("cross_attention_dim")
        except (OSError, ValueError):
            return None
    if source:
        return _checkpoint_width(source.path, _stamp(source.path))
    if family is None:
        return None
    first, *larger = family.variants
    return next((v for v in reversed(larger) if spec.native_width >= v.native_side), first).text_width


@lru_cache(maxsize=64)
def _checkpoint_width(file: Path, stamp: tuple) -> int | None:
    return _input_width(_shapes(file), r"attn2\.to_k\.weight$")


@lru_cache(maxsize=10_000)
def _read_cached(read: Callable[[Path], AddOn | None], path: Path, stamp: tuple) -> AddOn | None:
    """What `read` makes of the path, read once for as long as its stamp stays the same."""
    return read(path)


def _stamp(path: Path) -> tuple:
    """Changes when the file, or one in the folder, does."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return tuple((file.name, stat.st_size, stat.st_mtime_ns) for file in files if (stat := file.stat()))
    except OSError:  # it is just going away
        return ()


def read_metadata(addon: AddOn) -> dict[str, str]:
    """What the safetensors file of a LoRA says of itself; read once for as long as it stays the same."""
    return _metadata_cached(addon.path, _stamp(addon.path))


@lru_cache(maxsize=10_000)
def _metadata_cached(path: Path, stamp: tuple) -> dict[str, str]:
    return {name: value for name, value in _metadata(path).items() if isinstance(value, str) and len(value) < 1000}


def _read_lora(path: Path) -> AddOn | None:
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    shapes = _shapes(path)
    if shapes is None:
        return None
    width: TextWidth = transformer_family(shapes) or _input_width(shapes, r"attn2.*to_[kv].*(down|lora_A)")
    if width is None and not any("lora_te2" in name or "text_encoder_2" in name for name in shapes):
        # Only the text encoder is changed, which is as wide as its output in 1.x and 2.x.
        width = _input_width(shapes, r"(lora_te|text_encoder).*([qkv]_proj|to_[qkv]).*(down|lora_A)")
    metadata = _metadata(path)
    title = metadata.get("modelspec.title") or metadata.get("ss_output_name") or path.stem
    return AddOn(path.stem, path, str(title)[:80], width, problem=lora_problem(shapes))


def _read_controlnet(path: Path) -> AddOn | None:
    files = sorted(path.glob("*.safetensors")) if (path / "config.json").is_file() else []
    if not files:
        return None
    try:
        width = json.loads((path / "config.json").read_text()).get("cross_attention_dim")
    except (OSError, ValueError, AttributeError):
        return None
    return AddOn(path.name, path, path.name, width if isinstance(width, int) else None, control_kind(path.name))


def _read_ip_adapter(path: Path) -> AddOn | None:
    file, encoder = path / IP_ADAPTER_FILE, path / "image_encoder"
    if not file.is_file() or not (encoder / "config.json").is_file():
        return None
    shapes = _shapes(file)
    width = _input_width(shapes, r"to_k_ip\.weight$") if shapes else None
    if not width:
        return None
    problem = ip_adapter_problem(shapes, width, encoder)
    return AddOn(path.name, path, path.name, width, ip_adapter_kind(shapes), problem)


def _input_width(shapes: dict[str, list[int]] | None, pattern: str) -> int | None:
    """Inputs of the first matrix whose name the pattern finds."""
    name_pattern = re.compile(pattern)
    matrices = (shape for name, shape in (shapes or {}).items() if name_pattern.search(name) and len(shape) > 1)
    return next((shape[1] for shape in matrices), None)


def _shapes(file: Path) -> dict[str, list[int]] | None:
    """Shapes of the tensors in a safetensors file; None, and a warning in the log, if it is none."""
    header = _header(file)
    if header is None:
        return None
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


def _metadata(file: Path) -> dict:
    metadata = (_header(file) or {}).get("__metadata__")
    return metadata if isinstance(metadata, dict) else {}


def _header(file: Path) -> dict | None:
    try:
        check_safetensors(file)
        with file.open("rb") as stream:
            return json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    except (OSError, ValueError, EngineError) as error:
        log.warning("%s is left out: %s", file, getattr(error, "details", None) or error)
        return None
