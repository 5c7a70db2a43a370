"""Row: one image being denoised, with its latents, sampler state, prompts, noise and position; where its passes begin.

Everything that differs between two images lives in their `Row`. `denoise.advance` takes rows of any number of
jobs one UNet evaluation further.

Where a pass begins is computed as in `StableDiffusionPipeline.__call__`, its image-to-image and inpainting sisters and
those of SDXL (diffusers 0.42); latents stay in fp32 also where the UNet computes in half precision.
"""

from dataclasses import dataclass, field

import torch

from generation.engine.networks.controlnet import ControlNetCondition
from generation.engine.networks.deepcache import is_shallow
from generation.engine.networks.device import to_device
from generation.engine.networks.ip_adapter import ImagePromptTokens
from generation.engine.networks.loader import LoadedModel
from generation.engine.networks.lora import ActiveLoras
from generation.engine.networks.prompt_encoder import Embedding
from generation.engine.networks.vae import Encoded
from generation.engine.request.fields import MAX_SEED, ImageRequest
from generation.engine.request.passes import PassSchedule, passes_of
from generation.engine.sampling import SLOTS, Table, make_table

from .step_tensors import StepTensors, make_step_tensors
from .unet_config import is_guided, latent_channels, takes_mask

GroupShape = tuple[int, int, int, bool, bool]
"""Latent height and width, text tokens, tiling, whether the next evaluation is a shallow one (see `deepcache`)."""


@dataclass(frozen=True, slots=True)
class PassInputs:
    """What a pass begins with besides noise, on the device; the same for all images of a job."""

    image: Encoded | None = None
    """The starting picture."""
    mask: torch.Tensor | None = None
    """h x w of latents, 1 where something is to change and 0 elsewhere."""
    masked_image: Encoded | None = None
    """The starting picture without what the mask covers, for UNets that are shown it (see `takes_mask`)."""
    controlnet: ControlNetCondition | None = None
    image_prompt: ImagePromptTokens | None = None


@dataclass(frozen=True, slots=True)
class PreservedRegion:
    """The part of a picture that must come out as it was, for UNets that were not made for inpainting."""

    latents: torch.Tensor
    """channels x h x w."""
    noise: torch.Tensor
    """channels x h x w; this noise, so that what is preserved looks to the UNet as it did at the start."""
    mask: torch.Tensor
    """h x w, 0 where latents are preserved."""

    def restore(self, sample: torch.Tensor, level: tuple[float, float]) -> torch.Tensor:
        """The sample (channels x h x w) with the preserved part at that noise level: (signal, noise) amplitudes."""
        signal, amount = level
        return torch.lerp(signal * self.latents + amount * self.noise, sample, self.mask)


@dataclass(eq=False, slots=True)
class Row:
    """One image in flight, in one pass."""

    request: ImageRequest
    index: int
    """Of the image in its request."""
    schedule: PassSchedule
    """Size and steps of the pass that it is in."""
    table: Table
    step_tensors: StepTensors = field(repr=False)
    """What the table and the request say, on the device."""
    generator: torch.Generator
    """On the CPU and the row's own, so that a seed means the same picture on every device in any company."""
    sampler_state: torch.Tensor
    """SLOTS x channels x h x w in fp32: the latents as the sampler scales them, then what it remembers."""
    prompt: Embedding
    negative: Embedding | None
    """None without guidance, and where guidance is distilled into the UNet: then nothing else is paid for."""
    loras: ActiveLoras = ()
    """Its LoRAs."""
    preserved: PreservedRegion | None = field(default=None, repr=False)
    extra_channels: torch.Tensor | None = field(default=None, repr=False)
    """Channels x h x w that an inpainting UNet sees beside the latents: mask and masked picture."""
    controlnet: ControlNetCondition | None = None
    image_prompt: ImagePromptTokens | None = None
    deep_features: torch.Tensor | None = field(default=None, repr=False)
    """Deep features of the last complete evaluation, where they are to be reused (see `deepcache`)."""
    steps_before: int = 0
    """Taken in earlier passes."""
    last_turn: int = 0
    """When it was last moved, in turns of the loop."""
    position: int = 0
    """UNet evaluations taken in this pass."""
    noise: torch.Tensor | None = field(default=None, repr=False)
    """Drawn for this position, kept until the step has gone well: a repeated step must not draw again."""
    last_evaluation: tuple[torch.Tensor, torch.Tensor] | None = field(default=None, repr=False)
    """The sample that the UNet saw last and its answer, channels x h x w each: enough for a preview."""

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
        return self.sampler_state[:1]

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.sampler_state.shape[-2:]
        return height, width

    @property
    def slots(self) -> int:
        """Places that it takes in a UNet batch: 2 with guidance."""
        return 1 if self.negative is None else 2

    @property
    def shape(self) -> GroupShape:
        """Rows that share a forward pass agree in these."""
        height, width = self.sampler_state.shape[-2:]
        return height, width, self.prompt.tokens.shape[1], self.request.tiling, is_shallow(self)

    @property
    def dropped_tokens(self) -> int:
        """Prompt tokens that did not fit."""
        return max(text.dropped for text in (self.prompt, self.negative) if text is not None)


@torch.inference_mode()
def start_row(model: LoadedModel, request: ImageRequest, index: int, inputs: PassInputs = PassInputs()) -> Row:
    """Image `index` of the request where its first pass begins. It needs inputs if it starts from a picture, and
    for a UNet that takes masks."""
    schedule = passes_of(request)[0]
    generator = torch.Generator().manual_seed(request.seed_of(index))
    table = make_table(model.scheduler_config, request.sampler, schedule.steps, schedule.begin)
    # Inpainting that may change everything begins at pure noise, img2img never does: so diffusers has it.
    pure_noise = inputs.image is None or (inputs.mask is not None and schedule.begin == 0)
    image_latents = None
    # What is not needed is not drawn, so that the noise is what diffusers' pipelines find.
    if inputs.image is not None and not (pure_noise and takes_mask(model)):
        image_latents = inputs.image.draw(generator)
    noise = _initial_noise(model, request, index, schedule, generator)
    if image_latents is None or pure_noise:
        sample = noise * table.init_noise_sigma
    else:
        sample = _noisy(_fill_mask(image_latents, inputs.mask, request, generator), noise, table)
    loras = model.loras.activate(request.loras)
    prompt, negative = _encode_prompts(model, request, loras)
    step_tensors = make_step_tensors(model, request, schedule, table)
    row = Row(request, index, schedule, table, step_tensors, generator, _initial_state(sample), prompt, negative, loras)
    _apply_inputs(row, inputs, image_latents, noise)
    return row


@torch.inference_mode()
def start_next_pass(
    model: LoadedModel, row: Row, schedule: PassSchedule, inputs: PassInputs, enlarged: Encoded | None = None
) -> Row:
    """The row, whose pass is finished, where the next one begins.

    `enlarged`: the picture that it has become, at the new size. Without, its latents are enlarged. `inputs`: as for
    `start_row`, at the new size.
    """
    generator = row.generator.clone_state()
    table = make_table(model.scheduler_config, row.request.sampler, schedule.steps, schedule.begin)
    if enlarged is None:
        size = schedule.height // model.vae_scale, schedule.width // model.vae_scale
        latents = enlarge_latents(row.latents, size, row.request.tiling)[0]
    else:
        latents = enlarged.draw(generator)
    image_latents = inputs.image.draw(generator) if inputs.image is not None else None
    noise = _noise_like(latents, generator)
    next_row = Row(
        row.request,
        row.index,
        schedule,
        table,
        make_step_tensors(model, row.request, schedule, table),
        generator,
        _initial_state(_noisy(latents, noise, table)),
        row.prompt,
        row.negative,
        row.loras,
        steps_before=row.steps_done,
    )
    _apply_inputs(next_row, inputs, image_latents, noise)
    return next_row


def enlarge_latents(latents: torch.Tensor, size: tuple[int, int], tiling: bool) -> torch.Tensor:
    """1 x channels x h x w at another (height, width), bilinear; with `tiling` across the edges too."""
    if not tiling:
        return torch.nn.functional.interpolate(latents, size, mode="bilinear")
    height, width = size
    around = torch.nn.functional.interpolate(latents.repeat(1, 1, 3, 3), (3 * height, 3 * width), mode="bilinear")
    return around[..., height : 2 * height, width : 2 * width]


def _encode_prompts(
    model: LoadedModel, request: ImageRequest, loras: ActiveLoras
) -> tuple[Embedding, Embedding | None]:
    if is_guided(model, request):
        return model.text.encode_pair(request.prompt, request.negative_prompt, loras, request.clip_skip)
    return model.text.encode(request.prompt, loras, request.clip_skip), None


def _initial_noise(
    model: LoadedModel, request: ImageRequest, index: int, schedule: PassSchedule, generator: torch.Generator
) -> torch.Tensor:
    """channels x h x w of unit noise, with the variation's mixed in."""
    shape = latent_channels(model), schedule.height // model.vae_scale, schedule.width // model.vae_scale
    noise = torch.randn(shape, generator=generator)
    if request.variation:
        variation = torch.Generator().manual_seed((request.variation.seed + index) % (MAX_SEED + 1))
        noise = _slerp(noise, torch.randn(shape, generator=variation), request.variation.strength)
    return to_device(noise, model.device)


def _slerp(first: torch.Tensor, second: torch.Tensor, weight: float) -> torch.Tensor:
    """Spherical interpolation (Shoemake 1985): between two noises lies noise of the same strength."""
    cosine = (first * second).sum() / (first.norm() * second.norm())
    angle = torch.acos(cosine.clamp(-1, 1))
    if angle.sin() < 1e-4:  # the same direction, as from the same seed
        return torch.lerp(first, second, weight)
    return (torch.sin((1 - weight) * angle) * first + torch.sin(weight * angle) * second) / angle.sin()


def _noise_like(latents: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return to_device(torch.randn(latents.shape, generator=generator), latents.device)


def _noisy(latents: torch.Tensor, noise: torch.Tensor, table: Table) -> torch.Tensor:
    """The sample at the table's beginning."""
    signal, amount = table.levels[0]
    return signal * latents + amount * noise


def _fill_mask(
    latents: torch.Tensor, mask: torch.Tensor | None, request: ImageRequest, generator: torch.Generator
) -> torch.Tensor:
    """Latents with noise or zeros under the mask, if the request fills it so."""
    fill = request.start.fill if request.start else "original"
    if mask is None or fill not in ("noise", "zero"):
        return latents
    filling = _noise_like(latents, generator) if fill == "noise" else torch.zeros_like(latents)
    return torch.lerp(latents, filling, mask)


def _initial_state(sample: torch.Tensor) -> torch.Tensor:
    """The sampler's state before the first step: it remembers nothing but the sample."""
    state = sample.new_zeros(SLOTS, *sample.shape)
    state[0] = sample
    return state


def _apply_inputs(row: Row, inputs: PassInputs, image_latents: torch.Tensor | None, noise: torch.Tensor) -> None:
    """Give the row its add-ons, and the part that it preserves or the channels that its UNet sees."""
    row.controlnet, row.image_prompt = inputs.controlnet, inputs.image_prompt
    if inputs.mask is None:
        return
    if inputs.masked_image is not None:
        row.extra_channels = torch.cat([inputs.mask[None], inputs.masked_image.draw(row.generator)])
    elif image_latents is not None:
        row.preserved = PreservedRegion(image_latents, noise, inputs.mask)
