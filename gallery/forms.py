"""Shape of what people type. Whether a value makes sense is for the service to say."""

import uuid
from typing import Any

from django import forms
from django.core.validators import MaxLengthValidator
from django.http import QueryDict

from accounts.keys import MAX_NAME, in_days
from accounts.models import Scope, User, every_scope
from accounts.refusals import Conflict, Refusal
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import ASPECT_RATIOS
from generation.fields import FIELDS
from generation.models import Generation
from generation.refusals import REFUSALS
from generation.services.generations import plan_generation
from generation.services.parse import read_request
from generation.webhooks.egress import MAX_URL
from generation.webhooks.endpoints import MAX_DESCRIPTION
from generation.webhooks.events import EVENTS

from .composer_fields import COMPOSER_FIELDS, PICTURES, field_at_fault, request_body, without
from .controls import control_id, form_field
from .fitting import CUSTOM_SHAPE, label_of

LABELS = {name: field.label for name, field in FIELDS.items()}

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
MOST_PROBLEMS = 12
"""Of one form; each is found by asking the service again without the one before."""
LORA, LORA_WEIGHT = "lora", "lora_weight."
"""Form fields of the LoRAs: the ticked keys, and the weight of each by its key."""


class LoraWidget(forms.Widget):
    """Reads the ticked LoRAs with their weights, as the JSON API takes them; templates draw it."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[dict[str, Any]]:
        keys = data.getlist(LORA) if hasattr(data, "getlist") else []
        weights = {key: data.get(f"{LORA_WEIGHT}{key}", "").strip() for key in keys}
        return [{"key": key} | ({"weight": weight} if weight else {}) for key, weight in weights.items()]


class LoraField(forms.Field):
    widget = LoraWidget

    def clean(self, value: Any) -> list[dict[str, Any]]:
        return [lora | ({"weight": _weight(lora)} if "weight" in lora else {}) for lora in value or ()]


def _weight(lora: dict[str, Any]) -> float:
    try:
        return float(lora["weight"])
    except ValueError:
        raise forms.ValidationError(f"The weight of {lora['key'][:80]} must be a number.") from None


class ComposerForm(forms.Form):
    """The Create page's form: a control for every field of a request, pictures by their ids."""

    shape = forms.ChoiceField(choices=[(name, name) for name in (*ASPECT_RATIOS, CUSTOM_SHAPE)], required=False)
    client_token = forms.CharField(required=False, validators=[MaxLengthValidator(64)])
    origin = forms.CharField(required=False, widget=forms.HiddenInput, validators=[MaxLengthValidator(200)])
    loras = LoraField(required=False)

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.fields |= {name: form_field(field) for name, field in COMPOSER_FIELDS.items()}
        self.fields |= {name: forms.CharField(required=False) for name in PICTURES}

    def values(self) -> dict[str, Any]:
        """What stands in the form, wrong or right, by the names of its fields."""
        return {name: self[name].value() for name in self.fields}

    def request_body(self) -> dict[str, Any]:
        """A request as our JSON API takes it, without the fields that are wrong."""
        data = getattr(self, "cleaned_data", {})
        body = request_body(data)
        shape = data.get("shape", "")
        if shape != CUSTOM_SHAPE:
            body = {name: value for name, value in body.items() if name not in ("width", "height")}
            body |= {"aspect_ratio": shape} if shape else {}
        return body

    def check_with(self, user: User) -> Generation | None:
        """Have the service look at every field, and put all that is wrong at the fields it is about.

        The generation that the fields which are right describe, unsaved; None where that cannot be said.
        """
        generation, refusals = planned_generation(self.request_body(), user)
        for refusal in refusals:
            self.refuse(refusal)
        return generation

    def idempotency_key(self) -> str:
        return f"page-{self.cleaned_data['client_token'] or uuid.uuid4()}"

    def refuse(self, refusal: InvalidRequest | Refusal) -> None:
        """Show the service's answer at the field it is about."""
        name = field_at_fault(refusal.param)
        if name in self.fields:
            # A value that has no right shape was refused for that already.
            if name not in self.errors:
                self.add_error(name, str(refusal))
        else:
            label = LABELS.get(refusal.param, "")
            self.add_error(None, f"{label}: {refusal}" if label else str(refusal))

    def problems(self) -> list[tuple[str, str, str]]:
        """(id of the control, label, message) of every error, for the summary."""
        return [
            (control_id(name), label_of(name), str(message))
            for name, messages in self.errors.items()
            for message in messages
        ]


def planned_generation(body: dict[str, Any], user: User) -> tuple[Generation | None, list[InvalidRequest | Refusal]]:
    """The generation that a request would make, with all that is wrong left out, and everything that is wrong.

    The service names one problem at a time: it is asked again without the field that it named.
    """
    body, refusals = {**body}, []
    while len(refusals) < MOST_PROBLEMS:
        try:
            return plan_generation(user=user, **read_request(body, user)), refusals
        except REFUSALS as refusal:
            refusals.append(refusal)
            if not without(body, refusal.param):
                break
    return None, refusals


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
