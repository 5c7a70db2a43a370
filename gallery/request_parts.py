"""The fields of a request in people's words: labels and short summaries for image details and for Reuse settings."""

from dataclasses import dataclass
from typing import Any

from generation.engine.request.fields import OPTIONS, PARTS, START_FIELDS
from generation.engine.request.schema import fields_of
from generation.fields import FIELDS

START = "image"
"""The key of a starting picture and of everything that belongs to it."""
START_NAMES = [field.name for field in START_FIELDS]
MASK_NAMES = ("mask_blur", "fill", "padding")
"""Fields that mean something beside a mask only."""
PART_NAMES = [field.name for field in PARTS.values() if field.attribute != "start"]


@dataclass(frozen=True, slots=True)
class RequestPart:
    """One thing that a request has beyond the plain fields. `key`: its name in our JSON."""

    key: str
    label: str
    technical: str
    summary: str


def request_parts(fields: dict[str, Any]) -> list[RequestPart]:
    """The starting picture, second pass, LoRAs … of a request as `to_dict` gives it."""
    parts = [_start(fields)] if START in fields else []
    for name in PART_NAMES:
        if name in fields:
            field = FIELDS[name]
            parts.append(RequestPart(name, field.label, field.technical, _summary(name, fields[name])))
    return parts


def option_facts(fields: dict[str, Any]) -> list[RequestPart]:
    """Plain fields beyond the columns (tiling, clip skip …), where they are used."""
    values = {field: fields[field.name] for field in OPTIONS if field.name in fields}
    return [
        RequestPart(field.name, field.label, field.technical, "Yes" if value is True else f"{value}")
        for field, value in values.items()
    ]


def _start(fields: dict[str, Any]) -> RequestPart:
    names = [name for name in START_NAMES if name in fields and _matters(name, fields)]
    return RequestPart(START, FIELDS[START].label, "", ", ".join(_detail(name, fields[name]) for name in names))


def _matters(name: str, fields: dict[str, Any]) -> bool:
    """Whether a field of the start says something: its strength always, others where they are not as usual."""
    if name in MASK_NAMES and not {"mask", "expand"} & fields.keys():
        return False
    return name != START and (name == "strength" or fields[name] != FIELDS[name].default)


def _detail(name: str, value: Any) -> str:
    label = FIELDS[name].label
    label = label[:1].lower() + label[1:]
    if isinstance(value, dict):
        return f"{label} {', '.join(f'{inner} {pixels}' for inner, pixels in value.items() if pixels)}"
    return label if name == "mask" else f"{label} {value}"


def _summary(name: str, value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{lora.get('key')} {lora.get('weight', 1)}" for lora in value)
    holder = FIELDS[name].of
    assert holder is not None
    labels = {field.name: field.label or field.name for field in fields_of(holder)}
    return ", ".join(f"{labels[inner].lower()} {value[inner]}" for inner in value if inner != "image")
