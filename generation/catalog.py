"""The models that this installation offers, and which of them are ready."""

from contextlib import suppress
from functools import cache

from django.conf import settings

from .engine.catalog import model_files
from .engine.catalog.addons import Addons
from .engine.catalog.local_models import LiveCatalog
from .engine.catalog.models import MODELS, Catalog, ModelSpec
from .engine.catalog.upscalers import upscaler_names
from .engine.errors import UnknownModel
from .engine.remote.providers import DreamSketchProvider, HuggingFaceProvider, OpenAIProvider, Provider, WebhookProvider


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
