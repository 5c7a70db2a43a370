"""Shape of what people type. Whether a value makes sense is for the service to say."""

import uuid
from typing import Any

from django import forms
from django.core.validators import MaxLengthValidator
from django.http import QueryDict

from accounts.keys import MAX_NAME, in_days
from accounts.models import Scope, every_scope
from accounts.refusals import Conflict, Refusal
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import ASPECT_RATIO, ASPECT_RATIOS
from generation.fields import FIELDS
from generation.webhooks.egress import MAX_URL
from generation.webhooks.endpoints import MAX_DESCRIPTION
from generation.webhooks.events import EVENTS

from .controls import COMPOSER_FIELDS, form_field, is_chosen
from .reuse import kept_fields

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
LABELS = {name: field.label for name, field in FIELDS.items()} | {"shape": ASPECT_RATIO.label}


class ComposerForm(forms.Form):
    """The Create page's form: a control for every plain field of a request, and what Reuse settings carries along."""

    shape = forms.ChoiceField(choices=[(name, name) for name in (*ASPECT_RATIOS, CUSTOM_SHAPE)], required=False)
    client_token = forms.CharField(required=False, validators=[MaxLengthValidator(64)])

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.fields |= {name: form_field(field) for name, field in COMPOSER_FIELDS.items()}

    def request_fields(self) -> dict[str, Any]:
        """Fields of a request by their names in our JSON; what is left to the model is not among them.

        Raises InvalidRequest where what is carried along cannot be read.
        """
        data = self.cleaned_data
        fields = {name: data[name] for name in COMPOSER_FIELDS if is_chosen(data[name])}
        if data["shape"] != CUSTOM_SHAPE:
            fields = {name: value for name, value in fields.items() if name not in ("width", "height")}
            fields |= {"aspect_ratio": data["shape"]} if data["shape"] else {}
        return fields | kept_fields(self.data)

    def idempotency_key(self) -> str:
        return f"page-{self.cleaned_data['client_token'] or uuid.uuid4()}"

    def refuse(self, refusal: InvalidRequest | Refusal) -> None:
        """Show the service's answer at the field it is about."""
        name = {"aspect_ratio": "shape", "size": "shape"}.get(refusal.param, refusal.param)
        if name in self.fields:
            self.add_error(name, str(refusal))
        else:
            label = LABELS.get(name, "")
            self.add_error(None, f"{label}: {refusal}" if label else str(refusal))

    def problems(self) -> list[tuple[str, str, str]]:
        """(field, label, message) of every error, for the summary."""
        return [
            (name, LABELS.get(name, ""), str(message)) for name, messages in self.errors.items() for message in messages
        ]


MOST_SELECTED = 500


def selected_numbers(data: QueryDict) -> list[int] | None:
    """The running numbers of the ticked images; None when one of them is no such number, or there are too many."""
    raw = data.getlist("ids")
    if len(raw) > MOST_SELECTED or not all(text.isascii() and text.isdigit() and len(text) < 19 for text in raw):
        return None
    return [int(text) for text in raw]


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

    def key_fields(self) -> dict:
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
    description = forms.CharField(label="Note", max_length=MAX_DESCRIPTION, required=False)
    events = forms.MultipleChoiceField(
        label="Is told when",
        choices=list(EVENTS.items()),
        initial=list(EVENTS),
        error_messages={"required": "Choose at least one event."},
    )

    def refuse(self, refusal: InvalidRequest | Conflict) -> None:
        """Show the service's answer at the field it is about."""
        self.add_error(refusal.param if refusal.param in self.fields else None, str(refusal))
