"""The endpoints: images from words, from pictures, variations of pictures, and the models."""

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.response import Response

from generation.api.http.results import NotNow, images_of
from generation.api.http.sse import StreamPlace, let_go_of_database
from generation.api.http.waiting import wait_for
from generation.api.native.fields import idempotency_key
from generation.catalog import catalog
from generation.engine.errors import UnknownModel
from generation.models import Generation
from generation.services import generations as services
from generation.storage.uploads import undone_on_refusal

from . import documents as doc
from .endpoint import endpoint
from .parse import model_for, read
from .render import described
from .streams import image_stream

WAIT_SECONDS = 540
"""Clients of this dialect give up after ten minutes."""


class TooLate(NotNow):
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


def _images(request, kind: str):
    with undone_on_refusal():
        asked = read(request.data, request.user, kind)
        place = StreamPlace(request.user.pk) if asked.stream else None
        try:
            generation, _ = services.create_generation(
                user=request.user,
                source=Generation.Source.OPENAI,
                api_key=request.auth,
                idempotency_key=idempotency_key(request),
                **asked.words,
            )
        except BaseException:
            if place:
                place.leave()
            raise
    if place:
        let_go_of_database()  # this thread lives as long as the stream
        response = image_stream(generation, asked, kind, place)
    else:
        response = _waited(request, asked, generation)
    for name, value in asked.headers.items():
        response[name] = value
    return response


def _waited(request, asked, generation) -> Response:
    generation = wait_for(generation, WAIT_SECONDS)
    if not generation.is_final:
        services.cancel_generation(generation)
        raise TooLate("This took too long and was cancelled. Please try again when fewer are waiting.")
    return Response(described(request, asked, generation, images_of(generation)))


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
