"""The models that this installation offers, and which of them are ready."""

import datetime as dt
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from django.conf import settings
from django.core.cache import cache as site_cache
from django.utils import timezone

from .engine.catalog import model_files
from .engine.catalog.addons import AddOn, Addons, text_width
from .engine.catalog.families import FAMILIES
from .engine.catalog.local_models import LiveCatalog
from .engine.catalog.models import MODELS, Catalog, ModelSpec
from .engine.catalog.upscalers import upscaler_names
from .engine.errors import ModelUnavailable, UnknownModel
from .engine.remote.providers import DreamSketchProvider, HuggingFaceProvider, OpenAIProvider, Provider, WebhookProvider
from .engine.request.complete import LCM_PREFIX
from .models import Generation

FETCH_AGAIN = dt.timedelta(minutes=10)
"""How long after a failed download a model is not tried again."""
KEPT_SECONDS = 5
"""How long the answer about failed downloads is cached."""


@cache
def catalog() -> Catalog:
    """The engine's catalogue with what lies in MODELS_DIR, narrowed to ENABLED_MODELS where that is set.

    Where an engine elsewhere draws, what can be asked for there.
    """
    if provider := remote_provider():
        return Offered(provider.offers(MODELS), None, settings.ENABLED_MODELS)
    return Offered(MODELS, settings.MODELS_DIR, settings.ENABLED_MODELS)


def remote_provider() -> Provider | None:
    """The provider of inference that draws for this site; None where its own workers draw."""
    if settings.USE_LOCAL_MODELS or settings.DREAMSKETCH_ENGINE == "fake":
        return None
    if settings.INFERENCE_SERVICE_URL:
        return DreamSketchProvider(settings.INFERENCE_SERVICE_URL, settings.INFERENCE_SERVICE_API_KEY)
    if settings.MODAL_GENERATE_ENDPOINT:
        return WebhookProvider(
            settings.MODAL_GENERATE_ENDPOINT,
            settings.INFERENCE_WEBHOOK_SECRET,
            f"{settings.SITE_URL}/api/generate/webhook",
        )
    if settings.OPENAI_IMAGES_URL:
        return OpenAIProvider(
            settings.OPENAI_IMAGES_URL,
            settings.OPENAI_IMAGES_KEY,
            settings.OPENAI_IMAGES_MODEL,
            settings.OPENAI_IMAGES_EXTRAS,
        )
    return HuggingFaceProvider(settings.HF_TOKEN)


def is_ready(spec: ModelSpec) -> bool:
    """Whether nothing needs to be downloaded before this model draws."""
    return remote_provider() is not None or model_files.is_ready(spec, models_dir=settings.MODELS_DIR)


def why_missing(spec: ModelSpec) -> str:
    """Why this model is not here and cannot be fetched now, as the end of a sentence that begins with its name; ""
    where it is here or may well be fetched."""
    if settings.DREAMSKETCH_ENGINE == "fake" or is_ready(spec):
        return ""
    if not settings.MODEL_DOWNLOADS:
        return "is not on this machine, and this site does not download models"
    if spec.gated and not _hub_token():
        return "is not on this machine, and the site's operator has not been given access to it"
    if spec.key in _failed_downloads():
        return "could not be downloaded a few minutes ago"
    return ""


def _hub_token() -> str | None:
    from huggingface_hub import get_token

    return settings.HF_TOKEN or get_token()


def _failed_downloads() -> set[str]:
    """Keys of the models that a worker could not get in the last minutes."""
    failed = site_cache.get("failed-downloads")
    if failed is None:
        rows = Generation.objects.filter(
            status=Generation.Status.FAILED,
            error_code=ModelUnavailable.code,
            finished_at__gt=timezone.now() - FETCH_AGAIN,
        )
        failed = set(rows.values_list("model", flat=True)[:1000])
        site_cache.set("failed-downloads", failed, KEPT_SECONDS)
    return failed


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a model can do at this site, add-ons that are installed included."""

    spec: ModelSpec
    loras: tuple[AddOn, ...]
    controls: tuple[AddOn, ...]
    references: tuple[AddOn, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """Those of the model's features that a request may name here: what needs an add-on has one."""
        lacking = {"loras": not self.loras, "control": not self.controls, "reference": not self.references}
        return tuple(feature for feature in self.spec.features if not lacking.get(feature))

    @property
    def has_fast_tier(self) -> bool:
        """Whether the quality `fast` is more than a word: the model has its sampler, and its LoRA is here."""
        distilled = any(lora.key.startswith(LCM_PREFIX) for lora in self.loras)
        return "quality" in self.spec.features and "LCM" in self.spec.samplers and distilled

    @property
    def reads_negative_prompt(self) -> bool:
        family = FAMILIES.get(self.spec.family)
        return family is None or "negative_prompt" in family.prompt_understands


def abilities_of(spec: ModelSpec) -> Abilities:
    """The features of this model and the add-ons that fit it, as they are at the moment."""
    installed = addons()
    width = text_width(spec, installed.folder) if spec.features else None

    def fitting(feature: str, found: dict[str, AddOn]) -> tuple[AddOn, ...]:
        return tuple(addon for addon in found.values() if addon.fits(width)) if feature in spec.features else ()

    return Abilities(
        spec,
        fitting("loras", installed.loras),
        fitting("control", installed.controlnets),
        fitting("reference", installed.ip_adapters),
    )


class Offered(LiveCatalog):
    """As LiveCatalog; of its models only those named in `enabled`, in that order, unless that is empty.

    Raises UnknownModel for a name that nothing has. A local model whose files go later is left out.
    """

    def __init__(self, specs, models_dir, enabled):
        super().__init__(specs, models_dir)
        self._enabled = list(enabled)
        for name in self._enabled:
            super().get(name)

    def get(self, name: str) -> ModelSpec:
        spec = super().get(name)
        if self._enabled and spec not in list(self):
            raise UnknownModel(name)
        return spec

    def __iter__(self):
        everything = Catalog(super().__iter__())
        if not self._enabled:
            yield from everything
        for name in self._enabled:
            with suppress(UnknownModel):
                yield everything.get(name)


def model_named(name: str | None) -> ModelSpec:
    """The model of that key or alias; the site's default for None or "". Raises UnknownModel."""
    return catalog().get(name or settings.DEFAULT_MODEL)


def upscalers() -> tuple[str, ...]:
    """The upscalers that can be asked for; the first is the default."""
    return upscaler_names(settings.MODELS_DIR)


def addons() -> Addons:
    """The LoRAs, ControlNets and IP-Adapters in MODELS_DIR, as they are at the moment."""
    return Addons(settings.MODELS_DIR)
