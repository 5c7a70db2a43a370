"""Requests in API views: their type (our user and key, and a body that is an object), and addresses in answers."""

from django.http import HttpRequest
from rest_framework.request import Request

from accounts.models import ApiKey, User
from accounts.site_root import site_root


class ApiRequest(Request):
    """For type hints behind views that need a signed-in caller; `auth` is None in a session of the browser.

    Views under `api_view` leave `request` without a hint: the framework's stubs allow its own type only.
    """

    user: User  # type: ignore[override]
    auth: ApiKey | None  # type: ignore[override]
    data: dict  # type: ignore[override]


def absolute_url(request: HttpRequest | Request, path: str) -> str:
    """The address of a path of this site for an answer."""
    return site_root(request) + path
