"""Latents to pictures: the full decode, and the cheap linear guess that previews are made of."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .errors import BadOutput
from .pixels import refuse_black

log = logging.getLogger(__name__)

# RGB in -1…1 from scaled latents. SD 1.x and 2.x: the fit posted by keturn, discuss.huggingface.co,
# "Decoding latents to RGB without upscaling". SDXL: T. A. Vass, "Explaining the SDXL latent space",
# huggingface.co/blog, given there for 0…255 and rescaled here.
SD_MATRIX = ((0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473))
_SDXL_255 = ((60, 60, 60), (-60, -5, 10), (25, 15, -5), (-70, -50, -35))
SDXL_MATRIX = tuple(tuple(value / 127.5 for value in row) for row in _SDXL_255)
SDXL_BIAS = tuple(value / 127.5 - 1 for value in (150, 140, 130))


@dataclass(frozen=True)
class LatentColours:
    """A linear map from scaled latents (channels x h x w) to RGB in -1…1.

    `matrix` is channels x 3, `bias` is 3. Both on the CPU: a latent is a few kilobytes.
    """

    matrix: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def of(cls, spec, path: Path, channels: int) -> "LatentColours":
        """The model's own fit (`preview.json` in its folder), else the family's, else a plain guess."""
        if (path / "preview.json").is_file():
            try:
                given = json.loads((path / "preview.json").read_text())
                matrix, bias = (torch.tensor(given[name], dtype=torch.float32) for name in ("matrix", "bias"))
                if matrix.shape == (channels, 3) and bias.shape == (3,):
                    return cls(matrix, bias)
                log.warning("%s/preview.json does not fit %d latent channels", path, channels)
            except (ValueError, TypeError, KeyError) as error:
                log.warning("%s/preview.json cannot be used: %s", path, error)
        if channels == 4 and spec.family == "sdxl":
            return cls(torch.tensor(SDXL_MATRIX), torch.tensor(SDXL_BIAS))
        if channels == 4:
            return cls(torch.tensor(SD_MATRIX), torch.zeros(3))
        # Unknown latents: the first three channels as they are. Shapes show, colours do not mean anything.
        matrix = torch.zeros(channels, 3)
        for colour in range(3):
            matrix[min(colour, channels - 1), colour] = 0.5
        return cls(matrix, torch.zeros(3))

    def picture(self, latents: torch.Tensor) -> Image.Image:
        """One row of scaled latents (1 x channels x h x w) as an h x w picture."""
        rows = latents[0].float().cpu().movedim(0, -1)
        return to_pil(torch.nan_to_num(rows @ self.matrix + self.bias))


@torch.inference_mode()
def decode(model, latents: torch.Tensor) -> Image.Image:
    """One row of scaled latents (1 x channels x h x w, fp32) as a finished picture.

    Raises BadOutput if the latents or the picture are not finite, or the picture is black. A decoder that
    overflows in half precision, as SDXL's does, is run again, and from then on, in fp32.
    """
    if not torch.isfinite(latents).all():
        raise BadOutput()
    image = _decode(model.vae, latents)
    if model.vae.dtype != torch.float32 and not torch.isfinite(image).all():
        log.warning("The decoder of %s overflows in %s; fp32 from now on", model.spec.key, model.vae.dtype)
        model.vae.to(torch.float32)
        image = _decode(model.vae, latents)
    if not torch.isfinite(image).all():
        raise BadOutput()
    picture = to_pil(image[0].movedim(0, -1).float().cpu())
    refuse_black(picture)
    return picture


def _decode(vae, latents) -> torch.Tensor:
    mean, std = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    latents = latents / vae.config.scaling_factor
    if mean is not None and std is not None:
        mean, std = (torch.tensor(v, device=latents.device).view(1, -1, 1, 1) for v in (mean, std))
        latents = latents * std + mean
    return vae.decode(latents.to(vae.dtype), return_dict=False)[0]


def to_pil(rgb: torch.Tensor) -> Image.Image:
    """h x w x 3 in -1…1, fp32 on the CPU, to pixels; rounding as diffusers' VaeImageProcessor does."""
    values = (rgb * 0.5 + 0.5).clamp(0, 1).numpy()
    return Image.fromarray((values * 255).round().astype(np.uint8), "RGB")
