"""Shape of what people type. Whether a value makes sense is for the service to say."""

import uuid

from django import forms
from django.core.validators import MaxLengthValidator

from accounts.keys import MAX_NAME, in_days
from accounts.models import Scope, every_scope
from accounts.refusals import Conflict
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import ASPECT_RATIOS
from generation.models import Visibility
from generation.refusals import PromptRejected
from generation.webhooks import events as webhooks
from generation.webhooks.egress import MAX_URL

CUSTOM_SHAPE = "custom"
SHAPES = {
    "1:1": "Square",
    "4:3": "Landscape",
    "3:4": "Portrait",
    "3:2": "Photo",
    "2:3": "Tall photo",
    "16:9": "Wide",
    "9:16": "Phone",
    "21:9": "Cinema",
}
LABELS = {
    "prompt": "Describe your image",
    "negative_prompt": "Leave out",
    "model": "Model",
    "style": "Style",
    "shape": "Shape",
    "width": "Width",
    "height": "Height",
    "steps": "Detail passes",
    "guidance_scale": "How closely to follow",
    "sampler": "Sampler",
    "seed": "Starting point",
    "num_images": "Images",
    "visibility": "Who can see it",
}


class ComposerForm(forms.Form):
    prompt = forms.CharField(required=False)
    negative_prompt = forms.CharField(required=False)
    model = forms.CharField(required=False)
    style = forms.CharField(required=False)
    shape = forms.ChoiceField(choices=[(name, name) for name in (*ASPECT_RATIOS, CUSTOM_SHAPE)], required=False)
    width = forms.IntegerField(required=False)
    height = forms.IntegerField(required=False)
    steps = forms.IntegerField(required=False)
    guidance_scale = forms.FloatField(required=False)
    sampler = forms.CharField(required=False)
    seed = forms.IntegerField(required=False)
    num_images = forms.IntegerField(required=False)
    visibility = forms.ChoiceField(choices=Visibility.choices, required=False)
    client_token = forms.CharField(required=False, validators=[MaxLengthValidator(64)])

    def asked(self) -> dict:
        """Keyword arguments for `create_generation`; None where the choice is left to the model."""
        data = self.cleaned_data
        asked = {
            name: data[name]
            for name in ("prompt", "negative_prompt", "style", "steps", "guidance_scale", "seed", "num_images")
        }
        asked |= {
            "model": data["model"] or None,
            "sampler": data["sampler"] or None,
            "visibility": data["visibility"] or Visibility.PRIVATE,
            "idempotency_key": f"page-{data['client_token'] or uuid.uuid4()}",
        }
        if data["shape"] == CUSTOM_SHAPE:
            return asked | {"width": data["width"], "height": data["height"]}
        return asked | {"aspect_ratio": data["shape"] or None}

    def refuse(self, refusal: InvalidRequest | PromptRejected) -> None:
        """Show the service's answer at the field it is about."""
        name = {"aspect_ratio": "shape"}.get(refusal.param, refusal.param)
        self.add_error(name if name in self.fields else None, str(refusal))

    def problems(self) -> list[tuple[str, str, str]]:
        """(field, label, message) of every error, for the summary."""
        return [(name, LABELS.get(name, ""), message) for name, found in self.errors.items() for message in found]


MOST_SELECTED = 500


def selected_numbers(data) -> list[int] | None:
    """The running numbers of the ticked images; None when one of them is no such number, or there are too many."""
    raw = data.getlist("ids")
    if len(raw) > MOST_SELECTED or not all(one.isascii() and one.isdigit() and len(one) < 19 for one in raw):
        return None
    return [int(one) for one in raw]


class KeyForm(forms.Form):
    use_required_attribute = False
    name = forms.CharField(
        max_length=MAX_NAME,
        widget=forms.TextInput(attrs={"placeholder": "laptop", "autocomplete": "off"}),
        error_messages={"required": "Give the key a name, such as the program it is for."},
    )
    days = forms.TypedChoiceField(
        label="Expires",
        choices=[("", "Never"), ("30", "In 30 days"), ("90", "In 90 days"), ("365", "In a year")],
        coerce=int,
        empty_value=None,
        required=False,
    )
    scopes = forms.MultipleChoiceField(
        label="May be used to",
        choices=Scope.choices,
        initial=every_scope,
        error_messages={"required": "Choose at least one thing that the key may be used for."},
    )
    daily_images = forms.IntegerField(
        label="Images a day",
        min_value=1,
        required=False,
        widget=forms.NumberInput(attrs={"placeholder": "as your plan"}),
    )
    requests_per_minute = forms.IntegerField(
        label="Calls a minute",
        min_value=1,
        required=False,
        widget=forms.NumberInput(attrs={"placeholder": "as the site"}),
    )

    def asked(self) -> dict:
        """Keyword arguments for `issue_key`."""
        data = self.cleaned_data
        return {"name": data["name"], "expires_at": in_days(data["days"])} | {
            name: data[name] for name in ("scopes", "daily_images", "requests_per_minute")
        }


class WebhookForm(forms.Form):
    use_required_attribute = False
    url = forms.CharField(
        label="Address",
        max_length=MAX_URL,
        widget=forms.URLInput(attrs={"placeholder": "https://hooks.example.com/dreamsketch", "autocomplete": "off"}),
        error_messages={
            "required": "Give the address that shall be told, such as https://hooks.example.com/dreamsketch."
        },
    )
    description = forms.CharField(label="Note", max_length=webhooks.MAX_DESCRIPTION, required=False)
    events = forms.MultipleChoiceField(
        label="Is told when",
        choices=list(webhooks.EVENTS.items()),
        initial=list(webhooks.EVENTS),
        error_messages={"required": "Choose at least one event."},
    )

    def refuse(self, refusal: InvalidRequest | Conflict) -> None:
        """Show the service's answer at the field it is about."""
        self.add_error(refusal.param if refusal.param in self.fields else None, str(refusal))
