"""The engine draws what diffusers' own pipelines draw, for the same seed."""

import functools

import diffusers
import numpy as np
import pytest
import torch

from generation.engine.catalog.samplers import SAMPLERS, find_sampler
from generation.engine.loop.engine import DiffusionEngine
from generation.engine.request.request import build_request

PROMPT = "a red cat in a boat"
NAMES = [sampler.name for sampler in SAMPLERS if not sampler.levels_of]
"""The others take their noise from a package that is not here; see test_sampling."""


@functools.cache
def load(path, pipeline_class):
    pipeline = pipeline_class.from_pretrained(path)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def reference(path, request, index=0, pipeline_class=diffusers.StableDiffusionPipeline):
    """The pipeline's picture, with the sampler given to it as its users do."""
    sampler = find_sampler(request.sampler)
    config = diffusers.DDIMScheduler.load_config(path / "scheduler")
    scheduler = getattr(diffusers, sampler.scheduler).from_config(config, **dict(sampler.options))
    # Built anew around the scheduler, as from_pretrained(path, scheduler=...) does: SD mends its config.
    parts = load(path, pipeline_class).components | {"scheduler": scheduler}
    pipeline = pipeline_class(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        request.prompt,
        negative_prompt=request.negative_prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator().manual_seed(request.seed_of(index)),
    ).images[0]


def assert_same(ours, theirs):
    """Bit-equal where this was written; 1 of 255 allows for another machine's order of additions."""
    assert ours.size == theirs.size
    assert np.asarray(ours).std() > 5, "an empty picture proves nothing"
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1


@pytest.fixture(scope="module")
def torch_engine(catalog):
    engine = DiffusionEngine(catalog, device="cpu", allow_download=False)
    engine.start()
    yield engine
    engine.stop()


@pytest.mark.parametrize("sampler", NAMES)
@pytest.mark.parametrize("key", ["sd1", "sd2"])
def test_each_sampler(torch_engine, catalog, models, key, sampler):
    request = build_request(catalog.get(key), prompt=PROMPT, negative_prompt="grey", sampler=sampler, steps=5, seed=7)
    ours = torch_engine.submit(request).result(60)[0]
    assert_same(ours.pixels, reference(models[key], request))
    assert ours.seed == 7


@pytest.mark.parametrize("sampler", NAMES)
@pytest.mark.parametrize("key", ["sd1", "sd2"])
def test_the_fewest_steps(torch_engine, catalog, models, key, sampler):
    for steps in (1, 2):
        request = build_request(catalog.get(key), prompt=PROMPT, sampler=sampler, steps=steps, seed=1)
        assert_same(torch_engine.submit(request).result(60)[0].pixels, reference(models[key], request))


@pytest.mark.parametrize("steps", [20])
@pytest.mark.parametrize("key", ["sd1", "sd2"])
def test_many_steps_with_all_samplers_in_company(torch_engine, catalog, models, key, steps):
    requests = [
        build_request(catalog.get(key), prompt=PROMPT, sampler=sampler, steps=steps, seed=2, guidance_scale=1)
        for sampler in NAMES
    ]
    for job, request in zip([torch_engine.submit(request) for request in requests], requests, strict=True):
        assert_same(job.result(60)[0].pixels, reference(models[key], request))


@pytest.mark.parametrize("guidance", [0, 1, 1.5, 20])
def test_guidance_on_and_off(torch_engine, catalog, models, guidance):
    request = build_request(catalog.get("sd1"), prompt=PROMPT, guidance_scale=guidance, seed=3)
    assert_same(torch_engine.submit(request).result(60)[0].pixels, reference(models["sd1"], request))


def test_a_picture_that_is_not_square(torch_engine, catalog, models):
    request = build_request(catalog.get("sd1"), prompt=PROMPT, width=40, height=64, seed=3)
    assert_same(torch_engine.submit(request).result(60)[0].pixels, reference(models["sd1"], request))


def test_a_prompt_of_exactly_one_window(torch_engine, catalog, models):
    prompt = "x " * 75  # and the start and end tokens
    request = build_request(catalog.get("sd1"), prompt=prompt, negative_prompt="y", seed=3)
    assert_same(torch_engine.submit(request).result(60)[0].pixels, reference(models["sd1"], request))


def test_guidance_that_is_distilled_into_the_unet(torch_engine, catalog, models):
    request = build_request(catalog.get("lcm"), prompt=PROMPT, sampler="LCM", guidance_scale=8, seed=3)
    assert_same(torch_engine.submit(request).result(60)[0].pixels, reference(models["lcm"], request))


@pytest.mark.parametrize("guidance", [1, 5])
def test_sdxl(torch_engine, catalog, models, guidance):
    request = build_request(
        catalog.get("sdxl"), prompt=PROMPT, negative_prompt="grey", guidance_scale=guidance, height=48, seed=3
    )
    theirs = reference(models["sdxl"], request, pipeline_class=diffusers.StableDiffusionXLPipeline)
    assert_same(torch_engine.submit(request).result(60)[0].pixels, theirs)


def test_every_image_of_a_request_has_its_own_seed(torch_engine, catalog, models):
    request = build_request(catalog.get("sd1"), prompt=PROMPT, seed=2**32 - 1, num_images=2, sampler="Euler a")
    images = torch_engine.submit(request).result(60)
    assert [image.seed for image in images] == [2**32 - 1, 0]
    for index, image in enumerate(images):
        assert_same(image.pixels, reference(models["sd1"], request, index))


def test_half_precision_stays_close(catalog, models):
    request = build_request(catalog.get("sd1"), prompt=PROMPT, seed=3)
    engine = DiffusionEngine(catalog, device="cpu", dtype="bf16", allow_download=False)
    engine.start()
    image = engine.submit(request).result(60)[0]
    engine.stop()
    assert image.recipe["dtype"] == "bf16"
    difference = np.asarray(image.pixels, float) - np.asarray(reference(models["sd1"], request), float)
    assert 10 * np.log10(255**2 / np.mean(difference**2)) > 30
