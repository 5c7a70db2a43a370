"""Batches grow only as long as that makes somebody faster, and those that would be late go first."""

import threading
import time

import torch

from generation.engine.loop.engine import DiffusionEngine
from generation.engine.loop.fair_share import FairShare
from generation.engine.loop.step_timer import RETRY_INTERVAL, WARM_UP_STEPS, StepTimer, clock_for

from .test_batching import OPTIONS, Spy, make, together


def experienced(**seconds):
    """Knows each batch size: `experienced(s2=0.1)` was told that steps of two pictures take 0.1 s."""
    timer = StepTimer()
    for size, step_seconds in seconds.items():
        for _ in range(WARM_UP_STEPS):
            timer.record("group", int(size[1:]), step_seconds)
    return timer


def test_what_is_not_known_is_tried():
    assert StepTimer().best_batch_size("group", 8) == 8
    assert experienced(s2=0.1).best_batch_size("group", 8) == 8


def test_a_batch_that_makes_pictures_cheaper_is_taken_whole():
    assert experienced(s2=0.1, s4=0.15, s8=0.25).best_batch_size("group", 8) == 8


def test_a_batch_that_makes_pictures_dearer_is_cut_and_tried_again_now_and_then():
    timer = experienced(s2=0.1, s4=0.15, s8=0.6)
    taken = [timer.best_batch_size("group", 8) for _ in range(2 * RETRY_INTERVAL)]
    assert set(taken) == {4, 8} and taken.count(8) == 2


def test_the_first_step_of_a_size_does_not_count():
    timer = StepTimer()
    for seconds in (9.0, 0.1, 0.1):
        timer.record("group", 2, seconds)
    assert timer.expected_seconds("group", 2) < 0.2


def test_urgent_ones_have_their_turn_and_pay_for_it():
    share = FairShare()
    charges = {"calm": 1.0, "late": 1.0}
    assert [share.pick(charges, "late") for _ in range(3)] == ["late"] * 3
    assert [share.pick(charges) for _ in range(3)] == ["calm"] * 3


def test_a_gpus_steps_are_timed_by_its_own_clock_and_read_one_step_later(monkeypatch):
    """So that nobody waits for the step that it is at, and each group is charged with what its own steps took."""
    clock, awaited = iter([0, 100, 100, 400, 400, 450]), []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            self.time = next(clock)

        def synchronize(self):
            awaited.append(self.time)

        def elapsed_time(self, other):
            return other.time - self.time

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    gpu_clock = clock_for(torch.device("cuda"))
    timings = [gpu_clock.start()(group, 2) for group in ("small", "large", "small")]
    assert timings[0] is None
    assert [(timing.group, timing.slots, timing.seconds) for timing in timings[1:]] == [
        ("small", 2, 0.1),
        ("large", 2, 0.3),
    ]
    assert awaited == [100, 400]


def test_rows_take_turns_where_batches_are_cut(catalog, monkeypatch):
    """Nobody waits for the end of somebody else's picture, also where only one row goes at once."""
    engine = DiffusionEngine(catalog, max_rows=16, **OPTIONS)
    spy = Spy(monkeypatch, engine, catalog.get("sd1"))
    monkeypatch.setattr(StepTimer, "best_batch_size", lambda self, group, slots: 1)
    engine.start()
    order = []
    requests = [make(catalog, steps=30, guidance_scale=1), make(catalog, steps=3, seed=6, guidance_scale=1)]
    jobs = together(engine, requests)
    for name, job in zip(("long", "short"), jobs, strict=True):
        job.future.add_done_callback(lambda future, name=name: order.append(name))
    for job in jobs:
        job.result(60)
    engine.stop()
    assert set(spy.sizes) == {1} and order == ["short", "long"]


def test_who_would_be_late_is_drawn_first(catalog, monkeypatch):
    """With time for its own steps only, and sharing turns with another model, it would miss its deadline."""
    engine = DiffusionEngine(catalog, max_rows=16, **OPTIONS)
    spies = [Spy(monkeypatch, engine, catalog.get(key)) for key in ("sd1", "other")]
    calls = spies[0].calls = spies[1].calls = []
    seconds = {"other": 1.0, "sd1": 1000.0}
    monkeypatch.setattr(StepTimer, "expected_seconds", lambda self, group, slots: seconds[group.model])
    engine.start()
    begun = threading.Event()
    calm = engine.submit(make(catalog, steps=40), on_progress=lambda progress: progress.step and begun.set())
    assert begun.wait(60)
    before = len(calls)
    urgent = engine.submit(make(catalog, key="other", steps=6), deadline=time.monotonic() + 60)
    urgent.result(60), calm.result(60)
    engine.stop()
    keys = [key for key, _, _ in calls[before:]]
    first = keys.index("other")
    assert keys[first : first + 6] == ["other"] * 6
