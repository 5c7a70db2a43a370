"""The shapes of requests and answers.

Images, usage and keys are rendered by these classes. The others describe what `generation.status` and the
views build, for the documentation; tests hold real answers against it.
"""

from urllib.parse import urljoin

from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.models import ApiKey, QuotaHold
from generation import status
from generation.engine.request import ASPECT_RATIOS, MAX_IMAGES, MAX_PROMPT_CHARACTERS, MAX_SEED
from generation.models import GeneratedImage, Generation, Visibility
from generation.styles import STYLES

PHASES = ["queued", "downloading", "loading", "generating", "saving", "done"]
LINKS = ("status_url", "events_url", "cancel_url", "result_url")
IMAGE_LINKS = ("imageUrl", "thumbnailUrl", "pageUrl")


def described(generation: Generation, root: str) -> dict:
    """`status.describe` with absolute addresses; `root` is the site's, such as `https://host/`."""
    answer = status.describe(generation)
    for name in LINKS:
        answer[name] = answer[name] and urljoin(root, answer[name])
    for image in answer["images"]:
        for name in IMAGE_LINKS:
            image[name] = urljoin(root, image[name])
    return answer


# --- errors and links -----------------------------------------------------------------------------------


class ErrorDetail(serializers.Serializer):
    code = serializers.CharField(help_text="Stable and machine-readable.")
    message = serializers.CharField(help_text="A sentence for a person.")
    param = serializers.CharField(required=False, help_text="The field at fault, as you named it.")
    request_id = serializers.CharField(help_text="Also in the X-Request-Id header. Quote it when you ask for help.")


class Error(serializers.Serializer):
    error = ErrorDetail()


class Info(serializers.Serializer):
    name = serializers.CharField()
    version = serializers.CharField()
    documentation = serializers.URLField()
    schema = serializers.URLField()
    endpoints = serializers.DictField(child=serializers.URLField())


# --- generations ----------------------------------------------------------------------------------------


class GenerateRequest(serializers.Serializer):
    """What may be asked for. Left-out fields (and null) take the model's defaults; unknown fields are ignored."""

    prompt = serializers.CharField(max_length=MAX_PROMPT_CHARACTERS, help_text="What to draw.")
    negative_prompt = serializers.CharField(
        max_length=MAX_PROMPT_CHARACTERS, required=False, allow_blank=True, allow_null=True,
        help_text="What to avoid. Also: `negativePrompt`.")
    model = serializers.CharField(
        required=False, allow_null=True,
        help_text="Key or alias of a model, see `/api/models`. Also: `model_id`.")
    style = serializers.CharField(
        required=False, allow_blank=True, allow_null=True,
        help_text=f"Words joined to the prompt. One of: {', '.join(STYLES)}, or none.")
    width = serializers.IntegerField(required=False, allow_null=True, help_text="Pixels; within the model's limits.")
    height = serializers.IntegerField(required=False, allow_null=True, help_text="Pixels; within the model's limits.")
    aspect_ratio = serializers.CharField(
        required=False, allow_null=True,
        help_text=f"Instead of width and height: {', '.join(ASPECT_RATIOS)}. Also: `aspectRatio`.")
    size = serializers.CharField(
        required=False, allow_null=True, help_text="Instead of width and height, such as `512x512`.")
    steps = serializers.IntegerField(
        required=False, allow_null=True, help_text="Denoising steps. Also: `num_inference_steps`.")
    guidance_scale = serializers.FloatField(
        required=False, allow_null=True,
        help_text="How closely to follow the prompt, from 0. Also: `cfg_scale`, `cfgScale`.")
    sampler = serializers.CharField(
        required=False, allow_blank=True, allow_null=True,
        help_text="As A1111 or diffusers name it, such as `Euler a`. Also: `sampler_name`.")
    seed = serializers.IntegerField(
        required=False, allow_null=True, min_value=-1, max_value=MAX_SEED,
        help_text="The same seed draws the same image. -1 or absent: random. Image i is drawn from seed + i.")
    num_images = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=MAX_IMAGES, help_text="Also: `n`.")
    visibility = serializers.ChoiceField(choices=Visibility.choices, required=False, allow_null=True)
    dry_run = serializers.BooleanField(
        required=False, allow_null=True, help_text="Answer with a quote and change nothing.")


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


class DrawnRequest(serializers.Serializer):
    model = serializers.CharField()
    prompt = serializers.CharField(help_text="With the words of style and model.")
    negative_prompt = serializers.CharField(allow_blank=True)
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    steps = serializers.IntegerField()
    guidance_scale = serializers.FloatField()
    sampler = serializers.CharField()
    seed = serializers.IntegerField(allow_null=True, help_text="Null: a random one, chosen when you submit.")
    num_images = serializers.IntegerField()


class Quote(serializers.Serializer):
    dry_run = serializers.BooleanField()
    images = serializers.IntegerField(help_text="Images that it would count.")
    remaining = serializers.IntegerField(allow_null=True, help_text="Of today, before it. Null without a limit.")
    eta_seconds = serializers.FloatField(allow_null=True)
    request = DrawnRequest()


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


# --- images ---------------------------------------------------------------------------------------------


@extend_schema_field(OpenApiTypes.URI)
class AbsoluteUrl(serializers.Field):
    """The absolute address of a named view that takes the image's id."""

    def __init__(self, view_name, **options):
        self.view_name = view_name
        super().__init__(read_only=True, source="*", **options)

    def to_representation(self, image):
        return self.context["request"].build_absolute_uri(reverse(self.view_name, args=[image.id]))


class Moment(serializers.DateTimeField):
    def to_representation(self, value):
        return status.timestamp(value)


class Seconds(serializers.FloatField):
    def to_representation(self, value):
        return round(value, 3)


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
    parameters = serializers.SerializerMethodField()
    generationTime = Seconds(source="generation_time", help_text="Seconds.")
    deletedAt = Moment(source="deleted_at", allow_null=True, help_text="In the trash since.")
    generationId = serializers.UUIDField(source="generation_id")

    class Meta(HistoryImage.Meta):
        fields = ["id", "number", "prompt", "negativePrompt", "imageUrl", "thumbnailUrl", "width", "height", "fileSize",
                  "modelUsed", "parameters", "generationTime", "createdAt", "visibility", "favourite", "title",
                  "deletedAt", "generationId"]

    def get_parameters(self, image) -> Parameters:
        # The seed of this image, not of the first of its request.
        return Parameters(image.generation).data | {"seed": image.seed}


class History(serializers.Serializer):
    images = HistoryImage(many=True)
    total = serializers.IntegerField()
    page = serializers.IntegerField(allow_null=True, help_text="Null when a cursor was given.")
    perPage = serializers.IntegerField()
    nextCursor = serializers.CharField(allow_null=True, help_text="Give it as `cursor` for the next page.")


# --- the site -------------------------------------------------------------------------------------------


class Health(serializers.Serializer):
    status = serializers.ChoiceField(choices=["ok", "unavailable"])
    database = serializers.ChoiceField(choices=["ok", "away"])
    redis = serializers.ChoiceField(choices=["ok", "away"])
    storage = serializers.ChoiceField(choices=["ok", "full", "away"])
    workers = serializers.IntegerField(help_text="How many reported within the last half minute.")


class Memory(serializers.Serializer):
    used = serializers.IntegerField()
    total = serializers.IntegerField(allow_null=True)


class Worker(serializers.Serializer):
    name = serializers.CharField(allow_null=True, help_text="It names a host, so only those signed in see it.")
    device = serializers.CharField()
    device_name = serializers.CharField()
    memory = Memory(allow_null=True, help_text="Bytes.")
    models = serializers.ListField(child=serializers.CharField())
    running = serializers.IntegerField(help_text="Generations in work.")
    seen_at = serializers.DateTimeField()


class QueueDepth(serializers.Serializer):
    queued = serializers.IntegerField()
    processing = serializers.IntegerField()


class Throughput(serializers.Serializer):
    images = serializers.IntegerField(help_text="In the last hour.")
    generations = serializers.IntegerField(help_text="In the last hour.")
    mean_seconds = serializers.FloatField(allow_null=True, help_text="From start to end, in the last hour.")


class SystemStatus(serializers.Serializer):
    version = serializers.CharField()
    workers = Worker(many=True)
    models_loaded = serializers.ListField(child=serializers.CharField())
    queue = QueueDepth()
    throughput = Throughput()


class Limit(serializers.Serializer):
    min = serializers.FloatField()
    max = serializers.FloatField()
    default = serializers.FloatField()


class Side(serializers.Serializer):
    min = serializers.IntegerField()
    max = serializers.IntegerField()
    multiple_of = serializers.IntegerField()


class NativeSize(serializers.Serializer):
    width = serializers.IntegerField()
    height = serializers.IntegerField()


class Model(serializers.Serializer):
    key = serializers.CharField()
    title = serializers.CharField()
    summary = serializers.CharField()
    family = serializers.CharField()
    native_size = NativeSize()
    side = Side(help_text="What width and height may be, in pixels.")
    steps = Limit()
    guidance_scale = Limit()
    num_images = Limit()
    samplers = serializers.ListField(child=serializers.CharField())
    default_sampler = serializers.CharField()
    is_default = serializers.BooleanField(help_text="Taken where no model is named.")
    licence = serializers.CharField()
    memory_gib = serializers.FloatField()
    state = serializers.ChoiceField(
        choices=["ready", "not_downloaded", "loaded"],
        help_text="`not_downloaded`: the first request waits for the download.")
    aliases = serializers.ListField(child=serializers.CharField())


class Models(serializers.Serializer):
    models = Model(many=True)


# --- the account ----------------------------------------------------------------------------------------


class Receipt(serializers.ModelSerializer):
    generationId = serializers.UUIDField(source="generation_id")
    createdAt = Moment(source="created_at")
    endedAt = Moment(source="ended_at", allow_null=True)

    class Meta:
        model = QuotaHold
        fields = ["generationId", "day", "images", "charged", "state", "reason", "createdAt", "endedAt"]


class Usage(serializers.Serializer):
    plan = serializers.CharField()
    limit = serializers.IntegerField(allow_null=True, help_text="Images a day. Null: without limit.")
    held = serializers.IntegerField(help_text="Set aside for generations that have not ended.")
    used = serializers.IntegerField()
    remaining = serializers.IntegerField(allow_null=True)
    resetsAt = Moment(source="resets_at")
    receipts = Receipt(many=True, help_text="The newest 50.")


class Key(serializers.ModelSerializer):
    createdAt = Moment(source="created_at")
    lastUsedAt = Moment(source="last_used_at", allow_null=True)
    expiresAt = Moment(source="expires_at", allow_null=True)
    revokedAt = Moment(source="revoked_at", allow_null=True)

    class Meta:
        model = ApiKey
        fields = ["id", "name", "hint", "createdAt", "lastUsedAt", "expiresAt", "revokedAt"]


class Keys(serializers.Serializer):
    keys = Key(many=True)


class NewKey(serializers.Serializer):
    name = serializers.CharField(max_length=60)


class IssuedKey(Key):
    key = serializers.CharField(help_text="Shown this once. We keep only a hash of it.")

    class Meta(Key.Meta):
        fields = [*Key.Meta.fields, "key"]
