"""The models that this installation offers, and which of them are ready."""

from functools import cache

from django.conf import settings

from .engine.catalog import Catalog, ModelSpec


@cache
def catalog() -> Catalog:
    """The engine's catalogue, narrowed to ENABLED_MODELS where that is set."""
    everything = Catalog()
    return everything.only(settings.ENABLED_MODELS) if settings.ENABLED_MODELS else everything


def model_named(name: str | None) -> ModelSpec:
    """The model of that key or alias; the site's default for None or "". Raises UnknownModel."""
    return catalog().get(name or settings.DEFAULT_MODEL)
