"""OpenAPI shapes of what may be sent to draw: DRF serializers made of the table of fields. They read nothing."""

from dataclasses import replace
from typing import Any

from rest_framework import serializers

from generation.engine.catalog import models
from generation.engine.request.fields import MAX_LORAS, PICTURE, Expand, Hires, Lora, Reference, Upscale, Variation
from generation.engine.request.fields import Control as ControlPart
from generation.engine.request.schema import Field, Kind, fields_of
from generation.fields import FIELDS, HIRES_FIELDS
from generation.models import Visibility

from .common import OPTIONAL, TEXT, OneOf, PictureFile

_PARTS = {
    Hires: ("HiresFix", "A second pass at a larger size."),
    Expand: ("Expansion", "Pixels that a picture grows by at each side."),
    Lora: ("ChosenLora", "An installed LoRA and how strongly it counts."),
    ControlPart: ("Control", "Guidance by a picture."),
    Reference: ("Reference", "A picture whose look is followed."),
    Variation: ("Variation", "A little of another seed's picture."),
    Upscale: ("Enlargement", "How a picture is enlarged."),
}
"""Name and description of each part in the document."""


def _scalar(field: Field, **options: Any) -> serializers.Field:
    """The serializer field of a word, number, truth or picture."""
    if field.help or field.aliases:
        options["help_text"] = _help(field)
    if field.choices and not callable(field.choices) and field.name not in ("style", "aspect_ratio"):
        choices = Visibility.choices if field.name == "visibility" else field.choices
        return serializers.ChoiceField(choices=list(choices), **options)
    if field.kind is Kind.BOOLEAN:
        return serializers.BooleanField(**options)
    if field.is_number:
        number = serializers.IntegerField if field.kind is Kind.INTEGER else serializers.FloatField
        return number(**options, **_bounds(field))
    if field.name in ("negative_prompt", "style", "sampler"):
        options["allow_blank"] = True
    if field.kind is Kind.TEXT and field.high:
        options["max_length"] = int(field.high)
    return serializers.CharField(**options)


def _bounds(field: Field) -> dict[str, Any]:
    """Those that hold for every model."""
    bounds = {"min_value": field.low} | ({} if field.limits else {"max_value": field.high})
    number = int if field.kind is Kind.INTEGER else float
    return {name: number(value) for name, value in bounds.items() if value is not None}


def _help(field: Field) -> str:
    names = field.aliases
    if field.of is Hires:
        names = (*names, *HIRES_FIELDS)
    also = f"Also: {', '.join(f'`{name}`' for name in names)}." if names else ""
    return f"{field.help} {also}".strip()


def _part(holder: type) -> type[serializers.Serializer]:
    """The serializer of a part; what may be left out takes its default."""
    name, description = _PARTS[holder]
    # Within the object a field has no other names.
    own = [replace(field, aliases=()) for field in fields_of(holder)]
    fields = {field.name: _scalar(field, **({} if _is_key(field) else OPTIONAL)) for field in own}
    return type(name, (serializers.Serializer,), {"__doc__": description} | fields)


def _is_key(field: Field) -> bool:
    return field.required and field.kind is Kind.TEXT


SERIALIZERS = {holder: _part(holder) for holder in _PARTS}


def _object(field: Field) -> serializers.Field:
    """An object or list: itself, its shorthand, or text of JSON."""
    serializer = SERIALIZERS[field.of]
    if field.kind is Kind.LIST:
        shape: Any = {"type": "array", "items": {"oneOf": [TEXT, serializer]}, "maxItems": MAX_LORAS}
        return OneOf(shape, TEXT, **OPTIONAL, help_text=_help(field))
    shorthand = [{"type": str(field.shorthand)}] if field.shorthand in (Kind.BOOLEAN, Kind.NUMBER) else []
    return OneOf(*shorthand, serializer, TEXT, **OPTIONAL, help_text=_help(field))


def _top(field: Field) -> serializers.Field:
    if field.of:
        return _object(field)
    return _scalar(field, **({} if field.name == "prompt" else OPTIONAL))


def _request_fields() -> dict[str, serializers.Field]:
    fields = {name: _top(field) for name, field in FIELDS.items()}
    return fields | {
        "size": serializers.CharField(**OPTIONAL, help_text="Instead of width and height, such as `512x512`."),
        "dry_run": serializers.BooleanField(**OPTIONAL, help_text="Answer with a quote and change nothing."),
    }


GenerateRequest = type(
    "GenerateRequest",
    (serializers.Serializer,),
    {
        "__doc__": "What may be asked for. Left-out fields (and null) take the model's defaults; unknown fields are"
        " ignored.",
        **_request_fields(),
    },
)


MODES = [*models.MODES, "upscale"]


class UsedPicture(serializers.Serializer):
    """A picture that something was drawn from."""

    id = serializers.CharField(allow_null=True, help_text="For its owner: what `image` of another request may be.")
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    sha256 = serializers.CharField()


def _used(field: Field) -> serializers.Field:
    """As `describe_request` says it: columns always, other fields where they are used."""
    if field.kind is Kind.PICTURE:
        return UsedPicture(required=False)
    if field.of:
        return _used_part(field.of)(many=field.kind is Kind.LIST, required=False)
    if field.name == "visibility":
        return serializers.ChoiceField(choices=Visibility.choices)
    kinds = {Kind.INTEGER: serializers.IntegerField, Kind.NUMBER: serializers.FloatField}
    options: dict[str, Any] = {} if field.kind in kinds or field.kind is Kind.BOOLEAN else {"allow_blank": True}
    kind = kinds.get(field.kind, serializers.BooleanField if field.kind is Kind.BOOLEAN else serializers.CharField)
    if field.name == "prompt":
        options["help_text"] = "With the words of style and model."
    if field.name == "seed" and field.column:
        options |= {"allow_null": True, "help_text": "Null in a quote: a random one, chosen when you submit."}
    return kind(required=field.column, **options)


def _used_part(holder: type) -> type[serializers.Serializer]:
    name, description = _PARTS[holder]
    fields = {field.name: _used(field) for field in fields_of(holder)}
    return type(f"Used{name}", (serializers.Serializer,), {"__doc__": description} | fields)


DrawnRequest = type(
    "DrawnRequest",
    (serializers.Serializer,),
    {
        "__doc__": "Every field of a request as it is drawn; those that are not used are left out.",
        "mode": serializers.ChoiceField(choices=MODES),
        **{name: _used(field) for name, field in FIELDS.items() if name != "aspect_ratio"},
    },
)


class GeneratePlainForm(GenerateRequest):
    """The same as a form without files; objects and lists are JSON text."""


class GenerateForm(GenerateRequest):
    """The same as a form with files; objects and lists are JSON text."""

    image = PictureFile(**OPTIONAL)
    mask = PictureFile(**OPTIONAL)
    control_image = PictureFile(**OPTIONAL)
    reference_image = PictureFile(**OPTIONAL)


class Img2ImgRequest(GenerateRequest):
    image = serializers.CharField(help_text=f"Where drawing begins. {PICTURE}")


class Img2ImgForm(GenerateForm):
    image = PictureFile()
