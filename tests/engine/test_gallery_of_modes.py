"""The built-in model in every mode. The pictures are left in VAR_DIR/modes for a person to look at."""

import numpy as np
import pytest
from django.conf import settings
from PIL import Image, ImageDraw

from generation.engine.catalog.models import Catalog
from generation.engine.loop.engine import DiffusionEngine
from generation.engine.request.fields import Picture
from generation.engine.request.request import build_request

SPEC = Catalog().get("dreamsketch-tiny")
PROMPT = "a red boat on the sea under a yellow sun"
FIELDS = {"seed": 7, "steps": 8, "width": 192, "height": 192}


@pytest.fixture(scope="module")
def engine():
    engine = DiffusionEngine(Catalog([SPEC]), device="cpu", allow_download=False, threads=1, preview_interval=0)
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def folder():
    folder = settings.VAR_DIR / "modes"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def first(engine, folder):
    """What the other modes start from."""
    picture = engine.submit(build_request(SPEC, prompt=PROMPT, **FIELDS)).result(300)[0].pixels
    picture.save(folder / "words.png")
    return picture


def mask():
    mask = Image.new("L", (192, 192))
    ImageDraw.Draw(mask).ellipse((60, 70, 140, 150), fill=255)
    return mask


def layout(picture):
    """Brightness in large fields."""
    return np.asarray(picture.convert("L").resize((6, 6), Image.Resampling.BOX), float).ravel()


def alike(picture, other):
    return np.corrcoef(layout(picture), layout(other))[0, 1]


@pytest.fixture(scope="module")
def drawn(engine, folder, first):
    """All the modes by name, drawn together."""
    picture, hole = Picture.of(first), Picture.of(mask())
    modes = {
        "picture, a little": {"image": picture, "strength": 0.3},
        "picture, a lot": {"image": picture, "strength": 0.8, "prompt": "a green boat at night"},
        "mask": {"image": picture, "mask": hole, "strength": 1.0, "prompt": "a blue balloon"},
        "mask only": {"image": picture, "mask": hole, "strength": 0.9, "padding": 16, "prompt": "a blue balloon"},
        "expand": {"image": picture, "expand": {"right": 64}, "width": 256},
        "hires latent": {"hires": {"scale": 1.5, "strength": 0.6}},
        "hires lanczos": {"hires": {"scale": 1.5, "strength": 0.4, "upscaler": "lanczos"}},
        "variation": {"variation": {"seed": 3, "strength": 0.15}},
        "tiling": {"tiling": True},
    }
    jobs = {
        name: engine.submit(build_request(SPEC, **{"prompt": PROMPT} | FIELDS | fields))
        for name, fields in modes.items()
    }
    pictures = {name: job.result(300)[0].pixels for name, job in jobs.items()}
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png")
    return pictures


def test_no_picture_is_empty(drawn):
    for name, picture in drawn.items():
        assert np.asarray(picture).std() > 4, name


def test_image_to_image_keeps_the_layout_the_weaker_the_better(drawn, first):
    little, lot = (alike(drawn[f"picture, {much}"], first) for much in ("a little", "a lot"))
    assert little > 0.9 and little > lot


@pytest.mark.parametrize("name", ["mask", "mask only"])
def test_inpainting_leaves_what_is_outside_alone(drawn, first, name):
    outside = np.asarray(mask()) == 0
    ours, original = np.asarray(drawn[name], int), np.asarray(first, int)
    assert np.array_equal(ours[outside], original[outside])
    assert np.abs(ours - original)[~outside].mean() > 4


def test_outpainting_leaves_the_picture_alone(drawn, first):
    assert np.array_equal(np.asarray(drawn["expand"])[:, :192], first)


@pytest.mark.parametrize("name", ["hires latent", "hires lanczos"])
def test_a_second_pass_keeps_the_layout(drawn, first, name):
    assert drawn[name].size == (320, 320)
    assert alike(drawn[name], first) > 0.7


def test_a_variation_is_near(drawn, first):
    assert alike(drawn["variation"], first) > 0.6


def test_the_edges_of_a_tile_fit(drawn):
    """The step from the last column to the first is no larger than those inside."""
    pixels = np.asarray(drawn["tiling"], float)
    for axis in (0, 1):
        steps = np.abs(np.diff(pixels, axis=axis)).mean(axis=(1 - axis, 2))
        seam = np.abs(pixels.take(0, axis) - pixels.take(-1, axis)).mean()
        assert seam <= 1.5 * np.quantile(steps, 0.95)
