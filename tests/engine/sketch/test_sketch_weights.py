"""The committed model obeys: colours and places are plainly visible in what it draws.

Measured with plain colour statistics (`measure.py`), over several seeds and with room to spare, so
that another processor's rounding fails nothing.
"""

import time

import pytest

from generation.engine.sketch import WEIGHTS
from generation.engine.sketch.measure import colour_share, place_of

LARGEST = 30 * 2**20


@pytest.fixture(scope="module")
def pipe():
    import torch
    from diffusers import StableDiffusionPipeline

    began = time.monotonic()
    pipe = StableDiffusionPipeline.from_pretrained(WEIGHTS, torch_dtype=torch.float32, use_safetensors=True)
    print(f"loaded in {time.monotonic() - began:.2f} s")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, prompts: list[str], seed: int = 0, **kw):
    import torch

    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(prompts))]
    kw = {"num_inference_steps": 12, "guidance_scale": 5.0} | kw
    return pipe(prompts, generator=generators, **kw).images


def test_the_folder_is_small_and_plain():
    files = [f for f in WEIGHTS.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= LARGEST
    assert not [f for f in files if f.suffix in {".bin", ".pt", ".pkl", ".ckpt"}]
    assert (WEIGHTS / "README.md").exists()


def test_the_named_colour_is_visible(pipe):
    asked = [
        (c, t)
        for c, t in (("red", "boat"), ("blue", "car"), ("green", "heart"), ("yellow", "star"), ("purple", "circle"))
    ]
    images = draw(pipe, [f"a {c} {t}" for c, t in asked])
    shares = [colour_share(image, colour) for image, (colour, _) in zip(images, asked, strict=True)]
    assert min(shares) > 0.08, shares


def test_the_named_background_is_visible(pipe):
    asked = [
        ("red", "circle", "blue"),
        ("yellow", "heart", "green"),
        ("white", "cat", "black"),
        ("black", "star", "pink"),
    ]
    images = draw(pipe, [f"a {c} {t} on a {b} background" for c, t, b in asked])
    rims = [colour_share(image, b, middle=False) for image, (_, _, b) in zip(images, asked, strict=True)]
    middles = [colour_share(image, c) for image, (c, _, _) in zip(images, asked, strict=True)]
    assert min(rims) > 0.5, rims
    assert min(middles) > 0.08, middles


def test_places_look_like_themselves(pipe):
    asked = {
        "sea": "a red boat at sea",
        "night": "a yellow moon at night",
        "meadow": "a red house on a meadow",
        "sunset": "a black bird at sunset",
    }
    images = draw(pipe, list(asked.values()))
    found = dict(zip(asked, (place_of(image) for image in images), strict=True))
    assert found == {k: k for k in asked}


def test_any_prompt_gives_some_picture(pipe):
    import numpy as np

    for image in draw(pipe, ["", "zxqv wobbly 日本 unknown", "word " * 300]):
        pixels = np.asarray(image, float)
        assert image.size == (256, 256) and np.isfinite(pixels).all()
        assert pixels.mean() > 5 and pixels.std() > 1


def test_seeds_differ_and_repeat(pipe):
    import numpy as np

    a, b = (np.asarray(draw(pipe, ["a red house in the snow"], seed=s)[0], float) for s in (1, 2))
    again = np.asarray(draw(pipe, ["a red house in the snow"], seed=1)[0], float)
    assert np.abs(a - b).mean() > 1
    assert np.abs(a - again).max() <= 1


def test_the_preview_resembles_the_picture(pipe):
    import json

    import numpy as np
    import torch

    fit = json.loads((WEIGHTS / "preview.json").read_text())
    latents = pipe("a red circle on a blue background", num_inference_steps=12, output_type="latent",
                   generator=torch.Generator().manual_seed(3)).images  # fmt: skip
    guess = latents[0].permute(1, 2, 0).numpy() @ np.array(fit["matrix"]) + np.array(fit["bias"])
    with torch.inference_mode():
        image = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    real = torch.nn.functional.avg_pool2d(image, 16)[0].permute(1, 2, 0).numpy()
    assert np.abs(guess - real).mean() < 0.25
