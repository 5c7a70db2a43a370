"""UNet and VAE configuration of a loaded model: latent channels, inpainting masks, distilled guidance."""

from typing import Any, cast

import torch

from generation.engine.networks.loader import LoadedModel
from generation.engine.request.fields import ImageRequest


def unet_of(model: LoadedModel) -> torch.nn.Module:
    """The UNet as type checkers know it; diffusers hides its classes behind stand-ins."""
    return cast(torch.nn.Module, model.unet)


def latent_channels(model: LoadedModel) -> int:
    return _config(model.vae).latent_channels


def input_channels(model: LoadedModel) -> int:
    """Channels that the UNet sees, which may be more than the latents have."""
    return _config(model.unet).in_channels


def takes_mask(model: LoadedModel) -> bool:
    """Whether the UNet takes a mask and the masked picture beside the latents, as those made for inpainting do."""
    return input_channels(model) == 2 * latent_channels(model) + 1


def guidance_embedding_width(model: LoadedModel) -> int | None:
    """Width of the guidance embedding of UNets into which guidance was distilled (Meng et al. 2023); else None."""
    return _config(model.unet).time_cond_proj_dim


def is_guided(model: LoadedModel, request: ImageRequest) -> bool:
    """Whether there is an unconditional half: guidance above 1, and not distilled into the UNet."""
    return request.guidance_scale > 1 and guidance_embedding_width(model) is None


def _config(network: Any) -> Any:
    """The network's own, whose fields no type checker knows."""
    return network.config
