"""Reuse settings: the fields of an earlier generation as values of the composer, and what it has no control for.

Such fields (starting picture, mask, second pass, LoRAs …) travel with the form as the object that the JSON API takes,
are named on the page, and can be left out there one by one.
"""

import json
from collections.abc import Mapping
from typing import Any

from django.db.models.functions import Now
from django.http import QueryDict

from accounts.models import User
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import Picture
from generation.engine.request.options import picture_names, to_dict
from generation.engine.request.schema import Kind, fields_of
from generation.fields import FIELDS, SCALARS
from generation.models import GeneratedImage, Upload
from generation.storage.image_requests import request_of

from .request_parts import START, START_NAMES

CONTROLS = [name for name in SCALARS if name not in START_NAMES]
"""Fields that the composer has a control for."""
MAX_CARRIED = 10_000
"""Characters of the JSON text that a form carries."""
UNREADABLE = "The settings of that image could not be read. Open it again and reuse them."


def composer_values(image: GeneratedImage, user: User) -> dict[str, Any]:
    """Every field of the generation of `image` by its name, `carried` (what has no control), and `notes` for people.

    Pictures are named by their uploads, as far as these are kept and belong to `user`.
    """
    generation = image.generation
    kept = _kept_uploads(user, picture_names(generation.options))
    fields = to_dict(request_of(generation), lambda picture: _name_of(picture, kept))
    values = {name: fields[name] for name in CONTROLS if name in fields}
    values |= {name: getattr(generation, name) for name in ("prompt", "negative_prompt", "style")}
    carried, notes = _available({name: fields[name] for name in fields if name in FIELDS and name not in values})
    return values | {"seed": image.seed, "num_images": 1, "carried": carried, "notes": notes}


def _kept_uploads(user: User, names: set[str]) -> set[str]:
    if not names:
        return set()
    uploads = Upload.objects.owned_by(user).filter(pk__in=names, expires_at__gt=Now())
    return {str(pk) for pk in uploads.values_list("pk", flat=True)}


def _name_of(picture: Picture, kept: set[str]) -> str | None:
    return picture.name if picture.name in kept else None


def _available(carried: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Without the parts whose picture is gone, and a sentence about each of these."""
    lacking = {_key(name) for name, value in carried.items() if _lacks_picture(name, value)}
    notes = [f"“{FIELDS[key].label}” was left out: its picture is no longer kept." for key in sorted(lacking)]
    return {name: value for name, value in carried.items() if _key(name) not in lacking}, notes


def _key(name: str) -> str:
    return START if name in START_NAMES else name


def _lacks_picture(name: str, value: Any) -> bool:
    if name in ("image", "mask"):
        return value is None
    return isinstance(value, dict) and "image" in value and value["image"] is None


def carried_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields without a control that a form has, whether their boxes are ticked or not. Raises InvalidRequest."""
    text = data.get("carried") or {}
    if isinstance(text, dict):
        return text
    try:
        carried = json.loads(text) if len(text) <= MAX_CARRIED else None
    except (ValueError, RecursionError):
        carried = None
    if not isinstance(carried, dict) or not all(_is_well_formed(name, value) for name, value in carried.items()):
        raise InvalidRequest(UNREADABLE)
    return carried


def _is_well_formed(name: str, value: Any) -> bool:
    """Whether this may be a field of ours; whether it makes sense is for the service to say."""
    field = FIELDS.get(name)
    if field is None or name in CONTROLS:
        return False
    if field.of is None:
        return isinstance(value, (str, int, float, bool))
    objects = value if field.kind is Kind.LIST else [value]
    names = {inner.name for inner in fields_of(field.of)}
    return isinstance(objects, list) and all(isinstance(part, dict) and part.keys() <= names for part in objects)


def kept_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `carried_fields` whose boxes are ticked. Raises InvalidRequest."""
    carried = carried_fields(data)
    kept = set(data.getlist("keep")) if isinstance(data, QueryDict) else {_key(name) for name in carried}
    return {name: value for name, value in carried.items() if _key(name) in kept}
