"""Every refusal and failure as HTTP, once, in one shape.

{"error": {"code": "quota_exceeded", "message": "…", "param": "prompt", "request_id": "…"}}
"""

import math

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response

from accounts.refusals import Refusal
from generation.engine.errors import InvalidRequest

RETRY_SECONDS = 5
"""What a caller is told to wait while the database is away."""

REFUSALS = {
    "prompt_rejected": 422,
    "quota_exceeded": 429,
    "rate_limited": 429,
    "too_many_running": 429,
    "too_many_streams": 429,
    "too_many_uploads": 429,
    "too_large": 413,
    "unsupported_media_type": 415,
    "storage_unavailable": 503,
    "account_locked": 403,
    "insufficient_scope": 403,
    "invalid_signature": 401,
    "idempotency_conflict": 409,
    "conflict": 409,
}

FRAMEWORK = (
    # First match wins.
    (exceptions.ParseError, "malformed"),
    (exceptions.AuthenticationFailed, "invalid_api_key"),
    (exceptions.NotAuthenticated, "not_authenticated"),
    (exceptions.MethodNotAllowed, "method_not_allowed"),
    (exceptions.UnsupportedMediaType, "unsupported_media_type"),
    (exceptions.NotFound, "not_found"),
    (exceptions.Throttled, "too_many_calls"),
    (exceptions.PermissionDenied, "forbidden"),
)
NOT_FOUND = "There is nothing at this address."


class TooLarge(exceptions.APIException):
    """The body is larger than this site reads."""

    status_code = 413
    default_code = "too_large"
    default_detail = "This request is too large."


def body(request, code: str, message: str, param: str = "") -> dict:
    """The one shape of an error answer."""
    error = {"code": code, "message": _storable(message)}
    if param:
        error["param"] = _storable(param)
    return {"error": error | {"request_id": getattr(request, "request_id", "")}}


def _storable(text) -> str:
    """What a caller sent may come back in an error, and not all of it can be encoded."""
    return str(text).encode("utf-8", "replace").decode()


def error_response(
    request, status: int, code: str, message: str, *, param: str = "", retry_after: int | None = None
) -> JsonResponse:
    """An error from a plain Django view, for a program."""
    response = JsonResponse(body(request, code, message, param), status=status)
    if retry_after is not None:
        response["Retry-After"] = str(retry_after)
    return response


def handle(error, context) -> Response | None:
    """Django REST framework's EXCEPTION_HANDLER. None lets what is our own fault through to the 500 page."""
    described = describe(error)
    if described is None:
        return None
    status, code, message, param, headers = described
    return Response(body(context["request"], code, message, param), status=status, headers=headers)


def describe(error) -> tuple[int, str, str, str, dict] | None:
    """Status, code, message, field at fault, headers."""
    if isinstance(error, Refusal):
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        return REFUSALS.get(error.code, 400), error.code, str(error), error.param, headers
    if isinstance(error, InvalidRequest):
        return 400, error.code, str(error), error.param, {}
    if isinstance(error, Http404):
        # One text for all, so that another's object and a missing one look the same.
        return 404, "not_found", NOT_FOUND, "", {}
    if isinstance(error, PermissionDenied):
        return 403, "forbidden", "You may not do this.", "", {}
    if isinstance(error, RequestDataTooBig):
        return 413, TooLarge.default_code, TooLarge.default_detail, "", {}
    if isinstance(error, SuspiciousOperation):
        return 400, "malformed", "The request could not be understood.", "", {}
    if isinstance(error, (OperationalError, InterfaceError)):
        message = "The database does not answer. Please try again shortly."
        return 503, "unavailable", message, "", {"Retry-After": str(RETRY_SECONDS)}
    if isinstance(error, exceptions.APIException):
        return _describe_framework(error)
    return None


def _describe_framework(error: exceptions.APIException):
    headers = {}
    if header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = header
    if (wait := getattr(error, "wait", None)) is not None:
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
    message, param = str(error.detail), ""
    code = next((code for kind, code in FRAMEWORK if isinstance(error, kind)), error.default_code)
    if isinstance(error, exceptions.Throttled):
        message = "Too many calls in one minute. Please slow down."
    elif isinstance(error, exceptions.NotFound):
        message = NOT_FOUND
    elif isinstance(error, exceptions.PermissionDenied) and message.startswith("CSRF"):
        code = "csrf_failed"
    return error.status_code, code, message, param, headers
