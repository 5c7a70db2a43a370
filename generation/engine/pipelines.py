"""Families that the step loop does not batch: they run through diffusers' own pipelines, one picture at a time.

The classes are ours to choose (FAMILIES): a model's `model_index.json` is never followed, every part is loaded by
its own class from its own folder, from safetensors only.
"""

import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxImg2ImgPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImageImg2ImgPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3Pipeline,
)
from PIL import Image
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    T5EncoderModel,
    T5TokenizerFast,
)

from . import sources
from .canvas import lay_out
from .catalog import ModelSpec
from .eight_bits import to_eight_bits
from .images import LatentColours
from .modes import drawn_steps
from .request import ImageRequest
from .sources import Source

log = logging.getLogger(__name__)


def _flux_words(request: ImageRequest, transformer) -> dict:
    # Guidance is distilled into the "dev" models as a number they read; "schnell" knows none, and 256 tokens.
    return {"guidance_scale": request.guidance_scale,
            "max_sequence_length": 512 if transformer.config.guidance_embeds else 256}


def _sd3_words(request: ImageRequest, transformer) -> dict:
    return {"guidance_scale": request.guidance_scale, "negative_prompt": request.negative_prompt}


def _qwen_words(request: ImageRequest, transformer) -> dict:
    # An empty negative prompt leaves Qwen-Image's pipeline without tokens; its authors use a space.
    guided = {"negative_prompt": request.negative_prompt or " "} if request.guidance_scale > 1 else {}
    return guided | {"true_cfg_scale": request.guidance_scale}


@dataclass(frozen=True, slots=True)
class Family:
    """The classes of one family: pipelines from words and from a picture, parts with weights, tokenizers.

    `words(request, transformer)`: the keyword arguments in which the families differ.
    """

    from_words: type[DiffusionPipeline]
    from_picture: type[DiffusionPipeline]
    parts: dict[str, type]
    tokenizers: dict[str, type]
    words: Callable[[ImageRequest, torch.nn.Module], dict]


FAMILIES = {
    "flux": Family(
        FluxPipeline, FluxImg2ImgPipeline,
        {"transformer": FluxTransformer2DModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel,
         "text_encoder_2": T5EncoderModel},
        {"tokenizer": CLIPTokenizer, "tokenizer_2": T5TokenizerFast}, _flux_words),
    "sd3": Family(
        StableDiffusion3Pipeline, StableDiffusion3Img2ImgPipeline,
        {"transformer": SD3Transformer2DModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModelWithProjection,
         "text_encoder_2": CLIPTextModelWithProjection, "text_encoder_3": T5EncoderModel},
        {"tokenizer": CLIPTokenizer, "tokenizer_2": CLIPTokenizer, "tokenizer_3": T5TokenizerFast}, _sd3_words),
    "qwen-image": Family(
        QwenImagePipeline, QwenImageImg2ImgPipeline,
        {"transformer": QwenImageTransformer2DModel, "vae": AutoencoderKLQwenImage,
         "text_encoder": Qwen2_5_VLForConditionalGeneration},
        {"tokenizer": Qwen2Tokenizer}, _qwen_words),
}

EIGHT_BIT_PARTS = ("transformer", "text_encoder", "text_encoder_2", "text_encoder_3")


@dataclass(eq=False)
class LoadedPipeline:
    """One model of these families, ready to draw."""

    spec: ModelSpec
    source: Source
    from_words: DiffusionPipeline
    from_picture: DiffusionPipeline
    device: torch.device
    dtype: torch.dtype
    nbytes: int
    """Bytes of all weights."""
    digest: Future = field(repr=False)
    colours: LatentColours | None = None
    """Learned from the first picture; there are no previews before."""
    low_memory: bool = False

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the transformer's weights. Waits if it is still being computed."""
        return self.digest.result()

    def save_memory(self, on: bool) -> None:
        """Low-memory mode: decoding in tiles, and on a GPU only the part at work lies on it. Slower."""
        if on == self.low_memory:
            return
        vae = self.from_words.vae
        for switch in ("slicing", "tiling"):
            getattr(vae, f"{'enable' if on else 'disable'}_{switch}")()
        if self.device.type != "cpu":
            if on:
                # Each of the two pipelines would put its own hooks on the same parts; one set serves both.
                self.from_words.enable_model_cpu_offload(device=self.device)
            else:
                self.from_words.remove_all_hooks()
                self.from_words.to(self.device)
        self.low_memory = on

    def forget(self) -> None:
        """Nothing is kept between pictures."""

    def draw(self, request: ImageRequest, index: int, on_step: Callable[[int, Callable], None]) -> Image.Image:
        """Image `index` of the request.

        `on_step(done, picture)` comes after each step and may raise, which ends the picture; `picture()` is what
        it looks like by then, or None while that is not known.
        """
        family = FAMILIES[self.spec.family]
        words = {
            "prompt": request.prompt, "width": request.width, "height": request.height,
            "num_inference_steps": request.steps, "output_type": "pil",
            "generator": torch.Generator().manual_seed(request.seed_of(index)),
        } | family.words(request, self.from_words.transformer)
        pipeline = self.from_words
        if request.start:
            picture = lay_out(request.start, (request.width, request.height)).picture
            if request.start.strength == 0:
                return picture
            pipeline = self.from_picture
            # diffusers rounds up where we round down: a quarter of a step less makes both mean the same number.
            strength = (drawn_steps(request.steps, request.start.strength) - 0.25) / request.steps
            words |= {"image": picture, "strength": strength}
        watch = Watch(self, request, on_step)
        try:
            picture = pipeline(**words, callback_on_step_end=watch).images[0].convert("RGB")
        finally:
            pipeline.maybe_free_model_hooks()
        self._learn_colours(watch.latents, picture)
        return picture

    def grid(self, latents: torch.Tensor, request: ImageRequest) -> torch.Tensor:
        """1 x channels x h x w of the latents as the pipeline hands them out (packed, or with a time)."""
        if latents.ndim == 3:
            scale = self.from_words.vae_scale_factor
            latents = self.from_words._unpack_latents(latents, request.height, request.width, scale)
        return latents[:, :, 0] if latents.ndim == 5 else latents

    def _learn_colours(self, latents: torch.Tensor | None, picture: Image.Image) -> None:
        """The linear map from finished latents to colours that fits this picture best."""
        if self.colours is not None or latents is None:
            return
        channels, height, width = latents.shape[1:]
        values = latents[0].float().cpu().reshape(channels, -1).T
        values = torch.cat((values, torch.ones(len(values), 1)), 1)
        small = picture.resize((width, height), Image.Resampling.BOX)
        colours = torch.tensor(list(small.tobytes()), dtype=torch.float32).reshape(-1, 3) / 127.5 - 1
        ridge = torch.eye(channels + 1) * 1e-3 * len(values)
        fit = torch.linalg.solve(values.T @ values + ridge, values.T @ colours)
        if torch.isfinite(fit).all():
            self.colours = LatentColours(fit[:-1], fit[-1])


class Watch:
    """diffusers' callback at the end of each step. `latents` are the last ones, as 1 x channels x h x w."""

    def __init__(self, model: LoadedPipeline, request: ImageRequest, on_step):
        self._model, self._request, self._on_step = model, request, on_step
        self._before: torch.Tensor | None = None
        self.latents: torch.Tensor | None = None

    def __call__(self, pipeline, step: int, timestep, tensors: dict) -> dict:
        self._before, self.latents = self.latents, self._model.grid(tensors["latents"], self._request)
        sigmas, place = pipeline.scheduler.sigmas, pipeline.scheduler.step_index
        self._on_step(step + 1, lambda: self._picture(sigmas[place - 1].item(), sigmas[place].item()))
        return {}

    def _picture(self, sigma_before: float, sigma: float) -> Image.Image | None:
        """A flow is a straight line as far as the last step can tell: follow it to where there is no noise."""
        if self._model.colours is None:
            return None
        foreseen = self.latents
        if self._before is not None and sigma != sigma_before:
            foreseen = self.latents - sigma * (self.latents - self._before) / (sigma - sigma_before)
        return self._model.colours.picture(foreseen)


def load_pipeline(
    spec: ModelSpec, source: Source, dtype: torch.dtype, device: torch.device, digest: Future
) -> LoadedPipeline:
    """The model in the folder of `source`. What a wrong folder makes the libraries raise is anything."""
    if source.path.is_file():
        raise ValueError("models of this family are folders, not single files")
    family, folder = FAMILIES[spec.family], source.path
    optional = sources.OPTIONAL_PARTS.get(spec.family, ())
    missing = {part for part in optional if not (folder / part).is_dir() or not os.listdir(folder / part)}
    missing = set(optional) if missing else set()
    parts = {part: None if part in missing else _load_part(spec, folder, part, kind, dtype)
             for part, kind in family.parts.items()}
    parts |= {part: None if part in missing else kind.from_pretrained(folder / part, local_files_only=True)
              for part, kind in family.tokenizers.items()}
    parts["scheduler"] = FlowMatchEulerDiscreteScheduler.from_config(
        json.loads((folder / "scheduler" / "scheduler_config.json").read_text()))
    modules = [part for part in parts.values() if isinstance(part, torch.nn.Module)]
    if spec.eight_bits:
        for part in EIGHT_BIT_PARTS:
            if parts.get(part) is not None:
                log.info("%s: %d matrices of the %s in 8 bits", spec.key, to_eight_bits(parts[part]), part)
    for module in modules:
        module.requires_grad_(False).eval().to(device)
    pipelines = [kind(**parts) for kind in (family.from_words, family.from_picture)]
    for pipeline in pipelines:
        pipeline.set_progress_bar_config(disable=True)
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return LoadedPipeline(
        spec=spec, source=source, from_words=pipelines[0], from_picture=pipelines[1], device=device, dtype=dtype,
        nbytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors), digest=digest,
    )


def _load_part(spec: ModelSpec, folder: Path, part: str, kind: type, dtype: torch.dtype):
    stem = sources.WEIGHTED_PARTS[spec.family][part]
    _, variant = sources.choose_weights(os.listdir(folder / part), stem, spec.variant)
    return kind.from_pretrained(folder / part, variant=variant, dtype=dtype, use_safetensors=True,
                                local_files_only=True)
