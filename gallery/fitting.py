"""What stands in the composer, fitted to the chosen model: what still fits is kept, and what changes is said."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from generation.catalog import Abilities, upscalers
from generation.engine.catalog.models import ModelSpec
from generation.engine.catalog.samplers import find_sampler
from generation.engine.request.fields import ASPECT_RATIO, ASPECT_RATIOS
from generation.engine.request.request import size_for, size_like
from generation.engine.request.schema import Field, Kind, Offer
from generation.fields import FIELDS

from .composer_fields import COMPOSER_FIELDS, INNER, LORAS, MASK, OBJECTS, PICTURE_OF, START, is_chosen
from .controls import MORE_FIELDS, MORE_SWITCHES, available_roles, is_available

AS_PICTURE = ""
"""The shape of the starting picture."""
CUSTOM_SHAPE = "custom"
USUAL_SHAPE = "1:1"


@dataclasses.dataclass
class Fitting:
    """Values on their way to another model. `changes`: a sentence about everything that could not stay."""

    values: dict[str, Any]
    abilities: Abilities
    before: ModelSpec | None
    """The model that the values were chosen for; None where it is the same."""
    changes: list[str] = dataclasses.field(default_factory=list)

    @property
    def spec(self) -> ModelSpec:
        return self.abilities.spec

    def drop(self, names: list[str], sentence: str) -> None:
        """Take values away, and say so where one of them was chosen."""
        chosen = [name for name in names if is_chosen(self.values.get(name))]
        for name in names:
            self.values.pop(name, None)
        if chosen and sentence:
            self.changes.append(sentence)


def fitted(values: Mapping[str, Any], abilities: Abilities, before: ModelSpec | None = None) -> Fitting:
    """The values for this model; `before`: the one that they were chosen for, if it was another."""
    fitting = Fitting(dict(values), abilities, None if before == abilities.spec else before)
    fitting.values["model"] = abilities.spec.key
    _drop_unavailable(fitting)
    _fit_pictures(fitting)
    _fit_loras(fitting)
    _fit_choices(fitting)
    if fitting.before:
        _fit_numbers(fitting)
        _fit_size(fitting)
    _fit_shape(fitting)
    return fitting


def _drop_unavailable(fitting: Fitting) -> None:
    title = fitting.spec.title
    for field in (FIELDS["negative_prompt"], *MORE_FIELDS):
        if not is_available(field, fitting.abilities):
            unusual = is_chosen(fitting.values.get(field.name)) and fitting.values[field.name] != field.default
            fitting.drop([field.name], f"“{field.label}” is left out: {title} has none." if unusual else "")
    for field in MORE_SWITCHES:
        if not is_available(field, fitting.abilities):
            fitting.drop([field.name], f"“{field.label}” is left out: {title} has none.")


def _fit_pictures(fitting: Fitting) -> None:
    values, roles = fitting.values, available_roles(fitting.abilities)
    for role, name in PICTURE_OF.items():
        if role not in roles:
            label = FIELDS[role].label
            fitting.drop([name], f"“{label}” is left out: {fitting.spec.title} takes no such picture here.")
    for name in (MASK, "expand"):
        if not is_available(FIELDS[name], fitting.abilities) or not is_chosen(values.get(START)):
            fitting.drop([name], "")
    keys = [net.key for net in fitting.abilities.controls]
    if is_chosen(values.get("control.image")) and keys and values.get("control.key") not in keys:
        if is_chosen(values.get("control.key")):
            fitting.changes.append(f"The picture is followed by {keys[0]}, which {fitting.spec.title} has.")
        values["control.key"] = keys[0]


def _fit_loras(fitting: Fitting) -> None:
    fitting_keys = {lora.key for lora in fitting.abilities.loras}
    chosen = fitting.values.get(LORAS) or []
    lost = [lora["key"] for lora in chosen if lora.get("key") not in fitting_keys]
    if lost:
        fitting.values[LORAS] = [lora for lora in chosen if lora["key"] not in lost]
        fitting.changes.append(f"LoRAs that do not fit {fitting.spec.title} are left out: {', '.join(lost)}.")


def _offer(fitting: Fitting) -> Offer:
    sampler = find_sampler(str(fitting.values.get("sampler") or fitting.spec.default_sampler))
    most = sampler.max_steps if sampler else fitting.spec.max_steps
    return Offer(fitting.spec, upscalers(), min(fitting.spec.max_steps, most))


def _fit_choices(fitting: Fitting) -> None:
    """Words that this model does not know: samplers, upscalers."""
    offer, before = _offer(fitting), fitting.before
    if before and fitting.values.get("sampler") == before.default_sampler:
        fitting.values.pop("sampler")
    for name, field in COMPOSER_FIELDS.items():
        value = fitting.values.get(name)
        if field.kind is not Kind.CHOICE or not callable(field.choices) or not is_chosen(value):
            continue
        choices = field.choices_for(offer)
        # Where nothing else changed, a word that nobody knows is for the service to refuse.
        if value not in choices and before and name.partition(".")[0] not in PICTURE_OF:
            default = field.default or offer.spec.default_sampler
            fitting.drop([name], f"“{field.label}” is now {default}: {offer.spec.title} has no {value}.")


def _fit_numbers(fitting: Fitting) -> None:
    offer, before = _offer(fitting), fitting.before
    assert before is not None
    for name, field in COMPOSER_FIELDS.items():
        value = number_of(fitting.values.get(name))
        if value is None or not field.is_number or field.limits is None or name in ("width", "height"):
            continue
        limits = field.limits_for(offer)
        was_usual = value == field.limits_for(Offer(before, offer.upscalers, before.max_steps)).default
        if was_usual or not limits.low <= value <= limits.high:
            default = limits.default if is_chosen(limits.default) else "left to the model"
            sentence = f"“{field.label}” is now {_plain(default)} instead of {_plain(value)}."
            fitting.drop([name], "" if value == limits.default else sentence)


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def number_of(value: Any) -> float | None:
    """What was typed, if it is a number."""
    try:
        number = float(value) if is_chosen(value) and value is not True else None
    except (TypeError, ValueError):
        return None
    return number if number is not None and abs(number) < 1e15 else None


def _fit_size(fitting: Fitting) -> None:
    """An own size becomes the nearest one that the model draws."""
    width, height = (number_of(fitting.values.get(name)) for name in ("width", "height"))
    if fitting.values.get("shape") != CUSTOM_SHAPE or not width or not height or min(width, height) < 1:
        return
    size = size_like(fitting.spec, round(width), round(height))
    fits = all(
        fitting.spec.min_side <= side <= fitting.spec.max_side and side % fitting.spec.size_multiple == 0
        for side in (width, height)
    )
    if not fits:
        fitting.values |= dict(zip(("width", "height"), size, strict=True))
        fitting.changes.append(f"The size is now {size[0]} × {size[1]}.")


def _fit_shape(fitting: Fitting) -> None:
    """A request without a starting picture has no picture to take its shape from."""
    if fitting.values.get("shape") == AS_PICTURE and not is_chosen(fitting.values.get(START)):
        fitting.values["shape"] = USUAL_SHAPE


def shape_of(spec: ModelSpec, size: tuple[int, int]) -> str:
    """The name of the shape whose size is exactly this, or "custom"."""
    return next((shape for shape in ASPECT_RATIOS if size_for(spec, shape) == size), CUSTOM_SHAPE)


def label_of(name: str) -> str:
    """What people call a form field; that of the part where several parts have such a field."""
    if name == "shape":
        return ASPECT_RATIO.label
    part = name.partition(".")[0]
    if "." not in name:
        return FIELDS[name].label if name in FIELDS else ""
    field: Field | None = next((inner for inner in INNER[part] if inner.name == name), None)
    inner_label = field.label if field and field.is_scalar else ""
    return f"{OBJECTS[part].label}: {inner_label}" if inner_label else OBJECTS[part].label
