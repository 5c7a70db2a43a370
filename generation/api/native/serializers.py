"""The shapes of requests and answers.

Images, usage and keys are rendered by these classes. The others describe what `generation.status` and the
views build, for the documentation; tests hold real answers against it.
"""

from urllib.parse import urljoin

from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.keys import MAX_DAILY_IMAGES, MAX_DAYS
from accounts.models import ApiKey, QuotaHold, Scope
from generation.engine.catalog import models as catalog
from generation.engine.request.fields import ASPECT_RATIOS, MAX_PROMPT_CHARACTERS
from generation.engine.request.request import FEATURE_FIELDS
from generation.models import GeneratedImage, Generation, Visibility
from generation.prompts.styles import STYLES
from generation.queue import status

MODES = [*catalog.MODES, "upscale"]
MODEL_FEATURES = [field.name for field in FEATURE_FIELDS.values()]
PHASES = ["queued", "downloading", "loading", "generating", "saving", "done"]
IMAGE_ACTIONS = ["trash", "restore", "delete", "favourite", "unfavourite", *Visibility.values]
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
        return self.context["request"].build_absolute_uri(reverse("image-file", args=[image.id]))

    @extend_schema_field(OpenApiTypes.DATETIME)
    def get_created_at(self, image):
        return status.timestamp(image.created_at)


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
    mode = serializers.ChoiceField(choices=MODES)
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
            "parameters",
            "generationTime",
            "createdAt",
            "visibility",
            "favourite",
            "title",
            "deletedAt",
            "generationId",
        ]

    def get_parameters(self, image) -> Parameters:
        # The seed of this image, not of the first of its request.
        return Parameters(image.generation).data | {"seed": image.seed}


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


class InstalledLora(serializers.Serializer):
    key = serializers.CharField(help_text="For `loras` of a request, and for `<lora:key:weight>` in its prompt.")
    title = serializers.CharField()


class InstalledControl(serializers.Serializer):
    key = serializers.CharField(help_text="For `control` of a request.")
    kind = serializers.CharField(allow_blank=True, help_text="Such as `canny` or `depth`; empty where it is not known.")
    preprocess = serializers.BooleanField(
        help_text="Whether its map can be made here from an ordinary picture. Otherwise send a map, with"
        " `preprocess` false."
    )


class Model(serializers.Serializer):
    key = serializers.CharField()
    title = serializers.CharField()
    summary = serializers.CharField()
    family = serializers.CharField()
    modes = serializers.ListField(
        child=serializers.ChoiceField(choices=MODES),
        help_text="`img2img` wants `image`, `inpaint` also `mask`, `outpaint` also `expand`, `upscale` only that.",
    )
    features = serializers.ListField(
        child=serializers.ChoiceField(choices=MODEL_FEATURES),
        help_text="Fields that a request for this model may have beside those of every model. Those that need an add-on"
        " are named where one that fits is installed.",
    )
    loras = InstalledLora(many=True, help_text="Installed ones that may suit it.")
    controls = InstalledControl(many=True, help_text="Installed ControlNets that may suit it.")
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
        help_text="`not_downloaded`: the first request waits for the download.",
    )
    aliases = serializers.ListField(child=serializers.CharField())


class Models(serializers.Serializer):
    models = Model(many=True)
    upscalers = serializers.ListField(
        child=serializers.CharField(),
        help_text="For `upscale`, where the first is the default, and for `hires_fix`, which also knows `latent`.",
    )


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
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices))
    dailyImages = serializers.IntegerField(
        source="daily_images", allow_null=True, help_text="Images a UTC day. Null: as many as the plan."
    )
    requestsPerMinute = serializers.IntegerField(
        source="requests_per_minute", allow_null=True, help_text="API calls. Null: as many as the site allows."
    )
    createdAt = Moment(source="created_at")
    lastUsedAt = Moment(source="last_used_at", allow_null=True, help_text="To the minute.")
    expiresAt = Moment(source="expires_at", allow_null=True)
    revokedAt = Moment(source="revoked_at", allow_null=True)

    class Meta:
        model = ApiKey
        fields = [
            "id",
            "name",
            "hint",
            "scopes",
            "dailyImages",
            "requestsPerMinute",
            "createdAt",
            "lastUsedAt",
            "expiresAt",
            "revokedAt",
        ]


class Keys(serializers.Serializer):
    keys = Key(many=True)


class NewKey(serializers.Serializer):
    name = serializers.CharField(max_length=60)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=Scope.choices),
        required=False,
        allow_null=True,
        min_length=1,
        help_text="What the key may be used for. Left out: everything.",
    )
    expires_in_days = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=MAX_DAYS,
        help_text="Left out: it does not expire. Also: `expiresInDays`.",
    )
    daily_images = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=MAX_DAILY_IMAGES,
        help_text="Of the plan's images a day. Also: `dailyImages`.",
    )
    requests_per_minute = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, help_text="At most the site's. Also: `requestsPerMinute`."
    )


class IssuedKey(Key):
    key = serializers.CharField(help_text="Shown this once. We keep only a hash of it.")

    class Meta(Key.Meta):
        fields = [*Key.Meta.fields, "key"]
