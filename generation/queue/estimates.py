"""Estimated durations: seconds per step and time to wait, from what the last generations took."""

import statistics

from django.core.cache import cache
from django.db.models import F

from generation.models import Generation

KEPT_SECONDS = 20
"""How long an estimate is cached."""
SAMPLE = 50
"""From how many of the last completed generations it is made."""


def seconds_per_step(model: str, width: int, height: int) -> float | None:
    """Median seconds per denoising step of the last completed generations of that model and size."""
    key = f"pace:{model}:{width}x{height}"
    pace = cache.get(key)
    if pace is None:
        completed = Generation.objects.filter(
            model=model, status=Generation.Status.COMPLETED, width=width, height=height, started_at__isnull=False
        )
        durations = completed.order_by("-finished_at").values_list(F("finished_at") - F("started_at"), "total_steps")
        paces = [duration.total_seconds() / steps for duration, steps in durations[:SAMPLE]]
        pace = statistics.median(paces) if paces else 0.0
        cache.set(key, pace, KEPT_SECONDS)
    return pace or None


def remaining_seconds(generation: Generation, step: int) -> float | None:
    """Until a running generation that has done `step` steps is done; None where nothing is known."""
    pace = seconds_per_step(generation.model, generation.width, generation.height)
    return None if pace is None else pace * max(0, generation.total_steps - step)


def seconds_until_start(position: int, workers: int = 1) -> float | None:
    """A guess from the mean duration of the last completed generations."""
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
    return mean * position / workers if mean else None


def queued_seconds(generation: Generation, position: int | None) -> float | None:
    """Until a queued generation at that place in line is done; None where nothing is known."""
    drawing = remaining_seconds(generation, 0)
    if drawing is None:
        return None
    wait = seconds_until_start(position - 1) if position else None
    return (wait or 0) + drawing


def seconds_if_submitted(generation: Generation) -> float | None:
    """Until a generation that is not in the queue yet would be done, or None where nothing is known."""
    drawing = remaining_seconds(generation, 0)
    if drawing is None:
        return None
    ahead = Generation.objects.filter(status=Generation.Status.QUEUED).count()
    return round((seconds_until_start(ahead) or 0) + drawing, 1)
