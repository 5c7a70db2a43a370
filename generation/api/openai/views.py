"""Views of the OpenAI dialect: images/generations, images/edits, images/variations, and models."""

from django.http import StreamingHttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.response import Response

from generation.api.http.query import idempotency_key
from generation.api.http.requests import ApiRequest
from generation.api.http.results import NotNow, images_of
from generation.api.http.throttling import StreamSlot
from generation.api.http.waiting import wait_for
from generation.catalog import catalog
from generation.engine.errors import UnknownModel
from generation.live.sse import release_connection
from generation.models import Generation
from generation.services.generations import cancel_generation, create_generation
from generation.storage.uploads import undone_on_refusal

from . import documents as doc
from .endpoint import endpoint
from .parse import ParsedRequest, model_for, parse
from .render import images_body
from .streams import image_stream

WAIT_SECONDS = 540
"""Clients of this dialect give up after ten minutes."""


class TooLate(NotNow):
    """The images were not finished within WAIT_SECONDS; the generation was cancelled."""

    default_code = "too_late"


@extend_schema(**doc.GENERATIONS)
@endpoint("POST")
def generations(request):
    """Images from words. Answers when they are finished, or with `stream` as they come."""
    return _images(request, "generations")


@extend_schema(**doc.EDITS)
@endpoint("POST")
def edits(request):
    """Images from a picture and words; with a `mask` only its transparent part is drawn anew."""
    return _images(request, "edits")


@extend_schema(**doc.VARIATIONS)
@endpoint("POST")
def variations(request):
    """Images that resemble a picture."""
    return _images(request, "variations")


def _images(request: ApiRequest, kind: str) -> Response | StreamingHttpResponse:
    with undone_on_refusal():
        parsed = parse(request.data, request.user, kind)
        slot = StreamSlot(request.user.pk) if parsed.stream else None
        try:
            generation, _ = create_generation(
                user=request.user,
                source=Generation.Source.OPENAI,
                api_key=request.auth,
                idempotency_key=idempotency_key(request),
                **parsed.kwargs,
            )
        except BaseException:
            if slot:
                slot.release()
            raise
    if slot:
        release_connection()  # this thread lives as long as the stream
        response = image_stream(generation, parsed, kind, slot)
    else:
        response = _finished(request, parsed, generation)
    for name, value in parsed.headers.items():
        response[name] = value
    return response


def _finished(request: ApiRequest, parsed: ParsedRequest, generation: Generation) -> Response:
    """The answer with all images, when they are there. Raises TooLate, NotDrawn or NotNow."""
    generation = wait_for(generation, WAIT_SECONDS)
    if not generation.is_final:
        cancel_generation(generation)
        raise TooLate("This took too long and was cancelled. Please try again when fewer are waiting.")
    return Response(images_body(request, parsed, generation, images_of(generation)))


@extend_schema(**doc.MODELS)
@endpoint("GET", "HEAD")
def models(request):
    """The models of this site."""
    return Response({"object": "list", "data": [_model(spec.key, spec) for spec in catalog()]})


@extend_schema(**doc.MODEL)
@endpoint("GET", "HEAD")
def model(request, model_id):
    """One model, by its key, an alias, or a public name that the site's default stands for."""
    model_id = model_id.rstrip("/")
    try:
        return Response(_model(model_id, model_for(model_id)))
    except UnknownModel:
        raise NotFound() from None


def _model(name: str, spec) -> dict:
    return {"id": name, "object": "model", "created": 0, "owned_by": "dreamsketch", "title": spec.title}
