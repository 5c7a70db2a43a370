"""What all endpoints of the dialect share: who may call, and errors in the shape that its programs know.

    {"error": "quota_exceeded", "detail": "You have used …", "body": "", "errors": "steps: This must be …"}

`error` is our stable code, `detail` the sentence for a person, `errors` the same with the field at fault.
"""

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import api_view, authentication_classes, parser_classes

from accounts.authentication import ApiKeyAuthentication, BasicKeyAuthentication
from generation.api.http import errors
from generation.api.http.parsers import JSONParser
from generation.engine.errors import UnknownModel

from .names import UnknownName

WORDS = {
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


class Problem(serializers.Serializer):
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


def problem(code: str, message: str, named: str = "") -> dict:
    """The one shape of an error."""
    return {"error": code, "detail": message, "body": "", "errors": f"{named}: {message}" if named else ""}


def handle(error, context):
    """As `errors.handle`, in this dialect."""
    response = errors.handle(error, context)
    if response is not None:
        described = response.data["error"]
        if isinstance(error, (UnknownModel, UnknownName)):
            response.status_code = 404  # what the web UI says of a model or sampler that it does not have
        named = _their_word(described.get("param", ""), context["request"].path)
        response.data = problem(described["code"], described["message"], named)
    return response


def _their_word(param: str, path: str) -> str:
    """The name that the caller knows a field by."""
    if param == "image" and "2img" in path:
        return "init_images"
    return WORDS.get(param, param)


def _refusal(description: str, code: str, message: str, param: str = "") -> OpenApiResponse:
    return OpenApiResponse(
        Problem, description=description, examples=[OpenApiExample(code, value=problem(code, message, param))]
    )


READS = {
    401: _refusal(
        "No key or session, or one that is not valid.",
        "not_authenticated",
        "Authentication credentials were not provided.",
    ),
    403: _refusal(
        "The key lacks the scope, or a session its CSRF token.",
        "insufficient_scope",
        "This API key lacks the scope “read”. Make one that has it.",
    ),
    429: _refusal(
        "`quota_exceeded`, `rate_limited`, `too_many_running`, `too_many_uploads` or `too_many_calls`."
        " Retry-After says how many seconds to wait.",
        "quota_exceeded",
        "You have used today's 10 images. More at 00:00 UTC.",
    ),
    503: _refusal(
        "The database is away, or no worker could draw it. Retry-After says when to try again.",
        "unavailable",
        "The database does not answer. Please try again shortly.",
    ),
}
POSTS = READS | {
    400: _refusal(
        "A field or the body is malformed; `errors` names the field.",
        "invalid_request",
        "This must be between 1 and 100.",
        "steps",
    ),
    413: _refusal("The body or a picture is too large.", "too_large", "This request is too large."),
    415: _refusal(
        "The body is not JSON, or a picture is of a kind that is not taken.",
        "unsupported_media_type",
        'Unsupported media type "text/plain" in request.',
    ),
}
UNKNOWN = {
    404: _refusal(
        "There is no such model, sampler, upscaler or script, or no picture to start from.",
        "unknown_model",
        "There is no model called “nothing”.",
        "sd_model_checkpoint",
    )
}
REJECTED = {
    422: _refusal(
        "The prompt breaks a rule of this site, or this cannot be drawn. Nothing was counted.",
        "prompt_rejected",
        "This prompt contains a word that this site does not allow.",
    )
}


def document(
    name: str,
    answer,
    *,
    body: dict | None = None,
    more=None,
    parameters=(),
    methods=None,
    description: str = "The answer.",
):
    """Decorator: what the document says of an operation.

    `name` is its id there, `answer` the shape of its 200, `body` the JSON Schema of what is posted, `more` further
    answers by status; `methods` where a view has several.
    """
    common = POSTS if body else READS
    return extend_schema(
        operation_id=name,
        tags=["a1111"],
        parameters=list(parameters),
        methods=methods,
        request={"application/json": body} if body else None,
        responses={200: OpenApiResponse(answer, description=description)} | common | (more or {}),
    )


def endpoint(*methods: str):
    """Decorator: a function view of the dialect. Its keys need the usual scope: reading reads, posting generates."""

    def decorate(function):
        authentication_classes([BasicKeyAuthentication, ApiKeyAuthentication, SessionAuthentication])(function)
        parser_classes([JSONParser])(function)
        view = api_view(list(methods))(function)
        view.cls.get_exception_handler = lambda self: handle
        return view

    return decorate
