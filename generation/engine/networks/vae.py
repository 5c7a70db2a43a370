"""VAE: pictures to latents and back, tileable edges, and the linear map from latents to RGB for previews."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.models.downsampling import Downsample2D
from PIL import Image

from generation.engine.catalog.families import FAMILIES
from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import BadOutput
from generation.engine.pictures.pixels import refuse_black

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LatentColours:
    """A linear map from scaled latents (channels x h x w) to RGB in -1…1.

    `matrix` is channels x 3, `bias` is 3. Both on the CPU: a latent is a few kilobytes.
    """

    matrix: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def of(cls, spec: ModelSpec, path: Path, channels: int) -> "LatentColours":
        """The model's own fit (`preview.json` in its folder), else the family's, else a plain guess."""
        if (path / "preview.json").is_file():
            try:
                preview = json.loads((path / "preview.json").read_text())
                matrix, bias = (torch.tensor(preview[name], dtype=torch.float32) for name in ("matrix", "bias"))
                if matrix.shape == (channels, 3) and bias.shape == (3,):
                    return cls(matrix, bias)
                log.warning("%s/preview.json does not fit %d latent channels", path, channels)
            except (ValueError, TypeError, KeyError) as error:
                log.warning("%s/preview.json cannot be used: %s", path, error)
        family = FAMILIES[spec.family]
        if len(family.latent_rgb) == channels:
            return cls(torch.tensor(family.latent_rgb), torch.tensor(family.latent_rgb_bias))
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
    """The distribution of a picture's latents, as the encoder gives it: mean and standard deviation (channels x h x w,
    fp32, scaled), on the device."""

    mean: torch.Tensor
    std: torch.Tensor

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        """Latents by a CPU generator, as diffusers' pipelines draw them."""
        noise = torch.randn(self.mean.shape, generator=generator)
        return self.mean + self.std * noise.to(self.mean.device)


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
        distribution = vae.encode(part, return_dict=False)[0]
        return torch.cat([distribution.mean, distribution.std], dim=1)

    limit = getattr(vae, "tile_sample_min_size", 0)
    result = _with_joined_edges(vae, moments, pixels.to(model.device, vae.dtype), limit, tiling)
    mean, std = result[0].float().chunk(2)
    if not torch.isfinite(mean).all() or not torch.isfinite(std).all():
        raise BadOutput()
    factor, shift = vae.config.scaling_factor, 0.0
    if (statistics := _statistics(vae, mean.device)) is not None:
        shift, factor = statistics[0], factor / statistics[1]
    return Encoded((mean - shift) * factor, std * factor)


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
    return _with_joined_edges(
        vae, lambda part: vae.decode(part, return_dict=False)[0], latents.to(vae.dtype), limit, tiling
    )


def _statistics(vae, device) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Mean and standard deviation of each latent channel, where the model's author gives them."""
    statistics = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    if None in statistics:
        return None
    return tuple(torch.tensor(values, device=device).view(-1, 1, 1) for values in statistics)


def _with_joined_edges(
    vae: torch.nn.Module, run: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor, limit: int, on: bool
) -> torch.Tensor:
    """What `run`, which is half of the autoencoder, makes of `batch` (rows x channels x h x w), with edges that
    join if `on`. `limit`: the side of the parts in which it works where memory is short."""
    if not on or not getattr(vae, "use_tiling", False) or max(batch.shape[-2:]) <= limit:
        with joined_edges(vae, on):
            return run(batch)
    # Each part would see its own other edge. So the picture goes on beyond its edges with what it begins with, and
    # both results for that are faded into each other, as those of neighbouring parts are.
    padding = {axis: min(batch.shape[axis], limit // 4) for axis in (-1, -2)}
    result = run(torch.nn.functional.pad(batch, (0, padding[-1], 0, padding[-2]), mode="circular"))
    for axis, side in padding.items():
        result = _fold(result, result.shape[axis] * side // (batch.shape[axis] + side), axis)
    return result


def _fold(padded: torch.Tensor, overlap: int, axis: int) -> torch.Tensor:
    """The tensor without its last `overlap` entries along `axis`, which repeat the first ones and are faded into
    them."""
    kept = padded.shape[axis] - overlap
    first, rest, again = padded.split([overlap, kept - overlap, overlap], dim=axis)
    share = torch.arange(overlap, device=padded.device, dtype=padded.dtype) / overlap
    return torch.cat([torch.lerp(again, first, share.view(-1, *[1] * (-1 - axis))), rest], dim=axis)


@contextmanager
def joined_edges(network: torch.nn.Module, on: bool) -> Iterator[None]:
    """While this lasts, convolutions see the opposite edge beyond each edge, if `on`: pictures that tile."""
    if not on:
        yield
        return
    hooks = [
        layer.conv.register_forward_pre_hook(_pad_asymmetric)
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


def _pad_asymmetric(layer, inputs):
    """Encoders shrink what was padded with zeros at its right and its lower edge alone, and before the layer."""
    padded = inputs[0]
    padded[..., -1] = padded[..., 0]
    padded[..., -1, :] = padded[..., 0, :]


def to_pil(rgb: torch.Tensor) -> Image.Image:
    """h x w x 3 in -1…1, fp32, to pixels; rounding as diffusers' VaeImageProcessor does."""
    values = (rgb * 0.5 + 0.5).clamp(0, 1) * 255
    return Image.fromarray(values.round().to(torch.uint8).cpu().numpy(), "RGB")
