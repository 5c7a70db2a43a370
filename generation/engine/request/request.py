"""Making an ImageRequest: a model's defaults filled in, every field checked against the table and the model.

spec = Catalog().get("dreamsketch-tiny")
request = build_request(spec, prompt="a red boat at sea", seed=7)
"""

import math
import secrets
from collections.abc import Sequence
from typing import Any

from generation.engine.catalog.models import FEATURES, ModelSpec
from generation.engine.catalog.samplers import Sampler, find_sampler
from generation.engine.errors import InvalidRequest

from .fields import (
    ASPECT_RATIO,
    ASPECT_RATIOS,
    DEFAULT_UPSCALERS,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    OWN_FIELDS,
    PARTS,
    START_FIELDS,
    Hires,
    ImageRequest,
)
from .geometry import enlarged
from .parse import read_loras, read_object, read_start, read_value
from .schema import Offer
from .validate import number, text

MAX_HIRES_SIDE = 2048
MAX_UPSCALED_SIDE = 4096

KEYWORDS = frozenset(field.attribute for field in (*OWN_FIELDS, *START_FIELDS, ASPECT_RATIO)) - {"model", "start"}
"""What `build_request` takes."""


def build_request(
    spec: ModelSpec,
    *,
    max_prompt_characters: int = MAX_PROMPT_CHARACTERS,
    upscalers: Sequence[str] = DEFAULT_UPSCALERS,
    **keywords: Any,
) -> ImageRequest:
    """Fill in the model's defaults, check every field against `spec`, and return the request.

    `keywords` are those of KEYWORDS: the attributes of ImageRequest, those of its `start` in its place, and
    `aspect_ratio`. Parts are dicts with the attributes of their class, pictures `Picture`s. None (and -1 for the seed)
    means "your choice". Without a size a request with a picture takes that picture's shape. `upscalers` are
    those that can be named (see `catalog.upscalers`). Raises InvalidRequest, naming the field in `param`, and TypeError
    for a keyword that there is not.
    """
    if unknown := keywords.keys() - KEYWORDS:
        raise TypeError(f"build_request() got an unexpected keyword argument {min(unknown)!r}")
    prompt = keywords.get("prompt") or ""
    if keywords.get("upscale") is not None:
        return _upscale_request(spec, keywords["upscale"], prompt, keywords.get("seed"), upscalers)
    sampler = _sampler(spec, keywords.get("sampler"))
    offer = Offer(spec, tuple(upscalers), min(spec.max_steps, sampler.max_steps))
    values = _checked(spec, offer, keywords, max_prompt_characters)
    request = ImageRequest(model=spec.key, sampler=sampler.name, **values)
    _refuse_unsupported(spec, request)
    return request


def _checked(spec: ModelSpec, offer: Offer, keywords: dict[str, Any], max_prompt_characters: int) -> dict[str, Any]:
    """Every attribute of ImageRequest but model and sampler."""
    start = read_start(keywords, offer)
    width, height, aspect_ratio = (keywords.get(name) for name in ("width", "height", "aspect_ratio"))
    if start and (width, height) == (None, None) and not aspect_ratio:
        width, height = size_like(spec, *start.canvas_size)
    width, height = _size(spec, width, height, aspect_ratio)
    hires = read_object(PARTS["hires"], keywords.get("hires"), offer)
    _check_final_size(width, height, hires)
    negative_prompt = "" if keywords.get("negative_prompt") is None else keywords["negative_prompt"]
    values = {
        "prompt": _prompt(keywords.get("prompt", ""), "prompt", max_prompt_characters, required=True),
        "negative_prompt": _prompt(negative_prompt, "negative_prompt", max_prompt_characters),
        "width": width,
        "height": height,
        "seed": _seed(keywords.get("seed")),
        "start": start,
        "hires": hires,
        "loras": read_loras(keywords.get("loras"), offer),
    }
    return values | {
        field.attribute: read_value(field, keywords.get(field.attribute), offer)
        for field in OWN_FIELDS
        if field.attribute not in values and field.attribute not in ("model", "sampler")
    }


def _check_final_size(width: int, height: int, hires: Hires | None) -> None:
    if max(enlarged(width, height, hires.scale if hires else 1.0)) > MAX_HIRES_SIDE:
        raise InvalidRequest(f"The second pass may reach {MAX_HIRES_SIDE} pixels a side.", "hires_fix")


_MODE_REFUSALS = {
    "txt2img": ("image", "needs a picture to start from"),
    "img2img": ("image", "cannot start from a picture"),
    "inpaint": ("mask", "cannot change a part of a picture"),
    "outpaint": ("expand", "cannot make a picture larger than it was"),
}
FEATURE_FIELDS = {field.attribute: field for field in OWN_FIELDS if field.attribute in FEATURES}
"""The field of each feature that a model may lack."""


def _refuse_unsupported(spec: ModelSpec, request: ImageRequest) -> None:
    if request.mode not in spec.modes:
        param, reason = _MODE_REFUSALS[request.mode]
        raise InvalidRequest(f"{spec.title} {reason}.", param)
    for feature, field in FEATURE_FIELDS.items():
        if getattr(request, feature) != field.default and feature not in spec.features:
            raise InvalidRequest(f"{spec.title} has no “{field.name}”.", field.name)


def _upscale_request(spec: ModelSpec, value: Any, prompt: str, seed: Any, upscalers: Sequence[str]) -> ImageRequest:
    offer = Offer(spec, tuple(upscalers), spec.max_steps)
    upscale = read_object(PARTS["upscale"], value, offer)
    width, height = (side * upscale.factor for side in (upscale.image.width, upscale.image.height))
    if max(width, height) > MAX_UPSCALED_SIDE:
        raise InvalidRequest(f"The result may have at most {MAX_UPSCALED_SIDE} pixels a side.", "upscale")
    return ImageRequest(
        model=spec.key,
        prompt=_prompt(prompt, "prompt", MAX_PROMPT_CHARACTERS),
        negative_prompt="",
        width=width,
        height=height,
        steps=1,
        guidance_scale=0.0,
        sampler=spec.default_sampler,
        seed=_seed(seed),
        upscale=upscale,
    )


def _prompt(value: Any, param: str, limit: int, required: bool = False) -> str:
    prompt = text(value, param, limit).strip()
    if required and not prompt:
        raise InvalidRequest("Describe your image in a few words.", param)
    return prompt


def _seed(value: Any) -> int:
    if value is None or value == -1:
        return secrets.randbelow(MAX_SEED + 1)
    return number(value, "seed", 0, MAX_SEED, 0, whole=True)


def _sampler(spec: ModelSpec, name: Any) -> Sampler:
    if name is None or name == "":
        name = spec.default_sampler
    sampler = find_sampler(name) if isinstance(name, str) else None
    if sampler is None or sampler.name not in spec.samplers:
        known = ", ".join(spec.samplers)
        raise InvalidRequest(f"{spec.title} has no such sampler. It has: {known}.", "sampler")
    return sampler


def _size(spec: ModelSpec, width: Any, height: Any, aspect_ratio: Any) -> tuple[int, int]:
    if aspect_ratio is not None and aspect_ratio != "":
        shaped = size_for(spec, aspect_ratio)
        if width is None and height is None:
            return shaped
    sides = []
    for value, param, native in ((width, "width", spec.native_width), (height, "height", spec.native_height)):
        side = number(value, param, spec.min_side, spec.max_side, native, whole=True)
        if side % spec.size_multiple:
            raise InvalidRequest(f"This must be a multiple of {spec.size_multiple} for {spec.title}.", param)
        sides.append(side)
    return sides[0], sides[1]


def size_for(spec: ModelSpec, aspect_ratio: str) -> tuple[int, int]:
    """Width and height of that shape with about the model's native number of pixels."""
    if not isinstance(aspect_ratio, str) or aspect_ratio not in ASPECT_RATIOS:
        raise InvalidRequest(f"This must be one of {', '.join(ASPECT_RATIOS)}.", "aspect_ratio")
    across, down = ASPECT_RATIOS[aspect_ratio]
    area = spec.native_width * spec.native_height
    unit = math.sqrt(area / (across * down))
    step = max(spec.size_multiple, 16)
    width, height = (
        min(max(round(unit * part / step) * step, spec.min_side), spec.max_side // step * step)
        for part in (across, down)
    )
    return width, height


def size_like(spec: ModelSpec, width: int, height: int) -> tuple[int, int]:
    """The nearest size that the model can draw, in the shape of a picture of that size."""
    step = max(spec.size_multiple, 8)
    down = min(1.0, spec.max_side / max(width, height))
    up = max(1.0, spec.min_side / min(width, height))
    smallest, largest = -(-spec.min_side // step) * step, spec.max_side // step * step
    across, below = (min(max(round(side * down * up / step) * step, smallest), largest) for side in (width, height))
    return across, below
