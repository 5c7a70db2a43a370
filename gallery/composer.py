"""What the Create page's composer shows: its form, the controls of the chosen model, pictures, LoRAs and the cost."""

import uuid
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.urls import reverse
from django.utils.datastructures import MultiValueDict

from accounts import quotas
from accounts.models import User
from accounts.plans import plan_of
from generation.catalog import Abilities, abilities_of, catalog, model_named, upscalers
from generation.engine.catalog.lora_cards import LoraCard, lora_card
from generation.engine.catalog.models import ModelSpec
from generation.engine.catalog.samplers import find_sampler
from generation.engine.errors import UnknownModel
from generation.engine.request.fields import ASPECT_RATIOS, MAX_PROMPT_CHARACTERS
from generation.engine.request.schema import Offer
from generation.fields import FIELDS
from generation.models import Generation, Visibility
from generation.prompts.ideas import suggestions
from generation.prompts.styles import STYLES
from generation.queue import estimates

from .composer_fields import COMPOSER_FIELDS, INNER, LORAS, is_chosen
from .controls import MORE_FIELDS, MORE_SWITCHES, available_roles, is_available, model_note, model_options
from .fitting import CUSTOM_SHAPE
from .forms import LORA, LORA_WEIGHT, SHAPES, ComposerForm, planned_generation
from .panels import duration_words
from .references import cards

IDEAS = 6
DRAWER = (
    *("negative_prompt", "steps", "guidance_scale", "seed", "sampler", "width", "height", "visibility"),
    *(field.name for field in MORE_FIELDS),
    *(field.name for field in MORE_SWITCHES),
    *(inner.name for field in MORE_SWITCHES for inner in INNER[field.name]),
)
"""What stands in the Fine-tune drawer."""
CHOSEN = tuple(name for name in DRAWER if name not in ("sampler", "width", "height", "visibility") and "." not in name)
"""Of these, the fields that are empty unless somebody chose. The drawer opens for them and for mistakes."""
SEARCHED_LORAS = 8
"""More LoRAs than this can be searched."""


def spec_of(values: Mapping[str, Any]) -> ModelSpec:
    """The model that the form names; the site's default for one that is not offered."""
    try:
        return model_named(str(values.get("model") or ""))
    except UnknownModel:
        return model_named(None)


def composer_context(user: User, form: ComposerForm, abilities: Abilities | None = None) -> dict[str, Any]:
    """Everything that the templates of the composer need beside messages."""
    values = form.values()
    spec = spec_of(values)
    abilities = abilities or abilities_of(spec)
    sampler = find_sampler(str(values.get("sampler") or spec.default_sampler))
    most_steps = min(spec.max_steps, sampler.max_steps) if sampler else spec.max_steps
    return {
        "form": form,
        "values": values,
        "client_token": uuid.uuid4(),
        "offer": Offer(spec, upscalers(), most_steps),
        "abilities": abilities,
        "models": model_options(catalog(), spec),
        "model_note": model_note(spec),
        "roles": [(role, FIELDS[role].label) for role in available_roles(abilities)],
        "most_bytes": settings.MAX_IMAGE_FILE_SIZE,
        "cards": cards(user, values, abilities, form.errors),
        "loras": _lora_rows(abilities, values.get(LORAS) or []),
        "lora_search": len(abilities.loras) > SEARCHED_LORAS,
        "has_negative": is_available(FIELDS["negative_prompt"], abilities),
        "may_expand": is_available(FIELDS["expand"], abilities),
        "more_fields": [field.name for field in MORE_FIELDS if is_available(field, abilities)],
        "switches": [
            (field.name, [inner.name for inner in INNER[field.name] if inner.name in COMPOSER_FIELDS])
            for field in MORE_SWITCHES
            if is_available(field, abilities)
        ],
        "expand_fields": [inner.name for inner in INNER["expand"]],
        "styles": STYLES.values(),
        "shapes": _shapes(values),
        "visibilities": Visibility.choices,
        "max_images": plan_of(user).max_images,
        "max_prompt": MAX_PROMPT_CHARACTERS,
        "ideas": suggestions(IDEAS),
        "fine_tuned": _is_fine_tuned(form, values),
        **cost_context(user, values),
    }


def _shapes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    shapes = [
        {"key": key, "name": name, "across": ASPECT_RATIOS[key][0], "down": ASPECT_RATIOS[key][1]}
        for key, name in SHAPES.items()
    ]
    chosen = values.get("shape") or ""
    return [shape | {"chosen": shape["key"] == chosen} for shape in shapes]


def _is_fine_tuned(form: ComposerForm, values: Mapping[str, Any]) -> bool:
    """Whether something in the drawer was chosen, or is wrong: then it is open."""
    if values.get("shape") == CUSTOM_SHAPE:
        return True
    chosen = [name for name in CHOSEN if is_chosen(values.get(name)) and not _is_usual(name, values[name])]
    return bool(chosen) or any(name in form.errors for name in DRAWER)


def _is_usual(name: str, value: Any) -> bool:
    default = COMPOSER_FIELDS[name].default
    return default is not None and str(value) == str(default)


def _lora_rows(abilities: Abilities, chosen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The LoRAs that fit, those that are ticked first."""
    weights = {lora["key"]: lora.get("weight", "") for lora in chosen}
    rows = [_lora_row(lora_card(addon), weights) for addon in abilities.loras]
    return sorted(rows, key=lambda row: not row["ticked"])


def _lora_row(card: LoraCard, weights: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "key": card.key,
        "title": card.title,
        "trigger": card.trigger,
        "ticked": card.key in weights,
        "weight": weights.get(card.key) if is_chosen(weights.get(card.key)) else f"{card.weight:g}",
        "preview": reverse("create-lora-preview", args=[card.key]) if card.preview else "",
        "id": f"lora-{uuid.uuid5(uuid.NAMESPACE_OID, card.key).hex[:12]}",
    }


def form_data(values: Mapping[str, Any]) -> MultiValueDict:
    """The values as a form would send them."""
    data = MultiValueDict()
    for name, value in values.items():
        if name == LORAS:
            for lora in value or ():
                data.appendlist(LORA, lora["key"])
                data[f"{LORA_WEIGHT}{lora['key']}"] = str(lora.get("weight", ""))
        elif is_chosen(value):
            data[name] = "on" if value is True else str(value)
    return data


def cost_context(user: User, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the choice costs in images and, where past runs tell, in time. What is wrong is left to the model."""
    form = ComposerForm(form_data(values))
    form.is_valid()
    body = form.request_body()
    planned: Generation | None = planned_generation(body, user)[0]
    count = body.get("num_images") or 1
    seconds = planned and estimates.drawing_seconds(planned)
    quota = quotas.remaining(user)
    return {
        "count": count,
        "size": planned,
        "took": f"≈ {duration_words(seconds)}" if seconds else "",
        "quota": quota,
        "short": quota.remaining is not None and count > quota.remaining,
    }
