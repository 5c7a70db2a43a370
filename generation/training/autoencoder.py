"""Trains the VAE (AutoencoderKL): 256x256 pictures to 16x16 latents and back, and what depends on its latents.

A 16-fold `AutoencoderKL` (five levels), because on two CPU cores the denoiser is about four times
as fast on 16x16 latents as on the usual 32x32. No attention inside, so it works at any size that
16 divides.
"""

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from .dataset import Shelf, choose, latents, pictures, shelves, wanted, with_latents
from .loop import Average, Progress, checkpoint, load, rate, restore, save
from .recipe import Recipe

LATENT_NOISE = 0.15
"""Deviation of the noise on latents that the decoder is sharpened on: about what the denoiser leaves. With
0.05, plain backgrounds of finished pictures came out mottled."""


def build(recipe: Recipe) -> AutoencoderKL:
    levels = len(recipe.autoencoder_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=recipe.autoencoder_channels,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=1,  # groups of few channels would normalise the colour of a plain page away
        sample_size=256,
        scaling_factor=1.0,
        mid_block_add_attention=False,
        force_upcast=False,
    )


@torch.no_grad()
def start_blurred(model: AutoencoderKL) -> None:
    """Weights to start from: a path that carries blurred colours through, everything else beside it.

    From random weights this net needs thousands of steps to find colour, since both halves end in a
    normalisation. So its first eight channels begin as red, green, blue, their negatives, and plus
    and minus one (from which the normalised size can be told); down- and upsampling pass them on
    by averaging and copying; silu(x) - silu(-x) = x undoes the last activation; residual branches
    start at zero.
    """

    def middle(conv, pairs) -> None:
        """Makes (output, input, weight) the only taps of those outputs, at the kernel's centre."""
        c = conv.weight.shape[-1] // 2
        for out in {o for o, _, _ in pairs}:
            conv.weight[out] = 0
            conv.bias[out] = 0
        for out, into, weight in pairs:
            conv.weight[out, into, c, c] = weight

    same = [(i, i, 1.0) for i in range(8)]
    signs = [(i, i % 3, 1.0 if i < 3 else -1.0) for i in range(6)]
    for half in (model.encoder, model.decoder):
        for part in half.modules():
            if hasattr(part, "conv_shortcut"):
                part.conv2.weight.zero_()
                part.conv2.bias.zero_()
                if part.conv_shortcut is not None:
                    middle(part.conv_shortcut, same)
    for block in model.encoder.down_blocks:
        for down in block.downsamplers or ():
            middle(down.conv, same)
            for i in range(8):
                down.conv.weight[i] = 0
                # The kernel starts at the pixel itself: this averages 2x2 pixels.
                down.conv.weight[i, i, :2, :2] = 0.25
    for block in model.decoder.up_blocks:
        for up in block.upsamplers or ():
            middle(up.conv, same)
    middle(model.encoder.conv_in, signs)
    for i, bias in ((6, 1.0), (7, -1.0)):
        model.encoder.conv_in.weight[i] = 0
        model.encoder.conv_in.bias[i] = bias
    latent = model.config.latent_channels
    pairs = [(i, i, 1.0) for i in range(3)] + [(i, i + 3, -1.0) for i in range(3)] + [(3, 6, 1.0), (3, 7, -1.0)]
    middle(model.encoder.conv_out, pairs)
    model.encoder.conv_out.weight[latent:] = 0
    model.encoder.conv_out.bias[latent:] = -6
    middle(model.quant_conv, [(i, i, 1.0) for i in range(2 * latent)])
    middle(model.post_quant_conv, [(i, i, 1.0) for i in range(latent)])
    middle(model.decoder.conv_in, signs + [(6, 3, 1.0), (7, 3, -1.0)])
    middle(model.decoder.conv_out, [(i, i, 1.0) for i in range(3)] + [(i, i + 3, -1.0) for i in range(3)])


def tensor(pixels: np.ndarray, device) -> torch.Tensor:
    """uint8 (n, h, w, 3) to float (n, 3, h, w) in -1..1."""
    return torch.from_numpy(np.array(pixels)).to(device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def picture_loss(out: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """How far two pictures differ: L1 at three scales, and L1 of the edges, where ink lines live."""
    loss = F.l1_loss(out, real)
    for k in (4, 16):
        loss = loss + F.l1_loss(F.avg_pool2d(out, k), F.avg_pool2d(real, k))
    for d in (2, 3):
        loss = loss + F.l1_loss(out.diff(dim=d), real.diff(dim=d))
    return loss


def crops(stock: list[Shelf], rng: np.random.Generator, batch: int, side: int) -> np.ndarray:
    """A batch of random square crops, half of them mirrored."""
    out = np.empty((batch, side, side, 3), np.uint8)
    for i in range(batch):
        pictures = choose(stock, rng).pictures
        y, x = (rng.integers(0, extent - side + 1) for extent in pictures.shape[1:3])
        crop = pictures[rng.integers(len(pictures)), y : y + side, x : x + side]
        out[i] = crop[:, ::-1] if rng.random() < 0.5 else crop
    return out


def whole_pictures(stock: list[Shelf], rng: np.random.Generator, batch: int) -> np.ndarray:
    """A batch of one size."""
    shelf = choose(stock, rng)
    return shelf.pictures[rng.integers(0, len(shelf.pictures), shelf.batch(batch))]


def train(recipe: Recipe, work: Path, device: str, say=print) -> None:
    """Trains on the drawn pictures; the averaged weights end in work/autoencoder.pt.

    From a finished model it goes on with half the rate, and its latents are held near what they were.
    """
    path = work / "autoencoder.pt"
    if (load(path) or {"step": 0})["step"] >= recipe.autoencoder_steps:
        return
    for stale in ("latents*", "decoder.pt"):
        for file in work.glob(stale):
            file.unlink()
    stock = shelves(recipe, work)
    model, anchor, top = build(recipe), None, 1.5e-3
    if known := load(work / "start.pt"):
        model.load_state_dict(known["vae"])
        anchor, top = copy.deepcopy(model).to(device).eval().requires_grad_(False), 8e-4
    else:
        start_blurred(model)
    model = model.to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), top, (0.9, 0.99), weight_decay=1e-4)
    average = Average(model, recipe.average)
    start = restore(path, model, optimiser, average)
    progress = Progress("autoencoder", recipe.autoencoder_steps, start, say=say)
    for step in range(start, recipe.autoencoder_steps):
        rng = np.random.default_rng(step)
        if step >= recipe.autoencoder_steps * (1 - recipe.autoencoder_whole):
            seen = whole_pictures(stock, rng, max(1, recipe.autoencoder_batch // 4))
        else:
            seen = crops(stock, rng, recipe.autoencoder_batch, recipe.autoencoder_crop)
        real = tensor(seen, device)
        for group in optimiser.param_groups:
            group["lr"] = top * rate(step, recipe.autoencoder_steps)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            means = model.encode(real).latent_dist.mean
            # A fixed little noise instead of the learned one: with that, detail never gets started,
            # because channels that carry little are drowned before the decoder can find a use for them.
            out = model.decode(means + 0.05 * torch.randn_like(means)).sample
        loss = picture_loss(out.float(), real)
        if anchor:
            with torch.no_grad(), torch.autocast(torch.device(device).type, torch.bfloat16):
                known = anchor.encode(real).latent_dist.mean
            held = 0.05 * (means - known).float().square().mean()
        else:
            held = 1e-4 * means.float().square().mean()
        optimiser.zero_grad(set_to_none=True)
        (loss + held).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        average.update(model)
        progress.step(step, loss=loss.item(), held=held.item())
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.autoencoder_steps:
            checkpoint(path, step + 1, model, optimiser, average)


def trained(recipe: Recipe, work: Path) -> AutoencoderKL:
    """The averaged autoencoder of a finished or running stage, in float32, for use.

    Once the latents stage has measured them, latents leave it with mean 0 and deviation 1; once the
    decoder has been refined, its own weights come from there.
    """
    model = build(recipe)
    model.load_state_dict(load(work / "autoencoder.pt")["average"]["shadow"])
    if (statistics := load(work / "latents.pt")) and statistics["deviation"].ne(1).any():
        normalise(model, statistics["mean"], statistics["deviation"])
    if refined := load(work / "decoder.pt"):
        torch.nn.ModuleList([model.post_quant_conv, model.decoder]).load_state_dict(refined["average"]["shadow"])
    return model.eval().requires_grad_(False)


@torch.no_grad()
def normalise(model: AutoencoderKL, mean: torch.Tensor, deviation: torch.Tensor) -> None:
    """Folds (z - mean) / deviation, per channel, into the 1x1 convolutions on both sides of the latents.

    So scaling_factor can stay 1, and channels of detail are as loud as channels of colour.
    """
    n = len(mean)
    model.quant_conv.weight[:n] /= deviation[:, None, None, None]
    model.quant_conv.bias[:n] = (model.quant_conv.bias[:n] - mean) / deviation
    # Training ignores the encoder's own variance; img2img samples with it, so it gets a small one.
    model.quant_conv.weight[n:] = 0
    model.quant_conv.bias[n:] = 2 * torch.log(0.05 / deviation)
    model.post_quant_conv.bias += model.post_quant_conv.weight[:, :, 0, 0] @ mean
    model.post_quant_conv.weight *= deviation[None, :, None, None]


@torch.inference_mode()
def encoded(model: AutoencoderKL, pictures: np.ndarray, device: str, name: str, say=print) -> Iterator[np.ndarray]:
    """The latents (c, h / 16, w / 16), float32, of every picture."""
    progress = Progress(name, len(pictures), say=say)
    for i in range(0, len(pictures), 16):
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            means = model.encode(tensor(pictures[i : i + 16], device)).latent_dist.mean
        yield from means.float().cpu().numpy()
        progress.step(min(i + 16, len(pictures)) - 1)


def encode_all(recipe: Recipe, work: Path, device: str, say=print) -> None:
    """Writes work/latents.pt where it is missing, and the latents of pictures that have none yet.

    latents.pt holds mean and deviation of raw latents per channel (0 and 1 where the autoencoder came
    with a finished model), and the linear preview, fitted by least squares from normalised latents to
    the mean colours of the 16x16 patches: rgb = latent @ matrix + bias, in -1..1.
    """
    if not (work / "latents.pt").exists():
        measure_latents(recipe, work, device, say)
    model = trained(recipe, work).to(device)
    for _, width, height, rows, _ in wanted(recipe):
        file = latents(recipe, work, width, height)
        missing = pictures(work, width, height).read(rows)[len(file) :]
        file.append(encoded(model, missing, device, f"latents {width}x{height}", say))


def measure_latents(recipe: Recipe, work: Path, device: str, say=print) -> None:
    """Writes work/latents.pt from the first 2,000 pictures of the first size."""
    few = shelves(recipe, work)[0].pictures[:2000]
    out = np.stack(list(encoded(trained(recipe, work).to(device), few, device, "measuring latents", say)))
    if (work / "start.pt").exists():
        mean, deviation = np.zeros(recipe.latent_channels, np.float32), np.ones(recipe.latent_channels, np.float32)
    else:
        mean, deviation = out.mean((0, 2, 3)), out.std((0, 2, 3))
    out = (out - mean[:, None, None]) / deviation[:, None, None]
    known = torch.from_numpy(out).permute(0, 2, 3, 1).reshape(-1, recipe.latent_channels)
    inputs = torch.cat([known, torch.ones(len(known), 1)], 1)
    means = torch.cat([F.avg_pool2d(tensor(few[i : i + 100], "cpu"), 16) for i in range(0, len(few), 100)])
    colours = means.permute(0, 2, 3, 1).reshape(-1, 3)
    fit = torch.linalg.lstsq(inputs, colours).solution.clone()
    error = (inputs @ fit - colours).abs().mean().item()
    say(f"latents: deviations {np.round(out.std((0, 2, 3)) * deviation, 2)}, preview error {error:.4f}")
    save(
        work / "latents.pt", {"mean": torch.from_numpy(mean), "deviation": torch.from_numpy(deviation), "preview": fit}
    )


def train_decoder(recipe: Recipe, work: Path, device: str, say=print) -> None:
    """Sharpens the decoder on finished latents, which stay what the denoiser has learned.

    Works on windows of latents and the pictures under them, at the end on whole ones. A window's rim
    is not judged, since the decoder cannot see beyond it; whole pictures teach it their true edges. A
    little noise on the latents stands for the denoiser's errors.
    """
    path = work / "decoder.pt"
    stock = with_latents(recipe, work)
    parts = trained(recipe, work)
    model = torch.nn.ModuleList([parts.post_quant_conv, parts.decoder]).requires_grad_(True).to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, (0.9, 0.99), weight_decay=1e-4)
    average = Average(model, recipe.average)
    start = restore(path, model, optimiser, average)
    progress = Progress("decoder", recipe.decoder_steps, start, say=say)
    for step in range(start, recipe.decoder_steps):
        rng = np.random.default_rng(step)
        whole = step >= recipe.decoder_steps * (1 - recipe.autoencoder_whole)
        shelf = choose(stock, rng)
        high, wide = shelf.latents.shape[2:]
        batch = recipe.autoencoder_batch
        if whole:
            batch = shelf.batch(max(1, batch // 4))
        else:
            high = wide = recipe.autoencoder_crop // 16
        real = np.empty((batch, high * 16, wide * 16, 3), np.uint8)
        noisy = np.empty((batch, recipe.latent_channels, high, wide), np.float32)
        for i, row in enumerate(rng.integers(0, len(shelf.latents), batch)):
            y, x = (rng.integers(0, e - s + 1) for e, s in zip(shelf.latents.shape[2:], (high, wide), strict=True))
            noisy[i] = shelf.latents[row, :, y : y + high, x : x + wide]
            real[i] = shelf.pictures[row, y * 16 : (y + high) * 16, x * 16 : (x + wide) * 16]
        noisy = torch.from_numpy(noisy).to(device)
        noisy = noisy + LATENT_NOISE * torch.randn_like(noisy)
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * rate(step, recipe.decoder_steps)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            out = model[1](model[0](noisy))
        inner = slice(None) if whole else slice(16, -16)
        loss = picture_loss(out.float()[..., inner, inner], tensor(real, device)[..., inner, inner])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        average.update(model)
        progress.step(step, loss=loss.item())
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.decoder_steps:
            checkpoint(path, step + 1, model, optimiser, average)
