"""Completing a request with the installed add-ons: the fast tier's LCM-LoRA, and checks of the add-ons it names.

No torch here: the web does this before it queues a request, `manage.py generate` before it draws one.
"""

from dataclasses import replace

from generation.engine.catalog.addons import AddOn, Addons, misfit, text_width
from generation.engine.catalog.control_kinds import check_preprocessor
from generation.engine.catalog.models import ModelSpec

from .fields import ImageRequest, Lora

LCM_PREFIX = "lcm-lora"
"""Begins the keys of LoRAs that distil a model to few steps."""
FEW_STEPS = (4, 8)
FEW_STEPS_GUIDANCE = (1.0, 2.0)
"""Fewest and most; the ranges for which LCM-LoRAs were made (Luo et al. 2023)."""


def complete_request(request: ImageRequest, spec: ModelSpec, addons: Addons) -> ImageRequest:
    """The request as it will be drawn here, checked. Raises InvalidRequest as `check_addons` does."""
    request = apply_quality(request, spec, addons)
    check_addons(request, spec, addons)
    return request


def check_addons(request: ImageRequest, spec: ModelSpec, addons: Addons) -> None:
    """Raises InvalidRequest if the request names an add-on that is missing or was made for another model."""
    if not (request.loras or request.control or request.reference):
        return
    width = text_width(spec, addons.folder)
    named: list[tuple[AddOn, str, str]] = [(addons.lora(lora.key), "LoRA", "loras") for lora in request.loras]
    if request.control:
        named.append((addons.controlnet(request.control.key), "ControlNet", "control"))
    for addon, label, param in named:
        if not addon.fits(width):
            raise misfit(label, addon.key, spec, param)
    if request.control and request.control.preprocess:
        check_preprocessor(named[-1][0].kind, addons.folder)
    if request.reference:
        addons.ip_adapter_for(width)


def apply_quality(request: ImageRequest, spec: ModelSpec, addons: Addons) -> ImageRequest:
    """The request as its `quality` wants it drawn. `fast` becomes 4 to 8 steps of LCM (Luo et al. 2023) where an
    LCM-LoRA for this model is installed and the model is offered with that sampler."""
    if request.quality != "fast" or request.upscale or "LCM" not in spec.samplers:
        return request
    width = text_width(spec, addons.folder)
    installed = addons.loras.items()
    lcm = next((lora for key, lora in installed if key.startswith(LCM_PREFIX) and lora.width == width), None)
    if lcm is None:
        return request
    others = tuple(lora for lora in request.loras if lora.key != lcm.key)
    fewest, most = FEW_STEPS
    weakest, strongest = FEW_STEPS_GUIDANCE
    return replace(
        request,
        sampler="LCM",
        steps=min(max(request.steps, fewest), most),
        guidance_scale=min(max(request.guidance_scale, weakest), strongest),
        loras=(*others, Lora(lcm.key)),
    )
