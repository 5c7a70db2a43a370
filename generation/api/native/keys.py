"""API keys over HTTP: list and revoke, for keys with the scope `manage`; create, for signed-in people only."""

from django.conf import settings
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions
from rest_framework.decorators import api_view
from rest_framework.response import Response

from accounts.authentication import key_scope
from accounts.keys import MAX_DAILY_IMAGES, MAX_DAYS, in_days, issue_key
from accounts.models import ApiKey
from generation.api.http.requests import ApiRequest
from generation.engine.errors import InvalidRequest
from generation.services.parse import number, text

from . import openapi as doc
from .serializers.account import Key

CAMEL_CASE = {
    "expires_in_days": "expiresInDays",
    "daily_images": "dailyImages",
    "requests_per_minute": "requestsPerMinute",
}
"""The other names under which fields are accepted."""


@extend_schema(methods=["GET"], **doc.KEYS)
@extend_schema(methods=["POST"], **doc.KEY_CREATE)
@key_scope("manage")
@api_view(["GET", "HEAD", "POST"])
def keys(request) -> Response:
    """Your API keys, without their secrets."""
    if request.method == "POST":
        return _issue(request)
    own = ApiKey.objects.visible_to(request.user)
    return Response({"keys": Key(own, many=True).data})


def _issue(request: ApiRequest) -> Response:
    if request.auth:
        # A key that leaked must not be able to outlive its own revocation.
        raise exceptions.PermissionDenied("A key cannot make other keys. Sign in and make it under Settings.")
    data = request.data
    key, secret = issue_key(
        user=request.user,
        name=" ".join(text(data.get("name"), "name").split()),
        scopes=strings(data.get("scopes"), "scopes"),
        expires_at=in_days(_count(data, "expires_in_days", MAX_DAYS)),
        daily_images=_count(data, "daily_images", MAX_DAILY_IMAGES),
        requests_per_minute=_count(data, "requests_per_minute", settings.API_CALLS_PER_MINUTE),
    )
    return Response(Key(key).data | {"key": secret}, status=201, headers={"Cache-Control": "no-store"})


def _count(data: dict, field: str, maximum: int) -> int | None:
    """A whole number from 1, under either name; None where it is left out."""
    name = field if data.get(field) is not None else CAMEL_CASE[field]
    if data.get(name) is None:
        return None
    value = number(data[name], name)
    if value != int(value) or not 1 <= value <= maximum:
        raise InvalidRequest(f"This must be a whole number between 1 and {maximum}.", name)
    return int(value)


def strings(value: object, param: str) -> list[str] | None:
    """A list of texts, or one text with commas, as forms send it; None where it is left out."""
    if value is None:
        return None
    if isinstance(value, str):
        value = [item.strip() for item in value.split(",") if item.strip()]
    if not isinstance(value, list) or len(value) > 100:
        raise InvalidRequest("This must be a list.", param)
    return [text(item, param) for item in value]


@extend_schema(**doc.KEY_REVOKE)
@key_scope("manage")
@api_view(["DELETE"])
def key(request, key_id: int) -> Response:
    """Revoke a key. It stops working at once."""
    get_object_or_404(ApiKey.objects.visible_to(request.user), pk=key_id).revoke()
    return Response(status=204)
