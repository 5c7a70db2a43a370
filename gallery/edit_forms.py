"""The edit page's form and its controls: a mask, extension by numbers, and the fields that a change is drawn with."""

import dataclasses
import uuid
from typing import Any

from django import forms
from django.core.validators import MaxLengthValidator

from accounts.refusals import Refusal
from generation.catalog import catalog, is_ready
from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import START_FIELDS, Expand
from generation.engine.request.schema import Field, Offer, fields_of
from generation.fields import FIELDS
from generation.models import GeneratedImage

from .controls import Control, control, form_field, is_chosen

EDIT_MODES = ("inpaint", "outpaint")
START = {field.name: field for field in START_FIELDS}
PLAIN_FIELDS = {
    name: FIELDS[name]
    for name in ("prompt", "negative_prompt", "model", "strength", "mask_blur", "fill", "num_images", "seed")
}
"""Fields of a request that the form has under their own names."""
SIDES = {field.name: field for field in fields_of(Expand)}
WHOLE, PART = "whole", "part"
AREAS = [(WHOLE, "The whole picture, once more around the mask"), (PART, "Only the masked part, at full size")]
RIM = 32
"""Pixels around the mask that are drawn along where nobody says otherwise."""
FILLS = {
    "original": "What is there now",
    "blur": "The colours around it",
    "noise": "Noise: something quite new",
    "zero": "Nothing",
}
ON_THE_PAGE: dict[str, dict[str, Any]] = {
    "prompt": {"kind": "textarea", "label": "What shall be there", "attributes": {"dir": "auto", "rows": 3}},
    "strength": {"kind": "range", "step": 0.05, "help": "0.75 where left empty, 1 where the picture is extended"},
    "mask_blur": {"kind": "range", "step": 2, "label": "Feather", "technical": "mask blur", "help": "pixels"},
    "fill": {"options": list(FILLS.items())},
    "seed": {"help": "left empty: another one each time"},
    "padding": {
        "kind": "range",
        "step": 8,
        "label": "Rim around it",
        "help": "pixels drawn along, so that it fits in",
        "placeholder": str(RIM),
    },
} | {side: {"kind": "range", "step": 8, "placeholder": "0"} for side in SIDES}
"""What this page says of a field otherwise than the table."""
LABELS = {name: field.label for name, field in PLAIN_FIELDS.items()} | {
    "mask": "Mask",
    "expand": "Extend",
    "padding": "Rim",
}
EMPTY = "Paint over what shall change, or extend the picture at an edge."


class EditForm(forms.Form):
    """What is to change in a picture, and how. The picture itself is the page's."""

    use_required_attribute = False
    mask = forms.FileField(required=False)
    area = forms.ChoiceField(choices=AREAS, required=False)
    padding = forms.IntegerField(required=False)
    keep_style = forms.BooleanField(required=False)
    client_token = forms.CharField(required=False, validators=[MaxLengthValidator(64)])

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.fields |= {name: form_field(field) for name, field in (PLAIN_FIELDS | SIDES).items()}

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not data.get("mask") and not self.expand() and not self.errors:
            self.add_error("mask", EMPTY)
        return data

    def expand(self) -> dict[str, int]:
        """By how many pixels the picture grows, for the sides at which it does."""
        return {side: self.cleaned_data[side] for side in SIDES if self.cleaned_data.get(side)}

    def request_fields(self, image: GeneratedImage) -> dict[str, Any]:
        """Fields of a request by their names in our JSON; what is left to the model is not among them."""
        data = self.cleaned_data
        fields = {name: data[name] for name in PLAIN_FIELDS if is_chosen(data[name])}
        fields |= {"image": str(image.id)}
        if data["mask"]:
            fields["mask"] = data["mask"]
        if expand := self.expand():
            fields["expand"] = expand
        if data["area"] == PART:
            fields["padding"] = RIM if data["padding"] is None else data["padding"]
        return fields | ({"style": image.generation.style} if data["keep_style"] else {})

    def idempotency_key(self) -> str:
        return f"page-{self.cleaned_data['client_token'] or uuid.uuid4()}"

    def refuse(self, refusal: InvalidRequest | Refusal) -> None:
        """Show the service's answer at the field it is about."""
        name = {"expand": "left", "left_out": "negative_prompt"}.get(refusal.param, refusal.param)
        if name in self.fields:
            self.add_error(name, str(refusal))
        else:
            label = FIELDS[name].label if name in FIELDS else ""
            self.add_error(None, f"{label}: {refusal}" if label else str(refusal))

    def problems(self) -> list[tuple[str, str, str]]:
        """(id of the control, label, message) of every error, for the summary."""
        return [
            ("" if name == "__all__" else name, "Extend" if name in SIDES else LABELS.get(name, ""), str(message))
            for name, messages in self.errors.items()
            for message in messages
        ]


def edit_models() -> list[ModelSpec]:
    """The models that can change a part of a picture or extend it; those that must be downloaded come last."""
    capable = [spec for spec in catalog() if set(EDIT_MODES) & set(spec.modes)]
    return sorted(capable, key=lambda spec: not is_ready(spec))


def edit_controls(form: EditForm, offer: Offer, models: list[ModelSpec], max_images: int) -> dict[str, Control]:
    """The controls of the page by name, for the model of `offer`."""
    changes: dict[str, dict[str, Any]] = ON_THE_PAGE | {
        "model": {"kind": "select", "options": [_model_option(spec) for spec in models], "value": offer.spec.key},
        "num_images": {"maximum": max_images, "value": form["num_images"].value() or 1},
    }
    fields = {**PLAIN_FIELDS, **SIDES, "padding": START["padding"]}
    controls = {name: _control(form, field, offer, **changes.get(name, {})) for name, field in fields.items()}
    return controls | {
        "mask": Control(
            name="mask",
            id="mask",
            label="Mask file",
            kind="file",
            help="White is drawn anew, black stays. PNG, JPEG or WebP.",
            error=_error(form, "mask"),
            attributes={"accept": "image/png,image/jpeg,image/webp"},
        )
    }


def _control(form: EditForm, field: Field, offer: Offer, **changes: Any) -> Control:
    drawn = control(field, offer, form[field.name].value(), _error(form, field.name))
    return dataclasses.replace(drawn, **changes)


def _error(form: EditForm, name: str) -> str:
    return "\n".join(str(message) for message in form.errors.get(name, []))


def _model_option(spec: ModelSpec) -> tuple[str, str, dict[str, Any]]:
    label = spec.title if is_ready(spec) else f"{spec.title} (downloads first)"
    modes = " ".join(mode for mode in EDIT_MODES if mode in spec.modes)
    return spec.key, label, {"data-modes": modes, "data-summary": spec.summary}
