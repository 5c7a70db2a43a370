"""Shapes of what the site says of itself: health, workers, queue, models."""

from rest_framework import serializers

from generation.engine.request.request import FEATURE_FIELDS

from .requests import MODES

MODEL_FEATURES = [field.name for field in FEATURE_FIELDS.values()]


class Info(serializers.Serializer):
    name = serializers.CharField()
    version = serializers.CharField()
    documentation = serializers.URLField()
    schema = serializers.URLField()
    endpoints = serializers.DictField(child=serializers.URLField())


class Health(serializers.Serializer):
    status = serializers.ChoiceField(choices=["ok", "unavailable"])
    database = serializers.ChoiceField(choices=["ok", "away"])
    redis = serializers.ChoiceField(choices=["ok", "full", "away"])
    storage = serializers.ChoiceField(choices=["ok", "full", "away"])
    workers = serializers.IntegerField(
        allow_null=True, help_text="How many reported within the last half minute; null while the database is away."
    )


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
