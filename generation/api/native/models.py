"""Models over HTTP: abilities, limits, samplers, LoRAs and ControlNets of each, and the upscalers."""

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import api_view
from rest_framework.response import Response

from generation import catalog
from generation.engine.catalog.control_kinds import check_preprocessor
from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import MAX_IMAGES
from generation.engine.request.request import FEATURE_FIELDS
from generation.queue import presence

from . import openapi as doc

READ = ["GET", "HEAD"]
UPSCALE = "upscale"
"""The mode that needs no model, and so is every model's."""


@extend_schema(**doc.MODELS)
@api_view(READ)
def models(request) -> Response:
    """The models of this site: what each can do, within which limits, and with which add-ons."""
    loaded = {key for worker in presence.workers() for key in worker.get("models") or ()}
    default = catalog.model_named(None).key
    return Response(
        {
            "models": [_serialize(spec, spec.key in loaded, spec.key == default) for spec in catalog.catalog()],
            "upscalers": list(catalog.upscalers()),
        }
    )


def _serialize(spec: ModelSpec, loaded: bool, is_default: bool) -> dict:
    ready = loaded or catalog.is_ready(spec)
    return {
        "key": spec.key,
        "title": spec.title,
        "summary": spec.summary,
        "family": spec.family,
        "modes": [*spec.modes, UPSCALE],
        **_abilities(catalog.abilities_of(spec)),
        "native_size": {"width": spec.native_width, "height": spec.native_height},
        "side": {"min": spec.min_side, "max": spec.max_side, "multiple_of": spec.size_multiple},
        "steps": {"min": spec.min_steps, "max": spec.max_steps, "default": spec.default_steps},
        "guidance_scale": {"min": 0, "max": spec.max_guidance, "default": spec.default_guidance},
        "num_images": {"min": 1, "max": MAX_IMAGES, "default": 1},
        "samplers": list(spec.samplers),
        "default_sampler": spec.default_sampler,
        "is_default": is_default,
        "licence": spec.licence,
        "memory_gib": spec.memory_gib,
        "state": "loaded" if loaded else "ready" if ready else "not_downloaded",
        "aliases": list(spec.aliases),
    }


def _abilities(abilities: catalog.Abilities) -> dict:
    """The features that a request for this model may name here, and the add-ons for them."""
    return {
        "features": [FEATURE_FIELDS[feature].name for feature in abilities.features],
        "loras": [{"key": lora.key, "title": lora.title} for lora in abilities.loras],
        "controls": [
            {"key": net.key, "kind": net.kind, "preprocess": _can_preprocess(net.kind)} for net in abilities.controls
        ],
    }


def _can_preprocess(kind: str) -> bool:
    try:
        check_preprocessor(kind, settings.MODELS_DIR)
    except InvalidRequest:
        return False
    return True
