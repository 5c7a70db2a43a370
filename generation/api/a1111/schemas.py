"""Response serializers of the A1111 dialect, for the OpenAPI document. Tests hold real answers against them."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field, inline_serializer
from rest_framework import serializers


def serializer(title: str, /, *, many: bool = False, **fields: serializers.Field) -> serializers.BaseSerializer:
    """An inline serializer, called `A1111<title>` in the document."""
    return inline_serializer(f"A1111{title}", fields, many=many)


@extend_schema_field(OpenApiTypes.OBJECT)
class Anything(serializers.DictField):
    """An object of which no more is said."""


def text(**options) -> serializers.CharField:
    return serializers.CharField(allow_blank=True, **options)


def nullable_text(**options) -> serializers.CharField:
    return serializers.CharField(allow_null=True, allow_blank=True, **options)


Empty = {"type": "object"}  # a serializer without fields would be documented as no body at all
Pictures = serializer(
    "Pictures",
    images=serializers.ListField(child=text(), help_text="Base64, without a prefix."),
    parameters=Anything(help_text="What was asked for."),
    info=text(help_text="A text of JSON: prompt, all_seeds, infotexts and more."),
)
Upscaled = serializer("Enlarged", html_info=text(), image=nullable_text(help_text="Base64 of a PNG."))
UpscaledBatch = serializer("EnlargedSeveral", html_info=text(), images=serializers.ListField(child=text()))
PngInfo = serializer("PngInfo", info=text(), items=Anything(), parameters=Anything())
State = serializer(
    "State",
    skipped=serializers.BooleanField(),
    interrupted=serializers.BooleanField(),
    stopping_generation=serializers.BooleanField(),
    job=text(),
    job_count=serializers.IntegerField(),
    job_timestamp=text(),
    job_no=serializers.IntegerField(),
    sampling_step=serializers.IntegerField(),
    sampling_steps=serializers.IntegerField(),
)
Progress = serializer(
    "Progress",
    progress=serializers.FloatField(help_text="0 to 1; 0 when idle."),
    eta_relative=serializers.FloatField(help_text="Seconds."),
    state=State,
    current_image=nullable_text(help_text="Base64 of a PNG: the last preview."),
    textinfo=nullable_text(),
)
TaskProgress = serializer(
    "TaskProgress",
    active=serializers.BooleanField(),
    queued=serializers.BooleanField(),
    paused=serializers.BooleanField(),
    completed=serializers.BooleanField(),
    progress=serializers.FloatField(allow_null=True),
    eta=serializers.FloatField(allow_null=True),
    live_preview=nullable_text(),
    id_live_preview=serializers.IntegerField(),
    textinfo=nullable_text(),
)
Options = serializer(
    "Options",
    sd_model_checkpoint=text(),
    sd_vae=text(),
    CLIP_stop_at_last_layers=serializers.IntegerField(),
    send_seed=serializers.BooleanField(),
    samples_format=text(),
    sd_checkpoint_hash=text(help_text="SHA-256 of its weights, or empty where that is not known."),
)
Checkpoints = serializer(
    "Checkpoint",
    many=True,
    title=text(),
    model_name=text(),
    hash=nullable_text(),
    sha256=nullable_text(),
    filename=text(),
    config=nullable_text(),
)
Samplers = serializer(
    "Sampler", many=True, name=text(), aliases=serializers.ListField(child=text()), options=Anything()
)
Schedulers = serializer(
    "Scheduler",
    many=True,
    name=text(),
    label=text(),
    aliases=serializers.ListField(child=text(), allow_null=True),
    default_rho=serializers.FloatField(),
    need_inner_model=serializers.BooleanField(),
)
Upscalers = serializer(
    "Upscaler",
    many=True,
    name=text(),
    model_name=nullable_text(),
    model_path=nullable_text(),
    model_url=nullable_text(),
    scale=serializers.FloatField(),
)
UpscalerModels = serializer(
    "UpscalerModel", many=True, name=text(), path=nullable_text(), scale=serializers.IntegerField()
)
Named = serializer("Named", many=True, name=text())
Styles = serializer("Style", many=True, name=text(), prompt=text(), negative_prompt=text())
Embeddings = serializer("Embeddings", loaded=Anything(), skipped=Anything())
Loras = serializer("Lora", many=True, name=text(), alias=text(), path=text(), metadata=Anything())
Scripts = serializer(
    "Scripts", txt2img=serializers.ListField(child=text()), img2img=serializers.ListField(child=text())
)
ScriptInfos = serializer(
    "ScriptInfo",
    many=True,
    name=text(),
    is_alwayson=serializers.BooleanField(),
    is_img2img=serializers.BooleanField(),
    args=serializers.ListField(child=Anything()),
)
Flags = serializer("Flags", api=serializers.BooleanField())
Memory = serializer("Memory", ram=Anything(), cuda=Anything())
