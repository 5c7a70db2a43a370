"""LoRAs: low-rank branches beside a model's layers, for single rows of a batch (Hu et al. 2021).

The model's weights are never touched. For one forward pass, each layer that a row's LoRAs know gets a hook
which adds `weight * alpha / rank * up(down(x))` to that row's output; afterwards the hooks are gone. So rows
with different LoRAs, and rows with none, share a pass, and one row's LoRAs cannot reach another or outlive its
step.
"""

import json
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from generation.engine.catalog.addon_checks import LORA_MATRIX
from generation.engine.catalog.addons import AddOn, Addons, misfit
from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import Lora

from .device import to_device
from .int8 import Int8Linear

log = logging.getLogger(__name__)

CACHE_BYTES = 2 * 2**30
"""How much of the LoRAs read last is kept beside each model."""

_ADAPTER_METADATA = "lora_adapter_metadata"


class IncompatibleLora(Exception):
    """Its tensors do not fit the model; the text says which."""


@dataclass(eq=False, slots=True)
class Branch:
    """What a LoRA adds beside one layer. `up` holds alpha / rank already."""

    layer: nn.Module
    down: torch.Tensor
    up: torch.Tensor

    def __call__(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """`weights`: one for each row of `x`, fp32."""
        if isinstance(self.layer, nn.Conv2d):
            # The layer's own way to convolve, which knows stride, padding and how the edges join.
            inner = self.layer._conv_forward(x, self.down, None)
            return nn.functional.conv2d(_weighted(inner, weights), self.up)
        return nn.functional.linear(_weighted(nn.functional.linear(x, self.down), weights), self.up)


@dataclass(eq=False)
class LoadedLora:
    """A LoRA on the device, ready for one model. `encoders` has as many entries as the model has of them."""

    key: str
    digest: str
    denoiser: list[Branch]
    encoders: list[list[Branch]]
    nbytes: int = field(init=False)

    def __post_init__(self):
        branches = [*self.denoiser, *(branch for encoder in self.encoders for branch in encoder)]
        self.nbytes = sum(part.numel() * part.element_size() for b in branches for part in (b.down, b.up))

    def to(self, device: torch.device) -> None:
        """Where the layers will be when they are at work."""
        for branch in chain(self.denoiser, *self.encoders):
            branch.down, branch.up = branch.down.to(device), branch.up.to(device)


ActiveLoras = tuple[tuple[LoadedLora, float], ...]
"""The LoRAs of one row with their weights."""


class LoraManager:
    """The LoRAs read for one model, the last ones kept. Used by the engine's thread alone.

    `denoiser`: the UNet or transformer. `translate`: turns the names in a file into diffusers', for families whose
    tools have names of their own; raises IncompatibleLora.
    """

    def __init__(
        self,
        addons: Addons,
        spec: ModelSpec,
        denoiser: nn.Module,
        encoders: Sequence[nn.Module],
        translate: Callable[[dict], dict] = dict,
    ):
        self._translate = translate
        self._addons = addons
        self._spec = spec
        self._denoiser = denoiser
        self._encoders = list(encoders)
        self._kept: OrderedDict[tuple[str, str], LoadedLora] = OrderedDict()

    @property
    def nbytes(self) -> int:
        return sum(lora.nbytes for lora in self._kept.values())

    def activate(self, loras: Iterable[Lora]) -> ActiveLoras:
        """The LoRAs of a request, read where needed. Raises InvalidRequest naming the one that is missing, damaged,
        or made for another model."""
        return tuple((self._get(self._addons.lora(lora.key)), lora.weight) for lora in loras)

    def forget(self) -> None:
        self._kept.clear()

    def _get(self, addon: AddOn) -> LoadedLora:
        name = addon.key, addon.digest()
        if name not in self._kept:
            self._kept[name] = self._read(addon, name[1])
            while len(self._kept) > 1 and self.nbytes > CACHE_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(name)
        return self._kept[name]

    def _read(self, addon: AddOn, digest: str) -> LoadedLora:
        try:
            tensors, metadata = _read_file(addon.path)
            denoiser, encoders = _fit(self._translate(tensors), metadata, self._denoiser, self._encoders)
        except (OSError, SafetensorError) as error:
            log.warning("%s cannot be read: %s", addon.path, error)
            raise InvalidRequest(f"The LoRA “{addon.key}” cannot be read.", "loras") from None
        except IncompatibleLora as error:
            log.info("The LoRA %s does not fit %s: %s", addon.key, self._spec.key, error)
            raise misfit("LoRA", addon.key, self._spec, "loras") from None
        return LoadedLora(addon.key, digest, denoiser, encoders)


@contextmanager
def active_in_unet(rows: Sequence[ActiveLoras]) -> Iterator[None]:
    """While this lasts, the LoRAs of `rows[i]` act on entry i of the UNet's batch."""
    with _hooked(rows, lambda lora: lora.denoiser):
        yield


@contextmanager
def active_in_text_encoders(loras: ActiveLoras) -> Iterator[None]:
    """While this lasts, the LoRAs act on the whole batch of the text encoders."""
    with _hooked([loras], lambda lora: chain(*lora.encoders), everywhere=True):
        yield


@contextmanager
def active_in_pipeline(loras: ActiveLoras) -> Iterator[None]:
    """While this lasts, the LoRAs act on the whole batch of the denoiser and of the text encoders."""
    with _hooked([loras], lambda lora: chain(lora.denoiser, *lora.encoders), everywhere=True):
        yield


def recipe_entries(loras: ActiveLoras) -> list[dict]:
    """What a picture's recipe says of them."""
    return [{"key": lora.key, "weight": weight, "hash": lora.digest} for lora, weight in loras]


def cache_key(loras: ActiveLoras) -> tuple:
    """Equal for LoRAs that change a model in the same way."""
    return tuple((lora.digest, weight) for lora, weight in loras)


@contextmanager
def _hooked(rows: Sequence[ActiveLoras], branches_of: Callable[[LoadedLora], Iterable[Branch]], everywhere=False):
    additions: dict[nn.Module, list] = {}
    for lora, entries, weights in _by_lora(rows):
        branches = list(branches_of(lora))
        if not branches:
            continue
        device = branches[0].down.device
        indices = None if everywhere or len(entries) == len(rows) else to_device(entries, device)
        scales = to_device(weights, device)
        for branch in branches:
            if branch.layer not in additions:
                additions[branch.layer] = []
            additions[branch.layer].append((branch, indices, scales))
    hooks = [layer.register_forward_hook(partial(_add, added)) for layer, added in additions.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _by_lora(rows) -> Iterator[tuple[LoadedLora, list[int], list[float]]]:
    """Each LoRA with the batch entries that it acts on and how strongly."""
    by_lora: dict[LoadedLora, dict[int, float]] = {}
    for entry, loras in enumerate(rows):
        for lora, weight in loras:
            weights = by_lora.setdefault(lora, {})
            weights[entry] = weights.get(entry, 0.0) + weight
    return ((lora, list(weights), list(weights.values())) for lora, weights in by_lora.items())


def _add(additions, layer, inputs, output):
    for branch, indices, weights in additions:
        if indices is None:
            output = output + branch(inputs[0], weights)
        else:
            output = output.index_add(0, indices, branch(inputs[0].index_select(0, indices), weights))
    return output


def _weighted(inner, weights):
    """At the narrowest place, in fp32: there it costs least, and half precision would round the weights."""
    weights = weights.view(-1, *[1] * (inner.ndim - 1))
    return (inner.float() * weights).to(inner.dtype)


def _read_file(path) -> tuple[dict[str, torch.Tensor], dict]:
    with safe_open(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _fit(tensors, metadata, denoiser, encoders) -> tuple[list[Branch], list[list[Branch]]]:
    """Branches for the layers that the tensors name, whichever tool named them. Raises IncompatibleLora."""
    layers = _layer_names(denoiser, encoders)
    pairs, alphas = _sort_tensors(tensors)
    metadata_ratio = _peft_ratios(metadata)
    branches: list[list[Branch]] = [[] for _ in range(1 + len(encoders))]
    for name, pair in pairs.items():
        if name not in layers:
            raise IncompatibleLora(f"there is no layer {name}")
        if pair.keys() != {"down", "up"}:
            raise IncompatibleLora(f"{name} has but one half")
        network, layer = layers[name]
        ratio = alphas[name] / max(len(pair["down"]), 1) if name in alphas else metadata_ratio(name)
        branches[network].append(_branch(name, layer, pair["down"], pair["up"], ratio))
    if not pairs:
        raise IncompatibleLora("it holds no LoRA")
    return branches[0], branches[1:]


def _branch(name, layer, down, up, ratio) -> Branch:
    convolution = isinstance(layer, nn.Conv2d)
    if convolution:
        down, up = (part[:, :, None, None] if part.ndim == 2 else part for part in (down, up))
    else:
        down, up = (part.flatten(1) if part.ndim == 4 and part.shape[2:] == (1, 1) else part for part in (down, up))
    rank = len(down)
    if not rank:
        raise IncompatibleLora(f"{name} has a LoRA of rank 0")
    outer, inner = layer.weight.shape[:2]
    expected = (rank, *layer.weight.shape[1:]), (outer, rank, 1, 1) if convolution else (outer, rank)
    if (tuple(down.shape), tuple(up.shape)) != expected:
        raise IncompatibleLora(f"{name} is {inner} to {outer}, the LoRA {tuple(down.shape)} and {tuple(up.shape)}")
    device, dtype = layer.weight.device, (layer.scale if isinstance(layer, Int8Linear) else layer.weight).dtype
    return Branch(layer, down.to(device, dtype), (up.float() * ratio).to(device, dtype))


def _sort_tensors(tensors) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, float]]:
    """Pairs of matrices and alphas by flat layer name."""
    pairs: dict[str, dict] = {}
    alphas: dict[str, float] = {}
    for name, tensor in tensors.items():
        if match := LORA_MATRIX.fullmatch(name):
            side = {"A": "down", "B": "up"}.get(match[2], match[2])
            pairs.setdefault(_flat(match[1]), {})[side] = tensor
        elif name.endswith(".alpha") and tensor.numel() == 1:
            alphas[_flat(re.sub(r"\.lora(_linear_layer)?(\.down)?$", "", name.removesuffix(".alpha")))] = tensor.item()
        else:  # see `addon_checks`; drawing without it would not be what its author made
            raise IncompatibleLora(f"{name} is not of a kind that is known here")
    return pairs, alphas


def _flat(path: str) -> str:
    """A layer's path with everything that tools write differently taken out."""
    path = path.removeprefix("base_model.model.").replace(".processor", "").replace(".", "_")
    return path + "_0" if path.endswith("to_out") else path


def _layer_names(denoiser, encoders) -> dict[str, tuple[int, nn.Module]]:
    """Every name under which a LoRA may mean a layer: 0 and a layer of the denoiser, or 1 + n and encoder n's."""
    names: dict[str, tuple[int, nn.Module]] = {}
    for path, layer in _layers(denoiser):
        is_unet = "up_block_types" in denoiser.config
        for alias in (path, _original_path(path, denoiser.config)) if is_unet else (path,):
            flat = alias.replace(".", "_")
            names |= {prefix + flat: (0, layer) for prefix in ("", "unet_", "lora_unet_", "transformer_")}
    for number, encoder in enumerate(encoders):
        prefixes = ("lora_te2_", "text_encoder_2_") if number else ("lora_te_", "lora_te1_", "text_encoder_")
        for path, layer in _layers(encoder):
            flat = path.removeprefix("text_model.").replace(".", "_")
            names |= {
                prefix + middle + alias: (1 + number, layer)
                for prefix in prefixes
                for middle in ("", "text_model_")
                for alias in (flat, _as_in_unet(flat))
            }
    return names


def _as_in_unet(flat: str) -> str:
    """What diffusers first called the layers of an encoder's attention: as the UNet's."""
    return re.sub(r"self_attn_(?:([qkv])_proj|out_proj)$", lambda match: f"self_attn_to_{match[1] or 'out_0'}", flat)


def _layers(network):
    kinds = nn.Linear, nn.Conv2d, Int8Linear
    return [(path, layer) for path, layer in network.named_modules() if isinstance(layer, kinds)]


_ORIGINAL = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_ORIGINAL_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}


def _original_path(path: str, config) -> str:
    """What the layer was called in the first Stable Diffusion code, as LoRAs for SDXL often still say."""
    if path in _ORIGINAL:
        return _ORIGINAL[path]
    section, *rest = path.split(".")
    layers = config.layers_per_block + 1
    if section == "mid_block" and len(rest) > 2:
        kind, number, *inner = rest
        place = f"middle_block.{1 if kind == 'attentions' else 2 * int(number)}"
    elif section in ("down_blocks", "up_blocks") and len(rest) > 3:
        block, kind, number, *inner = rest
        first = int(block) * layers
        if kind == "downsamplers":
            return f"input_blocks.{first + layers}.0.op"
        if kind == "upsamplers":
            attends = "Attn" in config.up_block_types[int(block)]
            return f"output_blocks.{first + layers - 1}.{1 + attends}.conv"
        side = "input_blocks" if section == "down_blocks" else "output_blocks"
        offset = 1 if section == "down_blocks" else 0
        place = f"{side}.{first + offset + int(number)}.{int(kind == 'attentions')}"
    else:
        return path
    if kind == "resnets":
        inner = [_ORIGINAL_RESNET.get(inner[0], inner[0]), *inner[1:]]
    return ".".join([place, *inner])


def _peft_ratios(metadata):
    """A function from a flat layer name to alpha / rank, as PEFT's configuration in the file says; else 1."""
    try:
        config = json.loads(metadata.get(_ADAPTER_METADATA) or "{}")
    except ValueError:
        config = {}
    parts = [name.removesuffix(".r") for name in config if name.endswith(".r")]

    def ratio(flat: str) -> float:
        # The longest that fits: `text_encoder` is also how `text_encoder_2` begins.
        part = max((name for name in parts if flat.startswith(f"{name}_")), key=len, default=None)
        if part is None:
            return 1.0
        inside = flat.removeprefix(f"{part}_")

        def setting(plain, patterns):
            special = (config.get(f"{part}.{patterns}") or {}).items()
            matching = (
                value for pattern, value in special if inside.endswith(pattern.removeprefix("^").replace(".", "_"))
            )
            return next(matching, config.get(f"{part}.{plain}"))

        alpha, rank = setting("lora_alpha", "alpha_pattern"), setting("r", "rank_pattern")
        if not alpha or not rank:
            return 1.0
        return alpha / (rank**0.5 if config.get(f"{part}.use_rslora") else rank)

    return ratio
