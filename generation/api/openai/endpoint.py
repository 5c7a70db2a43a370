"""Authentication, exception handling and the view decorator of the OpenAI dialect.

Errors have the shape that its clients know:

    {"error": {"message": "…", "type": "invalid_request_error", "param": "size", "code": "invalid_request"}}

`code` is ours, apart from `content_policy_violation` and `model_not_found`, which programs look for.
"""

from collections.abc import Callable
from dataclasses import replace

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiExample, OpenApiResponse
from rest_framework import serializers
from rest_framework.decorators import api_view, authentication_classes
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import ApiKeyAuthentication, note_use
from accounts.models import ApiKey
from generation.api.http.errors import Problem, problem_of

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
    503: "server_error",
}
ERROR_CODES = {
    # Ours: theirs.
    "prompt_rejected": "content_policy_violation",
    "output_blocked": "content_policy_violation",
    "unknown_model": "model_not_found",
}
STATUSES = {"prompt_rejected": 400, "output_blocked": 400}
"""Where the dialect's status differs from the one that the problem has."""
NOT_RETRYABLE = ("quota_exceeded", "not_finished", "too_late")
"""Clients of this dialect repeat by themselves what failed; these would fail again, or be drawn twice."""
PARAM_NAMES = {
    # Ours: theirs.
    "num_images": "n",
    "loras": "prompt",
    "width": "size",
    "height": "size",
    "aspect_ratio": "size",
}


class KeyHeader(ApiKeyAuthentication):
    """`api-key: dsk_…`, where clients for Azure put it. An Authorization header comes before it."""

    def authenticate(self, request):
        token = request.headers.get("api-key")
        if token is None or "Authorization" in request.headers:
            return None
        key = ApiKey.find(token.strip())
        if key is None:
            raise AuthenticationFailed("This API key is not valid. Make one under Settings, API keys.")
        note_use(key)
        return key.user, key


class KeyHeaderScheme(OpenApiAuthenticationExtension):
    target_class = "generation.api.openai.endpoint.KeyHeader"
    name = "apiKeyHeader"

    def get_security_definition(self, auto_schema):
        return {"type": "apiKey", "in": "header", "name": "api-key", "description": "An API key, for `/v1` only."}


class ErrorDetail(serializers.Serializer):
    message = serializers.CharField()
    type = serializers.CharField()
    param = serializers.CharField(allow_null=True)
    code = serializers.CharField(allow_null=True)

    class Meta:
        ref_name = "OpenAIErrorDetail"


class ErrorBody(serializers.Serializer):
    error = ErrorDetail()

    class Meta:
        ref_name = "OpenAIError"


def error_body(problem: Problem) -> dict:
    """The body of an error answer in the dialect's shape."""
    kind = ERROR_TYPES.get(problem.status, "invalid_request_error")
    if problem.code == "quota_exceeded":
        kind = "insufficient_quota"
    code = ERROR_CODES.get(problem.code, problem.code)
    return {"error": {"message": problem.message, "type": kind, "param": problem.param or None, "code": code}}


def handle(error: Exception, context: dict) -> Response | None:
    """As `generation.api.http.errors.handle`, in this dialect."""
    problem = problem_of(error)
    if problem is None:
        return None
    problem = in_dialect(problem, context["request"])
    headers = dict(problem.headers)
    if problem.code in NOT_RETRYABLE:
        headers["x-should-retry"] = "false"
    return Response(error_body(problem), status=problem.status, headers=headers)


def in_dialect(problem: Problem, request: Request) -> Problem:
    """`problem` with the dialect's status, and the name of the field that the caller used."""
    body = request.data if _was_read(request) else {}
    param = problem.param if problem.param in body else PARAM_NAMES.get(problem.param, problem.param)
    return replace(problem, status=STATUSES.get(problem.code, problem.status), param=param)


def _was_read(request: Request) -> bool:
    """Whether there is a body that could be understood; asking for one that could not raises again."""
    return isinstance(getattr(request, "_full_data", None), dict)


def endpoint(*methods: str) -> Callable[[Callable], Callable]:
    """Decorator: a function view of the dialect, for keys only: no program of this dialect has a session."""

    def decorate(function: Callable) -> Callable:
        authentication_classes([ApiKeyAuthentication, KeyHeader])(function)
        view = api_view(list(methods))(function)
        view.cls.get_exception_handler = lambda self: handle
        return view

    return decorate


def error_answer(status: int, description: str, code: str, message: str, param: str = "") -> OpenApiResponse:
    """An error answer for the OpenAPI document."""
    example = OpenApiExample(code, value=error_body(Problem(status, code, message, param)))
    return OpenApiResponse(ErrorBody, description=description, examples=[example])


READS = {
    401: error_answer(
        401, "No key, or one that is not valid.", "not_authenticated", "Authentication credentials were not provided."
    ),
    403: error_answer(
        403,
        "The key lacks the scope, or the account is locked.",
        "insufficient_scope",
        "This API key lacks the scope “generate”. Make one that has it.",
    ),
    429: error_answer(
        429,
        "`quota_exceeded`, `rate_limited`, `too_many_running`, `too_many_uploads`, `too_many_streams` or"
        " `too_many_calls`. Retry-After says how many seconds to wait.",
        "quota_exceeded",
        "You have used today's 10 images. More at 00:00 UTC.",
    ),
    503: error_answer(
        503,
        "The database is away, or the images could not be finished. Retry-After says when to try again.",
        "unavailable",
        "The database does not answer. Please try again shortly.",
    ),
}
POSTS = READS | {
    400: error_answer(
        400,
        "A field or the body is malformed, or the prompt breaks a rule of this site; `param` names the field.",
        "invalid_request",
        "This must look like 512x512.",
        "size",
    ),
    409: error_answer(
        409,
        "The Idempotency-Key was used for another request.",
        "idempotency_conflict",
        "This Idempotency-Key was used for another request.",
        "Idempotency-Key",
    ),
    413: error_answer(413, "The body or a picture is too large.", "too_large", "This request is too large."),
    415: error_answer(
        415,
        "The body is neither JSON nor a form, or a picture is of a kind that is not taken.",
        "unsupported_media_type",
        'Unsupported media type "text/plain" in request.',
    ),
    422: error_answer(
        422,
        "It cannot be drawn, or was cancelled; `code` says why.",
        "out_of_memory",
        "There is not enough memory for this picture. Try a smaller size.",
    ),
}
