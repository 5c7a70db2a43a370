"""IP-Adapters: rows that follow a picture's look, beside rows that do not (Ye et al. 2023).

Each cross-attention of the UNet gets a second one, to the picture's tokens, whose answer is added to the
first's before the layer that mixes the heads. Hooks do that for single rows and for one forward pass; the
UNet's own attention stays as it is.
"""

import logging
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers.models.embeddings import ImageProjection
from PIL import Image
from safetensors import safe_open
from torch import nn
from transformers import CLIPVisionModelWithProjection

from generation.engine.catalog import model_files
from generation.engine.catalog.addon_checks import PROJECTION
from generation.engine.catalog.addons import ADAPTER_FILE, AddOn, Addons, misfit
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import Reference

from .device import sent

log = logging.getLogger(__name__)

# What CLIP was trained to see (Radford et al. 2021).
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_SPREAD = (0.26862954, 0.26130258, 0.27577711)


class WrongAdapter(Exception):
    """It does not fit; the text says why."""


@dataclass(eq=False)
class Adapter:
    """One on the device, for one UNet."""

    key: str
    digest: Future = field(repr=False)
    encoder: nn.Module
    projection: nn.Module
    layers: list[nn.Module]
    """The UNet's cross-attentions, in the adapter's order."""
    weights: list[tuple[torch.Tensor, torch.Tensor]]
    """For each of them what makes keys and values of tokens."""

    @torch.inference_mode()
    def look(self, pixels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of a picture (1 x 3 x side x side, normalised) for each layer, each 2 x tokens x width:
        the picture's, and those of no picture, which the half without the prompt attends to."""
        pixels = pixels.to(self.weights[0][0].device, self.encoder.dtype)
        if isinstance(self.projection, ImageProjection):
            seen = self.encoder(pixels).image_embeds
            nothing = torch.zeros_like(seen)
        else:
            both = torch.cat([pixels, torch.zeros_like(pixels)])
            seen, nothing = self.encoder(both, output_hidden_states=True).hidden_states[-2].chunk(2)
        tokens = self.projection(torch.cat([seen, nothing]))
        return [
            (nn.functional.linear(tokens, to_key), nn.functional.linear(tokens, to_value))
            for to_key, to_value in self.weights
        ]


@dataclass(frozen=True, slots=True)
class Likeness:
    """What the images of one job follow."""

    adapter: Adapter
    tokens: list[tuple[torch.Tensor, torch.Tensor]]
    scale: float


class Adapters:
    """The IP-Adapter of one model, kept when it was read. Used by the engine's thread alone."""

    def __init__(self, addons: Addons, spec, unet: nn.Module, hasher: Executor):
        self._addons = addons
        self._spec = spec
        self._unet = unet
        self._hasher = hasher
        self._kept: tuple[tuple, Adapter] | None = None

    def forget(self) -> None:
        self._kept = None

    def likeness(self, asked: Reference, pixels: Image.Image) -> Likeness:
        """Raises InvalidRequest where no adapter for the model is installed, or it cannot be used."""
        adapter = self._get(self._addons.reference_for(self._unet.config.cross_attention_dim))
        return Likeness(adapter, adapter.look(_as_clip_sees(pixels, adapter.encoder.config.image_size)), asked.scale)

    def _get(self, addon: AddOn) -> Adapter:
        name = addon.path, (addon.path / ADAPTER_FILE).stat().st_mtime_ns
        if self._kept is None or self._kept[0] != name:
            self._kept = name, self._load(addon)
        return self._kept[1]

    def _load(self, addon: AddOn) -> Adapter:
        try:
            return _load(addon, self._unet, self._hasher)
        except WrongAdapter as error:
            log.info("The IP-Adapter %s does not fit %s: %s", addon.key, self._spec.key, error)
            raise misfit("IP-Adapter", addon.key, self._spec, "reference") from None
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception:  # what a wrong file makes the libraries raise is anything
            log.exception("Cannot load %s", addon.path)
            raise InvalidRequest(f"The IP-Adapter “{addon.key}” cannot be read.", "reference") from None


@contextmanager
def resembling(rows, seats: list[int]) -> Iterator[None]:
    """While this lasts, rows follow their likeness. `seats`: for each place of the batch the number of its row,
    those with their prompt first. Within hooks that change the same layers, so that theirs come first."""
    hooks = []
    try:
        for adapter, followed in _by_adapter(rows, seats).items():
            like = adapter.weights[0][0]
            places = sent([place for place, _, _ in followed], like.device)
            scales = sent([likeness.scale for _, likeness, _ in followed], like.device, like.dtype)
            for number, layer in enumerate(adapter.layers):
                hooks += _hook(layer, number, followed, places, scales)
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _by_adapter(rows, seats) -> dict[Adapter, list[tuple[int, Likeness, int]]]:
    """Places with what they follow: 0 the picture, 1 none."""
    found: dict[Adapter, list] = {}
    for place, number in enumerate(seats):
        likeness = rows[number].likeness
        if likeness is not None and likeness.scale:
            found.setdefault(likeness.adapter, []).append((place, likeness, int(place >= len(rows))))
    return found


def _hook(layer, number, followed, places, scales):
    query: list[torch.Tensor] = []
    keys, values = (
        torch.stack([likeness.tokens[number][which][half] for _, likeness, half in followed]) for which in (0, 1)
    )

    def heads(tensor):
        return tensor.unflatten(-1, (layer.heads, -1)).transpose(1, 2)

    def add(mixing, inputs):
        asked = query.pop().index_select(0, places)
        answer = nn.functional.scaled_dot_product_attention(heads(asked), heads(keys), heads(values))
        answer = answer.transpose(1, 2).flatten(2) * scales.view(-1, 1, 1)
        return inputs[0].index_add(0, places, answer), *inputs[1:]

    return [
        layer.to_q.register_forward_hook(lambda linear, inputs, output: query.append(output)),
        layer.to_out[0].register_forward_pre_hook(add),
    ]


def square(picture: Image.Image) -> Image.Image:
    """The picture's middle, which is all that CLIP looks at. Not for the engine's thread: it reads."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.convert("RGB").crop((left, top, left + side, top + side))


def _as_clip_sees(picture: Image.Image, side: int) -> torch.Tensor:
    if picture.size != (side, side):
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    pixels = (np.asarray(picture, np.float32) / 255 - np.array(_MEAN, np.float32)) / np.array(_SPREAD, np.float32)
    return torch.from_numpy(pixels).movedim(-1, 0)[None]


def _load(addon: AddOn, unet, hasher: Executor) -> Adapter:
    file = addon.path / ADAPTER_FILE
    model_files.check_safetensors(file)
    device, dtype = unet.conv_in.weight.device, unet.conv_in.weight.dtype
    with safe_open(file, framework="pt", device="cpu") as opened:
        tensors = {name: opened.get_tensor(name).to(device, dtype) for name in opened.keys()}  # noqa: SIM118
    projected = {
        name.removeprefix(PROJECTION): tensor for name, tensor in tensors.items() if name.startswith(PROJECTION)
    }
    projection = unet._convert_ip_adapter_image_proj_to_diffusers(projected, low_cpu_mem_usage=True)
    layers, weights = [], []
    for path in unet.attn_processors:  # adapters number the processors in this order, from 0 on
        layer = unet.get_submodule(path.removesuffix(".processor"))
        if not path.endswith("attn2.processor"):
            continue
        number = 2 * len(layers) + 1
        pair = tuple(tensors.get(f"ip_adapter.{number}.to_{part}_ip.weight") for part in "kv")
        if any(part is None or part.shape != layer.to_k.weight.shape for part in pair):
            raise WrongAdapter(f"its part {number} does not suit {path}")
        layers.append(layer)
        weights.append(pair)
    encoder = CLIPVisionModelWithProjection.from_pretrained(
        addon.path / "image_encoder",
        variant=_variant(addon.path / "image_encoder"),
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
    )
    for network in (encoder, projection):
        network.requires_grad_(False).eval().to(device, dtype)
    return Adapter(addon.key, hasher.submit(model_files.weights_hash, [file]), encoder, projection, layers, weights)


def _variant(folder: Path) -> str | None:
    names = [file.name for file in folder.iterdir()]
    return model_files.choose_weights(names, "model", "fp16")[1]
