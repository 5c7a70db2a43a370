"""IP-Adapters in a batch (Ye et al. 2023): rows with an image prompt, beside rows without.

Each cross-attention of the UNet gets a second one, to the picture's tokens, whose result is added to the
first's before the output projection. Hooks do that for single rows and for one forward pass; the
UNet's own attention stays as it is.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.embeddings import ImageProjection
from PIL import Image
from safetensors import safe_open
from torch import nn
from transformers import CLIPVisionModelWithProjection

from generation.engine.catalog import model_files
from generation.engine.catalog.addon_checks import IMAGE_PROJECTION_PREFIX
from generation.engine.catalog.addons import IP_ADAPTER_FILE, AddOn, Addons, misfit
from generation.engine.catalog.families import TRANSFORMERS_STEM
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import Reference

from .device import to_device

log = logging.getLogger(__name__)

# The normalisation that CLIP was trained with (Radford et al. 2021).
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class IncompatibleAdapter(Exception):
    """It does not fit the model; the text says why."""


@dataclass(eq=False)
class IPAdapter:
    """An IP-Adapter on the device, for one UNet."""

    key: str
    digest: Future = field(repr=False)
    encoder: Any
    """transformers' CLIPVisionModelWithProjection."""
    projection: nn.Module
    layers: list[nn.Module]
    """The UNet's cross-attentions, in the adapter's order."""
    weights: list[tuple[torch.Tensor, torch.Tensor]]
    """For each of them `to_k_ip` and `to_v_ip`, which make keys and values of tokens."""

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of a picture (1 x 3 x side x side, normalised) for each layer, each 2 x tokens x width:
        the picture's, and those of no picture, which the half without the prompt attends to."""
        pixels = pixels.to(self.weights[0][0].device, self.encoder.dtype)
        if isinstance(self.projection, ImageProjection):
            features = self.encoder(pixels).image_embeds
            unconditional = torch.zeros_like(features)
        else:
            both = torch.cat([pixels, torch.zeros_like(pixels)])
            features, unconditional = self.encoder(both, output_hidden_states=True).hidden_states[-2].chunk(2)
        tokens = self.projection(torch.cat([features, unconditional]))
        return [
            (nn.functional.linear(tokens, to_key), nn.functional.linear(tokens, to_value))
            for to_key, to_value in self.weights
        ]


@dataclass(frozen=True, slots=True)
class ImagePromptTokens:
    """The image prompt of one job's images."""

    adapter: IPAdapter
    tokens: list[tuple[torch.Tensor, torch.Tensor]]
    """For each layer keys and values, see `IPAdapter.encode`."""
    scale: float


class IPAdapters:
    """The IP-Adapter of one model, kept when it was read. Used by the engine's thread alone."""

    def __init__(self, addons: Addons, spec, unet: nn.Module, hasher: Executor):
        self._addons = addons
        self._spec = spec
        self._unet = unet
        self._hasher = hasher
        self._kept: tuple[tuple, IPAdapter] | None = None

    def forget(self) -> None:
        self._kept = None

    def encode(self, reference: Reference, pixels: Image.Image) -> ImagePromptTokens:
        """The tokens of a reference picture, cut to a square. Raises InvalidRequest where no adapter for the model is
        installed, or it cannot be used."""
        adapter = self._get(self._addons.ip_adapter_for(self._unet.config.cross_attention_dim))
        tokens = adapter.encode(_normalise(pixels, adapter.encoder.config.image_size))
        return ImagePromptTokens(adapter, tokens, reference.scale)

    def _get(self, addon: AddOn) -> IPAdapter:
        key = addon.path, (addon.path / IP_ADAPTER_FILE).stat().st_mtime_ns
        if self._kept is None or self._kept[0] != key:
            self._kept = key, self._load(addon)
        return self._kept[1]

    def _load(self, addon: AddOn) -> IPAdapter:
        try:
            return _load(addon, self._unet, self._hasher)
        except IncompatibleAdapter as error:
            log.info("The IP-Adapter %s does not fit %s: %s", addon.key, self._spec.key, error)
            raise misfit("IP-Adapter", addon.key, self._spec, "reference") from None
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception:  # what a wrong file makes the libraries raise is anything
            log.exception("Cannot load %s", addon.path)
            raise InvalidRequest(f"The IP-Adapter “{addon.key}” cannot be read.", "reference") from None


@contextmanager
def apply_ip_adapters(rows: Sequence, batch_rows: list[int]) -> Iterator[None]:
    """While this lasts, the UNet's cross-attentions attend to the rows' image prompts too.

    `batch_rows`: for each entry of the batch the index of its row, those with their prompt first. Enter it within
    hooks that change the same layers, so that theirs come first.
    """
    hooks = []
    try:
        for adapter, entries in _entries_by_adapter(rows, batch_rows).items():
            like = adapter.weights[0][0]
            indices = to_device([index for index, _, _ in entries], like.device)
            scales = to_device([prompt.scale for _, prompt, _ in entries], like.device, like.dtype)
            for number, layer in enumerate(adapter.layers):
                hooks += _hook(layer, number, entries, indices, scales)
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _entries_by_adapter(
    rows: Sequence, batch_rows: list[int]
) -> dict[IPAdapter, list[tuple[int, ImagePromptTokens, int]]]:
    """For each adapter the batch entries that it acts on: index, tokens, and whether the half with (0) or without
    the prompt (1)."""
    entries: dict[IPAdapter, list] = {}
    for index, number in enumerate(batch_rows):
        prompt = rows[number].image_prompt
        if prompt is not None and prompt.scale:
            entries.setdefault(prompt.adapter, []).append((index, prompt, int(index >= len(rows))))
    return entries


def _hook(layer: Any, number: int, entries, indices: torch.Tensor, scales: torch.Tensor) -> list:
    """Hooks that add the second attention to one layer, `number` in the adapter's order."""
    queries: list[torch.Tensor] = []
    keys, values = (
        torch.stack([prompt.tokens[number][which][half] for _, prompt, half in entries]) for which in (0, 1)
    )

    def heads(tensor):
        return tensor.unflatten(-1, (layer.heads, -1)).transpose(1, 2)

    def add(linear, inputs):
        query = queries.pop().index_select(0, indices)
        attention = nn.functional.scaled_dot_product_attention(heads(query), heads(keys), heads(values))
        attention = attention.transpose(1, 2).flatten(2) * scales.view(-1, 1, 1)
        return inputs[0].index_add(0, indices, attention), *inputs[1:]

    return [
        layer.to_q.register_forward_hook(lambda linear, inputs, output: queries.append(output)),
        layer.to_out[0].register_forward_pre_hook(add),
    ]


def center_crop(picture: Image.Image) -> Image.Image:
    """The largest square in the picture's middle, which is all that CLIP is shown. Not for the engine's thread: it
    reads the picture."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.convert("RGB").crop((left, top, left + side, top + side))


def _normalise(picture: Image.Image, side: int) -> torch.Tensor:
    """1 x 3 x side x side, as CLIP was trained."""
    if picture.size != (side, side):
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    pixels = (np.asarray(picture, np.float32) / 255 - np.array(_MEAN, np.float32)) / np.array(_STD, np.float32)
    return torch.from_numpy(pixels).movedim(-1, 0)[None]


def _load(addon: AddOn, unet, hasher: Executor) -> IPAdapter:
    file = addon.path / IP_ADAPTER_FILE
    model_files.check_safetensors(file)
    device, dtype = unet.conv_in.weight.device, unet.conv_in.weight.dtype
    with safe_open(file, framework="pt", device="cpu") as opened:
        tensors = {name: opened.get_tensor(name).to(device, dtype) for name in opened.keys()}  # noqa: SIM118
    projection_tensors = {
        name.removeprefix(IMAGE_PROJECTION_PREFIX): tensor
        for name, tensor in tensors.items()
        if name.startswith(IMAGE_PROJECTION_PREFIX)
    }
    projection = unet._convert_ip_adapter_image_proj_to_diffusers(projection_tensors, low_cpu_mem_usage=True)
    layers, weights = [], []
    for path in unet.attn_processors:  # adapters number the processors in this order, from 0 on
        layer = unet.get_submodule(path.removesuffix(".processor"))
        if not path.endswith("attn2.processor"):
            continue
        number = 2 * len(layers) + 1
        pair = tuple(tensors.get(f"ip_adapter.{number}.to_{part}_ip.weight") for part in "kv")
        if any(part is None or part.shape != layer.to_k.weight.shape for part in pair):
            raise IncompatibleAdapter(f"its part {number} does not suit {path}")
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
    return IPAdapter(addon.key, hasher.submit(model_files.weights_hash, [file]), encoder, projection, layers, weights)


def _variant(folder: Path) -> str | None:
    names = [file.name for file in folder.iterdir()]
    return model_files.choose_weights(names, TRANSFORMERS_STEM, "fp16")[1]
