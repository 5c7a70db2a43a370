"""From keyword values to the objects of the table of fields: types, bounds, defaults. Raises InvalidRequest."""

from typing import Any

from generation.engine.errors import InvalidRequest

from .fields import PARTS, START_FIELDS, Lora, Picture, Start
from .schema import Field, Kind, Offer, fields_of
from .validate import flag, known_keys, number, one_of, text

NEED_START = ("mask", "expand", "strength")
"""Fields that mean nothing without a picture to start from."""
_OUTPAINTING_DEFAULTS = {"strength": 1.0, "fill": "blur"}
"""An edge painted anew has nothing of its own to keep."""


def read_value(field: Field, value: Any, offer: Offer) -> Any:
    """`value` as this field holds it; None is the default."""
    if field.kind is Kind.PICTURE:
        return None if value is None and not field.required else _picture(value, field)
    if field.kind is Kind.BOOLEAN:
        return field.default if value is None else flag(value, field.param)
    if field.kind is Kind.TEXT:
        return text(value, field.param, int(field.high or 0)).strip()
    if field.kind is Kind.CHOICE:
        return one_of(value, field.param, field.choices_for(offer), field.default)
    if field.of is not None:
        return read_object(field, value, offer)
    limits = field.limits_for(offer)
    return number(value, field.param, limits.low, limits.high, limits.default, whole=field.kind is Kind.INTEGER)


def read_object(field: Field, value: Any, offer: Offer) -> Any:
    """The part of a request that `field.of` holds, or None for None and False."""
    return None if value is None or value is False else _build(field, value, offer)


def _build(field: Field, value: Any, offer: Offer) -> Any:
    assert field.of is not None
    inners = fields_of(field.of, field)
    values = known_keys(spelled_out(field, value), field.param, [inner.attribute for inner in inners])
    if field.name == "hires_fix":  # of steps, 0 is another way to leave them out
        values = values | {"steps": values.get("steps") or None}
    part = field.of(**{inner.attribute: read_value(inner, values.get(inner.attribute), offer) for inner in inners})
    return part.settled() if hasattr(part, "settled") else part


def spelled_out(field: Field, value: Any) -> Any:
    """The object that a shorthand stands for: `2` for `{"factor": 2}`, a picture for `{"image": …}`."""
    if field.shorthand is None or isinstance(value, dict):
        return value
    if field.shorthand is Kind.BOOLEAN:
        return {} if value is True else value
    if field.shorthand is Kind.NUMBER:
        number(value, field.param, -float("inf"), float("inf"), None)
    assert field.of is not None
    kinds = (Kind.INTEGER, Kind.NUMBER) if field.shorthand is Kind.NUMBER else (field.shorthand,)
    return {inner.attribute: value for inner in fields_of(field.of) if inner.kind in kinds}


def read_start(keywords: dict[str, Any], offer: Offer) -> Start | None:
    """Where drawing begins, of the keyword values that a Start has."""
    if keywords.get("image") is None:
        for name in NEED_START:
            if keywords.get(name) is not None:
                raise InvalidRequest("This needs an image to work on.", name)
        return None
    values = {field.attribute: keywords.get(field.attribute) for field in START_FIELDS}
    by_name = {field.attribute: field for field in START_FIELDS}
    if read_object(by_name["expand"], values["expand"], offer):
        values |= {name: value for name, value in _OUTPAINTING_DEFAULTS.items() if values[name] is None}
    return Start(**{field.attribute: read_value(field, values[field.attribute], offer) for field in START_FIELDS})


def read_loras(value: Any, offer: Offer) -> tuple[Lora, ...]:
    """A list of keys, or of objects with key and weight. The same one twice counts twice."""
    field = PARTS["loras"]
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise InvalidRequest("This must be a list.", field.param)
    weights: dict[str, float] = {}
    for entry in value:
        lora = _build(field, entry, offer)
        weights[lora.key] = weights.get(lora.key, 0.0) + lora.weight
    if len(weights) > (field.high or 0):
        raise InvalidRequest(f"At most {field.high} LoRAs work together.", field.param)
    return tuple(Lora(key, weight) for key, weight in weights.items() if weight)


def _picture(value: Any, field: Field) -> Picture:
    if not isinstance(value, Picture):
        raise InvalidRequest("This must be a picture.", field.param)
    return value
