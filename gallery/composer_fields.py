"""The composer's form fields: the table of request fields with its parts spelled out, one control for each value.

A plain field has its own name (`steps`). The fields of an object stand beside each other under dotted names
(`hires_fix.scale`, `control.image`). An object without a picture has a switch of its own name; one with a picture
is a role that a picture may have, and is there when the picture is. A starting picture is such a role too,
whose fields are at the top of a request already. So a new field or part has its controls without a new page.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from generation.engine.request.fields import START_FIELDS
from generation.engine.request.schema import Field, Kind, fields_of
from generation.fields import FIELDS, SCALARS

from . import request_parts
from .request_parts import MASK_NAMES, START

START_NAMES = tuple(request_parts.START_NAMES)
LORAS = "loras"
OBJECTS = {name: field for name, field in FIELDS.items() if field.kind is Kind.OBJECT}


def _inner_fields(part: Field) -> tuple[Field, ...]:
    assert part.of is not None
    return tuple(dataclasses.replace(inner, name=f"{part.name}.{inner.name}") for inner in fields_of(part.of))


INNER = {name: _inner_fields(field) for name, field in OBJECTS.items()}
"""The fields of every object, under their dotted names."""
PICTURE_OF = {START: START} | {
    name: inner.name for name, fields in INNER.items() for inner in fields if inner.kind is Kind.PICTURE
}
"""Role of a picture → form field that holds the picture's id."""
ROLES = tuple(PICTURE_OF)
SWITCHES = tuple(name for name in OBJECTS if name not in ROLES)
"""Objects that are on or off."""
ROLE_FIELDS = {
    role: tuple(
        field for field in (START_FIELDS if role == START else INNER[role]) if field.is_scalar or field.name in SWITCHES
    )
    for role in ROLES
}
"""Role → the fields that a picture in it has, without pictures."""
MASK = "mask"
COMPOSER_FIELDS: dict[str, Field] = (
    {name: field for name, field in SCALARS.items() if name != "aspect_ratio"}
    | {name: OBJECTS[name] for name in SWITCHES}
    | {inner.name: inner for fields in INNER.values() for inner in fields if inner.is_scalar}
)
"""Every field of the form that has a control of its own; the form has `shape` for the aspect ratio."""
PICTURES = (*PICTURE_OF.values(), MASK)
"""Form fields that hold the id of an upload or of an image."""


def is_chosen(value: Any) -> bool:
    """Whether something was typed, picked or ticked; 0 was."""
    return value is not None and value is not False and value != ""


def request_body(values: Mapping[str, Any]) -> dict[str, Any]:
    """A request as our JSON API takes it, from the form's values; what is left to the model is not among it."""
    own = [name for name in SCALARS if name not in START_NAMES and is_chosen(values.get(name))]
    body = {name: values[name] for name in own}
    body |= _start(values)
    body |= {name: _object(name, values) for name in OBJECTS if _is_on(name, values)}
    if values.get(LORAS):
        body[LORAS] = values[LORAS]
    return body


def _is_on(name: str, values: Mapping[str, Any]) -> bool:
    """Whether the request has this object; what belongs to a starting picture is there with that."""
    if name in ROLES:
        return is_chosen(values.get(PICTURE_OF[name]))
    return name not in START_NAMES and bool(values.get(name))


def _start(values: Mapping[str, Any]) -> dict[str, Any]:
    """The starting picture with what belongs to it; nothing without the picture."""
    if not is_chosen(values.get(START)):
        return {}
    masked = is_chosen(values.get(MASK)) or bool(values.get("expand"))
    start = {
        name: values[name]
        for name in START_NAMES
        if name != "expand" and is_chosen(values.get(name)) and (masked or name not in MASK_NAMES)
    }
    return start | ({"expand": _object("expand", values)} if values.get("expand") else {})


def _object(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Its fields that were chosen; a box that is not ticked says no, where yes is the default."""
    content: dict[str, Any] = {}
    for inner in INNER[name]:
        value = values.get(inner.name)
        if inner.kind is Kind.BOOLEAN:
            content[inner.attribute] = bool(value)
        elif is_chosen(value):
            content[inner.attribute] = value
    return content


def form_values(body: Mapping[str, Any]) -> dict[str, Any]:
    """The form's values for a request as our JSON API spells it: `request_body` the other way round."""
    values: dict[str, Any] = {}
    for name, value in body.items():
        if name in OBJECTS and isinstance(value, Mapping):
            values |= {f"{name}.{inner}": content for inner, content in value.items()}
            values |= {name: True} if name in SWITCHES else {}
        elif name in FIELDS:
            values[name] = value
    return values


def field_at_fault(param: str) -> str:
    """The form field that a refusal is about, by what it calls the field; "" where the form has none."""
    if param in PICTURE_OF:
        return PICTURE_OF[param]
    param = {"aspect_ratio": "shape", "size": "shape", "upscaler": "upscale.upscaler"}.get(param, param)
    if param in COMPOSER_FIELDS or param in ("shape", LORAS, MASK, *PICTURES):
        return param
    prefixed = {
        f"{field.prefix}{inner.attribute}": inner.name
        for name, field in OBJECTS.items()
        if field.prefix
        for inner in INNER[name]
    }
    return prefixed.get(param, "")


def without(body: dict[str, Any], param: str) -> bool:
    """Take what a refusal calls `param` out of a request body; whether there was anything to take."""
    name = field_at_fault(param)
    part, _, inner = name.partition(".")
    if inner and inner != "image" and isinstance(body.get(part), dict):
        return body[part].pop(inner, None) is not None
    if param == "prompt":
        replaced = body.get("prompt") != PLACEHOLDER
        body["prompt"] = PLACEHOLDER
        return replaced
    if part == START:
        return _take(body, START_NAMES)
    if part == "shape":
        return _take(body, ("aspect_ratio", "width", "height"))
    # Without the model all other fields would be held against another one.
    return part != "model" and body.pop(part, None) is not None


def _take(body: dict[str, Any], names: tuple[str, ...]) -> bool:
    """Whether any of them was there."""
    return [name for name in names if body.pop(name, None) is not None] != []


PLACEHOLDER = "a picture"
"""Stands in for a prompt that is wrong or not there yet, so that the other fields can be looked at."""
