"""Rows of many jobs share the UNet: each picture is what it would be alone, and no job hurts another."""

import functools
import threading

import numpy as np
import pytest
import torch

from generation.engine.errors import BadOutput, Cancelled, EngineError, OutOfMemory
from generation.engine.loop.denoise import advance
from generation.engine.loop.engine import DiffusionEngine
from generation.engine.loop.fair_share import FairShare
from generation.engine.loop.rows import start_row
from generation.engine.request.request import build_request

OPTIONS = {"device": "cpu", "allow_download": False, "threads": 1, "preview_interval": 0}


@pytest.fixture
def engine(catalog):
    engine = DiffusionEngine(catalog, max_rows=16, **OPTIONS)
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def alone(catalog):
    """Draws a request with nobody else about."""
    engine = DiffusionEngine(catalog, **OPTIONS)
    engine.start()
    yield functools.cache(lambda request: engine.submit(request).result(60))
    engine.stop()


def make(catalog, prompt="a red cat", key="sd1", **fields):
    return build_request(catalog.get(key), prompt=prompt, **{"seed": 5, "steps": 4} | fields)


def together(engine, requests):
    """Jobs that are all submitted before the first of them takes its first step."""
    submitted = threading.Event()
    jobs = [engine.submit(requests[0], on_progress=lambda progress: submitted.wait(30))]
    jobs += [engine.submit(request) for request in requests[1:]]
    submitted.set()
    return jobs


def assert_equal(images, expected):
    for image, right in zip(images, expected, strict=True):
        assert np.abs(np.asarray(image.pixels, int) - np.asarray(right.pixels, int)).max() <= 1


class Spy:
    """Sees what goes through a model's UNet: picture counts and timesteps, in `calls`; may change what happens."""

    def __init__(self, monkeypatch, engine, spec, change=None):
        self.calls = []
        model = engine.models.get(spec)
        forward = model.unet.forward

        def spying(sample, timesteps, **options):
            self.calls.append((spec.key, len(sample), sorted(set(timesteps.tolist()))))
            answer = forward(sample, timesteps, **options)[0]
            return (change(answer, options["encoder_hidden_states"]) if change else answer,)

        monkeypatch.setattr(model.unet, "forward", spying)

    @property
    def sizes(self):
        return [size for _, size, _ in self.calls]


def shows(model, prompt):
    """Which pictures of a UNet batch are drawn with that prompt."""
    tokens = model.text.encode(prompt).tokens
    return lambda texts: (texts == tokens).flatten(1).all(dim=1)


def mixed(catalog, key="sd1"):
    return [
        make(catalog, "a red cat", key, steps=9, sampler="DPM++ 2M Karras", guidance_scale=7.5, seed=1),
        make(catalog, "a boat", key, steps=5, sampler="Euler a", guidance_scale=3, seed=2, negative_prompt="grey"),
        make(catalog, "two cats", key, steps=7, sampler="UniPC", guidance_scale=1, seed=3),
    ]


@pytest.mark.parametrize("key", ["sd1", "sd2", "sdxl", "lcm"])
def test_three_users_in_one_batch_each_get_the_picture_they_would_alone(engine, catalog, alone, monkeypatch, key):
    spy = Spy(monkeypatch, engine, catalog.get(key))
    requests = mixed(catalog, key)
    for job, request in zip(together(engine, requests), requests, strict=True):
        assert_equal(job.result(60), alone(request))
    # Two with guidance and one without, unless guidance is an input of the UNet.
    assert max(spy.sizes) == (3 if key == "lcm" else 5)
    assert any(len(times) == 3 for _, _, times in spy.calls), "each at its own timestep"
    assert len(spy.calls) <= 11, "9, 5 and 7 steps would be 21 calls one after another"


def test_all_samplers_share_one_batch(engine, catalog, alone, monkeypatch):
    spec = catalog.get("sd2")
    spy = Spy(monkeypatch, engine, spec)
    requests = [
        make(catalog, key="sd2", sampler=name, guidance_scale=1, seed=seed, steps=6)
        for seed, name in enumerate(spec.samplers)
    ]
    jobs = together(engine, requests)
    for job, request in zip(jobs, requests, strict=True):
        assert_equal(job.result(60), alone(request))
    assert max(spy.sizes) == len(requests) == len(spec.samplers)


def test_a_short_request_overtakes_a_long_one(engine, catalog):
    order, begun = [], threading.Event()
    long = engine.submit(make(catalog, steps=50), on_progress=lambda p: begun.set() if p.step else None)
    assert begun.wait(30)
    short = engine.submit(make(catalog, steps=4, seed=6))
    for name, job in (("long", long), ("short", short)):
        job.future.add_done_callback(lambda future, name=name: order.append(name))
    long.result(60), short.result(60)
    assert order == ["short", "long"]


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_cancel_at_any_step_leaves_the_others_as_they_are(engine, catalog, alone, step):
    requests = mixed(catalog)
    jobs, submitted = [], threading.Event()

    def cancelling(progress):
        submitted.wait(30)
        if progress.step == step:
            engine.cancel(jobs[1])

    jobs.append(engine.submit(requests[0]))
    jobs.append(engine.submit(requests[1], on_progress=cancelling))
    jobs.append(engine.submit(requests[2]))
    submitted.set()
    with pytest.raises(Cancelled):
        jobs[1].result(60)
    assert_equal(jobs[0].result(60), alone(requests[0]))
    assert_equal(jobs[2].result(60), alone(requests[2]))


def test_bits_do_not_depend_on_who_else_is_there(engine, catalog):
    """Also where the company shrinks to a single guided picture, as it does when others are cancelled."""
    model = engine.models.get(catalog.get("sd1"))

    def latents(requests, leaving):
        rows = [start_row(model, request, 0) for request in requests]
        stayers = rows[:1]
        while not stayers[0].finished:
            here = rows if stayers[0].position < leaving else stayers
            advance(model, [row for row in here if not row.finished])
        return stayers[0].latents

    requests = [
        make(catalog, seed=seed, steps=6, sampler=name) for seed, name in enumerate(["DPM++ 2M", "Euler a", "UniPC"])
    ]
    expected = latents(requests, leaving=6)
    for leaving in range(6):
        assert torch.equal(latents(requests, leaving), expected)


def test_sizes_and_models_take_turns(engine, catalog, alone, monkeypatch):
    spies = [Spy(monkeypatch, engine, catalog.get(key)) for key in ("sd1", "other")]
    calls = spies[0].calls = spies[1].calls = []
    requests = [make(catalog, steps=8), make(catalog, steps=8, width=48), make(catalog, key="other", steps=8)]
    for job, request in zip(together(engine, requests), requests, strict=True):
        assert_equal(job.result(60), alone(request))
    models = [key for key, _, _ in calls]
    assert models.count("sd1") == 16 and models.count("other") == 8
    assert max(models.index("other"), models[::-1].index("other")) < 8, "neither waits for the other's end"


def test_prompts_of_different_length_do_not_change_each_other(engine, catalog, alone):
    requests = [
        make(catalog, "a red cat"),
        make(catalog, "a red cat in a boat " * 30, seed=6),
        make(catalog, "a (boat:1.3)", seed=7),
    ]
    for job, request in zip(together(engine, requests), requests, strict=True):
        assert_equal(job.result(60), alone(request))


def test_images_of_one_request_are_drawn_together_and_kept_in_order(engine, catalog, alone, monkeypatch):
    spy = Spy(monkeypatch, engine, catalog.get("sd1"))
    images = engine.submit(make(catalog, num_images=4, sampler="Euler a")).result(60)
    assert spy.sizes == [8] * 4
    assert [image.index for image in images] == [0, 1, 2, 3]
    for image in images:
        assert_equal([image], alone(make(catalog, seed=image.seed, sampler="Euler a")))


@pytest.mark.parametrize("guidance, most", [(5.0, 4), (1.0, 5)])
def test_no_more_rows_than_allowed(catalog, monkeypatch, guidance, most):
    engine = DiffusionEngine(catalog, max_rows=5, **OPTIONS)
    spy = Spy(monkeypatch, engine, catalog.get("sd1"))
    engine.start()
    fields = {"num_images": 4, "guidance_scale": guidance}
    jobs = together(engine, [make(catalog, **fields), make(catalog, **fields, seed=50)])
    for job in jobs:
        assert len(job.result(60)) == 4
    engine.stop()
    assert max(spy.sizes) == most


def test_a_row_that_is_not_finite_fails_alone(engine, catalog, alone, monkeypatch):
    model = engine.models.get(catalog.get("sd1"))
    bad = shows(model, "a boat")

    def spoil(answer, texts):
        answer[bad(texts)] = float("nan")
        return answer

    Spy(monkeypatch, engine, model.spec, spoil)
    requests = mixed(catalog)
    jobs = together(engine, requests)
    with pytest.raises(BadOutput):
        jobs[1].result(60)
    assert_equal(jobs[0].result(60), alone(requests[0]))
    assert_equal(jobs[2].result(60), alone(requests[2]))


def test_an_error_that_one_row_causes_ends_its_job_only(engine, catalog, alone, monkeypatch):
    model = engine.models.get(catalog.get("sd1"))
    bad = shows(model, "a boat")

    def refuse(answer, texts):
        if bad(texts).any():
            raise ValueError("a boat is too much for it")
        return answer

    Spy(monkeypatch, engine, model.spec, refuse)
    requests = mixed(catalog)
    jobs = together(engine, requests)
    with pytest.raises(EngineError) as caught:
        jobs[1].result(60)
    assert caught.value.code == "engine_error"
    assert_equal(jobs[0].result(60), alone(requests[0]))
    assert_equal(jobs[2].result(60), alone(requests[2]))


def test_when_memory_is_short_fewer_rows_go_at_once(engine, catalog, alone, monkeypatch):
    def small_batches_only(answer, texts):
        if len(texts) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return answer

    spy = Spy(monkeypatch, engine, catalog.get("sd1"), small_batches_only)
    requests = [make(catalog, seed=seed, sampler="Euler a") for seed in range(4)]
    jobs = together(engine, requests)
    for job, request in zip(jobs, requests, strict=True):
        images = job.result(60)
        assert_equal(images, alone(request))
        assert not images[0].recipe["low_memory"]
    assert max(spy.sizes) == 8 and sum(size > 4 for size in spy.sizes) == 1


def test_a_job_too_big_for_the_memory_fails_alone(engine, catalog, alone, monkeypatch):
    model = engine.models.get(catalog.get("sd1"))
    forward = model.unet.forward

    def small_pictures_only(sample, timesteps, **options):
        if sample.shape[-1] > 16:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(sample, timesteps, **options)

    monkeypatch.setattr(model.unet, "forward", small_pictures_only)
    requests = [make(catalog), make(catalog, width=64, num_images=2), make(catalog, seed=6)]
    jobs = together(engine, requests)
    with pytest.raises(OutOfMemory):
        jobs[1].result(60)
    assert_equal(jobs[0].result(60), alone(requests[0]))
    assert_equal(jobs[2].result(60), alone(requests[2]))


def test_a_model_waits_until_those_in_use_leave_room_for_it(catalog, alone):
    engine = DiffusionEngine(catalog, memory_budget=1, **OPTIONS)
    engine.start()
    requests = [make(catalog, steps=12), make(catalog, key="other"), make(catalog, seed=6, steps=3)]
    jobs = together(engine, requests)
    for job, request in zip(jobs, requests, strict=True):
        assert_equal(job.result(60), alone(request))
    assert len(engine.status()["models"]) == 1
    engine.stop()


def test_whoever_waits_for_room_can_be_cancelled(catalog):
    engine = DiffusionEngine(catalog, memory_budget=1, **OPTIONS)
    engine.start()
    jobs = together(engine, [make(catalog, steps=40), make(catalog, key="other")])
    engine.cancel(jobs[1])
    with pytest.raises(Cancelled):
        jobs[1].result(60)
    assert len(jobs[0].result(60)) == 1
    engine.stop()


def test_a_failure_of_the_loop_itself_ends_the_jobs_in_flight_and_not_the_engine(engine, catalog, monkeypatch):
    def broken(self, charges, urgent=None):
        monkeypatch.undo()
        raise RuntimeError("a bug")

    monkeypatch.setattr(FairShare, "pick", broken)
    with pytest.raises(EngineError):
        engine.submit(make(catalog)).result(60)
    assert len(engine.submit(make(catalog)).result(60)) == 1


def test_previews_show_an_unfinished_image_while_there_is_one(engine, catalog):
    reports = []
    request = make(catalog, num_images=2, steps=5)
    engine.submit(request, on_progress=reports.append, wants_preview=lambda: True).result(60)
    assert sum(bool(report.preview) for report in reports) == 10


def test_turns_are_shared_by_what_they_cost():
    share = FairShare()
    turns = [share.pick({"small": 1.0, "large": 4.0}) for _ in range(50)]
    assert turns.count("large") == 10
    assert max(len(run) for run in "".join(turn[0] for turn in turns).split("l")) <= 4


def test_who_comes_late_neither_owes_nor_is_owed():
    share = FairShare()
    for _ in range(100):
        share.pick({"early": 1.0})
    turns = [share.pick({"early": 1.0, "late": 1.0}) for _ in range(10)]
    assert turns.count("late") == 5
