"""Images in answers, rendered: history, detail; and the shapes of changes to them."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from generation.models import GeneratedImage, Generation, Visibility
from generation.representation import describe_request

from .common import AbsoluteUrl, Moment, Seconds
from .requests import MODES, DrawnRequest

IMAGE_ACTIONS = ["trash", "restore", "delete", "favourite", "unfavourite", *Visibility.values]


class HistoryImage(serializers.ModelSerializer):
    prompt = serializers.CharField(source="generation.prompt")
    imageUrl = AbsoluteUrl("image-file")
    thumbnailUrl = AbsoluteUrl("image-thumbnail")
    modelUsed = serializers.CharField(source="generation.model")
    createdAt = Moment(source="created_at")

    class Meta:
        model = GeneratedImage
        fields = ["id", "prompt", "imageUrl", "thumbnailUrl", "modelUsed", "createdAt"]


class Parameters(serializers.ModelSerializer):
    """How an image was drawn."""

    cfgScale = serializers.FloatField(source="guidance_scale")
    composedPrompt = serializers.CharField(source="composed_prompt", help_text="With the words of style and model.")
    composedNegativePrompt = serializers.CharField(source="composed_negative_prompt", allow_blank=True)

    class Meta:
        model = Generation
        fields = ["steps", "cfgScale", "sampler", "seed", "style", "composedPrompt", "composedNegativePrompt"]


class ImageDetail(HistoryImage):
    negativePrompt = serializers.CharField(source="generation.negative_prompt", allow_blank=True)
    fileSize = serializers.IntegerField(source="file_size", help_text="Bytes of the PNG.")
    mode = serializers.ChoiceField(source="generation.mode", choices=MODES)
    source = serializers.ChoiceField(source="generation.source", choices=Generation.Source.choices)
    parameters = serializers.SerializerMethodField()
    request = serializers.SerializerMethodField(help_text="Every field that it was drawn with.")
    generationTime = Seconds(source="generation_time", help_text="Seconds.")
    deletedAt = Moment(source="deleted_at", allow_null=True, help_text="In the trash since.")
    takenDownAt = Moment(source="taken_down_at", allow_null=True, help_text="Hidden from everybody else since.")
    takenDownReason = serializers.CharField(source="taken_down_reason", allow_blank=True)
    generationId = serializers.UUIDField(source="generation_id")
    parent = serializers.SerializerMethodField(help_text="The image of yours that it was made from.")

    class Meta(HistoryImage.Meta):
        fields = [
            "id",
            "number",
            "prompt",
            "negativePrompt",
            "imageUrl",
            "thumbnailUrl",
            "width",
            "height",
            "fileSize",
            "modelUsed",
            "mode",
            "source",
            "parameters",
            "request",
            "generationTime",
            "createdAt",
            "visibility",
            "favourite",
            "title",
            "deletedAt",
            "takenDownAt",
            "takenDownReason",
            "generationId",
            "parent",
        ]

    def get_parameters(self, image) -> Parameters:
        # The seed of this image, not of the first of its request.
        return Parameters(image.generation).data | {"seed": image.seed}

    @extend_schema_field(serializers.UUIDField(allow_null=True))
    def get_parent(self, image: GeneratedImage) -> str | None:
        # Only the owner learns the ids of pictures.
        parent_id = image.generation.parent_id if image.owner_id == self.context["request"].user.pk else None
        return str(parent_id) if parent_id else None

    @extend_schema_field(DrawnRequest)
    def get_request(self, image: GeneratedImage) -> dict[str, Any]:
        return describe_request(image.generation, self.context["request"].user.pk) | {"seed": image.seed}


class ChangeImage(serializers.Serializer):
    visibility = serializers.ChoiceField(choices=Visibility.choices, required=False, allow_null=True)
    favourite = serializers.BooleanField(required=False, allow_null=True)
    title = serializers.CharField(max_length=120, required=False, allow_null=True, allow_blank=True)


class BulkAction(serializers.Serializer):
    action = serializers.ChoiceField(choices=IMAGE_ACTIONS)
    ids = serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=100)


class BulkDone(serializers.Serializer):
    action = serializers.ChoiceField(choices=IMAGE_ACTIONS)
    count = serializers.IntegerField()
    ids = serializers.ListField(child=serializers.UUIDField(), help_text="Those of yours that were meant.")


class History(serializers.Serializer):
    images = HistoryImage(many=True)
    total = serializers.IntegerField()
    page = serializers.IntegerField(allow_null=True, help_text="Null when a cursor was given.")
    perPage = serializers.IntegerField()
    nextCursor = serializers.CharField(allow_null=True, help_text="Give it as `cursor` for the next page.")
