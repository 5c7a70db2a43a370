"""ControlNets in a batch (Zhang et al. 2023): rows with their own maps, scales and spans, beside rows without.

The residuals of a row without a ControlNet are zero.
"""

import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers import ControlNetModel
from PIL import Image

from generation.engine.catalog import model_files
from generation.engine.catalog.addons import AddOn, Addons, misfit
from generation.engine.catalog.families import DIFFUSERS_STEM
from generation.engine.errors import InvalidRequest
from generation.engine.pictures.control_maps import make_map
from generation.engine.request.fields import Control

from .device import to_device
from .vae import joined_edges

log = logging.getLogger(__name__)


@dataclass(eq=False)
class ControlNet:
    """A ControlNet on the device."""

    key: str
    network: ControlNetModel
    digest: Future = field(repr=False)
    nbytes: int = 0

    @property
    def pools(self) -> bool:
        """Whether it pools its conditions over the picture; then it acts only on the half with the prompt."""
        return self.network.config.global_pool_conditions


@dataclass(frozen=True, slots=True)
class ControlNetCondition:
    """A ControlNet with the control map for the images of one job in one pass."""

    controlnet: ControlNet
    map: torch.Tensor
    """3 x height x width in 0…1, on the device."""
    control: Control

    def scale_at(self, position: int, evaluations: int) -> float:
        """Its conditioning scale at that of so many evaluations; as diffusers counts, the last must end within."""
        begin, end = position / evaluations, (position + 1) / evaluations
        return self.control.scale if begin >= self.control.begin and end <= self.control.end else 0.0


class ControlNets:
    """Loads ControlNets and keeps the last ones. Used by the engine's thread alone.

    `max_bytes`: of those kept; the one used last stays in any case.
    """

    def __init__(self, addons: Addons, device: torch.device, hasher: Executor, max_bytes: int):
        self._addons = addons
        self._device = device
        self._hasher = hasher
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple, ControlNet] = OrderedDict()

    @property
    def nbytes(self) -> int:
        return sum(net.nbytes for net in self._kept.values())

    def forget(self) -> None:
        """Rows in flight keep those that act on them."""
        self._kept.clear()

    def condition(self, model, control: Control, map: Image.Image) -> ControlNetCondition:
        """The ControlNet of a request with its map. Raises InvalidRequest where the ControlNet is missing, cannot be
        read or was made for another model."""
        net = self._get(self._addons.controlnet(control.key), model)
        pixels = torch.from_numpy(np.array(map.convert("RGB"))).movedim(-1, 0).float() / 255
        return ControlNetCondition(net, pixels.to(self._device, net.network.dtype), control)

    def _get(self, addon: AddOn, model) -> ControlNet:
        key = addon.path, model.dtype, *(file.stat().st_mtime_ns for file in sorted(addon.path.iterdir()))
        if key not in self._kept:
            self._make_room()
            self._kept[key] = self._load(addon, model)
        self._kept.move_to_end(key)
        net = self._kept[key]
        if not _matches(net.network.config, model.unet.config):
            raise misfit("ControlNet", addon.key, model.spec, "control")
        return net

    def _make_room(self) -> None:
        while self._kept and self.nbytes > self._max_bytes:
            self._kept.popitem(last=False)

    def _load(self, addon: AddOn, model) -> ControlNet:
        chosen, variant = model_files.choose_weights(os.listdir(addon.path), DIFFUSERS_STEM, "fp16")
        files = [addon.path / name for name in chosen]
        try:
            for file in files:
                model_files.check_safetensors(file)
            network = ControlNetModel.from_pretrained(
                addon.path, variant=variant, dtype=model.dtype, use_safetensors=True, local_files_only=True
            )
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception:  # what a wrong file makes the library raise is anything
            log.exception("Cannot load %s", addon.path)
            raise InvalidRequest(f"The ControlNet “{addon.key}” cannot be read.", "control") from None
        network.requires_grad_(False).eval().to(self._device)
        nbytes = sum(part.numel() * part.element_size() for part in network.parameters())
        log.info("Loaded ControlNet %s: %d MB", addon.key, nbytes // 10**6)
        return ControlNet(addon.key, network, self._hasher.submit(model_files.weights_hash, files), nbytes)


def control_map(addons: Addons, control: Control, size: tuple[int, int], canvas: Future | None) -> Image.Image:
    """The control map, RGB, for a pass of that size in pixels. Not for the engine's thread: it reads and computes.

    `canvas`: the pass's, where it begins with a picture; if it draws a part of it, the map shows that part.
    """
    picture = control.image.load().convert("RGB")
    prepared = canvas.result() if canvas is not None else None
    if prepared is not None and prepared.box is not None:
        picture = picture.resize(prepared.whole.size, Image.Resampling.LANCZOS).crop(prepared.box)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return make_map(addons.controlnet(control.key).kind, picture, addons.folder) if control.preprocess else picture


def apply_controlnets(
    rows: Sequence, batch_rows: list[int], latents: torch.Tensor, times: torch.Tensor, conditioning: dict
) -> dict:
    """The UNet's keyword arguments with the residuals of all ControlNets; {} if none acts at its row's position.

    `batch_rows`: for each entry of the batch the index of its row, those with their prompt first; `latents`, `times`
    and `conditioning` are what the UNet gets.
    """
    residuals = None
    for net, entries in _entries_by_controlnet(rows, batch_rows).items():
        indices = to_device([index for index, _, _ in entries], latents.device)
        outputs = _run(net, rows, entries, indices, latents, times, conditioning)
        spread = [part.new_zeros(len(batch_rows), *part.shape[1:]).index_copy(0, indices, part) for part in outputs]
        residuals = spread if residuals is None else [a + b for a, b in zip(residuals, spread, strict=True)]
    if residuals is None:
        return {}
    return {"down_block_additional_residuals": residuals[:-1], "mid_block_additional_residual": residuals[-1]}


def _entries_by_controlnet(
    rows: Sequence, batch_rows: list[int]
) -> dict[ControlNet, list[tuple[int, ControlNetCondition, float]]]:
    """For each ControlNet the batch entries that it acts on: index, condition and scale."""
    entries: dict[ControlNet, list] = {}
    for index, number in enumerate(batch_rows):
        row = rows[number]
        scale = row.controlnet.scale_at(row.position, len(row.table)) if row.controlnet else 0.0
        if scale and not (row.controlnet.controlnet.pools and index >= len(rows)):
            entries.setdefault(row.controlnet.controlnet, []).append((index, row.controlnet, scale))
    return entries


def _run(
    net: ControlNet, rows: Sequence, entries, indices: torch.Tensor, latents, times, conditioning: dict
) -> list[torch.Tensor]:
    """The residuals for these batch entries: of the down blocks, then of the middle."""
    scales = to_device([scale for _, _, scale in entries], latents.device, latents.dtype)
    added = {name: part.index_select(0, indices) for name, part in conditioning.get("added_cond_kwargs", {}).items()}
    with joined_edges(net.network, rows[0].request.tiling):
        down, middle = net.network(
            latents.index_select(0, indices),
            times.index_select(0, indices),
            conditioning["encoder_hidden_states"].index_select(0, indices),
            controlnet_cond=torch.stack([condition.map for _, condition, _ in entries]),
            conditioning_scale=scales.view(-1, 1, 1, 1),
            guess_mode=net.pools,
            added_cond_kwargs=added or None,
            return_dict=False,
        )
    return [*down, middle]


def _matches(net, unet) -> bool:
    """Whether a ControlNet of that configuration was made for a UNet of that one."""
    names = ("cross_attention_dim", "block_out_channels", "layers_per_block", "addition_embed_type")
    return all(_as_list(getattr(net, name)) == _as_list(getattr(unet, name)) for name in names)


def _as_list(value):
    return list(value) if isinstance(value, (list, tuple)) else value
