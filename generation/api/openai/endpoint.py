"""What all endpoints of the dialect share: who may call, and errors in the shape that its clients know.

    {"error": {"message": "…", "type": "invalid_request_error", "param": "size", "code": "invalid_request"}}

`code` is ours, apart from `content_policy_violation` and `model_not_found`, which programs look for.
"""

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiExample, OpenApiResponse
from rest_framework import serializers
from rest_framework.decorators import api_view, authentication_classes
from rest_framework.exceptions import AuthenticationFailed

from accounts.authentication import ApiKeyAuthentication, note_use
from accounts.models import ApiKey
from generation.api.http import errors

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
    503: "server_error",
}
CODES = {
    "prompt_rejected": "content_policy_violation",
    "output_blocked": "content_policy_violation",
    "unknown_model": "model_not_found",
}
NOT_WORTH_REPEATING = ("quota_exceeded", "not_finished", "too_late")
"""Clients of this dialect repeat by themselves what failed; these would fail again, or be drawn twice."""
WORDS = {
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
        given = request.headers.get("api-key")
        if given is None or "Authorization" in request.headers:
            return None
        key = ApiKey.find(given.strip())
        if key is None:
            raise AuthenticationFailed("This API key is not valid. Make one under Settings, API keys.")
        note_use(key)
        return key.user, key


class KeyHeaderScheme(OpenApiAuthenticationExtension):
    target_class = "generation.api.openai.endpoint.KeyHeader"
    name = "apiKeyHeader"

    def get_security_definition(self, auto_schema):
        return {"type": "apiKey", "in": "header", "name": "api-key", "description": "An API key, for `/v1` only."}


class ProblemDetail(serializers.Serializer):
    message = serializers.CharField()
    type = serializers.CharField()
    param = serializers.CharField(allow_null=True)
    code = serializers.CharField(allow_null=True)

    class Meta:
        ref_name = "OpenAIErrorDetail"


class Problem(serializers.Serializer):
    error = ProblemDetail()

    class Meta:
        ref_name = "OpenAIError"


def problem(status: int, code: str, message: str, param: str | None = None) -> dict:
    """The one shape of an error."""
    kind = "insufficient_quota" if code == "quota_exceeded" else TYPES.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param or None, "code": CODES.get(code, code)}}


def handle(error, context):
    """As `errors.handle`, in this dialect."""
    response = errors.handle(error, context)
    if response is None:
        return None
    described, data = response.data["error"], context["request"].data if _was_read(context["request"]) else {}
    param = described.get("param")
    if param and param not in data:
        param = WORDS.get(param, param)
    if CODES.get(described["code"]) == "content_policy_violation":
        response.status_code = 400
    if described["code"] in NOT_WORTH_REPEATING:
        response["x-should-retry"] = "false"
    response.data = problem(response.status_code, described["code"], described["message"], param)
    return response


def _was_read(request) -> bool:
    """Whether there is a body that could be understood; asking for one that could not raises again."""
    return isinstance(getattr(request, "_full_data", None), dict)


def endpoint(*methods: str):
    """Decorator: a function view of the dialect, for keys only: no program of this dialect has a session."""

    def decorate(function):
        authentication_classes([ApiKeyAuthentication, KeyHeader])(function)
        view = api_view(list(methods))(function)
        view.cls.get_exception_handler = lambda self: handle
        return view

    return decorate


def refusal(status: int, description: str, code: str, message: str, param: str = "") -> OpenApiResponse:
    """An error answer for the document."""
    return OpenApiResponse(
        Problem, description=description, examples=[OpenApiExample(code, value=problem(status, code, message, param))]
    )


READS = {
    401: refusal(
        401, "No key, or one that is not valid.", "not_authenticated", "Authentication credentials were not provided."
    ),
    403: refusal(
        403,
        "The key lacks the scope, or the account is locked.",
        "insufficient_scope",
        "This API key lacks the scope “generate”. Make one that has it.",
    ),
    429: refusal(
        429,
        "`quota_exceeded`, `rate_limited`, `too_many_running`, `too_many_uploads`, `too_many_streams` or"
        " `too_many_calls`. Retry-After says how many seconds to wait.",
        "quota_exceeded",
        "You have used today's 10 images. More at 00:00 UTC.",
    ),
    503: refusal(
        503,
        "The database is away, or the images could not be finished. Retry-After says when to try again.",
        "unavailable",
        "The database does not answer. Please try again shortly.",
    ),
}
POSTS = READS | {
    400: refusal(
        400,
        "A field or the body is malformed, or the prompt breaks a rule of this site; `param` names the field.",
        "invalid_request",
        "This must look like 512x512.",
        "size",
    ),
    409: refusal(
        409,
        "The Idempotency-Key was used for another request.",
        "idempotency_conflict",
        "This Idempotency-Key was used for another request.",
        "Idempotency-Key",
    ),
    413: refusal(413, "The body or a picture is too large.", "too_large", "This request is too large."),
    415: refusal(
        415,
        "The body is neither JSON nor a form, or a picture is of a kind that is not taken.",
        "unsupported_media_type",
        'Unsupported media type "text/plain" in request.',
    ),
    422: refusal(
        422,
        "It cannot be drawn, or was cancelled; `code` says why.",
        "out_of_memory",
        "There is not enough memory for this picture. Try a smaller size.",
    ),
}
