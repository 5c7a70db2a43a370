"""Estimates: what drew alone tells of what draws alone, and what is beside the steps is not multiplied by them."""

import datetime as dt

import pytest
from django.core.cache import cache
from django.utils import timezone

from generation.models import Generation
from generation.queue import estimates

STEP, BESIDE = 0.1, 0.5


@pytest.fixture(autouse=True)
def nothing_cached():
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def completed(make_generation, pro_user):
    """Make a completed generation that took so many seconds, and ended so many seconds ago."""

    def make(steps: int, seconds: float, ago: float) -> None:
        finished = timezone.now() - dt.timedelta(seconds=ago)
        make_generation(
            pro_user,
            status="completed",
            steps=steps,
            started_at=finished - dt.timedelta(seconds=seconds),
            finished_at=finished,
        )

    return make


def alone(completed, first: float) -> None:
    for number, steps in enumerate((4, 10, 20, 20, 30, 40)):
        completed(steps, BESIDE + STEP * steps, first + number * 60)


def in_threes(completed, first: float) -> None:
    """Three at a time, each three times as slow."""
    for number in range(6):
        for _ in range(3):
            completed(20, 3 * (BESIDE + STEP * 20), first + number * 60)


def wish(make_generation, pro_user, steps: int, **fields) -> Generation:
    return make_generation(pro_user, steps=steps, **fields)


@pytest.mark.parametrize("steps", [2, 20, 100])
def test_a_crowd_before_does_not_slow_who_comes_alone(completed, make_generation, pro_user, steps):
    alone(completed, 3600)
    in_threes(completed, 10)
    estimate = estimates.drawing_seconds(wish(make_generation, pro_user, steps))
    assert estimate == pytest.approx(BESIDE + STEP * steps, rel=0.1)


def test_in_a_crowd_it_takes_as_long_as_in_a_crowd(completed, make_generation, pro_user):
    alone(completed, 3600)
    in_threes(completed, 10)
    for _ in range(2):
        wish(make_generation, pro_user, 20, status="processing", started_at=timezone.now())
    estimate = estimates.drawing_seconds(wish(make_generation, pro_user, 20))
    assert estimate == pytest.approx(3 * (BESIDE + STEP * 20), rel=0.1)


def test_a_few_steps_are_not_the_measure_of_many(completed, make_generation, pro_user):
    for number in range(12):
        completed(2, BESIDE + STEP * 2, 10 + number * 30)
    for number in range(3):
        completed(50, BESIDE + STEP * 50, 1000 + number * 60)
    estimate = estimates.drawing_seconds(wish(make_generation, pro_user, 100))
    assert estimate == pytest.approx(BESIDE + STEP * 100, rel=0.1)


def test_one_that_loaded_the_model_first_does_not_tilt_it(completed, make_generation, pro_user):
    alone(completed, 100)
    completed(20, 60, 10)
    estimate = estimates.drawing_seconds(wish(make_generation, pro_user, 20))
    assert estimate == pytest.approx(BESIDE + STEP * 20, rel=0.2)


def test_who_waits_is_told_of_all_that_are_at_work(completed, make_generation, pro_user):
    in_threes(completed, 10)
    for _ in range(3):
        wish(make_generation, pro_user, 20, status="processing", started_at=timezone.now())
    # Six before it, three at a time.
    assert estimates.seconds_until_start(6) == pytest.approx(2 * 3 * (BESIDE + STEP * 20), rel=0.05)


def test_nothing_is_known_of_a_size_that_nobody_drew(completed, make_generation, pro_user):
    alone(completed, 10)
    assert estimates.drawing_seconds(wish(make_generation, pro_user, 20, width=320, height=320)) is None
