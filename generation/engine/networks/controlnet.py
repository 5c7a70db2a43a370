"""ControlNets inside the step loop: rows with their own maps, scales and spans, beside rows without (Zhang et
al. 2023). What a row without control gets added is zero."""

import logging
import os
from collections import OrderedDict
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers import ControlNetModel
from PIL import Image

from generation.engine.catalog import model_files
from generation.engine.catalog.addons import AddOn, Addons, misfit
from generation.engine.errors import InvalidRequest
from generation.engine.pictures.control_maps import make_map
from generation.engine.request.fields import Control

from .device import sent
from .vae import joined_edges

log = logging.getLogger(__name__)

STEM = "diffusion_pytorch_model"


@dataclass(eq=False)
class ControlNet:
    """One on the device."""

    key: str
    network: ControlNetModel
    digest: Future = field(repr=False)
    nbytes: int = 0

    @property
    def pools(self) -> bool:
        """Whether it says one thing about the whole picture; then only the half with the prompt hears it."""
        return self.network.config.global_pool_conditions


@dataclass(frozen=True, slots=True)
class Guide:
    """What steers the images of one job in one pass."""

    net: ControlNet
    map: torch.Tensor
    """3 x height x width in 0…1, on the device."""
    asked: Control

    def weight(self, position: int, evaluations: int) -> float:
        """How strongly it acts at that of so many evaluations; as diffusers counts, the last must end within."""
        within = position / evaluations >= self.asked.begin and (position + 1) / evaluations <= self.asked.end
        return self.asked.scale if within else 0.0


class ControlNets:
    """Loads ControlNets and keeps the last ones. Used by the engine's thread alone.

    `room`: bytes that those kept may take; the one used last stays in any case.
    """

    def __init__(self, addons: Addons, device: torch.device, hasher: Executor, room: int):
        self._addons = addons
        self._device = device
        self._hasher = hasher
        self._room = room
        self._kept: OrderedDict[tuple, ControlNet] = OrderedDict()

    @property
    def nbytes(self) -> int:
        return sum(net.nbytes for net in self._kept.values())

    def forget(self) -> None:
        """Those that steer rows in flight are kept by these rows."""
        self._kept.clear()

    def guide(self, model, asked: Control, drawn_map: Image.Image) -> Guide:
        """Raises InvalidRequest where the ControlNet is missing, cannot be read or was made for another model."""
        net = self._get(self._addons.control(asked.key), model)
        pixels = torch.from_numpy(np.array(drawn_map.convert("RGB"))).movedim(-1, 0).float() / 255
        return Guide(net, pixels.to(self._device, net.network.dtype), asked)

    def _get(self, addon: AddOn, model) -> ControlNet:
        name = addon.path, model.dtype, *(file.stat().st_mtime_ns for file in sorted(addon.path.iterdir()))
        if name not in self._kept:
            self._make_room()
            self._kept[name] = self._load(addon, model)
        self._kept.move_to_end(name)
        net = self._kept[name]
        if not _suits(net.network.config, model.unet.config):
            raise misfit("ControlNet", addon.key, model.spec, "control")
        return net

    def _make_room(self) -> None:
        while self._kept and self.nbytes > self._room:
            self._kept.popitem(last=False)

    def _load(self, addon: AddOn, model) -> ControlNet:
        chosen, variant = model_files.choose_weights(os.listdir(addon.path), STEM, "fp16")
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


def map_for(addons: Addons, asked: Control, size: tuple[int, int], canvas: Future | None) -> Image.Image:
    """The control map for a pass of that size. Not for the engine's thread: it reads and computes.

    `canvas`: the pass's, where it begins with a picture; if it draws a part of it, the map shows that part.
    """
    picture = asked.image.load().convert("RGB")
    laid_out = canvas.result() if canvas is not None else None
    if laid_out is not None and laid_out.box is not None:
        picture = picture.resize(laid_out.whole.size, Image.Resampling.LANCZOS).crop(laid_out.box)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return make_map(addons.control(asked.key).kind, picture, addons.folder) if asked.preprocess else picture


def steer(rows, seats: list[int], latents: torch.Tensor, times: torch.Tensor, conditioning: dict) -> dict:
    """What the UNet is given because some rows have a guide, as keyword arguments; {} if none has at its position.

    `seats`: for each place of the batch the number of its row, those with their prompt first; `latents`, `times`
    and `conditioning` are what the UNet gets.
    """
    parts = None
    for net, steered in _by_net(rows, seats).items():
        places = sent([place for place, _, _ in steered], latents.device)
        answers = _ask(net, rows, steered, places, latents, times, conditioning)
        spread = [part.new_zeros(len(seats), *part.shape[1:]).index_copy(0, places, part) for part in answers]
        parts = spread if parts is None else [one + other for one, other in zip(parts, spread, strict=True)]
    if parts is None:
        return {}
    return {"down_block_additional_residuals": parts[:-1], "mid_block_additional_residual": parts[-1]}


def _by_net(rows, seats) -> dict[ControlNet, list[tuple[int, Guide, float]]]:
    found: dict[ControlNet, list] = {}
    for place, number in enumerate(seats):
        row = rows[number]
        weight = row.guide.weight(row.position, len(row.table)) if row.guide else 0.0
        if weight and not (row.guide.net.pools and place >= len(rows)):
            found.setdefault(row.guide.net, []).append((place, row.guide, weight))
    return found


def _ask(net: ControlNet, rows, steered, places, latents, times, conditioning) -> list[torch.Tensor]:
    weights = sent([weight for _, _, weight in steered], latents.device, latents.dtype)
    added = {name: part.index_select(0, places) for name, part in conditioning.get("added_cond_kwargs", {}).items()}
    with joined_edges(net.network, rows[0].request.tiling):
        down, middle = net.network(
            latents.index_select(0, places),
            times.index_select(0, places),
            conditioning["encoder_hidden_states"].index_select(0, places),
            controlnet_cond=torch.stack([guide.map for _, guide, _ in steered]),
            conditioning_scale=weights.view(-1, 1, 1, 1),
            guess_mode=net.pools,
            added_cond_kwargs=added or None,
            return_dict=False,
        )
    return [*down, middle]


def _suits(net, unet) -> bool:
    names = ("cross_attention_dim", "block_out_channels", "layers_per_block", "addition_embed_type")
    return all(_plain(getattr(net, name)) == _plain(getattr(unet, name)) for name in names)


def _plain(value):
    return list(value) if isinstance(value, (list, tuple)) else value
