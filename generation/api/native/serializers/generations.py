"""Shapes of generations in answers: submitted, quoted, watched, finished. They document what the views build."""

from typing import Any
from urllib.parse import urljoin

from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from generation.api.http.requests import absolute_url
from generation.engine.request.fields import ASPECT_RATIOS, MAX_PROMPT_CHARACTERS
from generation.models import GeneratedImage, Generation
from generation.prompts.styles import STYLES
from generation.queue import status
from generation.representation import timestamp

from .requests import DrawnRequest

PHASES = ["queued", "downloading", "loading", "generating", "saving", "done"]
LINKS = ("status_url", "events_url", "cancel_url", "result_url")
IMAGE_LINKS = ("imageUrl", "thumbnailUrl", "pageUrl")


def serialize_generation(generation: Generation, root: str) -> dict[str, Any]:
    """`status.describe` with absolute addresses; `root` is the site's, such as `https://host/`."""
    answer = status.describe(generation)
    for name in LINKS:
        answer[name] = answer[name] and urljoin(root, answer[name])
    for image in answer["images"]:
        for name in IMAGE_LINKS:
            image[name] = urljoin(root, image[name])
    return answer


class Submitted(serializers.Serializer):
    job_id = serializers.UUIDField()
    jobId = serializers.UUIDField()
    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=Generation.Status.choices)
    status_url = serializers.URLField()
    events_url = serializers.URLField()
    cancel_url = serializers.URLField()
    queue_position = serializers.IntegerField(allow_null=True, help_text="1 is next.")
    eta_seconds = serializers.FloatField(allow_null=True, help_text="Null where nothing like it was drawn before.")


class Quote(serializers.Serializer):
    dry_run = serializers.BooleanField()
    images = serializers.IntegerField(help_text="Images that it would count.")
    remaining = serializers.IntegerField(allow_null=True, help_text="Of today, before it. Null without a limit.")
    eta_seconds = serializers.FloatField(allow_null=True)
    request = DrawnRequest(help_text="Every field that it would be drawn with.")


class Cancelled(serializers.Serializer):
    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=["cancelled", "cancelling", "already_finished"])


class StatusImage(serializers.Serializer):
    id = serializers.UUIDField()
    number = serializers.IntegerField()
    imageUrl = serializers.URLField()
    thumbnailUrl = serializers.URLField()
    pageUrl = serializers.URLField()
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    seed = serializers.IntegerField()
    colour = serializers.CharField(help_text="The dominant colour, to show while it loads.")


class GenerationError(serializers.Serializer):
    code = serializers.CharField()
    message = serializers.CharField()


class GenerationStatus(serializers.Serializer):
    id = serializers.UUIDField()
    job_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=Generation.Status.choices)
    cancel_requested = serializers.BooleanField()
    phase = serializers.ChoiceField(choices=PHASES)
    progress = serializers.FloatField(min_value=0, max_value=1)
    step = serializers.IntegerField()
    steps = serializers.IntegerField(help_text="Over all images of the request.")
    preview_step = serializers.IntegerField(allow_null=True)
    queue_position = serializers.IntegerField(allow_null=True)
    eta_seconds = serializers.FloatField(allow_null=True)
    attempt = serializers.IntegerField()
    prompt = serializers.CharField()
    model = serializers.CharField()
    num_images = serializers.IntegerField()
    parent = serializers.UUIDField(allow_null=True, help_text="The image of yours that it started from.")
    request = DrawnRequest(help_text="Every field that it is drawn with.")
    images = StatusImage(many=True)
    result_url = serializers.URLField(allow_null=True, help_text="The first image.")
    error = GenerationError(allow_null=True)
    error_message = serializers.CharField(allow_null=True)
    processing_time_ms = serializers.IntegerField(allow_null=True)
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    status_url = serializers.URLField()
    events_url = serializers.URLField()
    cancel_url = serializers.URLField()


class Result(serializers.ModelSerializer):
    """One image in the shape of the calls that wait."""

    id = serializers.IntegerField(source="number")
    url = serializers.SerializerMethodField()
    prompt = serializers.CharField(source="generation.prompt")
    created_at = serializers.SerializerMethodField()

    class Meta:
        model = GeneratedImage
        fields = ["id", "url", "prompt", "created_at"]

    @extend_schema_field(OpenApiTypes.URI)
    def get_url(self, image):
        return absolute_url(self.context["request"], reverse("image-file", args=[image.id]))

    @extend_schema_field(OpenApiTypes.DATETIME)
    def get_created_at(self, image):
        return timestamp(image.created_at)


class Drawn(serializers.Serializer):
    status = serializers.ChoiceField(choices=["success"])
    result = Result(allow_null=True, help_text="The first image.")
    results = Result(many=True, help_text="All of them.")


class Results(serializers.Serializer):
    status = serializers.ChoiceField(choices=["success"])
    results = Result(many=True)


class PromptText(serializers.Serializer):
    prompt = serializers.CharField(min_length=1, max_length=MAX_PROMPT_CHARACTERS)
    model = serializers.CharField(required=False, allow_null=True, help_text="Whose LoRAs count.")


class MatchedLora(serializers.Serializer):
    key = serializers.CharField()
    weight = serializers.FloatField()


class ParsedPrompt(serializers.Serializer):
    subject = serializers.CharField(help_text="What it is about, without style and place.")
    style = serializers.ChoiceField(choices=list(STYLES), allow_null=True, help_text="Detected from its words.")
    negative_prompt = serializers.CharField(help_text="What to leave out, as a suggestion.")
    aspect_ratio = serializers.ChoiceField(choices=list(ASPECT_RATIOS))
    improved_prompt = serializers.CharField()
    loras = MatchedLora(many=True, help_text="Which its words bring along.")
