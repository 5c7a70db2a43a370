"""Authentication, exception handling, the view decorator and OpenAPI answers of the A1111 dialect.

Errors have the shape that its programs know:

    {"error": "quota_exceeded", "detail": "You have used …", "body": "", "errors": "steps: This must be …"}

`error` is our stable code, `detail` the sentence for a person, `errors` the same with the field at fault.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import api_view, authentication_classes, parser_classes
from rest_framework.response import Response

from accounts.authentication import ApiKeyAuthentication, BasicKeyAuthentication
from generation.api.http.errors import Problem, problem_of
from generation.api.http.parsers import JSONParser

STATUSES = {"unknown_model": 404}
"""Where the dialect's status differs from the one that the problem has: so the web UI says that it lacks a model."""
PARAM_NAMES = {
    # Ours: theirs.
    "model": "sd_model_checkpoint",
    "sampler": "sampler_name",
    "guidance_scale": "cfg_scale",
    "num_images": "batch_size",
    "strength": "denoising_strength",
    "loras": "prompt",
    "hires": "enable_hr",
    "hires_fix": "hr_scale",
    "hires_scale": "hr_scale",
    "hires_steps": "hr_second_pass_steps",
    "hires_strength": "denoising_strength",
    "hires_upscaler": "hr_upscaler",
    "fill": "inpainting_fill",
    "padding": "inpaint_full_res_padding",
    "fit": "resize_mode",
    "variation": "subseed_strength",
    "control": "alwayson_scripts",
    "reference": "alwayson_scripts",
    "upscale": "image",
    "upscaler": "upscaler_1",
    "style": "styles",
}


class ErrorBody(serializers.Serializer):
    error = serializers.CharField(help_text="Stable and machine-readable.")
    detail = serializers.CharField(help_text="A sentence for a person.")
    body = serializers.CharField(allow_blank=True, help_text="Always empty.")
    errors = serializers.CharField(allow_blank=True, help_text="The field at fault and the sentence.")

    class Meta:
        ref_name = "A1111Error"


class BasicKeyScheme(OpenApiAuthenticationExtension):
    target_class = "accounts.authentication.BasicKeyAuthentication"
    name = "apiKeyAsPassword"

    def get_security_definition(self, auto_schema):
        return {"type": "http", "scheme": "basic", "description": "Any user name, and an API key as the password."}


def error_body(problem: Problem) -> dict:
    """The body of an error answer in the dialect's shape."""
    errors = f"{problem.param}: {problem.message}" if problem.param else ""
    return {"error": problem.code, "detail": problem.message, "body": "", "errors": errors}


def handle(error: Exception, context: dict) -> Response | None:
    """As `generation.api.http.errors.handle`, in this dialect."""
    problem = problem_of(error)
    if problem is None:
        return None
    problem = in_dialect(problem, context["request"].path)
    return Response(error_body(problem), status=problem.status, headers=dict(problem.headers))


def in_dialect(problem: Problem, path: str) -> Problem:
    """`problem` with the dialect's status, and the name that its callers know the field by."""
    param = PARAM_NAMES.get(problem.param, problem.param)
    if problem.param == "image" and "2img" in path:
        param = "init_images"
    return replace(problem, status=STATUSES.get(problem.code, problem.status), param=param)


def _error_answer(status: int, description: str, code: str, message: str, param: str = "") -> OpenApiResponse:
    """An error answer for the OpenAPI document."""
    example = OpenApiExample(code, value=error_body(Problem(status, code, message, param)))
    return OpenApiResponse(ErrorBody, description=description, examples=[example])


READS = {
    401: _error_answer(
        401,
        "No key or session, or one that is not valid.",
        "not_authenticated",
        "Authentication credentials were not provided.",
    ),
    403: _error_answer(
        403,
        "The key lacks the scope, or a session its CSRF token.",
        "insufficient_scope",
        "This API key lacks the scope “read”. Make one that has it.",
    ),
    429: _error_answer(
        429,
        "`quota_exceeded`, `rate_limited`, `too_many_running`, `too_many_uploads` or `too_many_calls`."
        " Retry-After says how many seconds to wait.",
        "quota_exceeded",
        "You have used today's 10 images. More at 00:00 UTC.",
    ),
    503: _error_answer(
        503,
        "The database is away, or no worker could draw it. Retry-After says when to try again.",
        "unavailable",
        "The database does not answer. Please try again shortly.",
    ),
}
POSTS = READS | {
    400: _error_answer(
        400,
        "A field or the body is malformed; `errors` names the field.",
        "invalid_request",
        "This must be between 1 and 100.",
        "steps",
    ),
    413: _error_answer(413, "The body or a picture is too large.", "too_large", "This request is too large."),
    415: _error_answer(
        415,
        "The body is not JSON, or a picture is of a kind that is not taken.",
        "unsupported_media_type",
        'Unsupported media type "text/plain" in request.',
    ),
}
UNKNOWN = {
    404: _error_answer(
        404,
        "There is no such model, sampler, upscaler or script, or no picture to start from.",
        "unknown_model",
        "There is no model called “nothing”.",
        "sd_model_checkpoint",
    )
}
REJECTED = {
    422: _error_answer(
        422,
        "The prompt breaks a rule of this site, or this cannot be drawn. Nothing was counted.",
        "prompt_rejected",
        "This prompt contains a word that this site does not allow.",
    )
}


def document(
    name: str,
    schema: dict | serializers.BaseSerializer,
    *,
    body: dict | None = None,
    errors: dict[int, OpenApiResponse] | None = None,
    parameters: Sequence[OpenApiParameter] = (),
    methods: list[str] | None = None,
    description: str = "The answer.",
) -> Callable[[Callable], Callable]:
    """Decorator: what the OpenAPI document says of an operation.

    `name` is its id there, `schema` that of the body with status 200, `body` the JSON Schema of what is posted,
    `errors` further answers by status; `methods` where a view has several.
    """
    common = POSTS if body else READS
    return extend_schema(
        operation_id=name,
        tags=["a1111"],
        parameters=list(parameters),
        methods=methods,
        request={"application/json": body} if body else None,
        responses={200: OpenApiResponse(schema, description=description)} | common | (errors or {}),
    )


def endpoint(*methods: str) -> Callable[[Callable], Callable]:
    """Decorator: a function view of the dialect. Its keys need the usual scope: reading reads, posting generates."""

    def decorate(function: Callable) -> Callable:
        authentication_classes([BasicKeyAuthentication, ApiKeyAuthentication, SessionAuthentication])(function)
        parser_classes([JSONParser])(function)
        view = api_view(list(methods))(function)
        view.cls.get_exception_handler = lambda self: handle
        return view

    return decorate
