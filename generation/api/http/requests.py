"""Requests in API views: their type (our user and key, and a body that is an object), and addresses in answers."""

from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request

from accounts.models import ApiKey, User


class ApiRequest(Request):
    """For type hints behind views that need a signed-in caller; `auth` is None in a session of the browser.

    Views under `api_view` leave `request` without a hint: the framework's stubs allow its own type only.
    """

    user: User  # type: ignore[override]
    auth: ApiKey | None  # type: ignore[override]
    data: dict  # type: ignore[override]


def absolute_url(request: HttpRequest | Request, path: str) -> str:
    """The address of a path of this site for an answer: at `SITE_URL` where it is set, whatever the caller named as
    host, else at the host that the caller named, which `DJANGO_ALLOWED_HOSTS` has."""
    return settings.SITE_URL + path if settings.SITE_URL else request.build_absolute_uri(path)
