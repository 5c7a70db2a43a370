"""How long things take here, from what they took before."""

import statistics

from django.core.cache import cache
from django.db.models import F, QuerySet
from django.db.models.expressions import RawSQL

from generation.models import Generation

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


def with_places(generations: QuerySet) -> QuerySet:
    """Rows that bring their place in line along, so that it costs no query of its own. See `queue_positions`."""
    from .jobs import queue_rank

    # One that waits after a failure, or whose time is over, is passed by; the index of queued rows serves the rest.
    return generations.annotate(
        place=RawSQL(
            "CASE WHEN generation_generation.status = 'queued' THEN (SELECT count(*) + 1 FROM generation_generation g"
            " WHERE g.status = 'queued'"
            " AND g.not_before <= statement_timestamp() AND g.deadline_at > statement_timestamp()"
            f" AND ({queue_rank('g')}, g.created_at)"
            f" < ({queue_rank('generation_generation')}, generation_generation.created_at)) END",
            [],
        )
    )


def queue_positions(generations) -> dict:
    """Places in line of those that are queued, by id: 1 is the next to be claimed.

    No query for those that were read `with_places`, and one for the others together. The order is that in which
    one worker claims them that does one after the other: `jobs.claim` without its look at who else is running.
    """
    queued = [one for one in generations if one.status == Generation.Status.QUEUED]
    places = {one.pk: getattr(one, "place", None) for one in queued}
    if unknown := [pk for pk, place in places.items() if place is None]:
        read = with_places(Generation.objects.filter(pk__in=unknown))
        places |= dict(read.values_list("pk", "place"))
    return {pk: place for pk, place in places.items() if place is not None}


def seconds_until_start(position: int, workers: int = 1) -> float | None:
    """A guess from the mean duration of the last completed generations."""
    mean = cache.get("mean-duration")
    if mean is None:
        rows = (
            Generation.objects.filter(status=Generation.Status.COMPLETED, started_at__isnull=False)
            .order_by("-finished_at")
            .values_list(F("finished_at") - F("started_at"), flat=True)[:SAMPLE]
        )
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
