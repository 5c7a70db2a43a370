"""Template tag `{% composer_field %}`: a control of the Create page, drawn by `templates/fields/_field.html`."""

import dataclasses
from typing import Any

from django import template
from django.urls import reverse

from gallery.composer_fields import COMPOSER_FIELDS
from gallery.controls import control

register = template.Library()


@register.inclusion_tag("fields/_field.html", takes_context=True)
def composer_field(context: template.Context, name: str) -> dict[str, Any]:
    """The control of the field of that name, as `gallery.controls` makes it, with what the page knows beyond it."""
    bound_field = context["form"][name]
    field = control(COMPOSER_FIELDS[name], context["offer"], bound_field.value(), "\n".join(bound_field.errors))
    changes: dict[str, dict[str, Any]] = {
        "model": {
            "kind": "select",
            "options": context["models"],
            "value": context["offer"].spec.key,
            "attributes": MODEL_ATTRIBUTES | {"hx-get": reverse("create-controls")},
        },
        "num_images": {"maximum": context["max_images"], "value": 1 if field.value is None else field.value},
        "visibility": {"options": context["visibilities"]},
        "control.key": {"kind": "select", "options": _control_options(context), "maxlength": None},
    }
    return {"field": dataclasses.replace(field, **changes.get(name, {}))}


MODEL_ATTRIBUTES = {
    "hx-target": "#controls",
    "hx-swap": "innerHTML",
    "hx-include": "#controls",
    "hx-sync": "this:replace",
    "data-keep-focus": "model",
}


def _control_options(context: template.Context) -> list[tuple[str, str]]:
    """The ControlNets that fit, by what they follow."""
    return [
        (net.key, f"{net.kind.capitalize()} ({net.key})" if net.kind and net.kind != net.key else net.key.capitalize())
        for net in context["abilities"].controls
    ]
