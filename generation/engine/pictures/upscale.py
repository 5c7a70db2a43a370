"""Upscaling pictures: by resampling, or with an ESRGAN model, tile by tile.

    enlarge(picture, (1024, 1024), "lanczos")
    enlarge(picture, (1024, 1024), "4x-some-model", models_dir="/models", device="cuda")

Two architectures are known, told from the tensors in the file: RRDBNet (ESRGAN, Wang et al. 2018; Real-ESRGAN,
Wang et al. 2021; most community upscalers) in its three ways of naming tensors, and the small SRVGGNet of
Real-ESRGAN. Only safetensors are read.
"""

import math
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from generation.engine.catalog.model_files import check_safetensors, check_shipped
from generation.engine.catalog.upscalers import UPSCALERS, upscaler_file
from generation.engine.errors import ModelUnavailable

from .pixels import RESAMPLING

OVERLAP = 16
"""Pixels of its neighbours that a tile sees on each side; they are cut off again."""
TILE_BYTES = {"cpu": 192 * 2**20, "cuda": 2**30, "mps": 512 * 2**20}
"""What the activations of one tile may take, roughly."""
SMALLEST_TILE, LARGEST_TILE = 32, 1024
MAX_FILE_BYTES = 2**30
MAX_RESIDENT = 2

_resident: OrderedDict[tuple, "TiledUpscaler"] = OrderedDict()


def enlarge(
    pixels: Image.Image,
    size: tuple[int, int],
    upscaler: str = UPSCALERS[0],
    *,
    models_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    between: Callable[[int, int], None] = lambda done, total: None,
) -> Image.Image:
    """`pixels` as RGB of `size` (width, height), with one of `upscalers.upscaler_names(models_dir)`.

    A model's own factor need not fit: it runs as often as needed, and Lanczos does the rest.
    `between(done, total)` is called after every tile; what it raises ends the work. Raises InvalidRequest for
    an unknown upscaler and ModelUnavailable for a file that is no upscaler. Not thread-safe.
    """
    pixels = pixels.convert("RGB")
    if upscaler in RESAMPLING:
        enlarged = pixels.resize(size, RESAMPLING[upscaler])
        between(1, 1)
        return enlarged
    net = _upscaler(upscaler_file(upscaler, models_dir), torch.device(device))
    passes = _passes(net, pixels.size, size)
    total, done = sum(upscale_pass.tiles for upscale_pass in passes), 0

    def after_tile():
        nonlocal done
        done += 1
        between(done, total)

    for upscale_pass in passes:
        pixels = upscale_pass.run(pixels, after_tile)
    return pixels if pixels.size == size else pixels.resize(size, Image.Resampling.LANCZOS)


def forget_upscalers() -> None:
    """Drop the models that are in memory."""
    _resident.clear()


class TiledUpscaler:
    """One upscaling model on its device."""

    def __init__(self, net: nn.Module, device: torch.device):
        self.net = net.requires_grad_(False).eval().to(device)
        self.device = device
        self.scale = net.scale
        max_bytes = TILE_BYTES.get(device.type, TILE_BYTES["cpu"])
        # The widest layer at full size, its input and its output, in fp32.
        side = math.isqrt(max_bytes // (3 * 4 * net.width * self.scale**2)) - 2 * OVERLAP
        self.tile = min(max(side, SMALLEST_TILE), LARGEST_TILE)

    @torch.inference_mode()
    def __call__(self, pixels: Image.Image) -> Image.Image:
        """Without tiles: the caller bounds the size."""
        values = torch.from_numpy(np.array(pixels)).movedim(-1, 0)[None].to(self.device) / 255.0
        result = torch.nan_to_num(self.net(values)[0]).clamp(0, 1).movedim(0, -1)
        return Image.fromarray((result * 255).round().to(torch.uint8).cpu().numpy(), "RGB")


class UpscalePass:
    """One run of a model over a picture. `factor`: how much larger the result is; the model's own scale or a
    divisor of it, so that no tile is kept larger than needed."""

    def __init__(self, net: TiledUpscaler, size: tuple[int, int], factor: int):
        self.net, self.size, self.factor = net, size, factor

    @property
    def tiles(self) -> int:
        return math.prod(-(-side // self.net.tile) for side in self.size)

    def run(self, pixels: Image.Image, after_tile: Callable[[], None]) -> Image.Image:
        width, height = self.size
        result = Image.new("RGB", (width * self.factor, height * self.factor))
        for top in range(0, height, self.net.tile):
            for left in range(0, width, self.net.tile):
                right, bottom = min(left + self.net.tile, width), min(top + self.net.tile, height)
                result.paste(self._tile(pixels, left, top, right, bottom), (left * self.factor, top * self.factor))
                after_tile()
        return result

    def _tile(self, pixels, left, top, right, bottom) -> Image.Image:
        box = (
            max(left - OVERLAP, 0),
            max(top - OVERLAP, 0),
            min(right + OVERLAP, pixels.width),
            min(bottom + OVERLAP, pixels.height),
        )
        tile = self.net(pixels.crop(box))
        size = (box[2] - box[0]) * self.factor, (box[3] - box[1]) * self.factor
        if tile.size != size:
            tile = tile.resize(size, Image.Resampling.LANCZOS)
        inside = (left - box[0], top - box[1], right - box[0], bottom - box[1])
        return tile.crop(tuple(edge * self.factor for edge in inside))


def _passes(net: TiledUpscaler, size: tuple[int, int], target: tuple[int, int]) -> list[UpscalePass]:
    """The runs after which the picture is at least as large as wanted; none where it is that already."""
    passes = []
    needed = max(wanted / side for wanted, side in zip(target, size, strict=True))
    if net.scale == 1:
        return [UpscalePass(net, size, 1)]
    while needed > 1:
        factor = next(
            factor for factor in range(2, net.scale + 1) if net.scale % factor == 0 and factor >= min(needed, net.scale)
        )
        passes.append(UpscalePass(net, size, factor))
        size = tuple(side * factor for side in size)
        needed /= factor
    return passes


def _upscaler(file: Path, device: torch.device) -> TiledUpscaler:
    key = (file, file.stat().st_mtime_ns, str(device))
    if key not in _resident:
        while len(_resident) >= MAX_RESIDENT:
            _resident.popitem(last=False)
        _resident[key] = TiledUpscaler(load_upscaler(file), device)
    _resident.move_to_end(key)
    return _resident[key]


def load_upscaler(file: Path) -> nn.Module:
    """The network in a safetensors file, with `scale` and `width`. Raises ModelUnavailable."""
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ValueError("is too large for an upscaler")
        check_safetensors(file)
        check_shipped(file)
        state = {name: tensor.float() for name, tensor in load_file(file).items()}
        for wrapping in ("params_ema.", "params.", "model_state_dict."):
            if all(name.startswith(wrapping) for name in state):
                state = {name.removeprefix(wrapping): tensor for name, tensor in state.items()}
        return _srvgg_net(state) if "body.0.weight" in state else _rrdb_net(state)
    except ModelUnavailable:
        raise
    except Exception as error:  # what a wrong file makes the libraries raise is anything
        details = [f"{file.name}: {type(error).__name__}: {error}"]
        raise ModelUnavailable(f"The upscaler {file.stem} cannot be loaded.", details) from None


# --- RRDBNet --------------------------------------------------------------------------------------------------


class ResidualDenseBlock(nn.Module):
    """Five convolutions, each of which sees all that came before it; a fifth of the result is added."""

    def __init__(self, width: int, growth: int):
        super().__init__()
        for number in range(1, 6):
            inputs = width + (number - 1) * growth
            setattr(self, f"conv{number}", nn.Conv2d(inputs, width if number == 5 else growth, 3, padding=1))

    def forward(self, x):
        features = x
        for number in range(1, 5):
            features = torch.cat((features, _leaky_relu(getattr(self, f"conv{number}")(features))), 1)
        return x + 0.2 * self.conv5(features)


class RRDB(nn.Module):
    """A residual in residual dense block (Wang et al. 2018)."""

    def __init__(self, width: int, growth: int):
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (ResidualDenseBlock(width, growth) for _ in range(3))

    def forward(self, x):
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """`shrink`: pixels of a square that become channels first, as Real-ESRGAN does for 2x and 1x."""

    def __init__(self, *, width: int, growth: int, blocks: int, doublings: int, shrink: int):
        super().__init__()
        self.width, self.shrink, self.scale = width, shrink, 2**doublings // shrink
        self.conv_first = nn.Conv2d(3 * shrink**2, width, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(width, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        self.ups = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(doublings))
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x):
        height, width = x.shape[-2:]
        missing = (0, -width % self.shrink, 0, -height % self.shrink)
        x = functional.pad(x, missing, mode="reflect" if max(missing) < min(height, width) else "replicate")
        x = self.conv_first(functional.pixel_unshuffle(x, self.shrink))
        x = x + self.conv_body(self.body(x))
        for conv in self.ups:
            x = _leaky_relu(conv(functional.interpolate(x, scale_factor=2, mode="nearest")))
        return self.conv_last(_leaky_relu(self.conv_hr(x)))[..., : height * self.scale, : width * self.scale]


def _leaky_relu(x):
    return functional.leaky_relu(x, 0.2)


# The same tensors under three names: Real-ESRGAN's, ESRGAN's own, and those of the code it was trained with.
_RENAMES = (
    (re.compile(r"RRDB_trunk\.(\d+)\.RDB(\d)\.conv(\d)\."), r"body.\1.rdb\2.conv\3."),
    (re.compile(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\."), r"body.\1.rdb\2.conv\3."),
    (re.compile(r"model\.1\.sub\.\d+\.(weight|bias)$"), r"conv_body.\1"),
    (re.compile(r"trunk_conv\."), "conv_body."),
    (re.compile(r"HRconv\."), "conv_hr."),
    (re.compile(r"(?:conv_up|upconv)(\d)\."), lambda match: f"ups.{int(match[1]) - 1}."),
)


def _rrdb_net(state: dict) -> RRDBNet:
    named = {}
    numbered = sorted({int(match[1]) for name in state if (match := re.fullmatch(r"model\.(\d+)\.weight", name))})
    layers = (
        dict(
            zip(
                numbered,
                ["conv_first", *(f"ups.{n}" for n in range(len(numbered) - 3)), "conv_hr", "conv_last"],
                strict=True,
            )
        )
        if len(numbered) >= 3
        else {}
    )
    for name, tensor in state.items():
        if match := re.fullmatch(r"model\.(\d+)\.(weight|bias)", name):
            name = f"{layers[int(match[1])]}.{match[2]}"
        for pattern, new in _RENAMES:
            name = pattern.sub(new, name)
        named[name] = tensor
    width, channels = named["conv_first.weight"].shape[:2]
    net = RRDBNet(
        width=width,
        growth=named["body.0.rdb1.conv1.weight"].shape[0],
        blocks=1 + max(int(name.split(".")[1]) for name in named if name.startswith("body.")),
        doublings=sum(re.fullmatch(r"ups\.\d+\.weight", name) is not None for name in named),
        shrink=math.isqrt(channels // 3),
    )
    net.load_state_dict(named)
    return net


# --- SRVGGNet -------------------------------------------------------------------------------------------------


class SRVGGNet(nn.Module):
    """Convolutions at the picture's own size, and one shuffle at the end that adds to the picture enlarged."""

    def __init__(self, *, width: int, layers: int, scale: int):
        super().__init__()
        self.width, self.scale = width, scale
        body = [nn.Conv2d(3, width, 3, padding=1), nn.PReLU(width)]
        for _ in range(layers):
            body += [nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)]
        self.body = nn.Sequential(*body, nn.Conv2d(width, 3 * scale**2, 3, padding=1))

    def forward(self, x):
        larger = functional.pixel_shuffle(self.body(x), self.scale)
        return larger + functional.interpolate(x, scale_factor=self.scale, mode="nearest")


def _srvgg_net(state: dict) -> SRVGGNet:
    last = max(int(name.split(".")[1]) for name in state)
    net = SRVGGNet(
        width=state["body.0.weight"].shape[0],
        layers=(last - 2) // 2,
        scale=math.isqrt(state[f"body.{last}.weight"].shape[0] // 3),
    )
    net.load_state_dict(state)
    return net
