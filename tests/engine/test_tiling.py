"""Pictures that tile: nothing that draws them knows where their edges are, and these fit as well as anything inside."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from generation.engine.catalog.models import Catalog
from generation.engine.loop.engine import DiffusionEngine
from generation.engine.loop.rows import enlarge_latents
from generation.engine.networks.vae import decode, encode
from generation.engine.request.fields import Picture
from generation.engine.request.request import build_request

SHIFT = (12, 8)


@pytest.fixture(scope="module")
def engine(wide_engine):
    return wide_engine


@pytest.fixture
def model(engine, catalog):
    model = engine.models.get(catalog.get("sd1"))
    yield model
    model.save_memory(False)


def texture(side=64):
    """Soft, different everywhere, and one that tiles."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    around = Image.fromarray(np.tile(noise, (3, 3, 1))).filter(ImageFilter.GaussianBlur(4))
    pixels = np.asarray(around.crop((side, side, 2 * side, 2 * side)), float)
    return Image.fromarray(((pixels - pixels.min()) / np.ptp(pixels) * 255).astype(np.uint8))


def rolled(picture):
    return Image.fromarray(np.roll(np.asarray(picture), SHIFT, (0, 1)))


def seams(picture):
    """For both directions: the step across the edges, and the largest inside but for a few."""
    pixels = np.asarray(picture, float)
    for axis in (0, 1):
        steps = np.abs(np.diff(pixels, axis=axis)).mean(axis=(1 - axis, 2))
        yield np.abs(pixels.take(0, axis) - pixels.take(-1, axis)).mean(), np.quantile(steps, 0.95)


def test_the_encoder_does_not_see_where_the_edges_are(model):
    plain, moved = (encode(model, picture, tiling=True).mean for picture in (texture(), rolled(texture())))
    halved = [side // model.vae_scale for side in SHIFT]
    assert torch.allclose(plain.roll(halved, (-2, -1)), moved, atol=1e-4)
    unjoined = [encode(model, picture).mean for picture in (texture(), rolled(texture()))]
    assert not torch.allclose(unjoined[0].roll(halved, (-2, -1)), unjoined[1], atol=1e-2)
    assert not any(layer._forward_pre_hooks for layer in model.vae.modules())


def test_nor_does_what_enlarges_latents():
    latents = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    larger = enlarge_latents(latents, (12, 18), True)
    moved = enlarge_latents(latents.roll((2, 4), (-2, -1)), (12, 18), True)
    assert torch.allclose(larger.roll((3, 6), (-2, -1)), moved, atol=1e-4)
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    assert torch.allclose(larger[inside], enlarge_latents(latents, (12, 18), False)[inside], atol=1e-4)


def test_the_edges_join_where_memory_is_short_too(model):
    """There the autoencoder works in parts, each of which has edges of its own."""
    latents = encode(model, texture(112), tiling=True).mean[None]
    assert latents.shape[-1] > model.vae.tile_latent_min_size, "or it would not work in parts"
    whole = np.asarray(decode(model, latents, tiling=True)[0], float)
    model.save_memory(True)
    parts = decode(model, latents, tiling=True)[0]
    assert parts.size == (112, 112)
    assert np.abs(np.asarray(parts, float) - whole).mean() < 0.1 * np.ptp(whole)
    assert all(seam <= 1.5 * inside for seam, inside in seams(parts))
    encoded = encode(model, texture(112), tiling=True).mean
    assert encoded.shape == latents.shape[1:]
    assert all(seam <= 1.5 * inside for seam, inside in seams(encoded.movedim(0, -1)))


@pytest.fixture(scope="module")
def built_in():
    engine = DiffusionEngine(Catalog(), device="cpu", allow_download=False, threads=1, preview_interval=0)
    engine.start()
    yield engine
    engine.stop()


@pytest.mark.parametrize(
    "fields",
    [
        {"strength": 0.3},
        {"strength": 0.3, "hires": {"scale": 1.25, "steps": 4}},
        {"strength": 0.3, "hires": {"scale": 1.25, "steps": 4, "upscaler": "lanczos"}},
    ],
    ids=["picture", "enlarged latents", "enlarged picture"],
)
def test_the_edges_of_a_finished_picture_fit(built_in, fields):
    """Of one drawn by the built-in model, which knows colours and shapes; without joined edges they do not."""
    spec = Catalog().get("dreamsketch-tiny")
    for tiling in (True, False):
        request = build_request(
            spec,
            prompt="blue waves",
            steps=4,
            seed=3,
            width=256,
            height=256,
            tiling=tiling,
            image=Picture.of(texture(256)),
            **fields,
        )
        steps = list(seams(built_in.submit(request).result(60)[0].pixels))
        assert all((seam <= 1.5 * inside) == tiling for seam, inside in steps), steps
