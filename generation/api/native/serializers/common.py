"""Serializer fields and shapes that every subject shares: errors, absolute addresses, times."""

from typing import Any

from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from generation.api.http.requests import absolute_url
from generation.representation import timestamp

OPTIONAL = {"required": False, "allow_null": True}
TEXT = {"type": "string"}
"""Also of objects and lists, because forms know nothing but text: JSON."""


class OneOf(serializers.JSONField):
    """One of several things. `kinds`: JSON Schemas, which may have serializers within, or serializers."""

    def __init__(self, *kinds: Any, **options: Any):
        self.kinds = kinds
        super().__init__(**options)


@extend_schema_field(OpenApiTypes.BINARY)
class PictureFile(serializers.FileField):
    """A file in a form; left to itself the document would call it an address."""


@extend_schema_field(OpenApiTypes.URI)
class AbsoluteUrl(serializers.Field):
    """The absolute address of a named view that takes the image's id."""

    def __init__(self, view_name, **options):
        self.view_name = view_name
        super().__init__(read_only=True, source="*", **options)

    def to_representation(self, image):
        return absolute_url(self.context["request"], reverse(self.view_name, args=[image.id]))


class Moment(serializers.DateTimeField):
    def to_representation(self, value):
        return timestamp(value)


class Seconds(serializers.FloatField):
    def to_representation(self, value):
        return round(value, 3)


class ErrorDetail(serializers.Serializer):
    code = serializers.CharField(help_text="Stable and machine-readable.")
    message = serializers.CharField(help_text="A sentence for a person.")
    param = serializers.CharField(required=False, help_text="The field at fault, as you named it.")
    request_id = serializers.CharField(help_text="Also in the X-Request-Id header. Quote it when you ask for help.")


class Error(serializers.Serializer):
    error = ErrorDetail()
