"""How long things take here, from what they took before."""

import statistics

from django.core.cache import cache
from django.db import connection
from django.db.models import F

from .models import Generation

KEPT_SECONDS = 20
SAMPLE = 50


def seconds_per_step(model: str, width: int, height: int) -> float | None:
    """Median seconds per denoising step of the last completed generations of that model and size."""
    key = f"pace:{model}:{width}x{height}"
    known = cache.get(key)
    if known is None:
        done = Generation.objects.filter(model=model, status=Generation.Status.COMPLETED, width=width, height=height)
        rows = done.filter(started_at__isnull=False).order_by("-finished_at")[:SAMPLE]
        paces = [(row.finished_at - row.started_at).total_seconds() / row.total_steps for row in rows]
        known = statistics.median(paces) if paces else 0.0
        cache.set(key, known, KEPT_SECONDS)
    return known or None


def queue_position(generation: Generation) -> int | None:
    """1 for the next to be claimed; None when it is not queued."""
    return queue_positions([generation]).get(generation.pk)


def queue_positions(generations) -> dict:
    """Places in line of those that are queued, by id, with one query.

    The order is that of `jobs.claim` without its look at who is running: near enough for a person.
    """
    from .jobs import QUEUE_ORDER

    ids = [generation.pk for generation in generations if generation.status == Generation.Status.QUEUED]
    if not ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, place FROM (SELECT g.id, row_number() OVER (ORDER BY " + QUEUE_ORDER + ") AS place"
            " FROM generation_generation g WHERE g.status = 'queued') AS line WHERE id = ANY(%s)", [ids])
        return dict(cursor.fetchall())


def seconds_until_start(position: int, workers: int = 1) -> float | None:
    """A guess from the mean duration of the last completed generations."""
    mean = cache.get("mean-duration")
    if mean is None:
        rows = (Generation.objects.filter(status=Generation.Status.COMPLETED, started_at__isnull=False)
                .order_by("-finished_at").values_list(F("finished_at") - F("started_at"), flat=True)[:SAMPLE])
        seconds = [row.total_seconds() for row in rows]
        mean = statistics.mean(seconds) if seconds else 0.0
        cache.set("mean-duration", mean, KEPT_SECONDS)
    return mean * position / workers if mean else None


def seconds_if_submitted(generation: Generation) -> float | None:
    """Until a generation that is not in the queue yet would be done, or None where nothing is known."""
    pace = seconds_per_step(generation.model, generation.width, generation.height)
    if pace is None:
        return None
    ahead = Generation.objects.filter(status=Generation.Status.QUEUED).count()
    return round((seconds_until_start(ahead) or 0) + pace * generation.total_steps, 1)
