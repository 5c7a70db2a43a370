"""OpenAPI: the generated document (drf-spectacular), the page that shows it, and extensions for our classes."""

import json
from functools import cache

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerFieldExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.permissions import AllowAny
from rest_framework.request import Request


class ApiKeyScheme(OpenApiAuthenticationExtension):
    target_class = "accounts.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema):
        return {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer dsk_…`."}


class OneOfSchema(OpenApiSerializerFieldExtension):
    target_class = "generation.api.native.serializers.common.OneOf"

    def map_serializer_field(self, auto_schema, direction):
        def resolved(kind):
            if isinstance(kind, dict):
                return {name: resolved(value) for name, value in kind.items()}
            if isinstance(kind, list):
                return [resolved(item) for item in kind]
            return auto_schema.resolve_serializer(kind, direction).ref if isinstance(kind, type) else kind

        return {"oneOf": [resolved(kind) for kind in self.target.kinds]}


def without_slashes(endpoints: list[tuple]) -> list[tuple]:
    """Each address answers with and without a slash at its end; the document lists it once."""
    return [endpoint for endpoint in endpoints if endpoint[0] != "/api/" and not endpoint[0].endswith("/")]


@extend_schema(exclude=True)
@api_view(["GET", "HEAD"])
@authentication_classes([])
@permission_classes([AllowAny])
def schema(request: Request) -> HttpResponse:
    """The OpenAPI 3.1 document as JSON. The same for everybody, so it is made once."""
    return HttpResponse(_document(), content_type="application/json", headers={"Cache-Control": "public, max-age=300"})


@cache
def _document() -> bytes:
    return json.dumps(SchemaGenerator().get_schema(request=None, public=True)).encode()


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    return render(request, "api/docs.html")
