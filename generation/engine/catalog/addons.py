"""What an installation has beside its models: LoRAs, ControlNets and IP-Adapters in MODELS_DIR. No torch here.

    MODELS_DIR/loras/<key>.safetensors           as Civitai (kohya) or the Hub (diffusers, PEFT) hand them out
    MODELS_DIR/controlnet/<key>/                 diffusers' layout: config.json and safetensors
    MODELS_DIR/ip_adapter/<key>/                 ip_adapter.safetensors and image_encoder/

Files may come and go while the site runs: every question looks at the folder again. Which models an add-on
fits is told by the width of the text that its layers attend to: 768 for Stable Diffusion 1.x, 1024 for
2.x, 2048 for SDXL. LoRAs for the transformers of Flux, SD3 and Qwen-Image are told by their names; where these
do not say which, it is found out when one is put on. Upscaler models are listed by `upscalers`.
"""

import json
import logging
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from generation.engine.errors import EngineError, InvalidRequest
from generation.engine.pictures.control_maps import check_kind
from generation.engine.request.fields import ImageRequest, Lora

from .addon_checks import adapter_flaw, adapter_kind, lora_flaw, transformer_of
from .model_files import check_safetensors, locate, weights_hash
from .models import PIPELINE_FAMILIES, ModelSpec

log = logging.getLogger(__name__)

LORAS, CONTROLS, REFERENCES = "loras", "controlnet", "ip_adapter"
ADAPTER_FILE = "ip_adapter.safetensors"
WIDTHS = {"sd": 768, "sd2": 1024, "sdxl": 2048, "flux": -1, "sd3": -2, "qwen-image": -3, "transformer": -4}
"""Those below zero stand for a family; `transformer` for one of these three."""
KINDS = ("canny", "scribble", "depth", "pose", "lineart", "softedge", "segmentation", "normal", "tile", "inpaint")
"""Kinds of control map, told from the name. Which can be made here is said by `preprocess`."""
_OTHER_NAMES = {"openpose": "pose", "hed": "softedge", "seg": "segmentation", "normalbae": "normal"}

FEW_STEPS = (4, 8)
FEW_STEPS_GUIDANCE = (1.0, 2.0)
LCM_PREFIX = "lcm-lora"


@dataclass(frozen=True, slots=True)
class AddOn:
    """One installed add-on. `width`: of the text that it attends to, or None where it does not."""

    key: str
    path: Path
    title: str
    width: int | None
    kind: str = ""
    """Of a ControlNet: one of KINDS, or "" where its name does not tell. Of an IP-Adapter: plain, plus or full."""
    flaw: str = ""
    """Why it cannot be used with any model, or ""."""

    @property
    def family(self) -> str:
        """A key of WIDTHS, or "" where that cannot be told."""
        return next((name for name, width in WIDTHS.items() if width == self.width), "")

    def fits(self, width: int | None) -> bool:
        """Whether it may suit a model whose text has that width; what is not known may."""
        if self.width == WIDTHS["transformer"]:
            return width is None or width < 0
        return self.width is None or width is None or self.width == width

    def digest(self) -> str:
        """SHA-256 of its weights; computed once for as long as the file stays the same."""
        if self.path.is_file():
            return weights_hash([self.path])
        return weights_hash(sorted(self.path.glob("*.safetensors")))


class Addons:
    """The add-ons in one MODELS_DIR, which may be None or missing: then there are none."""

    def __init__(self, models_dir=None):
        self.folder = Path(models_dir) if models_dir else None

    @property
    def loras(self) -> dict[str, AddOn]:
        return self._usable(LORAS, _lora)

    @property
    def controls(self) -> dict[str, AddOn]:
        return self._usable(CONTROLS, _control)

    @property
    def references(self) -> dict[str, AddOn]:
        return self._usable(REFERENCES, _reference)

    def lora(self, key: str) -> AddOn:
        return self._named(LORAS, _lora, key, "LoRA", "loras")

    def control(self, key: str) -> AddOn:
        return self._named(CONTROLS, _control, key, "ControlNet", "control")

    def reference_for(self, width: int | None) -> AddOn:
        """The IP-Adapter for a model of that text width: the first that fits. Raises InvalidRequest."""
        fitting = [adapter for adapter in self._found(REFERENCES, _reference).values() if adapter.fits(width)]
        if not fitting:
            raise InvalidRequest("This model cannot follow a reference picture here.", "reference")
        return next((adapter for adapter in fitting if not adapter.flaw), None) or _sound(
            fitting[0], "IP-Adapter", "reference"
        )

    def complete(self, request: ImageRequest, spec: ModelSpec) -> ImageRequest:
        """The request as it will be drawn here: hastened where it wants that, and checked."""
        request = self.hasten(request, spec)
        self.check(request, spec)
        return request

    def check(self, request: ImageRequest, spec: ModelSpec) -> None:
        """Raises InvalidRequest where the request wants an add-on that is missing or was made for another model."""
        if not (request.loras or request.control or request.reference):
            return
        width = text_width(spec, self.folder)
        wanted = [(self.lora(lora.key), "LoRA", "loras") for lora in request.loras]
        if request.control:
            wanted.append((self.control(request.control.key), "ControlNet", "control"))
        for addon, what, param in wanted:
            if not addon.fits(width):
                raise misfit(what, addon.key, spec, param)
        if request.control and request.control.preprocess:
            check_kind(wanted[-1][0].kind, self.folder)
        if request.reference:
            self.reference_for(width)

    def hasten(self, request: ImageRequest, spec: ModelSpec) -> ImageRequest:
        """The request as its `quality` wants it drawn. `fast` becomes 4 to 8 steps of LCM (Luo et al. 2023)
        where an LCM-LoRA for this model is installed and the model is offered with that sampler."""
        if request.quality != "fast" or request.upscale or "LCM" not in spec.samplers:
            return request
        width = text_width(spec, self.folder)
        quick = next(
            (lora for key, lora in self.loras.items() if key.startswith(LCM_PREFIX) and lora.width == width), None
        )
        if quick is None:
            return request
        others = tuple(lora for lora in request.loras if lora.key != quick.key)
        least, most = FEW_STEPS
        weakest, strongest = FEW_STEPS_GUIDANCE
        return replace(
            request,
            sampler="LCM",
            steps=min(max(request.steps, least), most),
            guidance_scale=min(max(request.guidance_scale, weakest), strongest),
            loras=(*others, Lora(quick.key)),
        )

    def _found(self, folder, read) -> dict[str, AddOn]:
        place = self.folder / folder if self.folder else None
        if place is None or not place.is_dir():
            return {}
        read_each = (_remembered(read, path, _stamp(path)) for path in sorted(place.iterdir()))
        return {addon.key: addon for addon in read_each if addon}

    def _usable(self, folder, read) -> dict[str, AddOn]:
        return {key: addon for key, addon in self._found(folder, read).items() if not addon.flaw}

    def _named(self, folder, read, key, what, param) -> AddOn:
        # By listing and never by joining: a key comes from a stranger and may hold dots and slashes.
        try:
            return _sound(self._found(folder, read)[key], what, param)
        except KeyError:
            raise InvalidRequest(f"There is no {what} called “{key[:80]}” here.", param) from None


def _sound(addon: AddOn, what: str, param: str) -> AddOn:
    """Raises InvalidRequest if no model can use it."""
    if addon.flaw:
        raise InvalidRequest(f"The {what} “{addon.key}” cannot be used here: {addon.flaw}.", param)
    return addon


def misfit(what: str, key: str, spec: ModelSpec, param: str) -> InvalidRequest:
    return InvalidRequest(f"The {what} “{key}” was not made for {spec.title}.", param)


def text_width(spec: ModelSpec, models_dir=None) -> int | None:
    """Width of the text that the model attends to, from its files, or where they are not here from its shape. For
    Flux, SD3 and Qwen-Image what stands for them in WIDTHS."""
    if spec.family in PIPELINE_FAMILIES:
        return WIDTHS[spec.family]
    source = locate(spec, models_dir=models_dir)
    if source and source.path.is_dir():
        try:
            return json.loads((source.path / "unet" / "config.json").read_text()).get("cross_attention_dim")
        except (OSError, ValueError):
            return None
    if source:
        return _checkpoint_width(source.path, _stamp(source.path))
    if spec.family == "sd":
        return WIDTHS["sd2" if spec.native_width >= 768 else "sd"]
    return WIDTHS.get(spec.family)


@lru_cache(maxsize=64)
def _checkpoint_width(file: Path, stamp: tuple) -> int | None:
    return _attended(_shapes(file), r"attn2\.to_k\.weight$")


@lru_cache(maxsize=10_000)
def _remembered(read, path: Path, stamp: tuple) -> AddOn | None:
    """What `read` says of the path, read once for as long as its stamp stays the same."""
    return read(path)


def _stamp(path: Path) -> tuple:
    """Changes when the file, or one in the folder, does."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return tuple((file.name, stat.st_size, stat.st_mtime_ns) for file in files if (stat := file.stat()))
    except OSError:  # it is just going away
        return ()


def _lora(path: Path) -> AddOn | None:
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    shapes = _shapes(path)
    if shapes is None:
        return None
    width = _attended(shapes, r"attn2.*to_[kv].*(down|lora_A)")
    if family := transformer_of(shapes):
        width = WIDTHS[family]
    elif width is None and not any("lora_te2" in name or "text_encoder_2" in name for name in shapes):
        # Only the text encoder is changed, which is as wide as what it says in 1.x and 2.x.
        width = _attended(shapes, r"(lora_te|text_encoder).*([qkv]_proj|to_[qkv]).*(down|lora_A)")
    told = _metadata(path)
    title = told.get("modelspec.title") or told.get("ss_output_name") or path.stem
    return AddOn(path.stem, path, str(title)[:80], width, flaw=lora_flaw(shapes))


def _control(path: Path) -> AddOn | None:
    files = sorted(path.glob("*.safetensors")) if (path / "config.json").is_file() else []
    if not files:
        return None
    try:
        config = json.loads((path / "config.json").read_text())
        width = config.get("cross_attention_dim")
    except (OSError, ValueError, AttributeError):
        return None
    words = [_OTHER_NAMES.get(word, word) for word in re.findall("[a-z]+", path.name.casefold())]
    kind = next((word for word in words if word in KINDS), "")
    return AddOn(path.name, path, path.name, width if isinstance(width, int) else None, kind)


def _reference(path: Path) -> AddOn | None:
    file, encoder = path / ADAPTER_FILE, path / "image_encoder"
    if not file.is_file() or not (encoder / "config.json").is_file():
        return None
    shapes = _shapes(file)
    width = _attended(shapes, r"to_k_ip\.weight$") if shapes else None
    if not width:
        return None
    return AddOn(path.name, path, path.name, width, adapter_kind(shapes), adapter_flaw(shapes, width, encoder))


def _attended(shapes: dict | None, pattern: str) -> int | None:
    """Inputs of the first matrix of that name."""
    wanted = re.compile(pattern)
    return next((shape[1] for name, shape in (shapes or {}).items() if wanted.search(name) and len(shape) > 1), None)


def _shapes(file: Path) -> dict[str, list[int]] | None:
    """Shapes of the tensors in a safetensors file; None, and a word in the log, if it is none."""
    header = _header_of(file)
    return (
        None if header is None else {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    )


def _metadata(file: Path) -> dict:
    found = (_header_of(file) or {}).get("__metadata__")
    return found if isinstance(found, dict) else {}


def _header_of(file: Path) -> dict | None:
    try:
        check_safetensors(file)
        with file.open("rb") as stream:
            return json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    except (OSError, ValueError, EngineError) as error:
        log.warning("%s is left out: %s", file, getattr(error, "details", None) or error)
        return None
