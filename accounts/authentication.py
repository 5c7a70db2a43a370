"""API key authentication and scopes for Django REST framework.

A key comes in the Authorization header and nowhere else: `Bearer dsk_…`, and in dialects whose programs know nothing
else as the password of HTTP Basic. It is looked up for every request, so that a revoked one stops at once.
"""

import base64
import datetime as dt
from collections.abc import Callable
from typing import TypeVar, cast

from django.contrib.auth.models import AnonymousUser
from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from .models import ApiKey, Scope, User
from .refusals import InsufficientScope

View = TypeVar("View", bound=Callable)

LAST_USED_RESOLUTION = dt.timedelta(minutes=1)


class ApiKeyAuthentication(BaseAuthentication):
    """Sets `request.auth` to the ApiKey. A Bearer header that is no valid key is refused, never ignored."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        return _user_and_key(token)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class BasicKeyAuthentication(ApiKeyAuthentication):
    """HTTP Basic with a key as the password and any user name, for dialects whose programs know nothing else."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        scheme, _, encoded = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            _, _, token = base64.b64decode(encoded.strip(), validate=True).decode("latin-1").partition(":")
        except ValueError:
            raise AuthenticationFailed("The Authorization header is malformed.") from None
        return _user_and_key(token)

    def authenticate_header(self, request: Request) -> str:
        return 'Basic realm="DreamSketch"'


def _user_and_key(token: str) -> tuple[User, ApiKey]:
    key = ApiKey.find(token.strip())
    if key is None:
        raise AuthenticationFailed("This API key is not valid. Make one under Settings, API keys.")
    note_use(key)
    return key.user, key


def key_scope(scope: str) -> Callable[[View], View]:
    """Decorator of an API view: its calls need this scope, whatever the method. Stands above `@api_view`."""

    def decorate(view: View) -> View:
        view.cls.key_scope = Scope(scope)  # type: ignore[attr-defined]
        return view

    return decorate


def scope_of(view: object, method: str | None) -> Scope:
    """The scope that a call needs. A view that says nothing: reading reads, posting generates, the rest manages."""
    declared = getattr(view, "key_scope", None)
    if declared:
        return declared
    if method in SAFE_METHODS:
        return Scope.READ
    return Scope.GENERATE if method == "POST" else Scope.MANAGE


class HasKeyScope(BasePermission):
    """The only place that looks at a key's scopes. Sessions have none and may do everything."""

    def has_permission(self, request: Request, view: object) -> bool:
        if isinstance(request.auth, ApiKey):
            scope = scope_of(view, request.method)
            if scope not in request.auth.scopes:
                raise InsufficientScope(f"This API key lacks the scope “{scope}”. Make one that has it.")
        return True


def note_use(key: ApiKey) -> None:
    """Remember that the key was used, at most once a minute."""
    stale = Q(last_used_at=None) | Q(last_used_at__lt=Now() - LAST_USED_RESOLUTION)
    # The row that was just read spares most calls the write; the condition spares it those at the same moment.
    if key.last_used_at is None or key.last_used_at < dt.datetime.now(dt.UTC) - LAST_USED_RESOLUTION:
        ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=Now())


def user_of(request: HttpRequest) -> User | AnonymousUser:
    """The caller of a plain Django view that serves browsers and programs alike: the key's
    owner or the session's user.

    A Bearer header that is no valid key, or one that may not read, makes the caller nobody.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return cast(User | AnonymousUser, request.user)
    key = ApiKey.find(token.strip())
    if key is None or Scope.READ not in key.scopes:
        return AnonymousUser()
    note_use(key)
    return key.user
