"""Results of engines that answer later: POST /api/generate/webhook.

A worker hands a claimed generation to an outside engine and tells it three things beside the request:

    generation   the generation's id (UUID)
    epoch        the claim's fencing token, a whole number
    callback     where the result goes, `<SITE_URL>/api/generate/webhook`

The engine answers there, once or as often as it likes, with a JSON body (413 when it is larger than
requests may be: three times MAX_IMAGE_FILE_SIZE):

    {"generation": "<uuid>", "epoch": 3,
     "images": ["<base64 of a PNG, JPEG or WebP>", …],   in the order asked for; a data URI is fine too
     "flagged": [1],                                     optional: indexes that a safety check held back
     "seconds": 4.2,                                     optional: how long it took
     "recipe": {"model": "…"}}                           optional: goes into the PNG's metadata, plain values only

or, when it could not draw:

    {"generation": "<uuid>", "epoch": 3, "error": {"code": "out_of_memory", "message": "…", "transient": true}}

`error` may also be plain text. A transient error (the default) puts the generation back into the queue while it
has attempts left. Every image must have the size that was asked for
(after the second pass of a hires fix, if one was asked for).

It signs as Standard Webhooks say, with INFERENCE_WEBHOOK_SECRET: the header `webhook-id` is any text of its
own, `webhook-timestamp` the time in Unix seconds (at most 5 minutes off), and `webhook-signature` is
`v1,` and the base64 of HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`. The key of the HMAC is the
base64 behind `whsec_`, or the secret's own bytes where it has no such beginning.

The answer is 200 with {"status": …}:

    completed, failed, blocked, cancelled   the generation ended so just now
    queued                                  a transient error: it will be tried again
    already_finished                        it had ended before; a repeat changes nothing
    superseded                              the epoch is not the present one; the result is not wanted

Only these are final. 401 is a wrong signature or clock, 404 an unknown generation (or no secret set here), 400 a
body that is not as above, 413 one that is too large; on 503 the engine should send again later.

While the outside engine draws, the worker's thread keeps the lease, and it learns from the heartbeat that the
row has ended. A worker that waits longer than STALL_SECONDS must report something now and then, or stay in the
phase `loading`, which may last LOAD_SECONDS.
"""

import base64
import binascii
import io
import logging
import uuid
from dataclasses import dataclass

from django.conf import settings
from PIL import Image

from generation.engine.errors import InvalidRequest
from generation.engine.protocol import EngineImage
from generation.models import Generation
from generation.storage import files

from . import jobs

log = logging.getLogger(__name__)

MAX_EPOCH = 2**31 - 1
MAX_MESSAGE = 500
MAX_RECIPE_FIELDS, MAX_RECIPE_TEXT = 20, 200
FORMATS = ("PNG", "JPEG", "WEBP")

Status = Generation.Status


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the outside engine did not draw."""

    code: str
    message: str
    transient: bool


def receive(content: dict) -> str:
    """Take a result whose signature was checked. Returns the answer's `status`, as the module describes.

    Raises InvalidRequest, Generation.DoesNotExist, or files.StorageUnavailable (send again later).
    """
    generation = _find(content.get("generation"))
    epoch = _whole(content.get("epoch"), "epoch", 0, MAX_EPOCH)
    if generation.is_final:
        return "already_finished"
    if generation.epoch != epoch or generation.status != Status.PROCESSING:
        return "superseded"
    failure = _read_error(content.get("error"))
    try:
        if failure:
            jobs.fail(generation, code=failure.code, message=failure.message, transient=failure.transient)
        else:
            _take_images(generation, _read_images(generation, content))
    except jobs.LeaseLost:
        # Somebody else ended it a moment ago: the same result sent twice at once, the sweeper, the owner.
        generation.refresh_from_db(fields=["status"])
        return "already_finished" if generation.is_final else "superseded"
    generation.refresh_from_db(fields=["status"])
    log.info("An outside engine answered for %s: %s.", generation.pk, generation.status)
    return generation.status


def _find(value) -> Generation:
    try:
        return Generation.objects.get(pk=uuid.UUID(value if isinstance(value, str) else ""))
    except ValueError:
        raise InvalidRequest("This must be the id of a generation.", "generation") from None


def _take_images(generation, images: list[EngineImage]) -> None:
    """Files first, then the one fenced transaction; whatever does not get in is deleted."""
    shown = [image for image in images if not image.flagged]
    if not shown:
        return jobs.block(generation)
    stored = []
    try:
        for image in shown:
            stored.append(files.store_image(generation, image))
        try:
            jobs.finish(generation, stored)
        except jobs.LeaseLost:
            # A wish to cancel that came before the finish wins; what was drawn by then is kept.
            jobs.finish_cancelled(generation, stored)
    except (jobs.LeaseLost, files.StorageUnavailable):
        # Not on any other error: a commit whose answer was lost may have kept them, and orphans are pruned.
        files.delete_files(name for one in stored for name in (one.file, one.thumbnail))
        raise


# --- reading ----------------------------------------------------------------------------------------------


def _read_images(generation, content) -> list[EngineImage]:
    given = content.get("images")
    if not isinstance(given, list) or not 1 <= len(given) <= generation.num_images:
        raise InvalidRequest(f"This must be a list of 1 to {generation.num_images} images.", "images")
    flagged = content.get("flagged") or []
    if not isinstance(flagged, list):
        raise InvalidRequest("This must be a list of indexes.", "flagged")
    held_back = {_whole(index, "flagged", 0, len(given) - 1) for index in flagged}
    seconds = _seconds(content.get("seconds")) / len(given)
    recipe = {"model": generation.model} | _read_recipe(content.get("recipe"))
    request = generation.request()
    width, height = request.final_size
    return [
        EngineImage(
            index, request.seed_of(index), _decode(data, width, height), recipe, seconds, flagged=index in held_back
        )
        for index, data in enumerate(given)
    ]


def _decode(data, width: int, height: int) -> Image.Image:
    """The pixels of one image. Its bytes are not trusted: nothing of the file but the pixels is kept."""
    if not isinstance(data, str):
        raise InvalidRequest("Each image must be base64 text.", "images")
    try:
        content = base64.b64decode(data.partition(",")[2] if data.startswith("data:") else data, validate=True)
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
        if picture.size != (width, height):
            found = f"{picture.width}×{picture.height}"
            raise InvalidRequest(f"Each image must have {width}×{height} pixels; this has {found}.", "images")
        return picture.convert("RGB")
    except (binascii.Error, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise InvalidRequest("This is not a PNG, JPEG or WebP image in base64.", "images") from None


def _read_error(value) -> Failure | None:
    if value in (None, "", {}):
        return None
    if isinstance(value, str):
        value = {"message": value}
    if not isinstance(value, dict):
        raise InvalidRequest("This must be text or an object.", "error")
    message, code, transient = value.get("message", ""), value.get("code", "engine_error"), value.get("transient", True)
    if not isinstance(message, str) or not isinstance(code, str) or not isinstance(transient, bool):
        raise InvalidRequest("`code` and `message` must be text, `transient` true or false.", "error")
    code = code if code.isidentifier() and code.isascii() and len(code) <= 40 else "engine_error"
    # Its words are for operators; people read ours.
    log.warning("An outside engine failed: %s: %r", code, message[:MAX_MESSAGE])
    return Failure(code, "The image could not be finished by the outside engine. It was not counted.", transient)


def _read_recipe(value) -> dict:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > MAX_RECIPE_FIELDS:
        raise InvalidRequest(f"This must be an object of at most {MAX_RECIPE_FIELDS} values.", "recipe")
    plain = {name: one for name, one in value.items() if isinstance(one, (str, int, float, bool))}
    texts = [text for pair in plain.items() for text in pair if isinstance(text, str)]
    if any(len(text) > MAX_RECIPE_TEXT or not text.isprintable() for text in texts):
        raise InvalidRequest("Names and texts must be short and printable.", "recipe")
    return plain


def _seconds(value) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 86400:
        raise InvalidRequest("This must be a number of seconds.", "seconds")
    return float(value)


def _whole(value, param, low, high) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidRequest(f"This must be a whole number between {low} and {high}.", param)
    return value


def is_on() -> bool:
    """Whether results of outside engines are taken at all."""
    return bool(settings.INFERENCE_WEBHOOK_SECRET)
