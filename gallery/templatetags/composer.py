"""Template tag `{% composer_field %}`: a control of the Create page, drawn by `templates/fields/_field.html`."""

import dataclasses
from typing import Any

from django import template

from gallery.controls import COMPOSER_FIELDS, control, model_options

register = template.Library()


@register.inclusion_tag("fields/_field.html", takes_context=True)
def composer_field(context: template.Context, name: str) -> dict[str, Any]:
    """The control of the field of that name, as `gallery.controls` makes it, with what the page knows beyond it."""
    bound_field = context["form"][name]
    field = control(COMPOSER_FIELDS[name], context["offer"], bound_field.value(), "\n".join(bound_field.errors))
    changes: dict[str, dict[str, Any]] = {
        "model": {"kind": "select", "options": model_options(context["models"]), "value": context["offer"].spec.key},
        "num_images": {"maximum": context["max_images"], "value": 1 if field.value is None else field.value},
        "visibility": {"options": context["visibilities"]},
    }
    return {"field": dataclasses.replace(field, **changes.get(name, {}))}
