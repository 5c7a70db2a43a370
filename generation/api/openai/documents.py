"""OpenAPI documentation (drf-spectacular) of the OpenAI dialect: request and answer serializers, operations."""

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from generation.api.native.openapi import EVENT
from generation.api.native.serializers.common import PictureFile
from generation.api.native.serializers.images import ImageDetail
from generation.engine.request.metadata import FORMATS

from .endpoint import POSTS, READS, ErrorBody
from .parse import MAX_PROMPT, QUALITIES

OPTIONAL = {"required": False, "allow_null": True}


class CommonFields(serializers.Serializer):
    """Fields that all three share. Those of the native API (`negative_prompt`, `seed`, `steps` …) may be added."""

    model = serializers.CharField(
        **OPTIONAL,
        help_text="A key or alias of `/v1/models`; names such as `dall-e-3` or `gpt-image-1` stand for the"
        " site's default. Which one drew is said in the header `x-dreamsketch-model`.",
    )
    n = serializers.IntegerField(**OPTIONAL, min_value=1, max_value=10, help_text="Within your plan.")
    size = serializers.CharField(
        **OPTIONAL,
        help_text="`auto` or such as `512x512`. Of a usual size that the model cannot draw the shape is drawn,"
        " and `x-dreamsketch-size` says how large.",
    )
    quality = serializers.CharField(**OPTIONAL, help_text=f"{', '.join(QUALITIES)} change nothing; also: exact, fast.")
    response_format = serializers.ChoiceField(
        choices=["url", "b64_json"], **OPTIONAL, help_text="`url` where it is left out; gpt-image names: always base64."
    )
    output_format = serializers.ChoiceField(choices=FORMATS, **OPTIONAL)
    output_compression = serializers.IntegerField(
        **OPTIONAL, min_value=0, max_value=100, help_text="For jpeg and webp."
    )
    background = serializers.ChoiceField(choices=["auto", "opaque"], **OPTIONAL)
    moderation = serializers.ChoiceField(choices=["auto", "low"], **OPTIONAL, help_text="Changes nothing.")
    user = serializers.CharField(**OPTIONAL, max_length=1000, help_text="Changes nothing.")


class StreamableFields(CommonFields):
    prompt = serializers.CharField(
        max_length=MAX_PROMPT,
        help_text="Longer than the site takes: it is cut, and `x-dreamsketch-prompt-cut` says where.",
    )
    style = serializers.CharField(**OPTIONAL, help_text="`vivid` and `natural` change nothing; also our styles.")
    stream = serializers.BooleanField(**OPTIONAL, help_text="Answer with server-sent events.")
    partial_images = serializers.IntegerField(
        **OPTIONAL, min_value=0, max_value=3, help_text="At most so many previews."
    )


class OpenAIGenerations(StreamableFields):
    pass


class NamedPicture(serializers.Serializer):
    image_url = serializers.CharField(help_text="A data URI. Other addresses are not fetched.")

    class Meta:
        ref_name = "OpenAIPicture"


class OpenAIEdits(StreamableFields):
    images = NamedPicture(many=True, min_length=1, max_length=1)
    mask = NamedPicture(**OPTIONAL)


class OpenAIEditsForm(StreamableFields):
    image = PictureFile(help_text="Also `image[]`.")
    mask = PictureFile(**OPTIONAL, help_text="Its transparent part is drawn anew.")


class OpenAIVariations(CommonFields):
    image = serializers.CharField(help_text="As base64 text or a data URI, or the id of one of your images.")
    prompt = serializers.CharField(
        **OPTIONAL, help_text="Left out: what the picture itself says, if it is one of ours."
    )


class OpenAIVariationsForm(OpenAIVariations):
    image = PictureFile()


class OpenAIImage(serializers.Serializer):
    url = serializers.URLField(required=False, help_text="Opens without a key for five minutes, then with yours.")
    b64_json = serializers.CharField(required=False)
    revised_prompt = serializers.CharField(required=False, help_text="With the words of style and model.")


class OpenAIImages(ImageDetail):
    """The images; what the native API says of the first one stands beside them."""

    created = serializers.IntegerField()
    data = OpenAIImage(many=True)
    output_format = serializers.ChoiceField(choices=FORMATS)
    size = serializers.CharField(required=False)
    quality = serializers.CharField(required=False)

    class Meta(ImageDetail.Meta):
        fields = [*ImageDetail.Meta.fields, "created", "data", "output_format", "size", "quality"]


class OpenAIModel(serializers.Serializer):
    id = serializers.CharField()
    object = serializers.ChoiceField(choices=["model"])
    created = serializers.IntegerField(help_text="Not known: 0.")
    owned_by = serializers.CharField()
    title = serializers.CharField()


class OpenAIModels(serializers.Serializer):
    object = serializers.ChoiceField(choices=["list"])
    data = OpenAIModel(many=True)


_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="1 to 255 printable ASCII characters. A repeat with it draws nothing new.",
)
_PIXELS = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGO0ylvKgA0wYRUdtBIACDoBXfDv"
    "f6AAAAAASUVORK5CYII="
)
_STREAM = OpenApiResponse(
    EVENT,
    description=(
        "With `stream`: `image_generation.partial_image` and `image_generation.completed` (edits: `image_edit.…`)."
    ),
)


def _images(name: str, request, streams: bool, example: dict) -> dict:
    answers = {(200, "application/json"): OpenApiResponse(OpenAIImages, description="The images.")}
    answers |= {(200, "text/event-stream"): _STREAM} if streams else {}
    return {
        "operation_id": name,
        "tags": ["openai"],
        "request": request,
        "responses": answers | POSTS,
        "parameters": [_KEY],
        "examples": [OpenApiExample("request", request_only=True, value=example, media_type="application/json")],
    }


GENERATIONS = _images(
    "openaiGenerations",
    {"application/json": OpenAIGenerations},
    True,
    {"model": "dall-e-3", "prompt": "a red boat at sea", "size": "1024x1024", "response_format": "b64_json"},
)
EDITS = _images(
    "openaiEdits",
    {"application/json": OpenAIEdits, "multipart/form-data": OpenAIEditsForm},
    True,
    {"prompt": "a red boat at sea", "images": [{"image_url": _PIXELS}]},
)
VARIATIONS = _images(
    "openaiVariations",
    {"application/json": OpenAIVariations, "multipart/form-data": OpenAIVariationsForm},
    False,
    {"image": _PIXELS},
)
_MODEL = {
    "id": "dreamsketch-tiny",
    "object": "model",
    "created": 0,
    "owned_by": "dreamsketch",
    "title": "DreamSketch Tiny",
}
MODELS = {
    "operation_id": "openaiModels",
    "tags": ["openai"],
    "responses": {
        200: OpenApiResponse(
            OpenAIModels,
            description="The models.",
            examples=[OpenApiExample("answer", value={"object": "list", "data": [_MODEL]})],
        )
    }
    | READS,
}
MODEL = {
    "operation_id": "openaiModel",
    "tags": ["openai"],
    "parameters": [OpenApiParameter("model_id", str, OpenApiParameter.PATH)],
    "responses": {
        200: OpenApiResponse(OpenAIModel, description="The model.", examples=[OpenApiExample("answer", value=_MODEL)]),
        404: OpenApiResponse(ErrorBody, description="There is no such model."),
    }
    | READS,
}
