"""Reuse settings: the fields of an earlier generation as values of the composer."""

from typing import Any

from django.db.models.functions import Now

from accounts.models import User
from generation.catalog import model_named
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import Picture
from generation.engine.request.options import picture_names, to_dict
from generation.fields import FIELDS
from generation.models import GeneratedImage, Generation, Upload
from generation.storage.image_requests import request_of

from .composer_fields import form_values
from .fitting import CUSTOM_SHAPE, shape_of
from .request_parts import START, START_NAMES

ENLARGING = ("prompt", "style", "model", "seed", "upscale")
"""Fields that say something of a request that only enlarges."""


def image_values(image: GeneratedImage, user: User) -> tuple[dict[str, Any], list[str]]:
    """The composer's values that draw this image again, and sentences about what cannot be had back."""
    values, notes = generation_values(image.generation, user)
    return values | {"seed": image.seed, "num_images": 1}, notes


def generation_values(generation: Generation, user: User) -> tuple[dict[str, Any], list[str]]:
    """The composer's values that ask for the same again, and sentences about what cannot be had back.

    Pictures are named by their uploads, as far as these are kept and belong to `user`.
    """
    kept = _kept_uploads(user, picture_names(generation.options))
    request = request_of(generation)
    fields = to_dict(request, lambda picture: _name_of(picture, kept))
    fields |= {name: getattr(generation, name) for name in ("prompt", "negative_prompt", "style")}
    if request.upscale:
        # Nothing was drawn: what its row says of steps and size means nothing to another picture.
        fields = {name: value for name, value in fields.items() if name in ENLARGING}
    available, notes = _available({name: value for name, value in fields.items() if name in FIELDS})
    return form_values(available) | ({} if request.upscale else {"shape": _shape_of(generation)}), notes


def _shape_of(generation: Generation) -> str:
    try:
        return shape_of(model_named(generation.model), (generation.width, generation.height))
    except InvalidRequest:
        return CUSTOM_SHAPE


def _kept_uploads(user: User, names: set[str]) -> set[str]:
    if not names:
        return set()
    uploads = Upload.objects.owned_by(user).filter(pk__in=names, expires_at__gt=Now())
    return {str(pk) for pk in uploads.values_list("pk", flat=True)}


def _name_of(picture: Picture, kept: set[str]) -> str | None:
    return picture.name if picture.name in kept else None


def _available(fields: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Without the parts whose picture is gone, and a sentence about each of these."""
    lacking = {_key(name) for name, value in fields.items() if _lacks_picture(name, value)}
    notes = [f"“{FIELDS[key].label}” was left out: its picture is no longer kept." for key in sorted(lacking)]
    return {name: value for name, value in fields.items() if _key(name) not in lacking}, notes


def _key(name: str) -> str:
    return START if name in START_NAMES else name


def _lacks_picture(name: str, value: Any) -> bool:
    if name in ("image", "mask"):
        return value is None
    return isinstance(value, dict) and "image" in value and value["image"] is None
