"""Rows in flight. A row is one image being drawn; a step moves it one UNet evaluation further.

Everything that differs between two images lives in their `Row`: prompt, guidance, sampler, noise,
position. `advance` takes rows of any number of jobs on together, each at its own timestep, as long as they
are of one `shape`; what comes out of a row does not depend on the others.

The arithmetic is that of `StableDiffusionPipeline.__call__` and `StableDiffusionXLPipeline.__call__`
(diffusers 0.42); latents stay in fp32 also where the UNet computes in half precision.
"""

import math
from dataclasses import dataclass, field

import torch

from .request import ImageRequest
from .sampling import SLOTS, Table, make_table, update
from .text import Embedding


@dataclass(eq=False, slots=True)
class Row:
    """One image in flight."""

    request: ImageRequest
    index: int
    table: Table
    generator: torch.Generator
    """On the CPU and the row's own, so that a seed means the same picture on every device in any company."""
    slots: torch.Tensor
    """SLOTS x channels x h x w in fp32: the latents as the sampler scales them, then what it remembers."""
    prompt: Embedding
    negative: Embedding | None
    """None without guidance, and where guidance is distilled into the UNet: then nothing else is paid for."""
    position: int = 0
    noise: torch.Tensor | None = field(default=None, repr=False)
    """Drawn for this position, kept until the step has gone well: a repeated step must not draw again."""
    estimate: tuple | None = field(default=None, repr=False)
    """The sample that the last evaluation saw and its answer: enough to guess the finished picture."""

    @property
    def finished(self) -> bool:
        return self.position == len(self.table)

    @property
    def steps_done(self) -> int:
        return self.table.steps_done(self.position)

    @property
    def latents(self) -> torch.Tensor:
        """1 x channels x h x w."""
        return self.slots[:1]

    @property
    def evaluations(self) -> int:
        """Pictures that the UNet sees for one step of this row."""
        return 1 if self.negative is None else 2

    @property
    def shape(self) -> tuple[int, int, int]:
        """Latent height and width, and text tokens: rows that share a forward pass agree in these."""
        return *self.slots.shape[-2:], self.prompt.tokens.shape[1]

    @property
    def dropped(self) -> int:
        """Prompt tokens that did not fit."""
        return max(text.dropped for text in (self.prompt, self.negative) if text is not None)


def is_guided(model, request: ImageRequest) -> bool:
    """Whether there is an unconditional half: guidance above 1, and not distilled into the UNet."""
    return request.guidance_scale > 1 and model.unet.config.time_cond_proj_dim is None


@torch.inference_mode()
def start_row(model, request: ImageRequest, index: int) -> Row:
    """Image `index` of the request at full noise."""
    table = make_table(model.scheduler_config, request.sampler, request.steps)
    generator = torch.Generator().manual_seed(request.seed_of(index))
    height, width = request.height // model.vae_scale, request.width // model.vae_scale
    slots = torch.zeros(SLOTS, model.unet.config.in_channels, height, width)
    slots[0] = torch.randn(slots.shape[1:], generator=generator) * table.first_scale
    if is_guided(model, request):
        prompt, negative = model.text.encode_pair(request.prompt, request.negative_prompt)
    else:
        prompt, negative = model.text.encode(request.prompt), None
    return Row(request, index, table, generator, slots.to(model.device), prompt, negative)


@torch.inference_mode()
def advance(model, rows: list[Row]) -> None:
    """One UNet evaluation and one sampler step for each row. If it raises, no row has moved."""
    slots = torch.stack([row.slots for row in rows])
    answers = _ask(model, rows, slots[:, 0])
    matrices = torch.stack([row.table.matrices[row.position] for row in rows]).to(slots.device)
    after = update(slots, answers, _noise(rows, slots.device), matrices)
    for row, sample, answer, moved in zip(rows, slots[:, 0], answers, after, strict=True):
        row.estimate = sample, answer
        row.slots, row.noise = moved, None
        row.position += 1


def foresee(row: Row) -> torch.Tensor:
    """The finished latents (1 x channels x h x w) as the last evaluation implies them."""
    sample, answer = row.estimate
    of_sample, of_answer = row.table.foresight[row.position - 1]
    return (of_sample * sample + of_answer * answer)[None]


def _ask(model, rows, samples) -> torch.Tensor:
    """The UNet's answers with guidance applied, rows x channels x h x w in fp32.

    The batch is every row with its prompt, then the guided ones again with what they should not be.
    """
    guided = [place for place, row in enumerate(rows) if row.negative is not None]
    seats = [*range(len(rows)), *guided]
    device = samples.device
    scales = _column([row.table.input_scales[row.position] for row in rows], device)
    times = torch.tensor([rows[seat].table.timesteps[rows[seat].position] for seat in seats], device=device)
    seen = (samples * scales)[seats].to(model.dtype)
    answer = model.unet(seen, times, return_dict=False, **_conditioning(model, rows, guided))[0].float()
    if not guided:
        return answer
    with_prompt, without = answer[: len(rows)], answer[len(rows) :]
    strength = _column([rows[place].request.guidance_scale for place in guided], device)
    with_prompt[guided] = without + strength * (with_prompt[guided] - without)
    return with_prompt


def _conditioning(model, rows, guided) -> dict:
    """The UNet's keyword arguments for the batch that `_ask` makes."""
    texts = [row.prompt for row in rows] + [rows[place].negative for place in guided]
    asked = [row.request for row in rows] + [rows[place].request for place in guided]
    conditioning = {"encoder_hidden_states": torch.cat([text.tokens for text in texts])}
    if model.spec.family == "sdxl":
        # Original size, crop corner and target size, as SDXL was trained (Podell et al. 2023, 2.2).
        sizes = [[each.height, each.width, 0, 0, each.height, each.width] for each in asked]
        times = torch.tensor(sizes, dtype=model.dtype, device=model.device)
        pooled = torch.cat([text.pooled for text in texts]).to(model.dtype)
        conditioning["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": times}
    if (width := model.unet.config.time_cond_proj_dim) is not None:
        strengths = _guidance_embedding([each.guidance_scale for each in asked], width)
        conditioning["timestep_cond"] = strengths.to(model.device, model.dtype)
    return conditioning


def _guidance_embedding(guidance_scales: list[float], width: int) -> torch.Tensor:
    """rows x width sinusoids of the guidance, which distilled UNets take as input (Meng et al. 2023)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000.0) / (half - 1)))
    angles = (torch.tensor(guidance_scales) - 1)[:, None] * 1000.0 * frequencies
    embedding = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.nn.functional.pad(embedding, (0, width % 2))


def _noise(rows, device) -> torch.Tensor:
    """rows x channels x h x w: fresh from each row's generator where its sampler wants some, else zero."""
    shape = rows[0].slots.shape[1:]
    noise = torch.zeros(len(rows), *shape, device=device)
    for place, row in enumerate(rows):
        if row.table.draws_noise[row.position]:
            if row.noise is None:
                row.noise = torch.randn(shape, generator=row.generator)
            noise[place] = row.noise.to(device)
    return noise


def _column(values: list[float], device) -> torch.Tensor:
    """One number for each row, shaped to multiply latents."""
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None, None]
