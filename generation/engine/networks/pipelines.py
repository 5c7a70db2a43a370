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

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImageImg2ImgPipeline,
    QwenImageInpaintPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline,
    StableDiffusion3Pipeline,
)
from diffusers.utils.torch_utils import randn_tensor
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

from generation.engine.catalog import model_files
from generation.engine.catalog.addons import Addons
from generation.engine.catalog.model_files import Source
from generation.engine.catalog.models import ModelSpec
from generation.engine.pictures.canvas import Canvas, lay_out
from generation.engine.pictures.pixels import refuse_black
from generation.engine.request.fields import ImageRequest
from generation.engine.request.geometry import drawn_steps

from .int8 import to_eight_bits
from .lora import Wardrobe, WrongLora, worn_by_all
from .vae import LatentColours

log = logging.getLogger(__name__)


def _flux_words(request: ImageRequest, transformer) -> dict:
    # Guidance is distilled into the "dev" models as a number they read; "schnell" knows none, and 256 tokens.
    return {
        "guidance_scale": request.guidance_scale,
        "max_sequence_length": 512 if transformer.config.guidance_embeds else 256,
    }


def _sd3_words(request: ImageRequest, transformer) -> dict:
    return {"guidance_scale": request.guidance_scale, "negative_prompt": request.negative_prompt}


def _qwen_words(request: ImageRequest, transformer) -> dict:
    # An empty negative prompt leaves Qwen-Image's pipeline without tokens; its authors use a space.
    guided = {"negative_prompt": request.negative_prompt or " "} if request.guidance_scale > 1 else {}
    return guided | {"true_cfg_scale": request.guidance_scale}


def _flux_names(tensors: dict) -> dict:
    state, alphas = _in_diffusers_words(FluxPipeline, tensors, return_alphas=True)
    return state | (alphas or {})


def _qwen_names(tensors: dict) -> dict:
    return _in_diffusers_words(QwenImagePipeline, tensors)


def _in_diffusers_words(pipeline: type[DiffusionPipeline], tensors: dict, **options):
    """A LoRA's tensors by diffusers' names, whichever tool wrote them. Raises WrongLora."""
    if any("dora_scale" in name for name in tensors):  # left out without a word there
        raise WrongLora("it is a DoRA")
    try:
        return pipeline.lora_state_dict(dict(tensors), **options)
    except Exception as error:  # what names that nobody knows make it raise is anything
        raise WrongLora(f"{type(error).__name__}: {error}") from None


class Filling:
    """Inpainting that may begin with noise or nothing under the mask (`noise`, `zero` of modes.FILLS)."""

    filling: tuple[str, torch.Tensor] | None = None
    """What stands under the mask, and the mask as h x w of bool in latents."""

    def _encode_vae_image(self, image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        latents = super()._encode_vae_image(image=image, generator=generator)
        if self.filling is None:
            return latents
        fill, mask = self.filling
        under = torch.zeros_like(latents)
        if fill == "noise":
            under = randn_tensor(latents.shape, generator=generator, device=latents.device, dtype=latents.dtype)
        return torch.where(mask.to(latents.device), under, latents)


class FluxInpainting(Filling, FluxInpaintPipeline):
    """diffusers' for Flux."""


class SD3Inpainting(Filling, StableDiffusion3InpaintPipeline):
    """diffusers' for Stable Diffusion 3. See Watch for what it forgets."""


class QwenImageInpainting(Filling, QwenImageInpaintPipeline):
    """diffusers' for Qwen-Image."""


@dataclass(frozen=True, slots=True)
class Family:
    """The classes of one family: pipelines from words, from a picture, and for a part of one; parts with weights,
    tokenizers.

    `words(request, transformer)`: the keyword arguments in which the families differ. `dressed`: the text encoders
    that LoRAs may change. `lora_names`: see `lora.Wardrobe`.
    """

    from_words: type[DiffusionPipeline]
    from_picture: type[DiffusionPipeline]
    inpainting: type[DiffusionPipeline]
    parts: dict[str, type]
    tokenizers: dict[str, type]
    words: Callable[[ImageRequest, torch.nn.Module], dict]
    dressed: tuple[str, ...] = ()
    lora_names: Callable[[dict], dict] = dict


FAMILIES = {
    "flux": Family(
        FluxPipeline,
        FluxImg2ImgPipeline,
        FluxInpainting,
        {
            "transformer": FluxTransformer2DModel,
            "vae": AutoencoderKL,
            "text_encoder": CLIPTextModel,
            "text_encoder_2": T5EncoderModel,
        },
        {"tokenizer": CLIPTokenizer, "tokenizer_2": T5TokenizerFast},
        _flux_words,
        dressed=("text_encoder",),
        lora_names=_flux_names,
    ),
    "sd3": Family(
        StableDiffusion3Pipeline,
        StableDiffusion3Img2ImgPipeline,
        SD3Inpainting,
        {
            "transformer": SD3Transformer2DModel,
            "vae": AutoencoderKL,
            "text_encoder": CLIPTextModelWithProjection,
            "text_encoder_2": CLIPTextModelWithProjection,
            "text_encoder_3": T5EncoderModel,
        },
        {"tokenizer": CLIPTokenizer, "tokenizer_2": CLIPTokenizer, "tokenizer_3": T5TokenizerFast},
        _sd3_words,
        dressed=("text_encoder", "text_encoder_2"),
    ),
    "qwen-image": Family(
        QwenImagePipeline,
        QwenImageImg2ImgPipeline,
        QwenImageInpainting,
        {
            "transformer": QwenImageTransformer2DModel,
            "vae": AutoencoderKLQwenImage,
            "text_encoder": Qwen2_5_VLForConditionalGeneration,
        },
        {"tokenizer": Qwen2Tokenizer},
        _qwen_words,
        lora_names=_qwen_names,
    ),
}

EIGHT_BIT_PARTS = ("transformer", "text_encoder", "text_encoder_2", "text_encoder_3")


@dataclass(eq=False)
class LoadedPipeline:
    """One model of these families, ready to draw."""

    spec: ModelSpec
    source: Source
    from_words: DiffusionPipeline
    from_picture: DiffusionPipeline
    inpainting: DiffusionPipeline
    loras: Wardrobe
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
                # Each of the pipelines would put its own hooks on the same parts; one set serves both.
                self.from_words.enable_model_cpu_offload(device=self.device)
            else:
                self.from_words.remove_all_hooks()
                self.from_words.to(self.device)
        self.low_memory = on

    def forget(self) -> None:
        """Drop what can be read again."""
        self.loras.forget()

    def draw(self, request: ImageRequest, index: int, on_step: Callable[[int, Callable], None]) -> Image.Image:
        """Image `index` of the request.

        `on_step(done, picture)` comes after each step and may raise, which ends the picture; `picture()` is what
        it looks like by then, or None while that is not known. Raises InvalidRequest for a LoRA that is missing
        or does not fit, and BadOutput.
        """
        worn = self.loras.wear(request.loras)
        for lora, _ in worn:
            lora.to(self.device)  # in low-memory mode the layers themselves may be elsewhere
        canvas = lay_out(request.start, (request.width, request.height)) if request.start else None
        if canvas and request.start.strength == 0:
            return canvas.put_back(canvas.picture)
        pipeline, begin = self._beginning(request, canvas)
        words = {
            "prompt": request.prompt,
            "width": request.width,
            "height": request.height,
            "num_inference_steps": request.steps,
            "output_type": "pil",
            "generator": torch.Generator().manual_seed(request.seed_of(index)),
        } | FAMILIES[self.spec.family].words(request, self.from_words.transformer)
        watch = Watch(self, request, on_step)
        try:
            with worn_by_all(worn):
                drawn = pipeline(**words, **begin, callback_on_step_end=watch).images[0].convert("RGB")
        finally:
            pipeline.maybe_free_model_hooks()
        refuse_black(drawn)
        self._learn_colours(watch.latents, drawn)
        return canvas.put_back(drawn) if canvas else drawn

    def _beginning(self, request: ImageRequest, canvas: Canvas | None) -> tuple[DiffusionPipeline, dict]:
        """The pipeline that draws over the canvas, and what it is told of it."""
        if canvas is None:
            return self.from_words, {}
        drawn = drawn_steps(request.steps, request.start.strength)
        # diffusers rounds up where we round down: a quarter of a step less makes both mean the same number.
        strength = 1.0 if drawn == request.steps else (drawn - 0.25) / request.steps
        begin = {"image": canvas.picture, "strength": strength}
        if canvas.mask is None:
            return self.from_picture, begin
        scale, fill = self.inpainting.vae_scale_factor, request.start.fill
        mask = torch.from_numpy(np.asarray(canvas.mask)[::scale, ::scale] >= 128)
        self.inpainting.filling = (fill, mask) if fill in ("noise", "zero") else None
        return self.inpainting, begin | {"mask_image": canvas.mask}

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
        if isinstance(pipeline, SD3Inpainting) and step + 1 == pipeline.num_timesteps:
            # It forgets to shift the latents back before it decodes them, as its sisters do (diffusers 0.42).
            known = pipeline.vae.config
            return {"latents": tensors["latents"] + known.shift_factor * known.scaling_factor}
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
    spec: ModelSpec, source: Source, dtype: torch.dtype, device: torch.device, digest: Future, addons: Addons
) -> LoadedPipeline:
    """The model in the folder of `source`. What a wrong folder makes the libraries raise is anything."""
    if source.path.is_file():
        raise ValueError("models of this family are folders, not single files")
    family, folder = FAMILIES[spec.family], source.path
    optional = model_files.OPTIONAL_PARTS.get(spec.family, ())
    missing = {part for part in optional if not (folder / part).is_dir() or not os.listdir(folder / part)}
    missing = set(optional) if missing else set()
    parts = {
        part: None if part in missing else _load_part(spec, folder, part, kind, dtype)
        for part, kind in family.parts.items()
    }
    parts |= {
        part: None if part in missing else kind.from_pretrained(folder / part, local_files_only=True)
        for part, kind in family.tokenizers.items()
    }
    parts["scheduler"] = FlowMatchEulerDiscreteScheduler.from_config(
        json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    )
    modules = [part for part in parts.values() if isinstance(part, torch.nn.Module)]
    if spec.eight_bits:
        for part in EIGHT_BIT_PARTS:
            if parts.get(part) is not None:
                log.info("%s: %d matrices of the %s in 8 bits", spec.key, to_eight_bits(parts[part]), part)
    for module in modules:
        module.requires_grad_(False).eval().to(device)
    pipelines = [kind(**parts) for kind in (family.from_words, family.from_picture, family.inpainting)]
    for pipeline in pipelines:
        pipeline.set_progress_bar_config(disable=True)
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return LoadedPipeline(
        spec=spec,
        source=source,
        from_words=pipelines[0],
        from_picture=pipelines[1],
        inpainting=pipelines[2],
        loras=Wardrobe(addons, spec, parts["transformer"], [parts[name] for name in family.dressed], family.lora_names),
        device=device,
        dtype=dtype,
        nbytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        digest=digest,
    )


def _load_part(spec: ModelSpec, folder: Path, part: str, kind: type, dtype: torch.dtype):
    stem = model_files.WEIGHTED_PARTS[spec.family][part]
    _, variant = model_files.choose_weights(os.listdir(folder / part), stem, spec.variant)
    return kind.from_pretrained(
        folder / part, variant=variant, dtype=dtype, use_safetensors=True, local_files_only=True
    )
