"""Estimated durations: seconds to draw and to wait, from what the last generations took, and in which company.

A generation that shared the engine with others took longer than it would have alone, so that its time says little of
one that draws alone, and the other way round. And a part of its time is no step: preparing, decoding, saving. Both are
told apart here: of the last generations those count that ran in company like the present one, and a line through their
times over their steps gives what they took beside the steps, and for each step.
"""

import datetime as dt
import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from django.core.cache import cache
from django.db.models import F

from generation.models import Generation

KEPT_SECONDS = 20
"""How long what was learnt is cached."""
COMPANY_SECONDS = 1
"""How long the number of those at work is cached."""
SAMPLE = 50
"""From how many of the last completed generations it is made."""
ALIKE = 5
"""How many of these, those in the most similar company, are enough."""
CLOSE = 0.5
"""Company that differs by less is the same."""
LEAST_SHARE = 0.6
"""At least so much of a long run's time is for its steps."""


@dataclass(frozen=True, slots=True)
class Run:
    """One completed generation: its seconds and steps, and how many were at work on average, itself included."""

    seconds: float
    steps: int
    company: float


@dataclass(frozen=True, slots=True)
class Pace:
    """`beside`: seconds that are no step."""

    per_step: float
    beside: float

    def seconds(self, steps: int) -> float:
        return self.beside + self.per_step * steps


def seconds_per_step(model: str, width: int, height: int) -> float | None:
    """Seconds per denoising step of that model and size, in the company that there is now."""
    pace = _pace(model, width, height, _at_work())
    return pace.per_step if pace else None


def drawing_seconds(generation: Generation) -> float | None:
    """What drawing takes from claim to end if it began now; None where nothing is known."""
    pace = _pace(generation.model, generation.width, generation.height, _count_at_work() + 1)
    return pace.seconds(generation.total_steps) if pace else None


def remaining_seconds(generation: Generation, step: int) -> float | None:
    """Until a running generation that has done `step` steps is done; None where nothing is known."""
    pace = _pace(generation.model, generation.width, generation.height, max(1, _at_work()))
    if pace is None:
        return None
    left = max(0, generation.total_steps - step)
    # What is beside the steps is before the first of them, for the most part.
    return pace.per_step * left + (pace.beside if step == 0 else 0.0)


def _at_work() -> int:
    """How many generations are drawn at the moment."""
    return cache.get_or_set("at-work", _count_at_work, COMPANY_SECONDS) or 0


def _count_at_work() -> int:
    return Generation.objects.filter(status=Generation.Status.PROCESSING).count()


def _pace(model: str, width: int, height: int, company: int) -> Pace | None:
    key = f"runs:{model}:{width}x{height}"
    runs: list[Run] | None = cache.get(key)
    if runs is None:
        runs = _last_runs(model, width, height)
        cache.set(key, runs, KEPT_SECONDS)
    return pace_of(runs, company) if runs else None


def pace_of(runs: Sequence[Run], company: float) -> Pace:
    """What those of `runs` took that had company of about that size, the nearest where there are few. Newest first."""
    nearest = sorted(runs, key=lambda run: abs(run.company - company))
    alike = [run for run in nearest if abs(run.company - company) < CLOSE]
    chosen = alike if len(alike) >= ALIKE else nearest[:ALIKE]
    slopes = [
        (other.seconds - run.seconds) / (other.steps - run.steps)
        for run, other in itertools.combinations(chosen, 2)
        if other.steps != run.steps
    ]
    ratio = statistics.median(run.seconds / run.steps for run in _longer(chosen))
    if not slopes:
        return Pace(ratio, 0.0)
    # The median of all slopes (Theil & Sen): one run that loaded the model first does not tilt it. On a machine that
    # was busy with other things it may say anything, and so stays near what the longer runs took for each step.
    per_step = min(max(statistics.median(slopes), LEAST_SHARE * ratio), ratio)
    beside = statistics.median(run.seconds - per_step * run.steps for run in chosen)
    return Pace(per_step, max(0.0, beside))


def _longer(runs: Sequence[Run]) -> list[Run]:
    """Those with at least half as many steps as the longest: the less of a run is beside its steps, the better."""
    most = max(run.steps for run in runs)
    return [run for run in runs if 2 * run.steps >= most]


def _last_runs(model: str, width: int, height: int) -> list[Run]:
    completed = Generation.objects.filter(
        model=model, status=Generation.Status.COMPLETED, started_at__isnull=False, finished_at__isnull=False
    )
    rows = list(
        completed.order_by("-finished_at").values_list("started_at", "finished_at", "total_steps", "width", "height")[
            : 2 * SAMPLE
        ]
    )
    times = [(started, finished) for started, finished, *_ in rows]
    own = [row for row in rows if row[3:] == (width, height)][:SAMPLE]
    if not own:
        # Nothing of that size among the last ones of the model: older ones, whose company is not looked at.
        older = completed.filter(width=width, height=height).order_by("-finished_at")
        spans = older.values_list(F("finished_at") - F("started_at"), "total_steps")[:SAMPLE]
        return [Run(span.total_seconds(), max(1, steps), 1.0) for span, steps in spans]
    return [
        Run((finished - started).total_seconds(), max(1, steps), _company(started, finished, times))
        for started, finished, steps, *_ in own
    ]


def _company(started: dt.datetime, finished: dt.datetime, times: list[tuple[dt.datetime, dt.datetime]]) -> float:
    """How many were at work on average between these times, of those that worked at `times`."""
    span = (finished - started).total_seconds()
    if span <= 0:
        return 1.0
    shared = (
        max(0.0, (min(finished, other_end) - max(started, other_start)).total_seconds())
        for other_start, other_end in times
    )
    return sum(shared) / span


def seconds_until_start(position: int) -> float | None:
    """Until so many others that wait have begun: one begins whenever one of those at work ends."""
    mean = cache.get("mean-duration")
    if mean is None:
        durations = (
            Generation.objects.filter(status=Generation.Status.COMPLETED, started_at__isnull=False)
            .order_by("-finished_at")
            .values_list(F("finished_at") - F("started_at"), flat=True)[:SAMPLE]
        )
        seconds = [duration.total_seconds() for duration in durations]
        mean = statistics.mean(seconds) if seconds else 0.0
        cache.set("mean-duration", mean, KEPT_SECONDS)
    return mean * position / max(1, _at_work()) if mean else None


def queued_seconds(generation: Generation, position: int | None) -> float | None:
    """Until a queued generation at that place in line is done; None where nothing is known."""
    drawing = remaining_seconds(generation, 0)
    if drawing is None:
        return None
    wait = seconds_until_start(position - 1) if position else None
    return (wait or 0) + drawing


def seconds_if_submitted(generation: Generation) -> float | None:
    """Until a generation that is not in the queue yet would be done, or None where nothing is known."""
    drawing = drawing_seconds(generation)
    if drawing is None:
        return None
    ahead = Generation.objects.filter(status=Generation.Status.QUEUED).count()
    return round((seconds_until_start(ahead) or 0) + drawing, 1)
