"""Sampler tables: timesteps, input scales and step matrices of one sampler on one noise schedule."""

import inspect
import json
from dataclasses import dataclass
from functools import lru_cache

import diffusers
import numpy as np
import torch

from generation.engine.catalog.samplers import find_sampler

from . import alpha_space, multistep, sigma_space
from .forms import FIRST, NOISE, OUTPUT, SLOTS, convert_output

_SAMPLERS = {
    "EulerDiscreteScheduler": (sigma_space, sigma_space.euler),
    "EulerAncestralDiscreteScheduler": (sigma_space, sigma_space.euler_ancestral),
    "HeunDiscreteScheduler": (sigma_space, sigma_space.heun),
    "DPMSolverSDEScheduler": (sigma_space, sigma_space.dpm_sde),
    "DDIMScheduler": (alpha_space, alpha_space.ddim),
    "PNDMScheduler": (alpha_space, alpha_space.plms),
    "LCMScheduler": (alpha_space, alpha_space.lcm),
    "DPMSolverMultistepScheduler": (multistep, multistep.dpm_solver),
    "UniPCMultistepScheduler": (multistep, multistep.unipc),
}


@dataclass(frozen=True, eq=False, slots=True)
class Table:
    """One sampler at one step count on one noise schedule. A position is one evaluation of the UNet."""

    timesteps: tuple[float, ...]
    """Timesteps for the UNet, by position."""
    input_scales: tuple[float, ...]
    """What the sample is multiplied with before the UNet sees it, by position."""
    matrices: torch.Tensor
    """positions x SLOTS x (SLOTS + 2), fp32 on the CPU; columns: slots, UNet output, noise."""
    draws_noise: tuple[bool, ...]
    """Whether noise comes in at the position. Only there is it drawn, as diffusers does."""
    x0_factors: tuple[tuple[float, float], ...]
    """Factors of the sample and of the UNet's output whose sum is the predicted x0, by position."""
    levels: tuple[tuple[float, float], ...]
    """What the sample consists of, by position and at the end: factors of the clean picture and of unit noise."""
    init_noise_sigma: float
    """Standard deviation of the sample that begins as nothing but noise."""
    steps: int
    """Those that are taken: fewer than the schedule has, for a picture that begins on the way."""
    evaluations_per_step: int

    def __len__(self) -> int:
        return len(self.timesteps)

    def steps_done(self, position: int) -> int:
        """Steps as the user counts them. Heun takes two evaluations for one, PLMS one extra at the start."""
        remaining = -(-(len(self) - position) // self.evaluations_per_step)
        return max(self.steps - remaining, 0)


def make_table(scheduler_config: dict, sampler_name: str, steps: int, begin: int = 0) -> Table:
    """The table of that sampler on the model's noise schedule (its scheduler_config.json).

    Without its first `begin` steps: the sample then is a picture with as much noise as `levels[0]` says. A
    sampler with a memory starts with none there, as diffusers does after `set_begin_index`. With `begin` = `steps`
    the table has no positions, and one level, without noise.
    """
    return _make_table(json.dumps(scheduler_config, sort_keys=True), sampler_name, steps, begin)


def scheduler_for(scheduler_config: dict, sampler_name: str):
    """The diffusers scheduler that defines the sampler, or its noise levels, on the model's noise schedule.

    Clipping and thresholding of the clean picture are left out: they are meant for pixels in -1...1, and
    latents lie outside of that.
    """
    sampler = find_sampler(sampler_name)
    scheduler_class = getattr(diffusers, sampler.levels_of or sampler.scheduler)
    parameters = inspect.signature(scheduler_class.__init__).parameters
    config = {name: value for name, value in scheduler_config.items() if name in parameters or name.startswith("_")}
    pixels_only = {name: False for name in ("clip_sample", "thresholding") if name in parameters}
    return scheduler_class.from_config(config, **pixels_only | dict(sampler.options))


@lru_cache(maxsize=256)
def _make_table(config_text: str, sampler_name: str, steps: int, begin: int) -> Table:
    if begin == steps:
        return Table((), (), torch.zeros(0, SLOTS, SLOTS + 2), (), (), ((1.0, 0.0),), 1.0, 0, 1)
    scheduler = scheduler_for(json.loads(config_text), sampler_name)
    scheduler.set_timesteps(steps)
    _drop_overshoot(scheduler)
    init_noise_sigma = float(scheduler.init_noise_sigma)
    _skip(scheduler, begin)
    space, make_matrices = _SAMPLERS[find_sampler(sampler_name).scheduler]
    if make_matrices is sigma_space.dpm_sde:
        sigma_space.insert_midpoints(scheduler)
    # Divisions by a sigma or alpha of 0 have their limits, or make a picture that is refused later.
    with np.errstate(divide="ignore", invalid="ignore"):
        levels = space.levels(scheduler)
        matrices = np.stack(make_matrices(scheduler))
        # In sigma space the amplitude of the clean picture is 1, where the UNet wants `signal`.
        scales = [signal if space is sigma_space else 1.0 for signal, _ in levels]
        prediction_type = scheduler.config.prediction_type
        x0_factors = [_x0_factors(prediction_type, *pair) for pair in zip(scales, levels, strict=True)]
    return Table(
        timesteps=tuple(map(float, scheduler.timesteps)),
        input_scales=tuple(map(float, scales)),
        matrices=torch.from_numpy(matrices).float(),
        draws_noise=tuple((matrices[:, :, NOISE.argmax()] != 0).any(axis=1).tolist()),
        x0_factors=tuple(x0_factors),
        levels=(*(_in_space(space, *level) for level in levels), (1.0, 0.0)),
        init_noise_sigma=init_noise_sigma,
        steps=steps - begin,
        evaluations_per_step=scheduler.order,
    )


def _drop_overshoot(scheduler) -> None:
    """Take timesteps before 0 out of the scheduler's tables.

    With trailing spacing diffusers rounds its way into one too many at some counts (61, 103, 121,
    122), at timestep -1, where no model was trained.
    """
    excess = int((scheduler.timesteps < 0).sum())
    if excess:
        scheduler.timesteps = scheduler.timesteps[:-excess]
        if hasattr(scheduler, "sigmas"):
            scheduler.sigmas = torch.cat([scheduler.sigmas[: -1 - excess], scheduler.sigmas[-1:]])


def _skip(scheduler, steps: int) -> None:
    """Take the first steps out of the scheduler's tables."""
    if not steps:
        return
    if isinstance(scheduler, diffusers.PNDMScheduler):
        # Its second timestep stands twice, and the first step that is left will be taken twice as well. (diffusers
        # only cuts the list, after which its PLMS takes steps that do not meet.)
        times = torch.cat([scheduler.timesteps[:1], scheduler.timesteps[2:]])[steps:]
        scheduler.timesteps = torch.cat([times[:2], times[1:]])
        return
    scheduler.timesteps = scheduler.timesteps[steps * scheduler.order :]
    if hasattr(scheduler, "sigmas"):
        scheduler.sigmas = scheduler.sigmas[steps * scheduler.order :]


def _in_space(space, signal: float, noise: float) -> tuple[float, float]:
    """A level as the samples of that space have it."""
    return (1.0, float(noise / signal)) if space is sigma_space else (float(signal), float(noise))


def _x0_factors(prediction_type: str, scale: float, level: tuple[float, float]) -> tuple[float, float]:
    """The x0 that the UNet's output implies (Song et al. 2021, equation 12), as factors of sample and output.

    For previews, so the signal is taken as something at least where a schedule starts from nothing but noise.
    """
    signal, noise = level
    clean, _ = convert_output(prediction_type, scale * FIRST, OUTPUT, (max(signal, 1e-3), noise))
    return float(clean[FIRST.argmax()]), float(clean[OUTPUT.argmax()])
