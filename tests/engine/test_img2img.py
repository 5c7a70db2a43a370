"""Pictures that start from pictures are those which diffusers' own pipelines draw, for the same seed."""

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from generation.engine.catalog.samplers import find_sampler
from generation.engine.loop.denoise import advance
from generation.engine.loop.engine import DiffusionEngine
from generation.engine.loop.rows import start_row
from generation.engine.pictures.upscale import enlarge
from generation.engine.request.fields import Picture
from generation.engine.request.request import build_request

from .pictures import hole, scene
from .test_equals_diffusers import assert_same, load

PROMPT = "a red cat in a boat"
SAMPLERS = ["Euler", "DDIM", "DPM++ 2M", "UniPC", "DPM++ 2M Karras", "Heun", "LCM", "Euler a", "DPM++ 2M SDE"]


@pytest.fixture(scope="module")
def engine(catalog):
    engine = DiffusionEngine(catalog, device="cpu", allow_download=False, threads=1)
    engine.start()
    yield engine
    engine.stop()


def make(catalog, key="sd1", **fields):
    options = {"prompt": PROMPT, "negative_prompt": "grey", "seed": 7, "steps": 6, "mask_blur": 0}
    return build_request(catalog.get(key), **options | fields)


def draw(engine, request):
    return engine.submit(request).result(60)[0].pixels


def reference(path, request, pipeline_class, generator=None, **pictures):
    """The pipeline's picture, with the sampler given to it as its users do."""
    sampler = find_sampler(request.sampler)
    config = diffusers.DDIMScheduler.load_config(path / "scheduler")
    scheduler = getattr(diffusers, sampler.scheduler).from_config(config, **dict(sampler.options))
    pipeline = pipeline_class(**load(path, pipeline_class).components | {"scheduler": scheduler})
    pipeline.set_progress_bar_config(disable=True)
    if "clip_sample" in scheduler.config:  # meant for pixels; not every pipeline of diffusers turns it off itself
        scheduler.register_to_config(clip_sample=False)
    return pipeline(
        request.prompt,
        negative_prompt=request.negative_prompt,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        strength=request.start.strength,
        **pictures,
        generator=generator or torch.Generator().manual_seed(request.seed),
    ).images[0]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("key", ["sd1", "sd2"])
def test_img2img(engine, catalog, models, key, sampler):
    request = make(catalog, key, image=Picture.of(scene()), strength=0.7, sampler=sampler)
    theirs = reference(models[key], request, diffusers.StableDiffusionImg2ImgPipeline, image=scene())
    assert_same(draw(engine, request), theirs)


@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0])
def test_img2img_of_any_strength(engine, catalog, models, strength):
    request = make(catalog, image=Picture.of(scene()), strength=strength, sampler="DPM++ 2M", guidance_scale=1)
    theirs = reference(models["sd1"], request, diffusers.StableDiffusionImg2ImgPipeline, image=scene())
    assert_same(draw(engine, request), theirs)


def test_img2img_with_sdxl(engine, catalog, models):
    request = make(catalog, "sdxl", image=Picture.of(scene(32, 48)), strength=0.6, sampler="Euler")
    assert (request.width, request.height) == (32, 48)
    theirs = reference(models["sdxl"], request, diffusers.StableDiffusionXLImg2ImgPipeline, image=scene(32, 48))
    assert_same(draw(engine, request), theirs)


@pytest.mark.parametrize("upscaler", ["lanczos", "nearest"])
def test_a_second_pass_is_image_to_image_over_the_first(engine, catalog, models, upscaler):
    hires = {"scale": 2, "strength": 0.6, "steps": 5, "upscaler": upscaler}
    request = make(catalog, "sd2", hires=hires, sampler="UniPC")
    first = draw(engine, make(catalog, "sd2", sampler="UniPC"))
    larger = enlarge(first, (64, 64), upscaler)
    generator = torch.Generator().manual_seed(request.seed)
    torch.randn(4, 16, 16, generator=generator)  # what the first pass took
    second = make(catalog, "sd2", image=Picture.of(larger), strength=0.6, steps=5, sampler="UniPC")
    theirs = reference(models["sd2"], second, diffusers.StableDiffusionImg2ImgPipeline, generator, image=larger)
    assert_same(draw(engine, request), theirs)


def test_latents_are_enlarged_as_they_are(engine, catalog, models):
    request = make(catalog, hires={"scale": 2, "strength": 0.5}, sampler="DDIM")
    model = engine.models.get(catalog.get("sd1"))
    row = start_row(model, make(catalog, sampler="DDIM"), 0)
    while not row.finished:
        advance(model, [row])
    generator = torch.Generator().manual_seed(request.seed)
    torch.randn(4, 16, 16, generator=generator)
    theirs = reference(
        models["sd1"],
        make(catalog, image=Picture.of(scene()), strength=0.5, sampler="DDIM"),
        diffusers.StableDiffusionImg2ImgPipeline,
        generator,
        image=torch.nn.functional.interpolate(row.latents, (32, 32), mode="bilinear"),
    )
    assert_same(draw(engine, request), theirs)


def whole(picture, start, mask):
    """What the pipeline drew, with what was not to change put back."""
    keep = np.asarray(mask)[..., None] < 128
    return np.where(keep, np.asarray(start), np.asarray(picture))


@pytest.mark.parametrize("sampler", ["Euler", "DDIM", "DPM++ 2M", "UniPC", "Heun"])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_inpainting_with_any_model(engine, catalog, models, strength, sampler):
    request = make(catalog, image=Picture.of(scene()), mask=Picture.of(hole()), strength=strength, sampler=sampler)
    theirs = reference(
        models["sd1"],
        request,
        diffusers.StableDiffusionInpaintPipeline,
        image=scene(),
        mask_image=hole(),
        width=32,
        height=32,
    )
    ours = np.asarray(draw(engine, request))
    assert np.abs(ours.astype(int) - whole(theirs, scene(), hole())).max() <= 1
    assert np.array_equal(ours[:12], np.asarray(scene())[:12])
    assert not np.array_equal(ours[13:27, 9:23], np.asarray(scene())[13:27, 9:23])


@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M", "Euler a"])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_inpainting_with_a_unet_made_for_it(engine, catalog, models, strength, sampler):
    request = make(
        catalog, "inpaint", image=Picture.of(scene()), mask=Picture.of(hole()), strength=strength, sampler=sampler
    )
    theirs = reference(
        models["inpaint"],
        request,
        diffusers.StableDiffusionInpaintPipeline,
        image=scene(),
        mask_image=hole(),
        width=32,
        height=32,
    )
    ours = np.asarray(draw(engine, request), int)
    assert np.abs(ours - whole(theirs, scene(), hole())).max() <= 1


def test_a_unet_made_for_inpainting_draws_from_words_too(engine, catalog, models):
    """As if everything of a grey picture were to change."""
    grey = Image.new("RGB", (32, 32), (127, 127, 127))
    request = make(catalog, "inpaint", steps=4)
    everything = make(
        catalog,
        "inpaint",
        steps=4,
        image=Picture.of(grey),
        strength=1.0,
        mask=Picture.of(Image.new("L", (32, 32), 255)),
    )
    assert_same(draw(engine, request), draw(engine, everything))


def test_inpainting_with_sdxl(engine, catalog, models):
    request = make(catalog, "sdxl", image=Picture.of(scene()), mask=Picture.of(hole()), strength=0.6, sampler="Euler")
    theirs = reference(
        models["sdxl"],
        request,
        diffusers.StableDiffusionXLInpaintPipeline,
        image=scene(),
        mask_image=hole(),
        width=32,
        height=32,
    )
    ours = np.asarray(draw(engine, request), int)
    assert np.abs(ours - whole(theirs, scene(), hole())).max() <= 1
