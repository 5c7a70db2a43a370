"""The built-in upscaler: drawings to twice their size, with outlines sharper than Lanczos leaves them.

A small SRVGGNet (see `engine/pictures/upscale.py`) that learns from drawings alone: each is drawn at twice the size
and made small again. Trained with squared differences: with absolute ones, which others prefer, it learned to change
nothing, since nearly all of a drawing is flat and outlines do not sway a median.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional

from generation.engine.pictures.upscale import SRVGGNet
from generation.engine.sketch import UPSCALER

from .dataset import FRESH
from .drawing import SIZE, draw
from .loop import Average, Progress, rate
from .recipe import Recipe
from .scene import random_scene

SCALE = 2
EDGE = 48
"""Pixels of a side of the small patches that it learns from."""
MEASURED = 24


def drawing(seed: int) -> np.ndarray:
    """A drawing at twice the usual size: height x width x 3 in 0…255."""
    return np.array(draw(replace(random_scene(seed), width=SCALE * SIZE, height=SCALE * SIZE)))


def small(large: torch.Tensor) -> torch.Tensor:
    """The same pictures (n x 3 x h x w) at half the size, each small pixel the mean of four."""
    return functional.avg_pool2d(large, SCALE)


def train(recipe: Recipe, out: Path = UPSCALER, device: str = "cpu", processes: int = 0, say=print) -> dict[str, float]:
    """Trains it and writes it to `out`; its figures on drawings that it never saw (see `measure`)."""
    with ProcessPoolExecutor(processes or None) as pool:
        drawings = list(pool.map(drawing, range(recipe.enlarger_pictures), chunksize=16))
    torch.manual_seed(0)
    net = SRVGGNet(width=recipe.enlarger_width, layers=recipe.enlarger_layers, scale=SCALE).to(device).train()
    for layer in net.body[:-1]:
        if isinstance(layer, torch.nn.Conv2d):  # PyTorch's own start lets so deep a net fade to nothing
            torch.nn.init.kaiming_normal_(layer.weight, a=0.25)
            torch.nn.init.zeros_(layer.bias)
    with torch.no_grad():
        net.body[-1].weight.mul_(0.1)  # begins close to the picture as it is
    optimiser = torch.optim.AdamW(net.parameters(), recipe.enlarger_rate, (0.9, 0.99), weight_decay=0.0)
    average = Average(net, 0.998)
    progress = Progress("enlarger", recipe.enlarger_steps, say=say)
    for step, large in zip(range(recipe.enlarger_steps), patches(drawings, recipe.enlarger_batch), strict=False):
        large = large.to(device)
        for group in optimiser.param_groups:
            group["lr"] = recipe.enlarger_rate * rate(step, recipe.enlarger_steps)
        optimiser.zero_grad(set_to_none=True)
        loss = (net(small(large)) - large).square().mean()
        loss.backward()
        optimiser.step()
        average.update(net)
        progress.step(step, psnr=-10 * loss.log10().item())
    net.load_state_dict(average.shadow)
    save_file({name: tensor.half().contiguous().cpu() for name, tensor in net.state_dict().items()}, out)
    figures = measure(net.eval(), device)
    say(f"enlarger: {figures}")
    return figures


def patches(drawings: list[np.ndarray], batch: int) -> Iterator[torch.Tensor]:
    """Endless batches of square cut-outs, batch x 3 x 96 x 96 in 0…1, turned and mirrored at random."""
    rng, edge = np.random.default_rng(0), SCALE * EDGE
    while True:
        cut = []
        for number in rng.integers(0, len(drawings), batch):
            top, left = rng.integers(0, drawings[number].shape[0] - edge + 1, 2) // SCALE * SCALE
            piece = np.rot90(drawings[number][top : top + edge, left : left + edge], rng.integers(4))
            cut.append(piece[:, ::-1] if rng.random() < 0.5 else piece)
        yield torch.from_numpy(np.stack(cut)).movedim(-1, 1).float() / 255


@torch.inference_mode()
def measure(net: SRVGGNet, device: str = "cpu") -> dict[str, float]:
    """Peak signal-to-noise ratio in dB against drawings at twice the size: its own, and that of Lanczos."""
    ours, theirs = [], []
    for seed in range(FRESH, FRESH + MEASURED):
        large = drawing(seed)
        halved = small(torch.from_numpy(large).movedim(-1, 0)[None].float() / 255).mul(255).round()
        enlarged = net(halved.to(device) / 255)[0].clamp(0, 1).mul(255).round().movedim(0, -1).cpu().numpy()
        plain = Image.fromarray(halved[0].movedim(0, -1).byte().numpy())
        plain = np.asarray(plain.resize((SCALE * SIZE, SCALE * SIZE), Image.Resampling.LANCZOS))
        for ratios, picture in ((ours, enlarged), (theirs, plain)):
            ratios.append(10 * np.log10(255**2 / np.square(picture - large.astype(np.float32)).mean()))
    return {"psnr": round(float(np.mean(ours)), 2), "psnr of Lanczos": round(float(np.mean(theirs)), 2)}
