"""Families outside the step loop (FLUX, SD3, Qwen-Image): diffusers' own pipelines, one picture at a time.

The classes are those of our family table: a model's `model_index.json` is never followed, every part is loaded by
its own class from its own folder, from safetensors only.
"""

import inspect
import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache, partial

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from generation.engine.catalog.addons import Addons
from generation.engine.catalog.families import FAMILIES, Family
from generation.engine.catalog.model_files import Source
from generation.engine.catalog.models import ModelSpec
from generation.engine.pictures.canvas import Canvas, lay_out
from generation.engine.pictures.pixels import refuse_black
from generation.engine.request.fields import ImageRequest
from generation.engine.request.geometry import drawn_steps

from .components import component_class, load_component
from .int8 import quantize_int8
from .lora import IncompatibleLora, LoraManager, active_in_pipeline
from .vae import LatentColours

log = logging.getLogger(__name__)


def _guidance_kwargs(family: Family, request: ImageRequest, transformer: torch.nn.Module) -> dict:
    """The arguments of a pipeline that depend on how its family is guided (see `Family.guidance`)."""
    scale, negative = request.guidance_scale, request.negative_prompt
    match family.guidance:
        case "embedded":
            # "dev" models read the scale as a number; "schnell" knows none, and 256 tokens.
            return {"guidance_scale": scale, "max_sequence_length": 512 if transformer.config.guidance_embeds else 256}
        case "true_cfg":
            # An empty negative prompt leaves Qwen-Image's pipeline without tokens; its authors use a space.
            return ({"negative_prompt": negative or " "} if scale > 1 else {}) | {"true_cfg_scale": scale}
        case _:
            return {"guidance_scale": scale, "negative_prompt": negative}


def _diffusers_lora_names(pipeline: type[DiffusionPipeline], tensors: dict) -> dict:
    """A LoRA's tensors and alphas by diffusers' names, whichever tool wrote them. Raises IncompatibleLora."""
    if any("dora_scale" in name for name in tensors):  # left out without a word there
        raise IncompatibleLora("it is a DoRA")
    with_alphas = "return_alphas" in inspect.signature(pipeline.lora_state_dict).parameters
    try:
        if not with_alphas:
            return pipeline.lora_state_dict(dict(tensors))
        state, alphas = pipeline.lora_state_dict(dict(tensors), return_alphas=True)
    except Exception as error:  # what names that nobody knows make it raise is anything
        raise IncompatibleLora(f"{type(error).__name__}: {error}") from None
    return state | (alphas or {})


class MaskFill:
    """Mixin for inpainting pipelines: latents under the mask may begin as noise or zeros (`options.FILLS`)."""

    mask_fill: tuple[str, torch.Tensor] | None = None
    """`noise` or `zero`, and the mask as h x w of bool in latents."""

    def _encode_vae_image(self, image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        latents = super()._encode_vae_image(image=image, generator=generator)
        if self.mask_fill is None:
            return latents
        fill, mask = self.mask_fill
        under = torch.zeros_like(latents)
        if fill == "noise":
            under = randn_tensor(latents.shape, generator=generator, device=latents.device, dtype=latents.dtype)
        return torch.where(mask.to(latents.device), under, latents)


@cache
def _inpaint_class(name: str) -> type[DiffusionPipeline]:
    """diffusers' inpainting pipeline of that name, with MaskFill."""
    return type(name, (MaskFill, getattr(diffusers, name)), {"__module__": __name__})


@dataclass(eq=False)
class LoadedPipeline:
    """One model of these families, ready to draw."""

    spec: ModelSpec
    family: Family
    source: Source
    text2img: DiffusionPipeline
    img2img: DiffusionPipeline
    inpaint: DiffusionPipeline
    loras: LoraManager
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
        vae = self.text2img.vae
        for switch in ("slicing", "tiling"):
            getattr(vae, f"{'enable' if on else 'disable'}_{switch}")()
        if self.device.type != "cpu":
            if on:
                # Each of the pipelines would put its own hooks on the same parts; one set serves both.
                self.text2img.enable_model_cpu_offload(device=self.device)
            else:
                self.text2img.remove_all_hooks()
                self.text2img.to(self.device)
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
        loras = self.loras.activate(request.loras)
        for lora, _ in loras:
            lora.to(self.device)  # in low-memory mode the layers themselves may be elsewhere
        canvas = lay_out(request.start, (request.width, request.height)) if request.start else None
        if canvas and request.start.strength == 0:
            return canvas.put_back(canvas.picture)
        pipeline, start_arguments = self._pipeline_for(request, canvas)
        arguments = {
            "prompt": request.prompt,
            "width": request.width,
            "height": request.height,
            "num_inference_steps": request.steps,
            "output_type": "pil",
            "generator": torch.Generator().manual_seed(request.seed_of(index)),
        } | _guidance_kwargs(self.family, request, self.text2img.transformer)
        callback = StepCallback(self, request, on_step)
        try:
            with active_in_pipeline(loras):
                output = pipeline(**arguments, **start_arguments, callback_on_step_end=callback)
        finally:
            pipeline.maybe_free_model_hooks()
        drawn = output.images[0].convert("RGB")
        refuse_black(drawn)
        self._fit_colours(callback.latents, drawn)
        return canvas.put_back(drawn) if canvas else drawn

    def _pipeline_for(self, request: ImageRequest, canvas: Canvas | None) -> tuple[DiffusionPipeline, dict]:
        """The pipeline that draws over the canvas, and its arguments about that."""
        if canvas is None:
            return self.text2img, {}
        steps = drawn_steps(request.steps, request.start.strength)
        # diffusers rounds up where we round down: a quarter of a step less makes both mean the same number.
        strength = 1.0 if steps == request.steps else (steps - 0.25) / request.steps
        arguments = {"image": canvas.picture, "strength": strength}
        if canvas.mask is None:
            return self.img2img, arguments
        scale, fill = self.inpaint.vae_scale_factor, request.start.fill
        mask = torch.from_numpy(np.asarray(canvas.mask)[::scale, ::scale] >= 128)
        self.inpaint.mask_fill = (fill, mask) if fill in ("noise", "zero") else None
        return self.inpaint, arguments | {"mask_image": canvas.mask}

    def unpack(self, latents: torch.Tensor, request: ImageRequest) -> torch.Tensor:
        """1 x channels x h x w of the latents as the pipeline hands them out (packed, or with a time)."""
        if latents.ndim == 3:
            scale = self.text2img.vae_scale_factor
            latents = self.text2img._unpack_latents(latents, request.height, request.width, scale)
        return latents[:, :, 0] if latents.ndim == 5 else latents

    def _fit_colours(self, latents: torch.Tensor | None, picture: Image.Image) -> None:
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


class StepCallback:
    """diffusers' `callback_on_step_end`: reports and previews. `latents` are the last ones, 1 x channels x h x w."""

    def __init__(self, model: LoadedPipeline, request: ImageRequest, on_step: Callable[[int, Callable], None]):
        self._model, self._request, self._on_step = model, request, on_step
        self._previous: torch.Tensor | None = None
        self.latents: torch.Tensor | None = None

    def __call__(self, pipeline, step: int, timestep, tensors: dict) -> dict:
        self._previous, self.latents = self.latents, self._model.unpack(tensors["latents"], self._request)
        sigmas, index = pipeline.scheduler.sigmas, pipeline.scheduler.step_index
        self._on_step(step + 1, lambda: self._preview(sigmas[index - 1].item(), sigmas[index].item()))
        unshifted = self._model.family.unshifted_inpainting and pipeline is self._model.inpaint
        if unshifted and step + 1 == pipeline.num_timesteps:
            config = pipeline.vae.config
            return {"latents": tensors["latents"] + config.shift_factor * config.scaling_factor}
        return {}

    def _preview(self, sigma_before: float, sigma: float) -> Image.Image | None:
        """A flow is a straight line as far as the last step can tell: follow it to where there is no noise."""
        if self._model.colours is None:
            return None
        x0 = self.latents
        if self._previous is not None and sigma != sigma_before:
            x0 = self.latents - sigma * (self.latents - self._previous) / (sigma - sigma_before)
        return self._model.colours.picture(x0)


def load_pipeline(
    spec: ModelSpec, source: Source, dtype: torch.dtype, device: torch.device, digest: Future, addons: Addons
) -> LoadedPipeline:
    """The model in the folder of `source`. Raises ValueError for a single file, and whatever the libraries do."""
    if source.path.is_file():
        raise ValueError("models of this family are folders, not single files")
    family, folder = FAMILIES[spec.family], source.path
    absent = any(not (folder / part).is_dir() or not os.listdir(folder / part) for part in family.optional_parts)
    missing = set(family.optional_parts) if absent else set()
    parts = {
        part.name: None if part.name in missing else load_component(part, folder, spec.variant, dtype)
        for part in family.parts
        if part.stem
    }
    parts |= {
        part.name: None
        if part.name in missing
        else component_class(part).from_pretrained(folder / part.name, local_files_only=True)
        for part in family.parts
        if part.name.startswith("tokenizer")
    }
    [scheduler] = [part for part in family.parts if part.name == "scheduler"]
    parts["scheduler"] = component_class(scheduler).from_config(
        json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    )
    modules = [part for part in parts.values() if isinstance(part, torch.nn.Module)]
    for name in [family.denoiser.name, *(part.name for part in family.text_encoders)] if spec.int8 else ():
        if parts[name] is not None:
            log.info("%s: %d matrices of the %s in 8 bits", spec.key, quantize_int8(parts[name]), name)
    for module in modules:
        module.requires_grad_(False).eval().to(device)
    text2img_class, img2img_class = getattr(diffusers, family.pipeline), getattr(diffusers, family.img2img_pipeline)
    pipelines = [kind(**parts) for kind in (text2img_class, img2img_class, _inpaint_class(family.inpaint_pipeline))]
    for pipeline in pipelines:
        pipeline.set_progress_bar_config(disable=True)
    encoders = [parts[name] for name in family.lora_encoders]
    translate = partial(_diffusers_lora_names, text2img_class) if family.lora_translated else dict
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return LoadedPipeline(
        spec=spec,
        source=source,
        family=family,
        text2img=pipelines[0],
        img2img=pipelines[1],
        inpaint=pipelines[2],
        loras=LoraManager(addons, spec, parts[family.denoiser.name], encoders, translate),
        device=device,
        dtype=dtype,
        nbytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        digest=digest,
    )
