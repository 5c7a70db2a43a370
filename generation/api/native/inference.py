"""Inference endpoint: this site as a remote engine of another, which gets the PNG of one image as bytes.

The other one may be a DreamSketch with INFERENCE_SERVICE_URL, or anything that can post JSON.
"""

from django.core.files.storage import default_storage
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import api_view

from generation.api.http.errors import Problem, error_response, problem_of_framework
from generation.api.http.query import idempotency_key
from generation.api.http.results import NotNow, images_of
from generation.api.http.waiting import wait_for
from generation.engine.errors import InvalidRequest
from generation.models import Generation
from generation.services.generations import cancel_generation, create_generation
from generation.services.parse import names_as_given, read_request
from generation.storage.uploads import undone_on_refusal

from . import openapi as doc

WAIT_SECONDS = 110
"""A little less than the two minutes that callers wait, so that they hear what became of it."""
TIMED_OUT = Problem(504, "timed_out", "The image could not be finished in time. It was cancelled.")


@extend_schema(**doc.INFERENCE)
@api_view(["POST"])
def generations(request) -> HttpResponse:
    """Draw one image and answer with its PNG. Fields and limits are those of `/api/generate`.

    An `Idempotency-Key` header makes repeats safe: the same key with the same request gives the same image.
    What is not drawn within 110 seconds is cancelled (504).
    """
    with undone_on_refusal(), names_as_given(request.data):
        fields = read_request(request.data, request.user)
        if fields.get("num_images", 1) != 1:
            raise InvalidRequest("One image at a time is answered here.", "num_images")
        generation, _ = create_generation(
            user=request.user,
            source=Generation.Source.API,
            api_key=request.auth,
            idempotency_key=idempotency_key(request),
            **fields,
        )
    generation = wait_for(generation, WAIT_SECONDS)
    if not generation.is_final:
        cancel_generation(generation)
        return error_response(request, TIMED_OUT)
    try:
        images = images_of(generation)
    except NotNow as error:
        # The same request, sent again with its key, would only hear of the same end.
        response = error_response(request, problem_of_framework(error))
        response["X-Should-Retry"] = "false"
        return response
    with default_storage.open(images[0].file) as stored:
        content = stored.read()
    return HttpResponse(
        content,
        content_type="image/png",
        headers={"X-Seed": str(images[0].seed), "X-Generation-Id": str(generation.pk)},
    )
