"""Asking for images and following what becomes of that."""

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import api_view
from rest_framework.response import Response

from accounts import quotas
from accounts.authentication import key_scope
from accounts.standing import caller_of
from generation.api.http.query import idempotency_key, whole
from generation.api.http.requests import absolute_url
from generation.api.http.results import images_of
from generation.api.http.waiting import wait_for
from generation.catalog import model_named
from generation.engine.errors import InvalidRequest
from generation.live.sse import release_connection
from generation.models import GeneratedImage, Generation
from generation.prompts import ideas
from generation.prompts.lora_keywords import matched_rules
from generation.queue import estimates
from generation.queue.order import with_places
from generation.representation import describe_request
from generation.services import generations
from generation.services.parse import flag, names_as_given, read_request, text
from generation.storage.uploads import discard, made_here, undone_on_refusal

from . import openapi as doc
from .events import event_stream
from .serializers.generations import Result, serialize_generation

READ = ["GET", "HEAD"]
RESULTS, MAX_RESULTS = 20, 100


def generation_or_404(request, generation_id) -> Generation:
    return get_object_or_404(Generation.objects.visible_to(request.user), pk=generation_id)


def site_root(request) -> str:
    return absolute_url(request, "/")


@extend_schema(**doc.GENERATE)
@api_view(["POST"])
def generate(request):
    """Ask for images. Answers at once; the job is drawn in the background.

    An `Idempotency-Key` header makes repeats safe: the same key with the same request gives the same job.
    """
    with undone_on_refusal(), names_as_given(request.data):
        if flag(request.data.get("dry_run"), "dry_run"):
            return Response(_quote(request))
        generation = _create(request)
    return _submitted(request, generation)


def _create(request) -> Generation:
    key = idempotency_key(request)
    fields = read_request(request.data, request.user)
    generation, _ = generations.create_generation(
        user=request.user, source=Generation.Source.API, api_key=request.auth, idempotency_key=key, **fields
    )
    return generation


def _submitted(request, generation) -> Response:
    status = serialize_generation(generation, site_root(request))
    links = {name: status[name] for name in ("status_url", "events_url", "cancel_url")}
    return Response(
        {
            "job_id": status["id"],
            "jobId": status["id"],
            "id": status["id"],
            "status": status["status"],
            **links,
            "queue_position": status["queue_position"],
            "eta_seconds": status["eta_seconds"],
        },
        status=202,
        headers={"Location": links["status_url"]},
    )


def _quote(request) -> dict:
    fields = read_request(request.data, request.user)
    remaining = quotas.remaining(request.user).remaining
    generation = generations.quote_generation(
        user=request.user, source=Generation.Source.API, api_key=request.auth, **fields
    )
    discard(made_here())
    # A random seed is chosen when the request is submitted.
    random_seed = {"seed": None} if fields.get("seed") in (None, -1) else {}
    return {
        "dry_run": True,
        "images": generation.num_images,
        "remaining": remaining,
        "eta_seconds": estimates.seconds_if_submitted(generation),
        "request": describe_request(generation, request.user.pk) | random_seed,
    }


# --- answers with the image itself ------------------------------------------------------------------------


@extend_schema(**doc.TXT2IMG)
@api_view(["POST"])
def txt2img(request):
    """Ask for images and wait for them, for a minute at most; past that the answer is that of `generate`."""
    return _drawn(request)


@extend_schema(**doc.IMG2IMG)
@api_view(["POST"])
def img2img(request):
    """As `txt2img`, from an `image`, with `strength` and perhaps a `mask`."""
    if request.data.get("image") is None:
        raise InvalidRequest("This needs an image to work on.", "image")
    return _drawn(request)


def _drawn(request) -> Response:
    with undone_on_refusal(), names_as_given(request.data):
        generation = _create(request)
    generation = wait_for(generation, settings.BLOCKING_SECONDS)
    if not generation.is_final:
        return _submitted(request, generation)
    results = [_result(request, image) for image in images_of(generation)]
    return Response({"status": "success", "result": results[0] if results else None, "results": results})


def _result(request, image) -> dict:
    return Result(image, context={"request": request}).data


@extend_schema(**doc.RESULTS)
@api_view(READ)
def results(request):
    """Your newest generations that came to something, each with its first image."""
    limit = whole(request.query_params.get("limit"), "limit", 1, MAX_RESULTS, RESULTS)
    own = GeneratedImage.objects.owned_by(request.user).kept().filter(index=0).select_related("generation")
    return Response(
        {"status": "success", "results": [_result(request, image) for image in own.order_by("-number")[:limit]]}
    )


# --- prompts ------------------------------------------------------------------------------------------------


@extend_schema(**doc.PARSE_PROMPT)
@key_scope("read")
@api_view(["POST"])
def parse_prompt(request):
    """What a prompt says and what could be made of it. Nothing is drawn and nothing is sent elsewhere."""
    prompt = text(request.data.get("prompt"), "prompt", limit=ideas.MAX_PROMPT_CHARACTERS)
    if not prompt.strip():
        raise InvalidRequest("Describe your image in a few words.", "prompt")
    model = request.data.get("model")
    spec = model_named(None if model is None else text(model, "model"))
    return Response(ideas.parse(prompt) | {"loras": matched_rules(prompt, spec)})


# --- one generation -----------------------------------------------------------------------------------------


@extend_schema(methods=["GET"], **doc.GENERATION_STATUS)
@extend_schema(methods=["DELETE"], **doc.GENERATION_DELETE)
@api_view([*READ, "DELETE"])
def generation_status(request, generation_id):
    """How a generation fares, and its images. Cheap to poll; `events` tells sooner."""
    return _status(request, generation_id)


@extend_schema(methods=["GET"], **doc.GENERATION_STATUS_ALIAS)
@extend_schema(methods=["DELETE"], **doc.GENERATION_DELETE_ALIAS)
@api_view([*READ, "DELETE"])
def generation_status_alias(request, generation_id):
    """The same as `/api/status/{id}`, under the name that other programs know."""
    return _status(request, generation_id)


def _status(request, generation_id) -> Response:
    if request.method == "DELETE":
        generations.delete_generation(generation_or_404(request, generation_id))
        return Response(status=204)
    visible = with_places(Generation.objects.visible_to(request.user))
    return Response(serialize_generation(get_object_or_404(visible, pk=generation_id), site_root(request)))


@extend_schema(**doc.CANCEL)
@api_view(["POST"])
def cancel(request, generation_id):
    """Cancel. A queued generation ends at once; a running one stops at its next step."""
    generation = generation_or_404(request, generation_id)
    return Response({"id": str(generation.pk), "status": generations.cancel_generation(generation)})


@extend_schema(**doc.RETRY)
@api_view(["POST"])
def retry(request, generation_id):
    """Ask for the same again, after it failed, expired or was cancelled. It is a new job and counts as one.

    While such a retry is queued or running, asking again gives the same one. An `Idempotency-Key` header makes
    repeats safe after that too.
    """
    generation = generation_or_404(request, generation_id)
    again = generations.retry_generation(
        generation, source=Generation.Source.API, api_key=request.auth, idempotency_key=idempotency_key(request)
    )
    return _submitted(request, again)


@extend_schema(**doc.EVENTS)
@api_view(READ)
def events(request, generation_id):
    """The generation as server-sent events: its status, then what happens, until it has ended.

    `Last-Event-ID` replays what was missed. At most 8 streams per account are open at a time.
    """
    generation = generation_or_404(request, generation_id)
    if request.method == "HEAD":
        return HttpResponse(content_type="text/event-stream; charset=utf-8")
    root, last = site_root(request), request.headers.get("Last-Event-ID")
    release_connection()  # this thread lives as long as the stream
    caller = caller_of(request, request.user)
    return event_stream(generation, caller=caller, root=root, last_event_id=last)
