"""What a request may ask for beyond a picture from words: each does what it says, alone and in company."""

import functools
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from generation.engine.catalog.upscalers import UPSCALERS
from generation.engine.errors import Cancelled, EngineError, InvalidRequest, TimedOut
from generation.engine.loop.denoise import advance
from generation.engine.loop.engine import DiffusionEngine
from generation.engine.loop.rows import start_row
from generation.engine.pictures import upscale
from generation.engine.pictures.upscale import enlarge
from generation.engine.request.fields import Picture
from generation.engine.request.request import build_request

from .pictures import hole, scene
from .test_batching import OPTIONS, assert_equal, together
from .test_upscale import as_published, rrdb

PICTURE, MASK = Picture.of(scene()), Picture.of(hole())


@pytest.fixture(scope="module")
def engine(catalog):
    engine = DiffusionEngine(catalog, max_rows=16, **OPTIONS)
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def alone(engine):
    """Draws a request with nobody else about, once."""
    return functools.cache(lambda request: engine.submit(request).result(120))


def make(catalog, key="sd1", **fields):
    return build_request(catalog.get(key), **{"prompt": "a red cat", "seed": 5, "steps": 4} | fields)


def pixels(images):
    return np.asarray(images[0].pixels, int)


def every_mode(catalog):
    return {
        "words": make(catalog, steps=6, sampler="UniPC"),
        "picture": make(catalog, image=PICTURE, strength=0.5, steps=8, sampler="DPM++ 2M"),
        "mask": make(catalog, image=PICTURE, mask=MASK, strength=0.8, sampler="Euler a"),
        "mask filled": make(catalog, image=PICTURE, mask=MASK, fill="noise", sampler="DPM++ SDE"),
        "mask only": make(catalog, image=PICTURE, mask=MASK, padding=2, guidance_scale=1),
        "expand": make(catalog, image=PICTURE, expand={"right": 16}),
        "hires": make(catalog, hires={"scale": 1.5}, num_images=2, sampler="Heun"),
        "hires pixels": make(catalog, hires={"scale": 1.5, "upscaler": "lanczos"}, width=48),
        "hires mask": make(catalog, image=PICTURE, mask=MASK, hires={"scale": 1.5, "upscaler": "nearest"}),
        "variation": make(catalog, variation={"seed": 9, "strength": 0.3}),
        "tiling": make(catalog, tiling=True),
        "clip skip": make(catalog, clip_skip=1),
    }


def test_in_mixed_company_each_is_what_it_is_alone(engine, catalog, alone):
    requests = every_mode(catalog)
    expected = {name: alone(request) for name, request in requests.items()}
    for (name, request), job in zip(requests.items(), together(engine, list(requests.values())), strict=True):
        assert_equal(job.result(120), expected[name])
        assert {image.pixels.size for image in expected[name]} == {request.final_size}, name


def test_progress_counts_every_step_of_every_pass(engine, catalog):
    for name, request in every_mode(catalog).items():
        reports = []
        engine.submit(request, on_progress=reports.append, wants_preview=lambda: True).result(120)
        steps = [report.step for report in reports if report.phase == "generating"]
        assert steps == sorted(steps) and steps[-1] == request.total_steps == reports[-1].steps, name


@pytest.mark.parametrize("fill", ["original", "blur", "noise", "zero"])
def test_what_the_mask_leaves_out_comes_out_as_it_was(alone, catalog, fill):
    request = make(catalog, image=PICTURE, mask=MASK, strength=0.9, mask_blur=2, fill=fill)
    ours, original, outside = pixels(alone(request)), np.asarray(scene(), int), np.asarray(hole()) == 0
    assert np.array_equal(ours[outside], original[outside])
    assert np.abs(ours - original)[~outside].mean() > 5


def test_fills_differ_where_something_of_them_is_kept(alone, catalog):
    drawn = [
        pixels(alone(make(catalog, image=PICTURE, mask=MASK, strength=0.5, fill=fill)))
        for fill in ("original", "blur", "noise", "zero")
    ]
    for number, picture in enumerate(drawn):
        assert all(not np.array_equal(picture, other) for other in drawn[:number])


@pytest.mark.parametrize("padding", [0, 3])
def test_only_the_surroundings_of_the_mask_are_drawn(alone, catalog, padding):
    box = (20, 4, 28, 10)
    mask = Picture.of(hole(box=box))
    ours = pixels(alone(make(catalog, image=PICTURE, mask=mask, strength=0.9, mask_blur=0, padding=padding)))
    changed = np.argwhere((ours != np.asarray(scene(), int)).any(axis=2))
    assert len(changed) > 40
    assert changed.min(axis=0).tolist() >= [4, 20] and changed.max(axis=0).tolist() <= [9, 27]


def test_a_mask_without_white_changes_nothing(alone, catalog):
    black = Picture.of(Image.new("L", (32, 32)))
    for padding in (None, 4):
        assert np.array_equal(pixels(alone(make(catalog, image=PICTURE, mask=black, padding=padding))), scene())


def test_strength_nothing_gives_the_picture_back(alone, catalog):
    assert np.array_equal(pixels(alone(make(catalog, image=PICTURE, strength=0, num_images=2))), scene())


def test_expand_draws_beside_the_picture_and_not_on_it(alone, catalog):
    request = make(catalog, image=PICTURE, expand={"left": 16, "bottom": 8})
    ours = pixels(alone(request))
    assert (request.width, request.height) == (48, 40)
    assert np.array_equal(ours[:32, 16:], scene())
    edges = np.pad(np.asarray(scene(), int), ((0, 8), (16, 0), (0, 0)), mode="edge")
    assert np.abs(ours - edges)[:, :12].mean() > 5 and np.abs(ours - edges)[36:].mean() > 5


@pytest.mark.parametrize(("fit", "size"), [("stretch", (64, 32)), ("crop", (64, 32)), ("pad", (64, 32))])
def test_a_picture_of_another_shape_is_fitted(alone, catalog, fit, size):
    ours = pixels(alone(make(catalog, image=PICTURE, width=64, height=32, strength=0, fit=fit)))
    middle = np.asarray(scene(), int)
    match fit:
        case "stretch":
            assert np.abs(ours - np.asarray(scene().resize(size, Image.Resampling.LANCZOS), int)).max() == 0
        case "crop":
            right = scene().resize((64, 64), Image.Resampling.LANCZOS).crop((0, 16, 64, 48))
            assert np.abs(ours - np.asarray(right, int))[4:-4].max() <= 2
        case "pad":
            assert np.array_equal(ours[:, 16:48], middle)
            assert (ours[:, :16] == middle[:, :1]).all() and (ours[:, 48:] == middle[:, -1:]).all()


def test_a_second_pass_that_draws_nothing_enlarges_what_the_first_drew(alone, catalog):
    plain = alone(make(catalog))[0].pixels
    request = make(catalog, hires={"scale": 2, "strength": 0, "upscaler": "lanczos"})
    assert np.array_equal(pixels(alone(request)), enlarge(plain, (64, 64), "lanczos"))


def test_a_variation_goes_from_one_seed_to_another(alone, catalog):
    def vary(strength):
        return pixels(alone(make(catalog, variation={"seed": 9, "strength": strength})))

    first, second = pixels(alone(make(catalog))), pixels(alone(make(catalog, seed=9)))
    assert np.abs(vary(1.0) - second).max() <= 1
    distances = [np.abs(vary(strength) - first).mean() for strength in (0.02, 0.3, 1.0)]
    assert distances == sorted(distances) and distances[0] > 0
    assert np.array_equal(pixels(alone(make(catalog, variation={"seed": 9, "strength": 0}))), first)


def test_each_image_has_a_variation_of_its_own(alone, catalog):
    images = alone(make(catalog, num_images=2, variation={"seed": 9, "strength": 1}))
    assert np.abs(np.asarray(images[1].pixels, int) - pixels(alone(make(catalog, seed=10)))).max() <= 1


@torch.inference_mode()
def test_edges_that_join_have_no_place_of_their_own(engine, catalog):
    """A tiling row that is rolled gives the rolled answer: the UNet does not see where the edge is."""
    model = engine.models.get(catalog.get("sd1"))
    rows = [start_row(model, make(catalog, tiling=True), 0) for _ in range(2)]
    rows[1].sampler_state = rows[1].sampler_state.roll((4, 6), (-2, -1))
    advance(model, rows)
    assert torch.allclose(rows[0].latents.roll((4, 6), (-2, -1)), rows[1].latents, atol=1e-4)
    plain = [start_row(model, make(catalog), 0) for _ in range(2)]
    plain[1].sampler_state = plain[1].sampler_state.roll((4, 6), (-2, -1))
    advance(model, plain)
    assert not torch.allclose(plain[0].latents.roll((4, 6), (-2, -1)), plain[1].latents, atol=1e-2)


def test_pictures_that_tile_leave_no_trace_in_others(engine, alone, catalog):
    before = pixels(alone(make(catalog)))
    tiled = pixels(alone(make(catalog, tiling=True)))
    assert np.array_equal(engine.submit(make(catalog)).result(60)[0].pixels, before)
    assert not np.array_equal(before, tiled)


def test_clip_skip_takes_the_states_before_the_last_layers(engine, catalog, alone):
    model = engine.models.get(catalog.get("sd1"))
    tokenizer, encoder = model.text._encoders[0]
    ids = tokenizer("a red cat", padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.inference_mode():
        states = encoder(ids, output_hidden_states=True).hidden_states[-2]
        right = getattr(encoder, "text_model", encoder).final_layer_norm(states)
        assert torch.allclose(model.text.encode("a red cat", clip_skip=1).tokens, right, atol=1e-5)
    skipped = pixels(alone(make(catalog, clip_skip=1)))
    assert not np.array_equal(skipped, pixels(alone(make(catalog))))
    assert not np.array_equal(skipped, pixels(alone(make(catalog, clip_skip=1, prompt="a (red:1.4) cat"))))


def test_more_clip_skip_than_layers_is_refused(engine, catalog):
    with pytest.raises(InvalidRequest) as caught:
        engine.submit(make(catalog, clip_skip=11)).result(60)
    assert caught.value.param == "clip_skip"


def test_a_picture_that_cannot_be_read_ends_its_job_only(engine, catalog, alone):
    def lost():
        raise FileNotFoundError("gone")

    requests = [make(catalog), make(catalog, image=Picture("x", 32, 32, "0", lost)), make(catalog, seed=6)]
    jobs = together(engine, requests)
    with pytest.raises(EngineError):
        jobs[1].result(60)
    for place in (0, 2):
        assert_equal(jobs[place].result(60), alone(requests[place]))


def test_memory_that_runs_out_between_passes_is_asked_for_again(engine, catalog, alone, monkeypatch):
    request = make(catalog, hires={"scale": 1.5, "upscaler": "lanczos"}, image=PICTURE, strength=0.9)
    expected = alone(request)
    vae = engine.models.get(catalog.get("sd1")).vae
    encode, failures = vae.encode, [True, False, True]

    def short(*args, **options):
        if failures and failures.pop(0):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return encode(*args, **options)

    monkeypatch.setattr(vae, "encode", short)
    images = engine.submit(request).result(60)
    assert_equal(images, expected)
    assert images[0].recipe["low_memory"]


@pytest.mark.parametrize("step", [1, 3, 5])
def test_cancel_at_any_step_leaves_other_modes_as_they_are(engine, catalog, alone, step):
    requests = [every_mode(catalog)[name] for name in ("hires", "mask", "hires pixels")]
    expected = [alone(request) for request in requests]
    jobs = together(engine, requests)

    def cancelling(progress):
        if progress.step >= step:
            engine.cancel(late)

    late = engine.submit(make(catalog, steps=20, hires={"scale": 1.5}), on_progress=cancelling)
    with pytest.raises(Cancelled):
        late.result(60)
    for job, right in zip(jobs, expected, strict=True):
        assert_equal(job.result(60), right)


def test_a_job_past_its_deadline_ends_and_others_do_not(engine, catalog, alone):
    requests = [make(catalog, steps=50), make(catalog, seed=6)]
    late = engine.submit(requests[0], deadline=time.monotonic() + 0.05)
    with pytest.raises(TimedOut) as caught:
        late.result(60)
    assert caught.value.code == "timed_out"
    assert_equal(engine.submit(requests[1], deadline=time.monotonic() + 60).result(60), alone(requests[1]))


@pytest.fixture
def enlarging_engine(catalog, tmp_path, monkeypatch):
    """One with an upscaling model, whose tiles are small."""
    (tmp_path / "upscalers").mkdir()
    save_file(as_published(rrdb()), tmp_path / "upscalers" / "tiny-4x.safetensors")
    monkeypatch.setattr(upscale, "TILE_BYTES", {"cpu": 0})
    engine = DiffusionEngine(catalog, models_dir=tmp_path, max_rows=16, **OPTIONS)
    engine.start()
    yield engine
    engine.stop()
    upscale.forget_upscalers()


def enlarged_by_model(catalog, **fields):
    hires = {"scale": 2, "strength": 0.5, "upscaler": "tiny-4x"}
    return make(catalog, width=48, height=48, hires=hires, upscalers=(*UPSCALERS, "tiny-4x"), **fields)


def test_a_model_enlarges_for_the_second_pass_and_holds_nobody_up(enlarging_engine, catalog, tmp_path):
    request, other = enlarged_by_model(catalog), make(catalog, steps=8, seed=3)
    right = [enlarging_engine.submit(each).result(120) for each in (request, other)]
    order, jobs = [], together(enlarging_engine, [request, other])
    for name, job in zip(("enlarged", "other"), jobs, strict=True):
        job.future.add_done_callback(lambda future, name=name: order.append(name))
    for job, expected in zip(jobs, right, strict=True):
        assert_equal(job.result(120), expected)
    assert order == ["other", "enlarged"], "the other takes a step after each tile"
    undrawn = enlarged_by_model(catalog, seed=5)
    undrawn = replace(undrawn, hires=replace(undrawn.hires, strength=0.0))
    plain = enlarging_engine.submit(make(catalog, width=48, height=48)).result(120)[0].pixels
    larger = enlarge(plain, (96, 96), "tiny-4x", models_dir=tmp_path)
    assert np.array_equal(pixels(enlarging_engine.submit(undrawn).result(120)), larger)


def test_a_cancel_acts_between_the_tiles(enlarging_engine, catalog, monkeypatch):
    tiles = []

    def after_tile(self, *args, **options):
        tiles.append(1)
        if len(tiles) == 2:
            enlarging_engine.cancel(job)
        return Image.new("RGB", (args[0].width * 4, args[0].height * 4))

    monkeypatch.setattr(upscale.TiledUpscaler, "__call__", after_tile)
    job = enlarging_engine.submit(enlarged_by_model(catalog, steps=1))
    with pytest.raises(Cancelled):
        job.result(120)
    assert len(tiles) == 2
    assert enlarging_engine.submit(make(catalog)).result(120)
