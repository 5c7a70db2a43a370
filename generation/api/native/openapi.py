"""What the OpenAPI document says about each operation: parameters, every answer, examples."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from .serializers import account, common, generations, images, requests, site

ID = "0b5f6c1e-6f0e-4b5e-9d53-1a52d0a7c1e7"
SITE = "https://dreamsketch.example"


def _problem(description: str, code: str, message: str, param: str = "") -> OpenApiResponse:
    error = {"code": code, "message": message} | ({"param": param} if param else {})
    example = OpenApiExample(code, value={"error": error | {"request_id": "5f0c9ad8e1b24a0f"}})
    return OpenApiResponse(common.Error, description=description, examples=[example])


MALFORMED = _problem(
    "A field or the body is malformed; `param` names the field.",
    "invalid_request",
    "This must be between 1 and 100.",
    "steps",
)
UNSIGNED = _problem(
    "No key or session, or one that is not valid.", "not_authenticated", "Authentication credentials were not provided."
)
FORBIDDEN = _problem(
    "A session without its CSRF token, a key without the scope, or a locked account.",
    "csrf_failed",
    "CSRF Failed: CSRF token missing.",
)
SCOPE = _problem(
    "The API key lacks the scope for this.",
    "insufficient_scope",
    "This API key lacks the scope “manage”. Make one that has it.",
)
MISSING = _problem("There is no such object, or it is not yours.", "not_found", "There is nothing at this address.")
CONFLICT = _problem(
    "The Idempotency-Key was used for another request.",
    "idempotency_conflict",
    "This Idempotency-Key was used for another request.",
    "Idempotency-Key",
)
IN_THE_WAY = _problem("Things stand in its way as they are now.", "conflict", "Switch the webhook on first.")
TOO_LARGE = _problem("The body is too large.", "too_large", "This request is too large.")
UNREADABLE = _problem(
    "The body is neither JSON nor a form.", "unsupported_media_type", 'Unsupported media type "text/plain" in request.'
)
REJECTED = _problem(
    "The prompt breaks a rule of this site. Nothing was counted.",
    "prompt_rejected",
    "This prompt contains a word that this site does not allow.",
    "prompt",
)
LIMITED = _problem(
    "`quota_exceeded` (today's images), `rate_limited` (requests an hour), `too_many_running`, `too_many_streams` or"
    " `too_many_calls` (calls a minute). Retry-After says how many seconds to wait.",
    "quota_exceeded",
    "You have used today's 10 images. More at 00:00 UTC.",
)
AWAY = _problem(
    "The database is away. Retry-After says when to try again.",
    "unavailable",
    "The database does not answer. Please try again shortly.",
)

COMMON = {401: UNSIGNED, 403: SCOPE, 429: LIMITED, 503: AWAY}
NOT_MODIFIED = {304: OpenApiResponse(description="It is still as the `If-None-Match` header says.")}
POSTED = COMMON | {400: MALFORMED, 403: FORBIDDEN, 413: TOO_LARGE, 415: UNREADABLE}


def _answer(shape, description: str, value=None) -> OpenApiResponse:
    examples = [OpenApiExample("answer", value=value)] if value is not None else []
    return OpenApiResponse(shape, description=description, examples=examples)


def _operation(name: str, tag: str, responses: dict, **more) -> dict:
    return {"operation_id": name, "tags": [tag], "responses": responses, **more}


_IDEMPOTENCY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Any text of 1 to 255 printable ASCII characters. A repeat with it within 24"
    " hours gives the first job again.",
)
_LINKS = {
    "status_url": f"{SITE}/api/status/{ID}",
    "events_url": f"{SITE}/api/generate/{ID}/events",
    "cancel_url": f"{SITE}/api/generate/{ID}/cancel",
}
_SUBMITTED = _answer(
    generations.Submitted,
    "Accepted; it is drawn in the background.",
    {"job_id": ID, "jobId": ID, "id": ID, "status": "queued", **_LINKS, "queue_position": 1, "eta_seconds": 6.4},
)
_QUOTE = _answer(
    generations.Quote,
    "The quote that `dry_run` asked for; nothing has changed.",
    {
        "dry_run": True,
        "images": 2,
        "remaining": 10,
        "eta_seconds": 12.8,
        "request": {
            "mode": "txt2img",
            "model": "dreamsketch-tiny",
            "prompt": "a red boat at sea",
            "negative_prompt": "",
            "width": 256,
            "height": 256,
            "steps": 20,
            "guidance_scale": 5.0,
            "sampler": "Euler",
            "seed": None,
            "num_images": 2,
        },
    },
)
_IMAGE_LINKS = {"imageUrl": f"{SITE}/media/images/{ID}.png", "thumbnailUrl": f"{SITE}/media/thumbnails/{ID}.webp"}
_STATUS = {
    "id": ID,
    "job_id": ID,
    "status": "completed",
    "cancel_requested": False,
    "phase": "done",
    "progress": 1.0,
    "step": 20,
    "steps": 20,
    "preview_step": None,
    "queue_position": None,
    "eta_seconds": None,
    "attempt": 1,
    "prompt": "a red boat at sea",
    "model": "dreamsketch-tiny",
    "num_images": 1,
    "images": [
        {
            "id": ID,
            "number": 17,
            **_IMAGE_LINKS,
            "pageUrl": f"{SITE}/i/kP3xWq7RtYvB",
            "width": 256,
            "height": 256,
            "seed": 7,
            "colour": "#3a6ea5",
        }
    ],
    "result_url": _IMAGE_LINKS["imageUrl"],
    "error": None,
    "error_message": None,
    "processing_time_ms": 5120,
    "created_at": "2026-11-21T08:30:00.000Z",
    "finished_at": "2026-11-21T08:30:05.400Z",
    **_LINKS,
}
_HISTORY_IMAGE = {
    "id": ID,
    "prompt": "a red boat at sea",
    **_IMAGE_LINKS,
    "modelUsed": "dreamsketch-tiny",
    "createdAt": "2026-11-21T08:30:05.400Z",
}
_KEY = {
    "id": 3,
    "name": "laptop",
    "hint": "dsk_1a2b3c4d_…",
    "scopes": ["read", "generate"],
    "dailyImages": 20,
    "requestsPerMinute": None,
    "createdAt": "2026-11-21T08:30:00.000Z",
    "lastUsedAt": None,
    "expiresAt": None,
    "revokedAt": None,
}

INFO = _operation("info", "site", {200: _answer(site.Info, "Where things are.")}, auth=[])
HEALTH = _operation(
    "health",
    "site",
    {
        200: _answer(
            site.Health,
            "Requests are served.",
            {"status": "ok", "database": "ok", "redis": "ok", "storage": "ok", "workers": 1},
        ),
        503: _answer(
            site.Health,
            "Postgres is away.",
            {"status": "unavailable", "database": "away", "redis": "ok", "storage": "ok", "workers": None},
        ),
    },
    auth=[],
)
SYSTEM_STATUS = _operation("systemStatus", "site", {200: _answer(site.SystemStatus, "How the site fares."), **COMMON})
MODELS = _operation("listModels", "site", {200: _answer(site.Models, "All models."), **NOT_MODIFIED, **COMMON})

_GENERATE_BODIES = {
    "application/json": requests.GenerateRequest,
    "application/x-www-form-urlencoded": requests.GeneratePlainForm,
    "multipart/form-data": requests.GenerateForm,
}
_IMG2IMG_BODIES = {"application/json": requests.Img2ImgRequest, "multipart/form-data": requests.Img2ImgForm}
_PIXELS = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGO0ylvKgA0wYRUdtBIACDoBXfDvf6AAAAAASUVORK5CYII="
GENERATE = _operation(
    "generate",
    "generations",
    {200: _QUOTE, 202: _SUBMITTED, **POSTED, 409: CONFLICT, 422: REJECTED},
    request=_GENERATE_BODIES,
    parameters=[_IDEMPOTENCY],
    examples=[
        OpenApiExample("shortest", request_only=True, value={"prompt": "a red boat at sea"}),
        OpenApiExample(
            "everything",
            request_only=True,
            value={
                "prompt": "a red boat at sea",
                "negative_prompt": "people",
                "model": "dreamsketch-tiny",
                "style": "watercolour",
                "width": 256,
                "height": 256,
                "steps": 20,
                "guidance_scale": 5,
                "sampler": "Euler a",
                "seed": 7,
                "num_images": 2,
                "visibility": "private",
            },
        ),
        OpenApiExample(
            "from a picture",
            request_only=True,
            value={"prompt": "a red boat at sea", "image": _PIXELS, "strength": 0.6, "hires_fix": {"scale": 1.5}},
        ),
    ],
)
_RESULT = {
    "id": 17,
    "url": f"{SITE}/media/images/{ID}.png",
    "prompt": "a red boat at sea",
    "created_at": "2026-11-21T08:30:05.400Z",
}
UNDRAWN = _problem(
    "The prompt breaks a rule of this site, or nothing came of it for a reason that `code` gives. Nothing was counted.",
    "prompt_rejected",
    "This prompt contains a word that this site does not allow.",
    "prompt",
)
_WAITED = {
    200: _answer(generations.Drawn, "The images.", {"status": "success", "result": _RESULT, "results": [_RESULT]}),
    202: _SUBMITTED,
    **POSTED,
    409: CONFLICT,
    422: UNDRAWN,
}
TXT2IMG = _operation(
    "txt2img",
    "generations",
    _WAITED,
    request=_GENERATE_BODIES,
    parameters=[_IDEMPOTENCY],
    examples=[
        OpenApiExample(
            "request",
            request_only=True,
            value={
                "prompt": "a red boat at sea",
                "model_id": "dreamsketch-tiny",
                "width": 256,
                "height": 256,
                "steps": 20,
                "guidance_scale": 5,
                "seed": 7,
            },
        )
    ],
)
IMG2IMG = _operation(
    "img2img",
    "generations",
    _WAITED,
    request=_IMG2IMG_BODIES,
    parameters=[_IDEMPOTENCY],
    examples=[
        OpenApiExample(
            "request", request_only=True, value={"prompt": "a red boat at sea", "image": _PIXELS, "strength": 0.6}
        )
    ],
)
INFERENCE = _operation(
    "inference",
    "generations",
    {
        (200, "image/png"): OpenApiResponse(OpenApiTypes.BINARY, description="The image."),
        409: CONFLICT,
        422: REJECTED,
        504: _problem(
            "It was not drawn in time, and was cancelled.",
            "timed_out",
            "The image could not be finished in time. It was cancelled.",
        ),
        **POSTED,
    },
    request=_GENERATE_BODIES,
    parameters=[_IDEMPOTENCY],
)
RESULTS = _operation(
    "results",
    "generations",
    {
        200: _answer(generations.Results, "The newest first.", {"status": "success", "results": [_RESULT]}),
        **NOT_MODIFIED,
        400: MALFORMED,
        **COMMON,
    },
    parameters=[
        OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": 100}, description="20 where left out.")
    ],
)
PARSE_PROMPT = _operation(
    "parsePrompt",
    "generations",
    {
        200: _answer(
            generations.ParsedPrompt,
            "What it says.",
            {
                "subject": "a red boat",
                "style": "watercolour",
                "negative_prompt": "hard edges, photograph, 3d render",
                "aspect_ratio": "1:1",
                "improved_prompt": "a watercolour of a red boat at sea, soft natural light",
                "loras": [],
            },
        ),
        **POSTED,
    },
    request={"application/json": generations.PromptText},
)
GENERATION_STATUS = _operation(
    "generationStatus",
    "generations",
    {200: _answer(generations.GenerationStatus, "The status now.", _STATUS), 404: MISSING, **COMMON},
)
GENERATION_STATUS_ALIAS = GENERATION_STATUS | {"operation_id": "generationStatusAlias"}
GENERATION_DELETE = _operation(
    "deleteGeneration",
    "generations",
    {
        204: OpenApiResponse(description="It is gone, with its pictures."),
        404: MISSING,
        409: CONFLICT,
        **COMMON,
        403: FORBIDDEN,
    },
    description="Delete a generation that has ended for good, its pictures included. What it cost stays counted.",
)
GENERATION_DELETE_ALIAS = GENERATION_DELETE | {"operation_id": "deleteGenerationAlias"}
EVENT = {
    "type": "object",
    "required": ["data"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string"},
        "data": {"type": "string", "description": "JSON."},
        "retry": {"type": "integer", "description": "Milliseconds."},
    },
}
"""One server-sent event of a stream."""
EVENTS = _operation(
    "generationEvents",
    "generations",
    {
        (200, "text/event-stream"): OpenApiResponse(
            EVENT, description="Events `status` (as `/api/status/{id}`), `progress` and `state`."
        ),
        404: MISSING,
        **COMMON,
    },
    parameters=[
        OpenApiParameter(
            "Last-Event-ID", str, OpenApiParameter.HEADER, description="The `id` of the last event that you have seen."
        )
    ],
)
CANCEL = _operation(
    "cancel",
    "generations",
    {
        200: _answer(generations.Cancelled, "What the row says now.", {"id": ID, "status": "cancelled"}),
        404: MISSING,
        **POSTED,
    },
    request=None,
)
RETRY = _operation(
    "retry",
    "generations",
    {202: _SUBMITTED, **POSTED, 404: MISSING, 409: CONFLICT, 422: REJECTED},
    parameters=[_IDEMPOTENCY],
    request=None,
)

HISTORY = _operation(
    "history",
    "images",
    {
        200: _answer(
            images.History,
            "One page of your images.",
            {"images": [_HISTORY_IMAGE], "total": 1, "page": 1, "perPage": 20, "nextCursor": None},
        ),
        **NOT_MODIFIED,
        400: MALFORMED,
        **COMMON,
    },
    parameters=[
        OpenApiParameter("page", {"type": "integer", "minimum": 1, "maximum": 100_000}),
        OpenApiParameter(
            "perPage", {"type": "integer", "minimum": 1, "maximum": 100}, description="20 where it is left out."
        ),
        OpenApiParameter(
            "cursor",
            {"type": "string", "pattern": "^[0-9]{1,18}$"},
            description="`nextCursor` of the page before, instead of `page`.",
        ),
    ],
)
IMAGE = _operation(
    "image",
    "images",
    {
        200: _answer(images.ImageDetail, "The image. Its bytes are at `imageUrl`, with the same key or session."),
        **NOT_MODIFIED,
        404: MISSING,
        **COMMON,
    },
)
IMAGE_CHANGE = _operation(
    "changeImage",
    "images",
    {200: _answer(images.ImageDetail, "The image as it is now."), 404: MISSING, **POSTED},
    request={"application/json": images.ChangeImage},
    description="Change visibility, favourite or title; what is left out stays.",
)
IMAGES_BULK = _operation(
    "bulkImages",
    "images",
    {200: _answer(images.BulkDone, "Done.", {"action": "trash", "count": 1, "ids": [ID]}), **POSTED},
    request={"application/json": images.BulkAction},
)
IMAGE_DOWNLOAD = _operation(
    "downloadImage",
    "images",
    {
        (200, "image/png"): OpenApiResponse(OpenApiTypes.BINARY, description="The file."),
        (200, "image/jpeg"): OpenApiResponse(OpenApiTypes.BINARY, description="The file."),
        (200, "image/webp"): OpenApiResponse(OpenApiTypes.BINARY, description="The file."),
        **NOT_MODIFIED,
        400: MALFORMED,
        404: MISSING,
        **COMMON,
    },
    parameters=[
        OpenApiParameter("format", str, enum=["png", "jpeg", "webp"], description="png where it is left out."),
        OpenApiParameter(
            "quality",
            {"type": "integer", "minimum": 1, "maximum": 100},
            description="Of jpeg and webp; 90 where it is left out.",
        ),
        OpenApiParameter(
            "metadata",
            str,
            enum=["keep", "strip"],
            description="`strip` leaves out prompt and recipe, never the mark that a machine made it.",
        ),
    ],
)
IMAGE_DELETE = _operation(
    "deleteImage",
    "images",
    {
        204: OpenApiResponse(description="It is in the trash, or gone."),
        404: MISSING,
        400: MALFORMED,
        **COMMON,
        403: FORBIDDEN,
    },
    description="Move an image to the trash, or delete it for good with `permanent=true`.",
    parameters=[OpenApiParameter("permanent", bool, description="File, thumbnail and row are removed.")],
)

USAGE = _operation("usage", "account", {200: _answer(account.Usage, "Today's usage."), **COMMON})
KEYS = _operation("listKeys", "account", {200: _answer(account.Keys, "Your keys.", {"keys": [_KEY]}), **COMMON})
KEY_CREATE = _operation(
    "createKey",
    "account",
    {
        201: _answer(account.IssuedKey, "The key, shown this once.", _KEY | {"key": "dsk_1a2b3c4d_…"}),
        **POSTED,
        409: IN_THE_WAY,
    },
    request={"application/json": account.NewKey},
    description="Make a key. For signed-in people; a key cannot make keys.",
)
KEY_REVOKE = _operation(
    "revokeKey", "account", {204: OpenApiResponse(description="Revoked."), 404: MISSING, **COMMON, 403: FORBIDDEN}
)
