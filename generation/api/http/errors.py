"""Exception handling: every refusal and failure becomes one `Problem`, which each dialect renders in its own shape.

The native shape: {"error": {"code": "quota_exceeded", "message": "…", "param": "prompt", "request_id": "…"}}
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response

from accounts.refusals import Refusal
from generation.engine.errors import InvalidRequest
from generation.refusals import REFUSALS

RETRY_SECONDS = 5
"""What a caller is told to wait while the database is away."""

FRAMEWORK_CODES = (
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


@dataclass(frozen=True, slots=True)
class Problem:
    """An error before a dialect renders it: HTTP status, stable code, a sentence for the person, the field at fault
    or "", and headers such as Retry-After (in the sense of RFC 9457, problem details)."""

    status: int
    code: str
    message: str
    param: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class TooLarge(exceptions.APIException):
    """The body is larger than this site reads."""

    status_code = 413
    default_code = "too_large"
    default_detail = "This request is too large."


def problem_of(error: Exception) -> Problem | None:
    """The problem that an exception stands for; None for what is our own fault."""
    if isinstance(error, REFUSALS):
        return _problem_of_refusal(error)
    if isinstance(error, Http404):
        # One text for all, so that another's object and a missing one look the same.
        return Problem(404, "not_found", NOT_FOUND)
    if isinstance(error, PermissionDenied):
        return Problem(403, "forbidden", "You may not do this.")
    if isinstance(error, RequestDataTooBig):
        return Problem(413, TooLarge.default_code, str(TooLarge.default_detail))
    if isinstance(error, SuspiciousOperation):
        return Problem(400, "malformed", "The request could not be understood.")
    if isinstance(error, (OperationalError, InterfaceError)):
        message = "The database does not answer. Please try again shortly."
        return Problem(503, "unavailable", message, headers={"Retry-After": str(RETRY_SECONDS)})
    if isinstance(error, exceptions.APIException):
        return problem_of_framework(error)
    return None


def _problem_of_refusal(error: Refusal | InvalidRequest) -> Problem:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return Problem(error.http_status, error.code, encodable(str(error)), encodable(error.param), headers)


def problem_of_framework(error: exceptions.APIException) -> Problem:
    """The problem that an exception of Django REST framework stands for, ours derived from it included."""
    headers = {}
    if header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = header
    if (wait := getattr(error, "wait", None)) is not None:
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
    message = encodable(str(error.detail))
    code = next((code for kind, code in FRAMEWORK_CODES if isinstance(error, kind)), error.default_code)
    if isinstance(error, exceptions.Throttled):
        message = "Too many calls in one minute. Please slow down."
    elif isinstance(error, exceptions.NotFound):
        message = NOT_FOUND
    elif isinstance(error, exceptions.PermissionDenied) and message.startswith("CSRF"):
        code = "csrf_failed"
    return Problem(error.status_code, code, message, headers=headers)


# --- the native shape -------------------------------------------------------------------------------------


def handle(error: Exception, context: dict) -> Response | None:
    """Django REST framework's EXCEPTION_HANDLER. None lets what is our own fault through to the 500 page."""
    problem = problem_of(error)
    if problem is None:
        return None
    return Response(error_body(context["request"], problem), status=problem.status, headers=dict(problem.headers))


def error_response(request: HttpRequest, problem: Problem) -> JsonResponse:
    """The answer of a plain Django view to a program."""
    return JsonResponse(error_body(request, problem), status=problem.status, headers=dict(problem.headers))


def error_body(request, problem: Problem) -> dict:
    """The body of an error answer in the native shape."""
    error = {"code": problem.code, "message": problem.message}
    if problem.param:
        error["param"] = problem.param
    return {"error": error | {"request_id": getattr(request, "request_id", "")}}


def encodable(text: str) -> str:
    """`text` without halves of surrogate pairs, which no UTF-8 can carry; callers' words may come back in errors."""
    return text.encode("utf-8", "replace").decode()
