"""Template tags for form fields. Every control that a person fills in is drawn by `templates/fields/_field.html`.

The template takes any object with the attributes of `Control`: who has one includes it
(`{% include "fields/_field.html" with field=control %}`). `{% field %}` is the adapter for Django's bound fields.
"""

import dataclasses

from django import template
from django.forms import BoundField
from django.forms.utils import flatatt
from django.utils.safestring import SafeString

from gallery.controls import Control

register = template.Library()

KINDS = ("textarea", "number", "select", "checkbox", "radio", "file")
"""What a widget can be, by its input type or the name of its template. All others are texts."""
ATTRIBUTES = {
    "minimum": "min",
    "maximum": "max",
    "step": "step",
    "maxlength": "maxlength",
    "required": "required",
    "autocomplete": "autocomplete",
    "placeholder": "placeholder",
}
"""Attribute of `Control` → HTML attribute of the control."""


NAMES = {attribute.name for attribute in dataclasses.fields(Control)}


@register.inclusion_tag("fields/_field.html", name="field")
def draw_field(bound_field: BoundField, *, alert: bool = False, **changes) -> dict:
    """Draw a Django form field. `changes` win over what the form says (`label`, `placeholder`, …).

    A change that is no attribute of `Control` is an HTML attribute (`dir`). With `alert` screen readers read the error
    as soon as it appears, which is right where no summary of the form does so.
    """
    return {"field": field_of(bound_field, **changes), "alert": alert}


def field_of(bound_field: BoundField, **changes) -> Control:
    """The `Control` of a Django form field, with `changes`."""
    widget = bound_field.field.widget.get_context(
        bound_field.html_name, bound_field.value(), bound_field.build_widget_attrs({"id": bound_field.auto_id})
    )["widget"]
    kind = widget.get("type") or widget["template_name"].rpartition("/")[2].removesuffix(".html")
    attributes = {name: value for name, value in widget["attrs"].items() if not name.startswith("aria-")}
    if kind not in KINDS:
        attributes["type"], kind = kind, "text"
    values = {name: attributes.pop(html) for name, html in ATTRIBUTES.items() if html in attributes}
    choices = getattr(bound_field.field, "choices", [])
    values |= {
        "name": bound_field.html_name,
        "id": attributes.pop("id"),
        "label": bound_field.label,
        "help": bound_field.help_text,
        "kind": kind,
        "value": bound_field.value() if choices else widget.get("value"),
        "options": choices,
        "error": "\n".join(bound_field.errors),
    }
    attributes |= {name: value for name, value in changes.items() if name not in NAMES}
    attributes["autofocus"] = bool(attributes.get("autofocus"))
    return Control(
        **values | {name: value for name, value in changes.items() if name in NAMES} | {"attributes": attributes}
    )


@register.filter
def control_attributes(field) -> SafeString:
    """The HTML attributes of the control itself: name, id, limits, what describes it and whether it is wrong."""
    attributes = {"id": field.id, "name": field.name}
    attributes |= {html: getattr(field, name) for name, html in ATTRIBUTES.items() if getattr(field, name) != ""}
    if field.kind in ("number", "range"):
        attributes["inputmode"] = "decimal" if field.step and float(field.step) % 1 else "numeric"
    if field.error:
        attributes["aria-invalid"] = "true"
    described = [f"{field.id}-{part}" for part, text in (("error", field.error), ("hint", field.help)) if text]
    attributes["aria-describedby"] = " ".join(described) or None
    return flatatt({name: value for name, value in (attributes | field.attributes).items() if value is not None})


@register.filter
def html_attributes(attributes: dict | str) -> SafeString:
    """HTML attributes out of a mapping, or nothing."""
    return flatatt(attributes or {})


@register.filter
def is_chosen(option, value) -> bool:
    """Whether an option is the value of its field, or among its values."""
    if isinstance(value, list | tuple | set):
        return str(option) in map(str, value)
    return str(option) == str("" if value is None else value)


@register.inclusion_tag("fields/_field.html")
def element_field(attributes: dict, label: str, value: str, help: str) -> dict:
    """Draw allauth's `{% element field %}`, which names its HTML attributes one by one."""
    kind = attributes.get("type", "text")
    element = {name: attributes[name] for name in ("disabled", "readonly", "checked") if attributes.get(name)}
    if kind not in KINDS:
        kind, element["type"] = "text", kind
    described = {name: attributes[name] for name in ("required", "autocomplete", "placeholder") if attributes.get(name)}
    described |= {"label": label, "help": help, "kind": kind, "value": value or attributes.get("value")}
    control = Control(name=attributes.get("name", ""), id=attributes.get("id", ""), attributes=element, **described)
    return {"field": control, "alert": False}
