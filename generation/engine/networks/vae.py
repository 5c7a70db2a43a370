"""Pictures to latents and back: encoder, decoder, and the cheap linear guess that previews are made of."""

import json
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.models.downsampling import Downsample2D
from PIL import Image

from generation.engine.errors import BadOutput
from generation.engine.pictures.pixels import refuse_black

log = logging.getLogger(__name__)

# RGB in -1…1 from scaled latents. SD 1.x and 2.x: the fit posted by keturn, discuss.huggingface.co,
# "Decoding latents to RGB without upscaling". SDXL: T. A. Vass, "Explaining the SDXL latent space",
# huggingface.co/blog, given there for 0…255 and rescaled here.
SD_MATRIX = ((0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473))
_SDXL_255 = ((60, 60, 60), (-60, -5, 10), (25, 15, -5), (-70, -50, -35))
SDXL_MATRIX = tuple(tuple(value / 127.5 for value in row) for row in _SDXL_255)
SDXL_BIAS = tuple(value / 127.5 - 1 for value in (150, 140, 130))


@dataclass(frozen=True)
class LatentColours:
    """A linear map from scaled latents (channels x h x w) to RGB in -1…1.

    `matrix` is channels x 3, `bias` is 3. Both on the CPU: a latent is a few kilobytes.
    """

    matrix: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def of(cls, spec, path: Path, channels: int) -> "LatentColours":
        """The model's own fit (`preview.json` in its folder), else the family's, else a plain guess."""
        if (path / "preview.json").is_file():
            try:
                given = json.loads((path / "preview.json").read_text())
                matrix, bias = (torch.tensor(given[name], dtype=torch.float32) for name in ("matrix", "bias"))
                if matrix.shape == (channels, 3) and bias.shape == (3,):
                    return cls(matrix, bias)
                log.warning("%s/preview.json does not fit %d latent channels", path, channels)
            except (ValueError, TypeError, KeyError) as error:
                log.warning("%s/preview.json cannot be used: %s", path, error)
        if channels == 4 and spec.family == "sdxl":
            return cls(torch.tensor(SDXL_MATRIX), torch.tensor(SDXL_BIAS))
        if channels == 4:
            return cls(torch.tensor(SD_MATRIX), torch.zeros(3))
        # Unknown latents: the first three channels as they are. Shapes show, colours do not mean anything.
        matrix = torch.zeros(channels, 3)
        for colour in range(3):
            matrix[min(colour, channels - 1), colour] = 0.5
        return cls(matrix, torch.zeros(3))

    def picture(self, latents: torch.Tensor) -> Image.Image:
        """One row of scaled latents (1 x channels x h x w) as an h x w picture."""
        rows = latents[0].float().cpu().movedim(0, -1)
        return to_pil(torch.nan_to_num(rows @ self.matrix + self.bias))


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the encoder says of a picture: mean and standard deviation of its latents (channels x h x w, fp32,
    scaled), on the device."""

    mean: torch.Tensor
    spread: torch.Tensor

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        """Latents by a CPU generator, as diffusers' pipelines draw them."""
        noise = torch.randn(self.mean.shape, generator=generator)
        return self.mean + self.spread * noise.to(self.mean.device)


@torch.inference_mode()
def encode(model, picture: Image.Image, mask: Image.Image | None = None, *, tiling: bool = False) -> Encoded:
    """An RGB picture, whose sides are multiples of the model's `vae_scale`, as latents.

    With `mask` what lies under its white is made grey first, which is how inpainting UNets are shown what to
    keep. Raises BadOutput if the latents are not finite.
    """
    pixels = torch.from_numpy(np.array(picture.convert("RGB"))).movedim(-1, 0)[None].float() / 255 * 2 - 1
    if mask is not None:
        pixels = pixels * (torch.from_numpy(np.array(mask)) < 128)
    vae = model.vae
    if vae.dtype != torch.float32 and getattr(vae.config, "force_upcast", False):
        vae.to(torch.float32)

    def moments(part):
        said = vae.encode(part, return_dict=False)[0]
        return torch.cat([said.mean, said.std], dim=1)

    limit = getattr(vae, "tile_sample_min_size", 0)
    said = _joined(vae, moments, pixels.to(model.device, vae.dtype), limit, tiling)
    mean, spread = said[0].float().chunk(2)
    if not torch.isfinite(mean).all() or not torch.isfinite(spread).all():
        raise BadOutput()
    factor, shift = vae.config.scaling_factor, 0.0
    if (statistics := _statistics(vae, mean.device)) is not None:
        shift, factor = statistics[0], factor / statistics[1]
    return Encoded((mean - shift) * factor, spread * factor)


@torch.inference_mode()
def decode(model, latents: torch.Tensor, *, tiling: bool = False) -> list[Image.Image | BadOutput]:
    """Scaled latents (rows x channels x h x w, fp32) as finished pictures.

    BadOutput in a row's place if its latents or its picture are not finite, or the picture is black. A decoder that
    overflows in half precision, as SDXL's does, is run again, and from then on, in fp32.
    """
    sound = torch.isfinite(latents).flatten(1).all(dim=1)
    if not sound.any():
        return [BadOutput() for _ in latents]
    clean = latents[sound]
    images = _decode(model.vae, clean, tiling)
    if model.vae.dtype != torch.float32 and not torch.isfinite(images).all():
        log.warning("The decoder of %s overflows in %s; fp32 from now on", model.spec.key, model.vae.dtype)
        model.vae.to(torch.float32)
        images = _decode(model.vae, clean, tiling)
    decoded = iter(images.float().movedim(1, -1))
    return [_finish(next(decoded)) if good else BadOutput() for good in sound.tolist()]


def _finish(rgb: torch.Tensor) -> Image.Image | BadOutput:
    if not torch.isfinite(rgb).all():
        return BadOutput()
    picture = to_pil(rgb)
    try:
        refuse_black(picture)
    except BadOutput as error:
        return error.with_traceback(None)
    return picture


def _decode(vae, latents, tiling: bool) -> torch.Tensor:
    latents = latents / vae.config.scaling_factor
    if (statistics := _statistics(vae, latents.device)) is not None:
        latents = latents * statistics[1] + statistics[0]
    limit = getattr(vae, "tile_latent_min_size", 0)
    return _joined(vae, lambda part: vae.decode(part, return_dict=False)[0], latents.to(vae.dtype), limit, tiling)


def _statistics(vae, device) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Mean and standard deviation of each latent channel, where the model's author gives them."""
    given = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    if None in given:
        return None
    return tuple(torch.tensor(values, device=device).view(-1, 1, 1) for values in given)


def _joined(vae, run, seen: torch.Tensor, limit: int, on: bool) -> torch.Tensor:
    """What `run`, which is half of the autoencoder, makes of `seen` (rows x channels x h x w), with edges that
    join if `on`. `limit`: the side of the parts in which it works where memory is short."""
    if not on or not getattr(vae, "use_tiling", False) or max(seen.shape[-2:]) <= limit:
        with joined_edges(vae, on):
            return run(seen)
    # Each part would see its own other edge. So the picture goes on beyond its edges with what it begins with, and
    # both answers for that are faded into each other, as those of neighbouring parts are.
    more = {axis: min(seen.shape[axis], limit // 4) for axis in (-1, -2)}
    answer = run(torch.nn.functional.pad(seen, (0, more[-1], 0, more[-2]), mode="circular"))
    for axis, side in more.items():
        answer = _folded(answer, answer.shape[axis] * side // (seen.shape[axis] + side), axis)
    return answer


def _folded(answer: torch.Tensor, overlap: int, axis: int) -> torch.Tensor:
    """The answer without its last `overlap` places, which are what the first ones are once more."""
    kept = answer.shape[axis] - overlap
    first, rest, again = answer.split([overlap, kept - overlap, overlap], dim=axis)
    share = torch.arange(overlap, device=answer.device, dtype=answer.dtype) / overlap
    return torch.cat([torch.lerp(again, first, share.view(-1, *[1] * (-1 - axis))), rest], dim=axis)


@contextmanager
def joined_edges(network: torch.nn.Module, on: bool):
    """While this lasts, convolutions see the opposite edge beyond each edge, if `on`: pictures that tile."""
    if not on:
        yield
        return
    hooks = [
        layer.conv.register_forward_pre_hook(_join_lopsided)
        for layer in network.modules()
        if isinstance(layer, Downsample2D) and layer.use_conv and layer.padding == 0
    ]
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    layers = [layer for layer in layers if layer.padding_mode == "zeros"]
    try:
        for layer in layers:
            layer.padding_mode = "circular"
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer in layers:
            layer.padding_mode = "zeros"


def _join_lopsided(layer, inputs):
    """Encoders shrink what was padded with zeros at its right and its lower edge alone, and before the layer."""
    padded = inputs[0]
    padded[..., -1] = padded[..., 0]
    padded[..., -1, :] = padded[..., 0, :]


def to_pil(rgb: torch.Tensor) -> Image.Image:
    """h x w x 3 in -1…1, fp32, to pixels; rounding as diffusers' VaeImageProcessor does."""
    values = (rgb * 0.5 + 0.5).clamp(0, 1) * 255
    return Image.fromarray(values.round().to(torch.uint8).cpu().numpy(), "RGB")
