"""Models over HTTP: abilities, limits, samplers, LoRAs and ControlNets of each, and the upscalers."""

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import api_view
from rest_framework.response import Response

from generation import catalog
from generation.engine.catalog.addons import Addons, text_width
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
NEED_ADDONS = ("loras", "control", "reference")
"""Features that are nothing without an add-on that fits the model."""


@extend_schema(**doc.MODELS)
@api_view(READ)
def models(request) -> Response:
    """The models of this site: what each can do, within which limits, and with which add-ons."""
    loaded = {key for worker in presence.workers() for key in worker.get("models") or ()}
    default, addons = catalog.model_named(None).key, catalog.addons()
    return Response(
        {
            "models": [_serialize(spec, addons, spec.key in loaded, spec.key == default) for spec in catalog.catalog()],
            "upscalers": list(catalog.upscalers()),
        }
    )


def _serialize(spec: ModelSpec, addons: Addons, loaded: bool, is_default: bool) -> dict:
    ready = loaded or catalog.is_ready(spec)
    return {
        "key": spec.key,
        "title": spec.title,
        "summary": spec.summary,
        "family": spec.family,
        "modes": [*spec.modes, UPSCALE],
        **_abilities(spec, addons),
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


def _abilities(spec: ModelSpec, addons: Addons) -> dict:
    """The features that a request for this model may name here, and the add-ons for them."""
    width = text_width(spec, addons.folder) if spec.features else None
    fitting = {
        feature: [addon for addon in installed.values() if feature in spec.features and addon.fits(width)]
        for feature, installed in zip(NEED_ADDONS, (addons.loras, addons.controlnets, addons.ip_adapters), strict=True)
    }
    features = [feature for feature in spec.features if fitting.get(feature, True)]
    return {
        "features": [FEATURE_FIELDS[feature].name for feature in features],
        "loras": [{"key": lora.key, "title": lora.title} for lora in fitting["loras"]],
        "controls": [
            {"key": net.key, "kind": net.kind, "preprocess": _can_preprocess(net.kind)} for net in fitting["control"]
        ],
    }


def _can_preprocess(kind: str) -> bool:
    try:
        check_preprocessor(kind, settings.MODELS_DIR)
    except InvalidRequest:
        return False
    return True
