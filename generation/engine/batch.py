"""Rows in flight. A row is one image being drawn; a step moves it one UNet evaluation further.

Everything that differs between two images lives in their `Row`: prompt, guidance, sampler, noise,
position. `advance` takes a row to its next position and asks nothing of whoever else is being drawn, so
that rows of several jobs can come to share one forward pass here and nowhere else.

The arithmetic is that of `StableDiffusionPipeline.__call__` and `StableDiffusionXLPipeline.__call__`
(diffusers 0.42); latents stay in fp32 also where the UNet computes in half precision.
"""

import inspect
import math
from dataclasses import dataclass, field

import diffusers
import torch

from .request import ImageRequest
from .samplers import find_sampler


@dataclass(eq=False, slots=True)
class Row:
    """One image in flight. `latents` is 1 x channels x h x w in fp32, scaled as its sampler wants it."""

    request: ImageRequest
    index: int
    scheduler: object
    step_options: dict
    guided: bool
    """Whether there is an unconditional half: guidance above 1, and not distilled into the UNet."""
    conditioning: dict
    """The UNet's keyword arguments, with the unconditional half first."""
    latents: torch.Tensor
    dropped: int
    """Prompt tokens that did not fit."""
    position: int = 0
    estimate: tuple | None = field(default=None, repr=False)
    """What the last evaluation saw, what it answered, and when: enough to guess the finished picture."""

    @property
    def finished(self) -> bool:
        return self.position == len(self.scheduler.timesteps)

    @property
    def steps_done(self) -> int:
        """Steps as the user counts them. Heun takes two evaluations for one, PLMS one extra at the start."""
        remaining = math.ceil((len(self.scheduler.timesteps) - self.position) / self.scheduler.order)
        return max(self.request.steps - remaining, 0)


def start_row(model, request: ImageRequest, index: int) -> Row:
    """Image `index` of the request at full noise.

    The noise is drawn on the CPU from the row's own generator, so that a seed means the same picture on
    every device and in any company.
    """
    scheduler = make_scheduler(model, request.sampler)
    scheduler.set_timesteps(request.steps, device=model.device)
    generator = torch.Generator().manual_seed(request.seed_of(index))
    scale = model.vae_scale
    shape = (1, model.unet.config.in_channels, request.height // scale, request.width // scale)
    latents = torch.randn(shape, generator=generator).to(model.device)
    guided = request.guidance_scale > 1 and model.unet.config.time_cond_proj_dim is None
    conditioning, dropped = _conditioning(model, request, guided)
    accepted = inspect.signature(scheduler.step).parameters
    return Row(
        request=request,
        index=index,
        scheduler=scheduler,
        step_options={"generator": generator} if "generator" in accepted else {},
        guided=guided,
        conditioning=conditioning,
        latents=latents * scheduler.init_noise_sigma,
        dropped=dropped,
    )


def advance(model, row: Row) -> None:
    """One UNet evaluation and one sampler step for the row."""
    time = row.scheduler.timesteps[row.position]
    seen = row.scheduler.scale_model_input(row.latents, time)
    batch = torch.cat([seen] * 2) if row.guided else seen
    answer = model.unet(batch.to(model.dtype), time, return_dict=False, **row.conditioning)[0].float()
    if row.guided:
        without, with_prompt = answer.chunk(2)
        answer = without + row.request.guidance_scale * (with_prompt - without)
    row.estimate = (seen, answer, time)
    row.latents = row.scheduler.step(answer, time, row.latents, **row.step_options, return_dict=False)[0]
    row.position += 1


def foresee(row: Row) -> torch.Tensor:
    """The finished latents as the last evaluation implies them (DDIM, Song et al. 2021, equation 12).

    Every sampler here feeds the UNet variance-preserving latents, so one formula serves all of them.
    """
    seen, answer, time = row.estimate
    alphas = row.scheduler.alphas_cumprod
    alpha = float(alphas[min(max(round(float(time)), 0), len(alphas) - 1)])
    signal, noise = math.sqrt(alpha), math.sqrt(1 - alpha)
    match row.scheduler.config.prediction_type:
        case "v_prediction":
            return signal * seen - noise * answer
        case "sample":
            return answer
        case _:
            return (seen - noise * answer) / max(signal, 1e-3)


def make_scheduler(model, sampler_name: str):
    """A fresh diffusers scheduler with the model's noise schedule: schedulers keep state, so one per row."""
    sampler = find_sampler(sampler_name)
    scheduler_class = getattr(diffusers, sampler.scheduler)
    known = inspect.signature(scheduler_class.__init__).parameters
    given = model.scheduler_config.items()
    config = {name: value for name, value in given if name in known or name.startswith("_")}
    return scheduler_class.from_config(config, **dict(sampler.options))


def _conditioning(model, request, guided) -> tuple[dict, int]:
    if guided:
        prompt, negative = model.text.encode_pair(request.prompt, request.negative_prompt)
        embeddings = [negative, prompt]
    else:
        embeddings = [model.text.encode(request.prompt)]
    conditioning = {"encoder_hidden_states": torch.cat([embedding.tokens for embedding in embeddings])}
    if model.spec.family == "sdxl":
        # Original size, crop corner and target size, as SDXL was trained (Podell et al. 2023, 2.2).
        sizes = [request.height, request.width, 0, 0, request.height, request.width]
        times = torch.tensor([sizes] * len(embeddings), dtype=model.dtype, device=model.device)
        pooled = torch.cat([embedding.pooled for embedding in embeddings]).to(model.dtype)
        conditioning["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": times}
    if (width := model.unet.config.time_cond_proj_dim) is not None:
        strength = _guidance_embedding(request.guidance_scale, width)
        conditioning["timestep_cond"] = strength.to(model.device, model.dtype)
    return conditioning, max(embedding.dropped for embedding in embeddings)


def _guidance_embedding(guidance_scale: float, width: int) -> torch.Tensor:
    """1 x width sinusoids of the guidance, which distilled UNets take as input (Meng et al. 2023)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000.0) / (half - 1)))
    angles = (torch.tensor([guidance_scale - 1]) * 1000.0)[:, None] * frequencies
    embedding = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.nn.functional.pad(embedding, (0, width % 2))
