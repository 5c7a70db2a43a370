"""Controls of the Create page, made of the table of request fields, the chosen model's limits and the plan."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from django import forms

from generation.catalog import Abilities, is_ready, why_missing
from generation.engine.catalog.families import FEATURES
from generation.engine.catalog.models import ModelSpec
from generation.engine.request.schema import Field, Kind, Offer

from .composer_fields import COMPOSER_FIELDS, OBJECTS, ROLES, START, SWITCHES, is_chosen


@dataclasses.dataclass(frozen=True, kw_only=True)
class Control:
    """One control with its label, help and error.

    `kind`: text, textarea, number, range (a number between − and +), select, checkbox, radio or file. A checkbox or
    radio with options is a group of them, the value of such checkboxes a list. An option is `(value, label)` or
    `(value, label, HTML attributes)`. `technical` is the engineer's word beside the label. `error` may have several
    lines. `attributes` are further HTML attributes of the control.
    """

    name: str
    id: str
    label: str
    technical: str = ""
    help: str = ""
    kind: str = "text"
    value: Any = ""
    options: list[tuple] = dataclasses.field(default_factory=list)
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    maxlength: int | None = None
    required: bool = False
    autocomplete: str = ""
    placeholder: str = ""
    error: str = ""
    attributes: dict[str, Any] = dataclasses.field(default_factory=dict)


PLACED = (
    *("model", "prompt", "style", "num_images", "negative_prompt", "steps", "guidance_scale", "seed", "sampler"),
    *("width", "height", "visibility"),
)
"""Fields that have a place of their own on the page."""
MORE_FIELDS = [
    field
    for name, field in COMPOSER_FIELDS.items()
    if name not in PLACED and field.is_scalar and field.part != "start" and "." not in name
]
"""Plain fields that need no place: they follow in the drawer, in the order of the table."""
MORE_SWITCHES = [OBJECTS[name] for name in SWITCHES if name != "expand"]
"""Objects that follow in the drawer, each a switch with its fields."""
KINDS = {
    Kind.BOOLEAN: "checkbox",
    Kind.OBJECT: "checkbox",
    Kind.CHOICE: "select",
    Kind.NUMBER: "number",
    Kind.INTEGER: "number",
}
FORM_FIELDS = {
    Kind.BOOLEAN: forms.BooleanField,
    Kind.OBJECT: forms.BooleanField,
    Kind.NUMBER: forms.FloatField,
    Kind.INTEGER: forms.IntegerField,
}
IDS = {"guidance_scale": "guidance"}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "negative_prompt": {"placeholder": "blurry, extra fingers", "autocomplete": "off", "attributes": {"dir": "auto"}},
    "seed": {"placeholder": "random", "minimum": 0},
}
"""What only a page says of a field."""
MODES = {START: "img2img", "mask": "inpaint", "expand": "outpaint"}
"""Fields that need a mode of the model."""


def control_id(name: str) -> str:
    """The HTML id of the control of that name."""
    return IDS.get(name, name).replace(".", "-")


def form_field(field: Field) -> forms.Field:
    """The shape of what is typed; whether it makes sense is for the service to say."""
    return FORM_FIELDS.get(field.kind, forms.CharField)(required=False)


def control(field: Field, offer: Offer, value: Any, error: str = "") -> Control:
    """The control of a field for the model of `offer`."""
    ranged = field.is_number and field.step is not None
    drawn = Control(
        name=field.name,
        id=control_id(field.name),
        label=field.label,
        technical=field.technical,
        help=field.hint,
        kind="range" if ranged else KINDS.get(field.kind, "text"),
        value=value,
        step=field.step,
        error=error,
        maxlength=int(field.high) if field.kind is Kind.TEXT and field.high else None,
    )
    if KINDS.get(field.kind) == "checkbox":
        drawn = dataclasses.replace(drawn, value="on", attributes={"checked": True} if value else {})
    return dataclasses.replace(drawn, **_limits(field, offer, value) | ATTRIBUTES.get(field.name, {}))


def _limits(field: Field, offer: Offer, value: Any) -> dict[str, Any]:
    """What depends on the model: bounds, choices, and its own value where nothing is chosen."""
    choices = field.choices_for(offer)
    if choices:
        default = field.default if is_chosen(field.default) else offer.spec.default_sampler
        options = [(choice, str(choice)[:1].upper() + str(choice)[1:]) for choice in choices]
        return {"kind": "select", "options": options, "value": value if is_chosen(value) else default}
    if not field.is_number:
        return {}
    limits = field.limits_for(offer)
    bounds: dict[str, Any] = {"minimum": f"{limits.low:.10g}", "maximum": f"{limits.high:.10g}"}
    if field.name in ("width", "height"):
        bounds["step"] = offer.spec.size_multiple
    return bounds if limits.default is None else bounds | {"placeholder": f"{limits.default:g}"}


def is_available(field: Field, abilities: Abilities) -> bool:
    """Whether this model has the field here at all."""
    if field.name == "negative_prompt":
        return abilities.reads_negative_prompt
    if field.name == "quality":
        return abilities.has_fast_tier
    if field.name in MODES:
        return MODES[field.name] in abilities.spec.modes
    return field.attribute not in FEATURES or field.attribute in abilities.features


def available_roles(abilities: Abilities) -> list[str]:
    """The roles that a picture may have for this model here."""
    fields = {role: OBJECTS.get(role) for role in ROLES}
    return [
        role
        for role, field in fields.items()
        if (MODES[START] in abilities.spec.modes if field is None else is_available(field, abilities))
    ]


def model_options(models: Iterable[ModelSpec], chosen: ModelSpec) -> list[tuple[str, str, dict[str, Any]]]:
    """Options of the models: those that are here first, then those that would be downloaded, with what that costs."""
    specs = sorted(models, key=lambda spec: not is_ready(spec))
    return [_model_option(spec, chosen) for spec in specs]


def _model_option(spec: ModelSpec, chosen: ModelSpec) -> tuple[str, str, dict[str, Any]]:
    if is_ready(spec):
        return spec.key, spec.title, {}
    if why_missing(spec):
        # The chosen one stays selectable, so that the page says why it cannot be drawn with.
        return spec.key, f"{spec.title} (not here)", {} if spec == chosen else {"disabled": True}
    return spec.key, f"{spec.title} ({download_words(spec)})", {}


def download_words(spec: ModelSpec) -> str:
    return f"{spec.download_gb:g} GB download" if spec.download_gb else "downloads first"


def model_note(spec: ModelSpec) -> str:
    """Below the choice of the model: what it is good for, and what has to happen before it draws."""
    if missing := why_missing(spec):
        return f"{spec.title} {missing}."
    if is_ready(spec):
        return spec.summary
    return f"{spec.summary} Not on this machine yet: the first picture waits for the {download_words(spec)}."
