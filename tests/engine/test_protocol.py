"""What every engine promises (`protocol.Engine`), tried on the real one and on the fake one."""

import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

from generation.engine.errors import BadOutput, Cancelled, EngineError, EngineStopped, UnknownModel
from generation.engine.request.fields import ImageRequest
from generation.engine.request.request import build_request


def make(catalog, prompt="a red cat", key="sd1", **fields):
    return build_request(catalog.get(key), prompt=prompt, **{"seed": 5, "steps": 3} | fields)


def draw(engine, request, **options):
    return engine.submit(request, **options).result(60)


def same(a, b):
    return np.array_equal(np.asarray(a.pixels), np.asarray(b.pixels))


class Watcher:
    """Keeps all reports; may do something at a given step, on the engine's thread."""

    def __init__(self, at=None, do=lambda: None):
        self.reports, self.at, self.do = [], at, do

    def __call__(self, progress):
        self.reports.append(progress)
        if progress.phase == "generating" and progress.step == self.at:
            self.do()


def test_it_draws_what_was_asked_for(engine, catalog):
    images = draw(engine, make(catalog, width=48, height=32, num_images=3))
    assert [(image.index, image.seed) for image in images] == [(0, 5), (1, 6), (2, 7)]
    assert all(image.pixels.size == (48, 32) and image.pixels.mode == "RGB" for image in images)
    assert all(image.seconds > 0 and image.recipe["model"] == "sd1" for image in images)


def test_same_seed_same_image_alone_again_and_in_company(engine, catalog):
    request = make(catalog, sampler="Euler a")
    alone = draw(engine, request)[0]
    again = draw(engine, request)[0]
    beside = [engine.submit(make(catalog, seed=seed, steps=2)) for seed in range(3)]
    crowded = engine.submit(request)
    later = [engine.submit(make(catalog, key="other", prompt="a boat"))]
    assert same(alone, again) and same(alone, crowded.result(60)[0])
    for job in beside + later:
        job.result(60)
    assert same(alone, draw(engine, request)[0])


def test_another_seed_prompt_or_model_is_another_image(engine, catalog):
    image = draw(engine, make(catalog))[0]
    assert not same(image, draw(engine, make(catalog, seed=6))[0])
    assert not same(image, draw(engine, make(catalog, prompt="a boat"))[0])


def test_images_of_one_request_equal_requests_of_their_own(engine, catalog):
    together = draw(engine, make(catalog, seed=2**32 - 1, num_images=3))
    for image in together:
        assert same(image, draw(engine, make(catalog, seed=image.seed))[0])


def test_progress_counts_every_step_once_over_all_images(engine, catalog):
    watcher = Watcher()
    draw(engine, make(catalog, steps=4, num_images=2), on_progress=watcher)
    assert all(report.steps == 8 for report in watcher.reports)
    steps = [report.step for report in watcher.reports]
    assert steps == sorted(steps) and set(range(1, 9)) <= set(steps) and steps[-1] == 8
    phases = [report.phase for report in watcher.reports]
    assert phases[0] == "loading" and set(phases) == {"loading", "generating"}


@pytest.mark.parametrize("sampler", ["Heun", "PLMS", "DPM++ 2M"])
def test_progress_is_right_where_steps_are_not_evaluations(engine, catalog, sampler):
    watcher = Watcher()
    draw(engine, make(catalog, steps=4, sampler=sampler), on_progress=watcher)
    steps = [report.step for report in watcher.reports]
    assert steps == sorted(steps) and set(steps) == {0, 1, 2, 3, 4}


def test_a_model_is_loaded_once(engine, catalog):
    watcher = Watcher()
    draw(engine, make(catalog))
    draw(engine, make(catalog), on_progress=watcher)
    assert "loading" not in [report.phase for report in watcher.reports]
    assert engine.status()["models"] == ["sd1"]


def test_previews_come_while_somebody_watches_and_change(engine, catalog):
    watcher = Watcher()
    draw(engine, make(catalog, steps=5, width=64, height=32), on_progress=watcher, wants_preview=lambda: True)
    previews = [report.preview for report in watcher.reports if report.preview]
    assert len(previews) >= 4 and len(set(previews)) == len(previews)
    for data in previews:
        image = Image.open(io.BytesIO(data))
        assert image.format == "WEBP" and image.size == (64, 32)


def test_no_preview_for_nobody(engine, catalog):
    watcher = Watcher()
    draw(engine, make(catalog), on_progress=watcher)
    assert not any(report.preview for report in watcher.reports)


def test_a_cancelled_job_keeps_its_finished_images_and_the_next_is_right(engine_in_turn, catalog):
    expected = draw(engine_in_turn, make(catalog))[0]
    watcher = Watcher(at=4, do=lambda: engine_in_turn.cancel(job))
    held = threading.Event()
    job = engine_in_turn.submit(
        make(catalog, num_images=3), on_progress=lambda progress: (held.wait(10), watcher(progress))
    )
    following = engine_in_turn.submit(make(catalog))
    held.set()
    with pytest.raises(Cancelled) as caught:
        job.result(60)
    assert [image.index for image in caught.value.images] == [0]
    assert same(caught.value.images[0], expected)
    assert watcher.reports[-1].step == 4, "it stops at the next step border"
    assert same(following.result(60)[0], expected)


@pytest.mark.parametrize("step", [1, 3, 6])
def test_cancel_at_any_step(engine_in_turn, catalog, step):
    jobs = []
    watcher = Watcher(at=step, do=lambda: engine_in_turn.cancel(jobs[0]))
    ready = threading.Event()
    jobs.append(
        engine_in_turn.submit(
            make(catalog, num_images=2), on_progress=lambda progress: (ready.wait(10), watcher(progress))
        )
    )
    ready.set()
    with pytest.raises(Cancelled) as caught:
        jobs[0].result(60)
    assert len(caught.value.images) == (step - 1) // 3


def test_a_waiting_job_is_cancelled_at_once_and_the_running_one_goes_on(engine, catalog):
    running, release = threading.Event(), threading.Event()
    first = engine.submit(make(catalog), on_progress=lambda progress: (running.set(), release.wait(10)))
    assert running.wait(30)
    waiting = engine.submit(make(catalog))
    engine.cancel(waiting)
    assert waiting.done()
    with pytest.raises(Cancelled) as caught:
        waiting.result(0)
    assert caught.value.images == []
    release.set()
    assert len(first.result(60)) == 1


def test_cancelling_a_finished_job_changes_nothing(engine, catalog):
    job = engine.submit(make(catalog))
    images = job.result(60)
    engine.cancel(job)
    assert job.result(0) == images


def test_a_callback_that_raises_does_not_hurt_the_picture(engine, catalog):
    def broken(*args):
        raise RuntimeError("Redis is away")

    expected = draw(engine, make(catalog))[0]
    assert same(draw(engine, make(catalog), on_progress=broken, wants_preview=broken)[0], expected)


def test_an_unknown_model_fails_and_the_next_job_is_right(engine, catalog):
    expected = draw(engine, make(catalog))[0]
    stray = ImageRequest("no-such-model", "a cat", "", 32, 32, 2, 5.0, "Euler", 1)
    with pytest.raises(UnknownModel):
        draw(engine, stray)
    assert same(draw(engine, make(catalog))[0], expected)


def test_an_unexpected_error_is_a_plain_engine_error_without_frames(engine, catalog):
    draw(engine, make(catalog))
    absurd = ImageRequest("sd1", "a cat", "", 32, 32, 2, 5.0, "Euler", seed=None)
    with pytest.raises(EngineError) as caught:
        draw(engine, absurd)
    assert caught.value.code == "engine_error" and caught.value.__context__ is None
    assert len(draw(engine, make(catalog))) == 1


def test_stop_ends_everything_and_start_begins_anew(engine, catalog):
    running = threading.Event()
    jobs = [engine.submit(make(catalog, steps=100), on_progress=lambda progress: running.set())]
    jobs += [engine.submit(make(catalog)) for _ in range(3)]
    assert running.wait(30)
    began = time.monotonic()
    engine.stop()
    assert time.monotonic() - began < 5
    jobs.append(engine.submit(make(catalog)))
    for job in jobs:
        with pytest.raises(EngineStopped):
            job.result(0)
    engine.start()
    assert len(draw(engine, make(catalog))) == 1


def test_many_threads_may_submit_at_once(engine, catalog):
    results = {}

    def submit(seed):
        results[seed] = draw(engine, make(catalog, seed=seed, steps=1))[0]

    threads = [threading.Thread(target=submit, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {seed: image.seed for seed, image in results.items()} == {seed: seed for seed in range(12)}
    assert same(results[3], draw(engine, make(catalog, seed=3, steps=1))[0])


def test_status_says_what_the_operator_asks(engine, catalog):
    status = engine.status()
    assert set(status) == {"device", "device_name", "dtype", "memory", "models"}
    assert status["models"] == []


def test_a_black_picture_is_a_failure(catalog, torch_engine, fake_engine, monkeypatch):
    import torch

    from generation.engine.fake import FakeEngine

    draw(torch_engine, make(catalog))
    vae = torch_engine.models.get(catalog.get("sd1")).vae
    monkeypatch.setattr(vae, "decode", lambda latents, **options: (torch.full((1, 3, 32, 32), -1.0),))
    with pytest.raises(BadOutput):
        draw(torch_engine, make(catalog))
    monkeypatch.undo()
    assert len(draw(torch_engine, make(catalog))) == 1

    fake = FakeEngine(catalog, seconds_per_step=0, faults_allowed=True)
    fake.start()
    with pytest.raises(BadOutput):
        draw(fake, make(catalog, prompt="a cat [fault:black]"))
    fake.stop()
