"""Rows in flight. A row is one image being drawn; a step moves it one UNet evaluation further.

Everything that differs between two images lives in their `Row`: prompt, guidance, sampler, noise,
position. `advance` takes rows of any number of jobs on together, each at its own timestep, as long as they
are of one `shape`; what comes out of a row does not depend on the others.

The arithmetic is that of `StableDiffusionPipeline.__call__`, its image-to-image and inpainting sisters and
those of SDXL (diffusers 0.42); latents stay in fp32 also where the UNet computes in half precision.
"""

from dataclasses import dataclass, field

import torch

from generation.engine.networks.controlnet import ControlNetCondition, apply_controlnets
from generation.engine.networks.deepcache import evaluate, is_shallow
from generation.engine.networks.device import to_device
from generation.engine.networks.ip_adapter import ImagePromptTokens, apply_ip_adapters
from generation.engine.networks.lora import ActiveLoras, active_in_unet
from generation.engine.networks.prompt_encoder import Embedding
from generation.engine.networks.vae import Encoded, joined_edges
from generation.engine.request.fields import MAX_SEED, ImageRequest
from generation.engine.request.passes import PassSchedule, passes_of
from generation.engine.sampling import SLOTS, Table, make_table, update

from .step_tensors import Course, chart


@dataclass(frozen=True, slots=True)
class Ground:
    """What a pass begins with, on the device; one for all images of a job."""

    given: Encoded | None = None
    """The starting picture."""
    mask: torch.Tensor | None = None
    """h x w of latents, 1 where something is to change and 0 elsewhere."""
    masked: Encoded | None = None
    """The starting picture without what the mask covers, for UNets that are shown it (see `sees_mask`)."""
    guide: ControlNetCondition | None = None
    """What a ControlNet steers it by."""
    likeness: ImagePromptTokens | None = None
    """What it shall look like."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The part of a picture that must come out as it was, for UNets that were not made for that."""

    latents: torch.Tensor
    noise: torch.Tensor
    """Both channels x h x w; this noise, so that what is kept looks to the UNet as it did at the start."""
    mask: torch.Tensor

    def restored(self, sample: torch.Tensor, level: tuple[float, float]) -> torch.Tensor:
        """The sample (channels x h x w) with what is outside the mask as given, at that noise level."""
        clean, amount = level
        return torch.lerp(clean * self.latents + amount * self.noise, sample, self.mask)


@dataclass(eq=False, slots=True)
class Row:
    """One image in flight, in one pass."""

    request: ImageRequest
    index: int
    plan: PassSchedule
    """The pass that it is in."""
    table: Table
    course: Course = field(repr=False)
    """What the table and the request say, on the device."""
    generator: torch.Generator
    """On the CPU and the row's own, so that a seed means the same picture on every device in any company."""
    slots: torch.Tensor
    """SLOTS x channels x h x w in fp32: the latents as the sampler scales them, then what it remembers."""
    prompt: Embedding
    negative: Embedding | None
    """None without guidance, and where guidance is distilled into the UNet: then nothing else is paid for."""
    worn: ActiveLoras = ()
    """Its LoRAs."""
    kept: Kept | None = field(default=None, repr=False)
    beside: torch.Tensor | None = field(default=None, repr=False)
    """Channels that the UNet sees beside the latents: mask and masked picture."""
    guide: ControlNetCondition | None = None
    likeness: ImagePromptTokens | None = None
    deep: torch.Tensor | None = field(default=None, repr=False)
    """What the last complete evaluation found in the UNet's depth, where that is to be reused."""
    steps_before: int = 0
    """Taken in earlier passes."""
    turn: int = 0
    """When it was last moved, in turns of the loop."""
    position: int = 0
    noise: torch.Tensor | None = field(default=None, repr=False)
    """Drawn for this position, kept until the step has gone well: a repeated step must not draw again."""
    estimate: tuple | None = field(default=None, repr=False)
    """The sample that the last evaluation saw and its answer: enough to guess the finished picture."""

    @property
    def finished(self) -> bool:
        return self.position == len(self.table)

    @property
    def evaluations_left(self) -> int:
        """UNet evaluations up to the end of this pass."""
        return len(self.table) - self.position

    @property
    def steps_done(self) -> int:
        """Of all passes, as the user counts them. A pass that draws nothing counts as one step."""
        return self.steps_before + (self.table.steps_done(self.position) if self.table else 1)

    @property
    def latents(self) -> torch.Tensor:
        """1 x channels x h x w."""
        return self.slots[:1]

    @property
    def evaluations(self) -> int:
        """Pictures that the UNet sees for one step of this row."""
        return 1 if self.negative is None else 2

    @property
    def shape(self) -> tuple[int, int, int, bool, bool]:
        """Latent height and width, text tokens, tiling, depth: rows that share a forward pass agree in these."""
        return *self.slots.shape[-2:], self.prompt.tokens.shape[1], self.request.tiling, is_shallow(self)

    @property
    def dropped(self) -> int:
        """Prompt tokens that did not fit."""
        return max(text.dropped for text in (self.prompt, self.negative) if text is not None)


def is_guided(model, request: ImageRequest) -> bool:
    """Whether there is an unconditional half: guidance above 1, and not distilled into the UNet."""
    return request.guidance_scale > 1 and model.unet.config.time_cond_proj_dim is None


def sees_mask(model) -> bool:
    """Whether the UNet takes a mask and the masked picture beside the latents, as those made for inpainting do."""
    return model.unet.config.in_channels == 2 * model.vae.config.latent_channels + 1


@torch.inference_mode()
def start_row(model, request: ImageRequest, index: int, ground: Ground = Ground()) -> Row:
    """Image `index` of the request where its first pass begins. It needs a ground if it starts from a picture, and
    for a UNet that sees masks."""
    plan = passes_of(request)[0]
    generator = torch.Generator().manual_seed(request.seed_of(index))
    table = make_table(model.scheduler_config, request.sampler, plan.steps, plan.begin)
    # Inpainting that may change everything begins at pure noise, img2img never does: so diffusers has it.
    pure = ground.given is None or (ground.mask is not None and plan.begin == 0)
    # What is not needed is not drawn, so that the noise is what diffusers' pipelines find.
    needed = ground.given is not None and not (pure and sees_mask(model))
    given = ground.given.draw(generator) if needed else None
    noise = _first_noise(model, request, index, plan, generator)
    if pure:
        sample = noise * table.init_noise_sigma
    else:
        sample = _mixed(_refilled(given, ground.mask, request.start.fill, generator), noise, table)
    worn = model.loras.activate(request.loras)
    prompt, negative = _texts(model, request, worn)
    course = chart(model, request, plan, table)
    row = Row(request, index, plan, table, course, generator, _slots(sample), prompt, negative, worn)
    _lay(model, row, ground, given, noise)
    return row


@torch.inference_mode()
def next_pass(model, row: Row, plan: PassSchedule, ground: Ground, drawn: Encoded | None = None) -> Row:
    """The row, whose pass is finished, where the next one begins.

    `drawn`: what it has become, enlarged. Without, its latents are enlarged. `ground`: as for `start_row`, at the
    new size, for a request with a mask.
    """
    generator = row.generator.clone_state()
    table = make_table(model.scheduler_config, row.request.sampler, plan.steps, plan.begin)
    if drawn is None:
        size = plan.height // model.vae_scale, plan.width // model.vae_scale
        latents = _larger(row.latents, size, row.request.tiling)[0]
    else:
        latents = drawn.draw(generator)
    given = ground.given.draw(generator) if ground.given is not None else None
    noise = _noise_like(latents, generator)
    course = chart(model, row.request, plan, table)
    raised = Row(
        row.request,
        row.index,
        plan,
        table,
        course,
        generator,
        _slots(_mixed(latents, noise, table)),
        row.prompt,
        row.negative,
        row.worn,
        steps_before=row.steps_done,
    )
    _lay(model, raised, ground, given, noise)
    return raised


def _larger(latents: torch.Tensor, size: tuple[int, int], tiling: bool) -> torch.Tensor:
    if not tiling:
        return torch.nn.functional.interpolate(latents, size, mode="bilinear")
    height, width = size
    around = torch.nn.functional.interpolate(latents.repeat(1, 1, 3, 3), (3 * height, 3 * width), mode="bilinear")
    return around[..., height : 2 * height, width : 2 * width]


def _texts(model, request, worn) -> tuple[Embedding, Embedding | None]:
    if is_guided(model, request):
        return model.text.encode_pair(request.prompt, request.negative_prompt, worn, request.clip_skip)
    return model.text.encode(request.prompt, worn, request.clip_skip), None


def _first_noise(model, request, index, plan, generator) -> torch.Tensor:
    """channels x h x w of unit noise, with the variation's mixed in."""
    shape = (model.vae.config.latent_channels, plan.height // model.vae_scale, plan.width // model.vae_scale)
    noise = torch.randn(shape, generator=generator)
    if request.variation:
        other = torch.Generator().manual_seed((request.variation.seed + index) % (MAX_SEED + 1))
        noise = _slerp(noise, torch.randn(shape, generator=other), request.variation.strength)
    return to_device(noise, model.device)


def _slerp(one: torch.Tensor, other: torch.Tensor, part: float) -> torch.Tensor:
    """Spherical interpolation (Shoemake 1985): between two noises lies noise of the same strength."""
    cosine = (one * other).sum() / (one.norm() * other.norm())
    angle = torch.acos(cosine.clamp(-1, 1))
    if angle.sin() < 1e-4:  # the same direction, as from the same seed
        return torch.lerp(one, other, part)
    return (torch.sin((1 - part) * angle) * one + torch.sin(part * angle) * other) / angle.sin()


def _noise_like(latents: torch.Tensor, generator) -> torch.Tensor:
    return to_device(torch.randn(latents.shape, generator=generator), latents.device)


def _mixed(latents, noise, table) -> torch.Tensor:
    """The sample at the table's beginning."""
    clean, amount = table.levels[0]
    return clean * latents + amount * noise


def _refilled(latents, mask, fill: str, generator) -> torch.Tensor:
    """Latents with noise or nothing under the mask, if the request fills it so."""
    if mask is None or fill not in ("noise", "zero"):
        return latents
    under = _noise_like(latents, generator) if fill == "noise" else torch.zeros_like(latents)
    return torch.lerp(latents, under, mask)


def _slots(sample: torch.Tensor) -> torch.Tensor:
    slots = sample.new_zeros(SLOTS, *sample.shape)
    slots[0] = sample
    return slots


def _lay(model, row: Row, ground: Ground, given, noise) -> None:
    """Give the row what its ground asks for: a guide, a part that is kept, or channels for the UNet to see."""
    row.guide, row.likeness = ground.guide, ground.likeness
    if sees_mask(model):
        row.beside = torch.cat([ground.mask[None], ground.masked.draw(row.generator)])
    elif ground.mask is not None:
        row.kept = Kept(given, noise, ground.mask)


@torch.inference_mode()
def advance(model, rows: list[Row]) -> None:
    """One UNet evaluation and one sampler step for each row. If it raises, no row has moved.

    Nothing in here waits for the device or copies to it, but for the noise that some samplers want: what is known
    of a row is in its course.
    """
    slots = torch.stack([row.slots for row in rows])
    samples = slots[:, 0]
    answers = _ask(model, rows, samples)
    matrices = torch.stack([row.course.matrices[row.position] for row in rows])
    after = update(slots, answers, _noise(rows, slots.device), matrices)
    for row, sample, answer, moved in zip(rows, samples, answers, after, strict=True):
        if row.kept is not None:
            moved[0] = row.kept.restored(moved[0], row.table.levels[row.position + 1])
        row.estimate = sample, answer
        row.slots, row.noise = moved, None
        row.position += 1


def foresee(row: Row) -> torch.Tensor:
    """The finished latents (1 x channels x h x w) as the last evaluation implies them."""
    sample, answer = row.estimate
    of_sample, of_answer = row.table.x0_factors[row.position - 1]
    return (of_sample * sample + of_answer * answer)[None]


def _ask(model, rows, samples) -> torch.Tensor:
    """The UNet's answers with guidance applied, rows x channels x h x w in fp32.

    The batch is every row with its prompt, then the guided ones again with what they should not be.
    """
    guided = [place for place, row in enumerate(rows) if row.negative is not None]
    seats = [*range(len(rows)), *guided]
    scales, times, strengths = torch.stack([row.course.numbers[row.position] for row in rows]).unbind(1)
    seen = samples * _column(scales)
    times = _seated(times, guided)
    conditioning = _conditioning(rows, guided)
    batch = _seated(seen, guided).to(model.dtype)
    steering = apply_controlnets(rows, seats, batch, times, conditioning)
    if rows[0].beside is not None:
        seen = torch.cat([seen, torch.stack([row.beside for row in rows])], dim=1)
        batch = _seated(seen, guided).to(model.dtype)
    worn = active_in_unet([rows[seat].worn for seat in seats])
    with joined_edges(model.unet, rows[0].request.tiling), worn, apply_ip_adapters(rows, seats):
        answer = evaluate(model.unet, rows, seats, batch, times, conditioning, steering).float()
    if not guided:
        return answer
    with_prompt, without = answer[: len(rows)], answer[len(rows) :]
    return _guided(with_prompt, without, _column(strengths), guided)


def _seated(each: torch.Tensor, guided: list[int]) -> torch.Tensor:
    """One of each row, then the guided ones' again. By slices, since a list of places would be copied to the device."""
    if not guided:
        return each
    again = [each] if len(guided) == len(each) else [each[place : place + 1] for place in guided]
    return torch.cat([each, *again])


def _guided(with_prompt, without, strengths, guided) -> torch.Tensor:
    """Every row's answer, with guidance where there is some."""
    if len(guided) == len(with_prompt):
        return without + strengths * (with_prompt - without)
    answers = list(with_prompt.split(1))
    for place, other in zip(guided, without.split(1), strict=True):
        answers[place] = other + strengths[place] * (answers[place] - other)
    return torch.cat(answers)


def _conditioning(rows, guided) -> dict:
    """The UNet's keyword arguments for the batch that `_ask` makes."""
    texts = [row.prompt for row in rows] + [rows[place].negative for place in guided]
    conditioning = {"encoder_hidden_states": torch.cat([text.tokens for text in texts])}
    if rows[0].course.sizes is not None:
        tokens = conditioning["encoder_hidden_states"]
        sizes = _seated(torch.cat([row.course.sizes for row in rows]), guided)
        pooled = torch.cat([text.pooled for text in texts]).to(tokens.dtype)
        conditioning["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
    if rows[0].course.strength is not None:
        conditioning["timestep_cond"] = _seated(torch.cat([row.course.strength for row in rows]), guided)
    return conditioning


def _noise(rows, device) -> torch.Tensor:
    """rows x channels x h x w: fresh from each row's generator where its sampler wants some, else zero.

    Drawn while the device is still at the UNet.
    """
    drawing = [row for row in rows if row.table.draws_noise[row.position]]
    shape = rows[0].slots.shape[1:]
    if not drawing:
        return torch.zeros(len(rows), *shape, device=device)
    for row in drawing:
        if row.noise is None:
            row.noise = torch.randn(shape, generator=row.generator)
    nothing = None if len(drawing) == len(rows) else torch.zeros(shape)
    return to_device(torch.stack([row.noise if row in drawing else nothing for row in rows]), device)


def _column(numbers: torch.Tensor) -> torch.Tensor:
    """One number for each row, shaped to multiply latents."""
    return numbers[:, None, None, None]
