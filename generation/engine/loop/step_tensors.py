"""What a pass of a row tells the device at its steps, put there when the pass begins: a step then waits for no copy."""

import math
from dataclasses import dataclass, field

import torch

from generation.engine.catalog.families import FAMILIES
from generation.engine.networks.device import to_device
from generation.engine.request.fields import ImageRequest
from generation.engine.request.passes import PassSchedule
from generation.engine.sampling import Table


@dataclass(frozen=True, eq=False, slots=True)
class Course:
    """All on the device."""

    matrices: tuple[torch.Tensor, ...] = field(repr=False)
    """The table's, by position."""
    numbers: tuple[torch.Tensor, ...] = field(repr=False)
    """By position, in fp32: what the sample is multiplied with, the timestep, the guidance scale."""
    sizes: torch.Tensor | None = None
    """1 x 6 for SDXL."""
    strength: torch.Tensor | None = None
    """1 x width for UNets into which guidance was distilled."""


def chart(model, request: ImageRequest, plan: PassSchedule, table: Table) -> Course:
    """The course of a pass through that table."""
    guidance = (request.guidance_scale,) * len(table)
    numbers = torch.tensor([table.input_scales, table.timesteps, guidance], dtype=torch.float32).T.contiguous()
    sizes = strength = None
    if FAMILIES[model.spec.family].size_conditioning:
        # Original size, crop corner and target size, as SDXL was trained (Podell et al. 2023, 2.2).
        sizes = to_device([[plan.height, plan.width, 0, 0, plan.height, plan.width]], model.device, model.dtype)
    if (width := model.unet.config.time_cond_proj_dim) is not None:
        strength = to_device(_guidance_embedding(request.guidance_scale, width), model.device, model.dtype)
    return Course(
        to_device(table.matrices, model.device).unbind(), to_device(numbers, model.device).unbind(), sizes, strength
    )


def _guidance_embedding(guidance_scale: float, width: int) -> torch.Tensor:
    """1 x width sinusoids of the guidance, which distilled UNets take as input (Meng et al. 2023)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000.0) / (half - 1)))
    angles = (torch.tensor([guidance_scale]) - 1)[:, None] * 1000.0 * frequencies
    embedding = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.nn.functional.pad(embedding, (0, width % 2))
