"""Queue order: the SQL rank by which workers claim, and the place in line that callers are shown."""

from collections.abc import Iterable
from uuid import UUID

from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from generation.models import Generation


def queue_rank(table: str) -> str:
    """SQL for the rank of a queued row, the lowest first: pro before free, but ten minutes of waiting
    outweigh the plan, so nobody starves. Whole minutes, so that who has fewest running counts within one."""
    return f"{table}.priority - floor(extract(epoch FROM statement_timestamp() - {table}.created_at) / 60)"


def with_places(generations: QuerySet[Generation]) -> QuerySet[Generation]:
    """Rows that bring their place in line along, so that it costs no query of its own. See `queue_positions`."""
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


def queue_positions(generations: Iterable[Generation]) -> dict[UUID, int]:
    """Places in line of those that are queued, by id: 1 is the next to be claimed.

    No query for those that were read `with_places`, and one for the others together. The order is that in which
    one worker claims them that does one after the other: `jobs.claim` without its look at who else is running.
    """
    queued = [generation for generation in generations if generation.status == Generation.Status.QUEUED]
    places: dict[UUID, int | None] = {generation.pk: getattr(generation, "place", None) for generation in queued}
    if unknown := [pk for pk, place in places.items() if place is None]:
        places |= dict(with_places(Generation.objects.filter(pk__in=unknown)).values_list("pk", "place"))
    return {pk: place for pk, place in places.items() if place is not None}
