"""Controls of the Create page, made of the table of request fields, the chosen model's limits and the plan."""

import dataclasses
from typing import Any

from django import forms

from generation.engine.catalog.models import FEATURES, ModelSpec
from generation.engine.request.schema import Field, Kind, Offer
from generation.fields import SCALARS

from .request_parts import START_NAMES


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


DRAWN_APART = ("prompt", "style", "aspect_ratio")
"""Fields whose controls have templates of their own."""
COMPOSER_FIELDS = {name: field for name, field in SCALARS.items() if name not in (*START_NAMES, "aspect_ratio")}
"""Fields that the composer's form has under their own names; it has `shape` for the aspect ratio."""
PLACED = ("model", "num_images", "negative_prompt", "steps", "guidance_scale", "seed", "sampler", "width", "height")
MORE_FIELDS = [field for name, field in COMPOSER_FIELDS.items() if name not in (*PLACED, *DRAWN_APART, "visibility")]
"""Fields that need no place of their own: they follow in the drawer, in the order of the table."""
KINDS = {Kind.BOOLEAN: "checkbox", Kind.CHOICE: "select", Kind.NUMBER: "number", Kind.INTEGER: "number"}
FORM_FIELDS = {Kind.BOOLEAN: forms.BooleanField, Kind.NUMBER: forms.FloatField, Kind.INTEGER: forms.IntegerField}
IDS = {"guidance_scale": "guidance"}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "negative_prompt": {"placeholder": "blurry, extra fingers", "autocomplete": "off", "attributes": {"dir": "auto"}},
    "seed": {"placeholder": "random", "minimum": 0},
}
"""What only a page says of a field."""


def form_field(field: Field) -> forms.Field:
    """The shape of what is typed; whether it makes sense is for the service to say."""
    return FORM_FIELDS.get(field.kind, forms.CharField)(required=False)


def is_chosen(value: Any) -> bool:
    """Whether something was typed, picked or ticked; 0 was."""
    return value is not None and value is not False and value != ""


def control(field: Field, offer: Offer, value: Any, error: str = "") -> Control:
    """The control of a field for the model of `offer`."""
    ranged = field.is_number and field.step is not None
    drawn = Control(
        name=field.name,
        id=IDS.get(field.name, field.name),
        label=field.label,
        technical=field.technical,
        help=field.hint,
        kind="range" if ranged else KINDS.get(field.kind, "text"),
        value=value,
        step=field.step,
        error=error,
        maxlength=int(field.high) if field.kind is Kind.TEXT and field.high else None,
    )
    if field.kind is Kind.BOOLEAN:
        drawn = dataclasses.replace(drawn, value="on", attributes={"checked": True} if value else {})
    return dataclasses.replace(drawn, **_limits(field, offer, value) | ATTRIBUTES.get(field.name, {}))


def _limits(field: Field, offer: Offer, value: Any) -> dict[str, Any]:
    """What depends on the model: bounds, choices, and its own value where nothing is chosen."""
    if field.kind is Kind.CHOICE:
        choices, default = field.choices_for(offer), field.default or offer.spec.default_sampler
        return {"options": [(choice, choice) for choice in choices], "value": value or default}
    if not field.is_number:
        return {}
    limits = field.limits_for(offer)
    bounds: dict[str, Any] = {"minimum": f"{limits.low:.10g}", "maximum": f"{limits.high:.10g}"}
    if field.name in ("width", "height"):
        bounds["step"] = offer.spec.size_multiple
    return bounds if limits.default is None else bounds | {"placeholder": f"{limits.default:g}"}


def feature_of(field: Field) -> str:
    """The feature that a model must have for this field, or ""."""
    return field.attribute if field.attribute in FEATURES else ""


def is_available(field: Field, spec: ModelSpec) -> bool:
    """Whether this model has the field at all."""
    return not feature_of(field) or field.attribute in spec.features


def model_options(models: list[tuple[ModelSpec, bool]]) -> list[tuple[str, str, dict[str, Any]]]:
    """Options of the models (and whether each is ready), with what `composer.js` adapts the other controls to."""
    return [_model_option(spec, ready) for spec, ready in models]


def _model_option(spec: ModelSpec, ready: bool) -> tuple[str, str, dict[str, Any]]:
    waits = "" if ready else " Not on this machine yet: the first picture waits for the download."
    data = {
        "steps": spec.default_steps,
        "max-steps": spec.max_steps,
        "guidance": f"{spec.default_guidance:g}",
        "max-guidance": f"{spec.max_guidance:g}",
        "max-side": spec.max_side,
        "min-side": spec.min_side,
        "multiple": spec.size_multiple,
        "features": " ".join(spec.features),
        "summary": spec.summary + waits,
    }
    label = spec.title if ready else f"{spec.title} (downloads first)"
    return spec.key, label, {f"data-{name}": value for name, value in data.items()}
