"""Which workers there are: each reports in a row now and then, by the database's clock. Losing Redis hides none."""

import datetime as dt
import json
from typing import Any

from django.db.models.functions import Now

from generation.models import WorkerReport

WORKER_SECONDS = 30
"""A worker that said nothing for so long is not counted any more."""
KEPT = dt.timedelta(hours=1)


def report(name: str, status: dict[str, Any]) -> None:
    """Keep what a worker says of itself: its engine's status and how many generations it is `running`."""
    plain = json.loads(json.dumps(status, default=str))
    WorkerReport.objects.bulk_create(
        [WorkerReport(name=name, status=plain, seen_at=Now())],
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["status", "seen_at"],
    )
    WorkerReport.objects.filter(seen_at__lt=Now() - KEPT).delete()


def forget(names: str) -> None:
    """Forget the workers whose names begin with `names`: they have ended."""
    WorkerReport.objects.filter(name__startswith=names).delete()


def workers() -> list[dict[str, Any]]:
    """The last reports of the workers seen in the last WORKER_SECONDS, by name, with `name` and `seen_at`."""
    alive = WorkerReport.objects.filter(seen_at__gt=Now() - dt.timedelta(seconds=WORKER_SECONDS))
    return [row.status | {"name": row.name, "seen_at": row.seen_at} for row in alive.order_by("name")]
