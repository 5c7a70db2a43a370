"""API keys for Django REST framework: `Authorization: Bearer dsk_…`, and nowhere else."""

import datetime as dt

from django.contrib.auth.models import AnonymousUser
from django.db.models.functions import Now
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed

from .models import ApiKey

LAST_USED_RESOLUTION = dt.timedelta(minutes=1)


class ApiKeyAuthentication(BaseAuthentication):
    """Sets `request.auth` to the ApiKey. A Bearer header that is no valid key is refused, never ignored."""

    def authenticate(self, request):
        scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        key = ApiKey.find(token.strip())
        if key is None:
            raise AuthenticationFailed("This API key is not valid. Make one under Settings, API keys.")
        note_use(key)
        return key.user, key

    def authenticate_header(self, request):
        return "Bearer"


def note_use(key: ApiKey) -> None:
    """Remember that the key was used, at most once a minute."""
    now = timezone.now()
    if key.last_used_at is None or now - key.last_used_at > LAST_USED_RESOLUTION:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=Now())


def user_of(request):
    """Who asks, in a plain Django view that serves both browsers and programs: the key's owner or the session's user.

    A Bearer header that is no valid key makes the caller nobody.
    """
    scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":
        return request.user
    key = ApiKey.find(token.strip())
    if key is None:
        return AnonymousUser()
    note_use(key)
    return key.user
