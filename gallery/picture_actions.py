"""What can be made of a finished picture: variations and enlargements, as far as its model and this site allow.

Whatever comes of it is private: one press must not publish anything.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.db.models.functions import Now

from accounts.models import User
from generation.catalog import catalog, model_named, remote_provider, upscalers
from generation.engine.catalog.models import ModelSpec
from generation.engine.catalog.upscalers import BUILT_IN, UPSCALERS
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import OPTIONS
from generation.engine.request.options import picture_names
from generation.engine.request.request import MAX_UPSCALED_SIDE
from generation.models import GeneratedImage, Generation, Upload, Visibility
from generation.prompts.styles import STYLES
from generation.services.generations import fields_of
from generation.storage.uploads import read_picture

FACTORS = (2, 4)
SUBTLE, STRONG = "subtle", "strong"
NOISE = {SUBTLE: 0.15, STRONG: 0.5}
"""How much of another seed's noise is mixed in: what stays is the composition, then only its outline."""
CHANGE = {SUBTLE: 0.35, STRONG: 0.65}
"""How much of the picture is drawn anew, where its noise is not known."""
CARRIED = ("steps", "guidance_scale", "sampler", "loras", *(field.attribute for field in OPTIONS))
"""What a variation drawn over the picture keeps of how it was made."""


@dataclass(frozen=True, slots=True)
class Offers:
    """`factors`: how many times it can be enlarged. `starts`: whether drawing can begin at it."""

    varies: bool
    factors: tuple[int, ...]
    starts: bool
    edits: bool
    extends: bool


def offers_for(generation: Generation, width: int, height: int) -> Offers:
    """What may be pressed at a picture of that size that `generation` made."""
    spec = _spec_of(generation)
    modes = {mode for offered in catalog() for mode in offered.modes}
    return Offers(
        varies=bool(generation.prompt and spec and ("img2img" in spec.modes or _has_known_noise(generation, spec))),
        factors=tuple(factor for factor in FACTORS if max(width, height) * factor <= MAX_UPSCALED_SIDE),
        starts="img2img" in modes,
        edits="inpaint" in modes,
        extends="outpaint" in modes,
    )


def _spec_of(generation: Generation) -> ModelSpec | None:
    with suppress(InvalidRequest):
        return model_named(generation.model)
    return None


def _has_known_noise(generation: Generation, spec: ModelSpec) -> bool:
    """Whether the same noise can be drawn again with a little of another: not where that was done already."""
    return "variation" in spec.features and generation.mode != "upscale" and "variation" not in generation.options


def variation_fields(user: User, image: GeneratedImage, strength: str, seed: int) -> dict[str, Any]:
    """Fields of `create_generation` for a variation of `image`; `strength` is SUBTLE or STRONG.

    Drawn from the picture's own noise with some of `seed` mixed in, else over the picture. Raises InvalidRequest, or
    a refusal of `uploads`.
    """
    generation = image.generation
    spec = model_named(generation.model)
    fields = fields_of(generation)
    if _has_known_noise(generation, spec) and _may_draw_again(user, generation):
        changed = {"seed": image.seed, "variation": {"seed": seed, "strength": NOISE[strength]}}
    else:
        fields = {name: fields[name] for name in (*CARRIED, *_WORDS) if name in fields}
        picture = read_picture(user, str(image.id), "image")
        changed = {"seed": seed, "image": picture, "strength": CHANGE[strength]}
    return fields | changed | {"num_images": 1, "visibility": Visibility.PRIVATE}


_WORDS = ("prompt", "negative_prompt", "model", "style")


def _may_draw_again(user: User, generation: Generation) -> bool:
    """Whether every picture that it was drawn with is the user's and still kept."""
    names = picture_names(generation.options)
    return len(names) == Upload.objects.owned_by(user).filter(pk__in=names, expires_at__gt=Now()).count()


def enlargement_fields(user: User, image: GeneratedImage, factor: int) -> dict[str, Any]:
    """Fields of `create_generation` for `image`, `factor` times larger. Raises as `variation_fields` does."""
    generation = image.generation
    spec = _spec_of(generation) or model_named(None)
    return {
        "prompt": generation.prompt,
        "style": generation.style if generation.style in STYLES else "",
        "model": spec.key,
        "seed": image.seed,
        "visibility": Visibility.PRIVATE,
        "upscale": {
            "image": read_picture(user, str(image.id), "image"),
            "factor": factor,
            "upscaler": _best_upscaler(spec),
        },
    }


def _best_upscaler(spec: ModelSpec) -> str:
    """A model where there is one for such pictures: the built-in one knows drawings only."""
    if remote_provider() is not None and "hires" not in spec.features:
        return UPSCALERS[0]
    if spec.built_in:
        return next(iter(BUILT_IN))
    return next((name for name in upscalers() if name not in (*UPSCALERS, *BUILT_IN)), UPSCALERS[0])


def source_of(user: User, image: GeneratedImage) -> tuple[Upload, dict[str, float]] | None:
    """The picture of `user` that `image` was made from, while it is kept, and its place in `image`: `left`, `top`,
    `across` and `down` in percent."""
    start = image.generation.options.get("start") or image.generation.options.get("upscale")
    if not start:
        return None
    kept = Upload.objects.owned_by(user).filter(pk=start["image"]["name"], expires_at__gt=Now()).first()
    if kept is None:
        return None
    grown = start.get("expand") or {}
    left, right, top, bottom = (grown.get(side, 0) for side in ("left", "right", "top", "bottom"))
    width, height = kept.width + left + right, kept.height + top + bottom
    place = {"left": left / width, "top": top / height, "across": kept.width / width, "down": kept.height / height}
    return kept, {name: round(100 * part, 3) for name, part in place.items()}
