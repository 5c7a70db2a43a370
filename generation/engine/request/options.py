"""An ImageRequest in other forms: database columns and JSON options, keyword arguments, and our JSON API's object."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from PIL import Image

from .fields import COLUMNS, OPTIONS, OWN_FIELDS, PARTS, Expand, ImageRequest, Lora, Picture
from .schema import Field, fields_of

_INNER = {"image": Picture, "mask": Picture, "expand": Expand}
"""Attributes of parts that hold an object themselves."""


# --- storage: columns, and everything beyond them as plain JSON with pictures by name --------------------------


def to_columns(request: ImageRequest) -> dict[str, Any]:
    """Those fields that have a column of their own."""
    return {field.attribute: getattr(request, field.attribute) for field in COLUMNS}


def to_options(request: ImageRequest) -> dict[str, Any]:
    """What has no column, as JSON. Empty for a plain request."""
    options = {name: _to_json(part) for name in PARTS if dataclasses.is_dataclass(part := getattr(request, name))}
    scalars = {field.attribute: (getattr(request, field.attribute), field.default) for field in OPTIONS}
    options |= {name: value for name, (value, default) in scalars.items() if value != default}
    return options | ({"loras": [_to_json(lora) for lora in request.loras]} if request.loras else {})


def from_options(options: dict[str, Any], load: Callable[[str], Image.Image]) -> dict[str, Any]:
    """Keyword arguments for `ImageRequest` from `to_options`; `load(name)` gives a picture's pixels."""
    parts = {
        name: _from_json(field.of, options[name], load)
        for name, field in PARTS.items()
        if name in options and name != "loras"
    }
    scalars = {field.attribute: options[field.attribute] for field in OPTIONS if field.attribute in options}
    return parts | scalars | {"loras": tuple(Lora(**lora) for lora in options.get("loras", ()))}


def picture_names(options: dict[str, Any]) -> set[str]:
    """Names of the pictures that `to_options` wrote down."""
    parts = [part for name, part in options.items() if name in PARTS and isinstance(part, dict)]
    return {part[name]["name"] for part in parts for name in ("image", "mask") if part.get(name)}


def _to_json(part: Any) -> dict[str, Any]:
    values = {attribute.name: getattr(part, attribute.name) for attribute in dataclasses.fields(part)}
    return {
        name: _to_json(value) if dataclasses.is_dataclass(value) else value
        for name, value in values.items()
        if name != "load"
    }


def _from_json(holder: Any, stored: dict[str, Any], load: Callable[[str], Image.Image]) -> Any:
    values = {
        name: _from_json(_INNER[name], value, load) if name in _INNER and value else value
        for name, value in stored.items()
    }
    if holder is Picture:
        values["load"] = partial(load, stored["name"])
    return holder(**values)


# --- asking for the same again ---------------------------------------------------------------------------------


def to_keywords(request: ImageRequest) -> dict[str, Any]:
    """The keyword arguments of `build_request` that draw the same again, but for prompts and model.

    A request that only enlarges has no others than `upscale` and `seed`.
    """
    if request.upscale:
        return {"upscale": _shallow(request.upscale), "seed": request.seed}
    names = [field.attribute for field in OWN_FIELDS if field.is_scalar]
    keywords = {name: getattr(request, name) for name in names if name not in ("model", "prompt", "negative_prompt")}
    for name in PARTS:
        part = getattr(request, name)
        if name == "loras":
            keywords |= {"loras": [_shallow(lora) for lora in part]} if part else {}
        elif part is not None:
            keywords |= _shallow(part) if name == "start" else {name: _shallow(part)}
    return keywords


def _shallow(part: Any) -> dict[str, Any]:
    """The attributes of a part; pictures stay what they are."""
    values = {attribute.name: getattr(part, attribute.name) for attribute in dataclasses.fields(part)}
    return {name: _shallow(value) if isinstance(value, Expand) else value for name, value in values.items()}


# --- our JSON API ----------------------------------------------------------------------------------------------


def to_dict(request: ImageRequest, render_picture: Callable[[Picture], Any]) -> dict[str, Any]:
    """The request as our JSON API spells it: the mode, every column, and of the other fields those that are used.

    `render_picture` says what stands for a picture.
    """
    fields: dict[str, Any] = {"mode": request.mode}
    for field in OWN_FIELDS:
        value = getattr(request, field.attribute)
        if field.attribute == "start":
            fields |= _object(field, value, render_picture) if value else {}
        elif field.column or value != field.default:
            fields[field.name] = _rendered(field, value, render_picture)
    return fields


def _object(field: Field, part: Any, render_picture: Callable[[Picture], Any]) -> dict[str, Any]:
    assert field.of is not None
    values = {inner: getattr(part, inner.attribute) for inner in fields_of(field.of)}
    return {inner.name: _rendered(inner, value, render_picture) for inner, value in values.items() if value is not None}


def _rendered(field: Field, value: Any, render_picture: Callable[[Picture], Any]) -> Any:
    if isinstance(value, Picture):
        return render_picture(value)
    if isinstance(value, tuple):
        return [_object(field, each, render_picture) for each in value]
    return _object(field, value, render_picture) if field.of else value
