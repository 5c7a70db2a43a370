"""What a request may ask for beyond a picture from words alone: starting pictures, masks, second passes,
variations, add-ons. No torch here; the web process checks these, the engine draws by them.

Sizes in pixels; strengths and scales as the field's tools mean them. Whoever makes one of these by hand
(and not through `request.build_request`) answers for its ranges.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial

from PIL import Image

from generation.engine.catalog.upscalers import LATENT

FITS = ("stretch", "crop", "pad")
"""How a starting picture of another shape meets the size asked for: A1111's resize modes 0, 1 and 2."""
FILLS = ("original", "blur", "noise", "zero")
"""What stands under an inpainting mask before drawing begins: A1111's `original`, `fill`, `latent noise`
and `latent nothing`."""
QUALITIES = ("exact", "fast")

DEFAULT_STRENGTH = 0.75
MAX_MASK_BLUR = 64
MAX_HIRES_SCALE = 4.0
MAX_CLIP_SKIP = 11
MAX_LORAS = 8


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture given with a request, read only when it is needed.

    `name` is what its keeper calls it (an upload's id); `digest` the SHA-256 of its pixels or file, so that
    equal requests can be told; `load()` gives the pixels: RGB, or L for a mask.
    """

    name: str
    width: int
    height: int
    digest: str
    load: Callable[[], Image.Image] = field(compare=False, repr=False)

    @classmethod
    def of(cls, pixels: Image.Image) -> "Picture":
        """A picture that is in memory already."""
        digest = hashlib.sha256(f"{pixels.mode}{pixels.size}".encode() + pixels.tobytes()).hexdigest()
        return cls(digest[:16], pixels.width, pixels.height, digest, lambda: pixels)


@dataclass(frozen=True, slots=True)
class Expand:
    """Outpainting: how many pixels the starting picture grows at each side before it is fitted."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0


@dataclass(frozen=True, slots=True)
class Start:
    """Where drawing begins if not at pure noise.

    `strength` 0…1: the share of the steps that are drawn (SDEdit, Meng et al. 2021; as in diffusers, of
    `steps` only the last `int(steps * strength)` run). With `mask` (white = change) only that part changes,
    and the rest stays as given, pixel for pixel. `mask_blur`: radius in pixels. `padding`: None draws over
    the whole picture; a number cuts out the mask's surroundings with so many pixels around it, draws them
    at the full size and puts them back ("only masked"). `expand` makes the canvas larger and adds the new
    part to the mask.
    """

    image: Picture
    strength: float = DEFAULT_STRENGTH
    mask: Picture | None = None
    mask_blur: int = 4
    fill: str = "original"
    padding: int | None = None
    fit: str = "stretch"
    expand: Expand | None = None

    @property
    def inpaints(self) -> bool:
        return self.mask is not None or self.expand is not None


@dataclass(frozen=True, slots=True)
class Hires:
    """A second pass at `scale` times the size, over what the first one drew, enlarged by `upscaler`
    (`latent`, or one of `upscale.UPSCALERS`). `strength` as in `Start`; `steps` of that pass, None: as the
    first pass has."""

    scale: float = 2.0
    strength: float = 0.5
    steps: int | None = None
    upscaler: str = LATENT


@dataclass(frozen=True, slots=True)
class Variation:
    """The noise of `seed + index` mixed into each image's own by spherical interpolation; `strength` 0…1
    (A1111's subseed)."""

    seed: int
    strength: float


@dataclass(frozen=True, slots=True)
class Lora:
    """An installed LoRA and how strongly it counts (usually 0…1; negative turns it round)."""

    key: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Control:
    """A ControlNet's guidance by a picture (Zhang et al. 2023).

    `image` is a control map, or with `preprocess` an ordinary picture from which the map is made. It acts
    from `begin` to `end`, in parts of the steps.
    """

    key: str
    image: Picture
    scale: float = 1.0
    preprocess: bool = True
    begin: float = 0.0
    end: float = 1.0


@dataclass(frozen=True, slots=True)
class Reference:
    """A picture whose look is followed (IP-Adapter, Ye et al. 2023), where one is installed."""

    image: Picture
    scale: float = 0.6


@dataclass(frozen=True, slots=True)
class Upscale:
    """Only enlarge `image`, by 2 or 4; nothing is drawn anew. `upscaler`: one of `upscale.UPSCALERS`."""

    image: Picture
    factor: int = 2
    upscaler: str = "lanczos"


@dataclass(frozen=True, slots=True)
class Pass:
    """One run of the sampler over an image: of `steps` steps those from `begin` on, at that size."""

    width: int
    height: int
    steps: int
    begin: int = 0


def passes_of(request) -> tuple[Pass, ...]:
    """What one image of an ImageRequest goes through."""
    begin = _begin(request.steps, request.start.strength) if request.start else 0
    first = Pass(request.width, request.height, request.steps, begin)
    if request.hires is None:
        return (first,)
    steps = request.hires.steps or request.steps
    return first, Pass(*request.final_size, steps, _begin(steps, request.hires.strength))


def _begin(steps: int, strength: float) -> int:
    return steps - drawn_steps(steps, strength) if strength else steps


def drawn_steps(steps: int, strength: float) -> int:
    """How many of `steps` a start at `strength` draws; at least one."""
    return max(1, min(int(steps * strength), steps))


def enlarged(width: int, height: int, scale: float) -> tuple[int, int]:
    """The size after a second pass, rounded to what the first one's size is a multiple of (64, else 32, 16 or 8)."""
    unit = next((unit for unit in (64, 32, 16) if width % unit == height % unit == 0), 8)
    return tuple(max(unit, math.floor(side * scale / unit + 0.5) * unit) for side in (width, height))


def canvas_size(start: Start) -> tuple[int, int]:
    """Size of the starting picture with what `expand` adds, before it is fitted to the size asked for."""
    expand = start.expand or Expand()
    return start.image.width + expand.left + expand.right, start.image.height + expand.top + expand.bottom


# How requests are kept: as plain JSON, with pictures by name.

_PARTS = {
    "start": Start,
    "hires": Hires,
    "variation": Variation,
    "control": Control,
    "reference": Reference,
    "upscale": Upscale,
}
_PLAIN = {"tiling": False, "clip_skip": 0, "quality": "exact"}
_INNER = {"image": Picture, "mask": Picture, "expand": Expand}


def to_options(request) -> dict:
    """What `request` asks for beyond a picture from words, as JSON. Empty for a plain one."""
    options = {name: _to_json(part) for name in _PARTS if (part := getattr(request, name)) is not None}
    options |= {name: value for name, plain in _PLAIN.items() if (value := getattr(request, name)) != plain}
    return options | ({"loras": [_to_json(lora) for lora in request.loras]} if request.loras else {})


def from_options(options: dict, load: Callable[[str], Image.Image]) -> dict:
    """Keyword arguments for `ImageRequest` from `to_options`; `load(name)` gives a picture's pixels."""
    found = {name: _from_json(_PARTS[name], options[name], load) for name in _PARTS if name in options}
    found |= {name: options[name] for name in _PLAIN if name in options}
    return found | {"loras": tuple(Lora(**each) for each in options.get("loras", ()))}


def to_words(request) -> dict:
    """The keyword arguments of `build_request` that ask for the same again."""
    words: dict = {"tiling": request.tiling, "clip_skip": request.clip_skip, "quality": request.quality}
    if request.start:
        words |= _shallow(request.start)
    for name in ("hires", "variation", "control", "reference", "upscale"):
        if part := getattr(request, name):
            words[name] = _shallow(part)
    if request.loras:
        words["loras"] = [_shallow(lora) for lora in request.loras]
    return words


def picture_names(options: dict) -> set[str]:
    """Names of the pictures that `to_options` wrote down."""
    parts = [part for name, part in options.items() if name in _PARTS]
    return {part[name]["name"] for part in parts for name in ("image", "mask") if part.get(name)}


def _shallow(part) -> dict:
    """The fields of a part; pictures stay what they are."""
    values = {each.name: getattr(part, each.name) for each in fields(part)}
    return {name: _shallow(value) if isinstance(value, Expand) else value for name, value in values.items()}


def _to_json(part) -> dict:
    plain = {}
    for each in fields(part):
        value = getattr(part, each.name)
        if each.name != "load":
            plain[each.name] = _to_json(value) if is_dataclass(value) else value
    return plain


def _from_json(kind, plain: dict, load):
    given = {
        name: _from_json(_INNER[name], value, load) if name in _INNER and value else value
        for name, value in plain.items()
    }
    if kind is Picture:
        given["load"] = partial(load, plain["name"])
    return kind(**given)
