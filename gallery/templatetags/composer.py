"""Template tag `{% composer_field %}`: the fields of the Create page.

The one place between the composer's form and `templates/fields/_field.html`: it makes the `Field`s of the form's
values, the chosen model's limits and the words below.
"""

from django import template

from .fields import Field

register = template.Library()

WORDS = {
    "model": {"label": "Model", "kind": "select"},
    "num_images": {"label": "Images", "kind": "range"},
    "negative_prompt": {
        "label": "Leave out",
        "technical": "negative prompt",
        "placeholder": "blurry, extra fingers",
        "autocomplete": "off",
        "attributes": {"type": "text", "dir": "auto"},
    },
    "steps": {"label": "Detail passes", "technical": "steps", "help": "20–50 is usual", "kind": "range"},
    "guidance_scale": {
        "id": "guidance",
        "label": "How closely to follow",
        "technical": "guidance",
        "help": "low is loose, 7–12 literal",
        "kind": "range",
    },
    "seed": {
        "label": "Starting point",
        "technical": "seed",
        "help": "the same number, the same picture",
        "kind": "number",
        "placeholder": "random",
    },
    "sampler": {"label": "Sampler", "kind": "select"},
    "width": {"label": "Width", "kind": "number"},
    "height": {"label": "Height", "kind": "number"},
    "visibility": {"label": "Who can see it", "kind": "select"},
}
MAX_SEED = 2**32 - 1


@register.inclusion_tag("fields/_field.html", takes_context=True)
def composer_field(context, name: str) -> dict:
    return {"field": _field(context, name)}


def _field(context, name: str) -> Field:
    bound_field = context["form"][name]
    values = {"id": name, "value": bound_field.value(), "error": "\n".join(bound_field.errors)}
    return Field(name=name, **values | WORDS[name] | _limits(context, name, values["value"]))


def _limits(context, name: str, value) -> dict:
    """What depends on the chosen model and the plan: limits, options, the model's own choice."""
    spec = context["chosen_model"]
    side = {"minimum": spec.min_side, "maximum": spec.max_side, "step": spec.size_multiple}
    return {
        "model": {"options": _model_options(context["models"]), "value": spec.key},
        "num_images": {"minimum": 1, "maximum": context["max_images"], "value": 1 if value is None else value},
        "negative_prompt": {"maxlength": context["max_prompt"]},
        "steps": {"minimum": spec.min_steps, "maximum": spec.max_steps, "placeholder": spec.default_steps},
        "guidance_scale": {
            "minimum": 0,
            "maximum": f"{spec.max_guidance:g}",
            "step": 0.5,
            "placeholder": f"{spec.default_guidance:g}",
        },
        "seed": {"minimum": 0, "maximum": MAX_SEED},
        "sampler": {"options": [(name, name) for name in spec.samplers], "value": value or spec.default_sampler},
        "width": side | {"placeholder": spec.native_width},
        "height": side | {"placeholder": spec.native_height},
        "visibility": {"options": context["visibilities"]},
    }[name]


def _model_options(models) -> list[tuple]:
    """Options of the models, with what `static/js/composer.js` needs to adapt the other fields to the chosen one."""
    return [_model_option(entry["spec"], entry["ready"]) for entry in models]


def _model_option(spec, ready: bool) -> tuple[str, str, dict]:
    waits = "" if ready else " Not on this machine yet: the first picture waits for the download."
    data = {
        "steps": spec.default_steps,
        "max-steps": spec.max_steps,
        "guidance": f"{spec.default_guidance:g}",
        "max-guidance": f"{spec.max_guidance:g}",
        "max-side": spec.max_side,
        "min-side": spec.min_side,
        "multiple": spec.size_multiple,
        "summary": spec.summary + waits,
    }
    label = spec.title if ready else f"{spec.title} (downloads first)"
    return spec.key, label, {f"data-{name}": value for name, value in data.items()}
