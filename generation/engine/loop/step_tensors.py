"""Per-step tensors of a pass, sent to the device when the pass begins, so that no step waits for a copy."""

import math
from dataclasses import dataclass, field

import torch

from generation.engine.catalog.families import FAMILIES
from generation.engine.networks.device import to_device
from generation.engine.networks.loader import LoadedModel
from generation.engine.request.fields import ImageRequest
from generation.engine.request.passes import PassSchedule
from generation.engine.sampling import Table

from .unet_config import guidance_embedding_width


@dataclass(frozen=True, eq=False, slots=True)
class StepTensors:
    """All on the device; the tuples have one entry for each UNet evaluation of the pass."""

    matrices: tuple[torch.Tensor, ...] = field(repr=False)
    """The sampler's, SLOTS x (SLOTS + 2) each."""
    scalars: tuple[torch.Tensor, ...] = field(repr=False)
    """3 each, in fp32: what the sample is multiplied with, the timestep, the guidance scale."""
    time_ids: torch.Tensor | None = None
    """1 x 6 for SDXL."""
    timestep_cond: torch.Tensor | None = None
    """1 x width for UNets into which guidance was distilled."""


def make_step_tensors(model: LoadedModel, request: ImageRequest, schedule: PassSchedule, table: Table) -> StepTensors:
    """The tensors of a pass by that sampler table."""
    guidance = (request.guidance_scale,) * len(table)
    scalars = torch.tensor([table.input_scales, table.timesteps, guidance], dtype=torch.float32).T.contiguous()
    time_ids = timestep_cond = None
    if FAMILIES[model.spec.family].size_conditioning:
        # Original size, crop corner and target size, as SDXL was trained (Podell et al. 2023, 2.2).
        size = [schedule.height, schedule.width]
        time_ids = to_device([[*size, 0, 0, *size]], model.device, model.dtype)
    if (width := guidance_embedding_width(model)) is not None:
        timestep_cond = to_device(_guidance_embedding(request.guidance_scale, width), model.device, model.dtype)
    return StepTensors(
        to_device(table.matrices, model.device).unbind(),
        to_device(scalars, model.device).unbind(),
        time_ids,
        timestep_cond,
    )


def _guidance_embedding(guidance_scale: float, width: int) -> torch.Tensor:
    """1 x width sinusoids of the guidance, which distilled UNets take as input (Meng et al. 2023)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000.0) / (half - 1)))
    angles = (torch.tensor([guidance_scale]) - 1)[:, None] * 1000.0 * frequencies
    embedding = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.nn.functional.pad(embedding, (0, width % 2))
