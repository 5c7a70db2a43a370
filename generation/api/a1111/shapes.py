"""The shapes of the dialect's answers, for the document. Tests hold real answers against them."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field, inline_serializer
from rest_framework import serializers


def shape(title: str, /, *, many: bool = False, **fields):
    """A serializer class-like of that name for the document."""
    return inline_serializer(f"A1111{title}", fields, many=many)


@extend_schema_field(OpenApiTypes.OBJECT)
class Anything(serializers.DictField):
    """An object of which no more is said."""


def text(**more):
    return serializers.CharField(allow_blank=True, **more)


def maybe(**more):
    return serializers.CharField(allow_null=True, allow_blank=True, **more)


Nothing = {"type": "object"}  # a serializer without fields would be documented as no body at all
Pictures = shape(
    "Pictures",
    images=serializers.ListField(child=text(), help_text="Base64, without a prefix."),
    parameters=Anything(help_text="What was asked for."),
    info=text(help_text="A text of JSON: prompt, all_seeds, infotexts and more."),
)
Enlarged = shape("Enlarged", html_info=text(), image=maybe(help_text="Base64 of a PNG."))
EnlargedSeveral = shape("EnlargedSeveral", html_info=text(), images=serializers.ListField(child=text()))
PngInfo = shape("PngInfo", info=text(), items=Anything(), parameters=Anything())
State = shape(
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
Progress = shape(
    "Progress",
    progress=serializers.FloatField(help_text="0 to 1; 0 when idle."),
    eta_relative=serializers.FloatField(help_text="Seconds."),
    state=State,
    current_image=maybe(help_text="Base64 of a PNG: the last preview."),
    textinfo=maybe(),
)
TaskProgress = shape(
    "TaskProgress",
    active=serializers.BooleanField(),
    queued=serializers.BooleanField(),
    paused=serializers.BooleanField(),
    completed=serializers.BooleanField(),
    progress=serializers.FloatField(allow_null=True),
    eta=serializers.FloatField(allow_null=True),
    live_preview=maybe(),
    id_live_preview=serializers.IntegerField(),
    textinfo=maybe(),
)
Options = shape(
    "Options",
    sd_model_checkpoint=text(),
    sd_vae=text(),
    CLIP_stop_at_last_layers=serializers.IntegerField(),
    send_seed=serializers.BooleanField(),
    samples_format=text(),
    sd_checkpoint_hash=text(help_text="SHA-256 of its weights, or empty where that is not known."),
)
Checkpoints = shape(
    "Checkpoint",
    many=True,
    title=text(),
    model_name=text(),
    hash=maybe(),
    sha256=maybe(),
    filename=text(),
    config=maybe(),
)
Samplers = shape("Sampler", many=True, name=text(), aliases=serializers.ListField(child=text()), options=Anything())
Schedulers = shape(
    "Scheduler",
    many=True,
    name=text(),
    label=text(),
    aliases=serializers.ListField(child=text(), allow_null=True),
    default_rho=serializers.FloatField(),
    need_inner_model=serializers.BooleanField(),
)
Upscalers = shape(
    "Upscaler",
    many=True,
    name=text(),
    model_name=maybe(),
    model_path=maybe(),
    model_url=maybe(),
    scale=serializers.FloatField(),
)
UpscalerModels = shape("UpscalerModel", many=True, name=text(), path=maybe(), scale=serializers.IntegerField())
Named = shape("Named", many=True, name=text())
Styles = shape("Style", many=True, name=text(), prompt=text(), negative_prompt=text())
Embeddings = shape("Embeddings", loaded=Anything(), skipped=Anything())
Loras = shape("Lora", many=True, name=text(), alias=text(), path=text(), metadata=Anything())
Scripts = shape("Scripts", txt2img=serializers.ListField(child=text()), img2img=serializers.ListField(child=text()))
ScriptInfos = shape(
    "ScriptInfo",
    many=True,
    name=text(),
    is_alwayson=serializers.BooleanField(),
    is_img2img=serializers.BooleanField(),
    args=serializers.ListField(child=Anything()),
)
Flags = shape("Flags", api=serializers.BooleanField())
Memory = shape("Memory", ram=Anything(), cuda=Anything())
