"""The type of requests in API views: REST framework's, with our user and key, and a body that is an object."""

from rest_framework.request import Request

from accounts.models import ApiKey, User


class ApiRequest(Request):
    """For type hints behind views that need a signed-in caller; `auth` is None in a session of the browser.

    Views under `api_view` leave `request` without a hint: the framework's stubs allow its own type only.
    """

    user: User  # type: ignore[override]
    auth: ApiKey | None  # type: ignore[override]
    data: dict  # type: ignore[override]
