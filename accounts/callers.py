"""Whose request it is, by its headers alone: for bounds that stand before a body is read."""

import base64
from importlib import import_module

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest

from .models import ApiKey, User

SessionStore = import_module(settings.SESSION_ENGINE).SessionStore


def credential_of(headers: dict[str, str], cookies: dict[str, str]) -> str:
    """What a request shows to say who calls, not checked; "" if it shows nothing. Header names in lower case."""
    session = cookies.get(settings.SESSION_COOKIE_NAME, "")
    return headers.get("authorization") or headers.get("api-key") or session


def user_by_headers(request: HttpRequest) -> User | None:
    """The account that the views would let in, by any of their ways; None for a stranger."""
    if token := _token(request):
        key = ApiKey.find(token)
        return key.user if key else None
    session_key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if not session_key:
        return None
    request.session = SessionStore(session_key)
    user = get_user(request)
    return user if isinstance(user, User) and user.is_active else None


def _token(request: HttpRequest) -> str:
    """The API key that is shown as Bearer, as the password of Basic, or in `api-key`; "" where none is."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode("latin-1").partition(":")[2].strip()
        except ValueError:
            return ""
    return request.headers.get("api-key", "").strip()
