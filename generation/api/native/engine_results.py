"""Results of outside engines over HTTP: a signed callback with the pictures of a generation."""

import io

from django.conf import settings
from django.http import Http404
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.exceptions import APIException
from rest_framework.permissions import AllowAny
from rest_framework.response import Response

from generation.api.http.parsers import JSONParser
from generation.models import Generation
from generation.queue import engine_results
from generation.storage.files import StorageUnavailable
from generation.webhooks.signatures import verify

from . import openapi as doc
from .serializers.common import Error, OneOf
from .webhooks import example_answer


class EngineFailure(serializers.Serializer):
    code = serializers.CharField(required=False)
    message = serializers.CharField(required=False, allow_blank=True)
    transient = serializers.BooleanField(required=False, help_text="Whether to try it again; true where left out.")


class EngineResult(serializers.Serializer):
    generation = serializers.UUIDField()
    epoch = serializers.IntegerField(min_value=0, max_value=engine_results.MAX_EPOCH)
    images = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="Base64 of PNG, JPEG or WebP, in the order asked for."
    )
    flagged = serializers.ListField(
        child=serializers.IntegerField(), required=False, help_text="Indexes that a safety check held back."
    )
    seconds = serializers.FloatField(required=False)
    recipe = serializers.DictField(required=False)
    error = OneOf(
        {"type": "string"}, EngineFailure, required=False, allow_null=True, help_text="Why it could not draw."
    )


class EngineResultTaken(serializers.Serializer):
    status = serializers.ChoiceField(
        choices=["completed", "failed", "blocked", "cancelled", "queued", "already_finished", "superseded"]
    )


class SendAgain(APIException):
    """The result could not be stored just now."""

    status_code = 503
    default_code = "storage_unavailable"
    default_detail = "The images could not be stored just now. Please send them again later."
    wait = 30


_UNSIGNED = OpenApiResponse(Error, description="The signature or its time is wrong.")


@extend_schema(
    operation_id="engineResult",
    tags=["engines"],
    request={"application/json": EngineResult},
    auth=[{}],
    responses={
        200: example_answer(EngineResultTaken, "What became of it. Repeats change nothing.", {"status": "completed"}),
        **{status: doc.POSTED[status] for status in (400, 413, 503)},
        401: _UNSIGNED,
        404: doc.MISSING,
    },
)
@api_view(["POST"])
@authentication_classes([])
@permission_classes([AllowAny])
def engine_result(request) -> Response:
    """The result of an engine elsewhere, signed as Standard Webhooks say with the site's secret for engines."""
    if not engine_results.is_on():
        raise Http404
    body = request._request.body
    verify(settings.INFERENCE_WEBHOOK_SECRET, request.headers, body)
    try:
        return Response({"status": engine_results.receive(JSONParser().parse(io.BytesIO(body)))})
    except Generation.DoesNotExist:
        raise Http404 from None
    except StorageUnavailable:
        raise SendAgain from None
