"""The fenced life of a generation's row: claim, heartbeat, finish, hand back, sweep.

A claim raises `epoch`; every later write of that worker names it, so a worker that lost its lease changes
nothing. Locks are taken in one order everywhere: generation, hold, usage. All clocks are the database's.
"""

import datetime as dt
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.humanize.templatetags.humanize import apnumber
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from accounts import quotas
from accounts.models import QuotaHold, User
from generation import doorbell
from generation.live import store
from generation.models import GeneratedImage, Generation
from generation.storage.files import StoredImage
from generation.webhooks import events

from .order import queue_rank
from .withdrawal import cancel_withdrawn, is_not_withdrawn, is_withdrawn

log = logging.getLogger(__name__)

Status = Generation.Status

KEPT_SECONDS = 5
"""How long a suspect is kept for a busy worker that may have died meanwhile."""


class LeaseLost(Exception):
    """Another worker, the sweeper or the owner has decided about this generation: discard your results."""


@dataclass(frozen=True, slots=True)
class Beat:
    """Answer to a heartbeat. `alive`: the lease is still ours; `cancel_requested`: the owner wants or has to stop."""

    alive: bool
    cancel_requested: bool


def _seconds(value: float) -> dt.timedelta:
    return dt.timedelta(seconds=value)


# --- claim ----------------------------------------------------------------------------------------------


_RUNNING = (
    "running AS (SELECT owner_id, count(*) AS n FROM generation_generation"
    "   WHERE status = 'processing' GROUP BY owner_id)"
)
_HERE = (
    "here AS (SELECT count(*) AS n, coalesce(bool_or(losses > 0), false) AS suspect FROM generation_generation"
    "   WHERE status = 'processing' AND worker = %(worker)s)"
)
_MAY_RUN = (
    "g.status = 'queued' AND g.not_before <= clock_timestamp() AND g.deadline_at > clock_timestamp()"
    " AND (g.owner_slots IS NULL OR coalesce(running.n, 0) < g.owner_slots)"
    f" AND {is_not_withdrawn('g')}"
)
_IN_LINE = f"{queue_rank('g')}, coalesce(running.n, 0), g.created_at"


def claim(worker: str, *, careful: bool = False) -> Generation | None:
    """Take the next generation in line for `worker`, or None when nothing may run now.

    In line: plan priority with ageing, then the user with the fewest running, then age. One that lost a worker
    before is a suspect: it comes last and only to an empty worker, and nothing joins it, so that it harms nobody
    else's attempts should it kill that worker too. It takes a place of its owner's while it waits.
    `careful`: while any suspect is queued, only an empty worker takes anything. Suspects get their turn by
    `claim_suspect`. A worker must not call these from two threads at once.
    """
    return _take(
        worker,
        f"WITH {_RUNNING}, {_HERE}, waiting AS (SELECT owner_id, count(*) AS n FROM generation_generation"
        "   WHERE status = 'queued' AND losses > 0 AND not_before <= clock_timestamp()"
        "   AND deadline_at > clock_timestamp() GROUP BY owner_id)"
        " SELECT g.id, g.owner_id FROM generation_generation g CROSS JOIN here"
        " LEFT JOIN running ON running.owner_id = g.owner_id LEFT JOIN waiting ON waiting.owner_id = g.owner_id"
        f" WHERE {_MAY_RUN} AND (here.n = 0 OR (NOT here.suspect AND g.losses = 0 AND NOT (%(careful)s AND EXISTS"
        "     (SELECT 1 FROM generation_generation s WHERE s.status = 'queued' AND s.losses > 0))))"
        "   AND (g.losses > 0 OR g.owner_slots IS NULL"
        "     OR coalesce(running.n, 0) + coalesce(waiting.n, 0) < g.owner_slots)"
        f" ORDER BY g.losses > 0, {_IN_LINE} FOR UPDATE OF g SKIP LOCKED LIMIT 1",
        careful=careful,
    )


def keep_suspect(worker: str) -> bool:
    """Whether a suspect waits for this worker: one that was kept for it before, or else the first that is free.

    For KEPT_SECONDS no other busy worker waits for the same one; an idle one may take it. The worker that waits calls
    this about every second.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"WITH {_RUNNING} UPDATE generation_generation SET worker = %(worker)s,"
            "   lease_until = clock_timestamp() + make_interval(secs => %(lease)s)"
            " WHERE id = (SELECT g.id FROM generation_generation g LEFT JOIN running ON running.owner_id = g.owner_id"
            f"   WHERE {_MAY_RUN} AND g.losses > 0"
            "     AND (g.worker IN ('', %(worker)s) OR g.lease_until < clock_timestamp())"
            f"  ORDER BY g.worker = '', {_IN_LINE} FOR UPDATE OF g SKIP LOCKED LIMIT 1)",
            {"worker": worker, "lease": KEPT_SECONDS},
        )
        return cursor.rowcount > 0


def claim_suspect(worker: str, *, beside_others: bool = False) -> Generation | None:
    """Take the next suspect, on an empty worker; `beside_others`: also on one that others are at, if kept for it."""
    return _take(
        worker,
        f"WITH {_RUNNING}, {_HERE} SELECT g.id, g.owner_id FROM generation_generation g CROSS JOIN here"
        " LEFT JOIN running ON running.owner_id = g.owner_id"
        f" WHERE {_MAY_RUN} AND g.losses > 0"
        "   AND (here.n = 0 OR (%(beside)s AND NOT here.suspect AND g.worker = %(worker)s))"
        f" ORDER BY g.worker <> %(worker)s, {_IN_LINE} FOR UPDATE OF g SKIP LOCKED LIMIT 1",
        beside=beside_others,
    )


def _take(worker: str, choose: str, **parameters: Any) -> Generation | None:
    """Claim the row that the query `choose` selects and locks, if it selects one."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(choose, {"worker": worker, **parameters})
        row = cursor.fetchone()
        if row is None:
            return None
        generation_id, owner_id = row
        # Two claims may take two rows of one owner at once and neither sees the other as running. The
        # second one to come past this lock does.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"claims of user {owner_id}"])
        cursor.execute(
            "UPDATE generation_generation g SET status = 'processing', epoch = epoch + 1, attempt = attempt + 1,"
            "   worker = %s, lease_until = clock_timestamp() + make_interval(secs => %s), phase = 'loading', step = 0,"
            "   started_at = clock_timestamp()"
            " WHERE g.id = %s AND (g.owner_slots IS NULL OR g.owner_slots > (SELECT count(*)"
            "   FROM generation_generation r WHERE r.owner_id = g.owner_id AND r.status = 'processing'))"
            " RETURNING g.id",
            [worker, settings.LEASE_SECONDS, generation_id],
        )
        if cursor.fetchone() is None:
            return None
        generation = Generation.objects.get(pk=generation_id)
    store.publish_state(generation)
    return generation


def seconds_left(generation: Generation) -> float:
    """Until its deadline, by the database's clock; negative when that is past."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM deadline_at - clock_timestamp())::float8 FROM generation_generation"
            " WHERE id = %s",
            [generation.pk],
        )
        row = cursor.fetchone()
    return row[0] if row else 0.0


def heartbeat(generation: Generation, *, phase: str, step: int) -> Beat:
    """Report where the worker stands, and keep the lease. Fenced by the epoch of `generation`."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE generation_generation g SET phase = %s, step = %s,"
            " lease_until = clock_timestamp() + make_interval(secs => %s)"
            " WHERE id = %s AND epoch = %s AND status = 'processing'"
            f" RETURNING cancel_requested OR {is_withdrawn('g')}",
            [phase, step, settings.LEASE_SECONDS, generation.pk, generation.epoch],
        )
        row = cursor.fetchone()
    return Beat(alive=row is not None, cancel_requested=bool(row and row[0]))


# --- the end ----------------------------------------------------------------------------------------------


def _end(generation: Generation, status: str, **fields: Any) -> None:
    """Change our own processing row to `status`, or raise LeaseLost. Must run in a transaction."""
    changed = Generation.objects.filter(
        pk=generation.pk,
        epoch=generation.epoch,
        status=Status.PROCESSING,
        # A cancel that came before the finish wins; one that comes later finds a final row.
        **({"cancel_requested": False} if status == Status.COMPLETED else {}),
    ).update(status=status, finished_at=Now(), lease_until=None, **fields)
    if not changed:
        raise LeaseLost(str(generation.pk))


def finish(generation: Generation, stored: list[StoredImage]) -> None:
    """Complete with the `stored` images, whose files exist already.

    One transaction: status, image rows, quota, webhooks. Raises LeaseLost, and then the caller deletes its files.
    """
    with transaction.atomic():
        _end(generation, Status.COMPLETED, image_count=len(stored), step=generation.total_steps, phase="done")
        _insert_images(generation, stored)
        quotas.settle(generation.pk, images=len(stored), reason="completed")
        events.generation_ended(generation.pk, generation.owner_id, Status.COMPLETED)
    announce_end(generation.pk)


def finish_cancelled(generation: Generation, stored: list[StoredImage]) -> None:
    """End as cancelled, keeping images that were finished before the cancel.

    The first FREE_RUNNING_CANCELS of a day charge only those; later ones charge everything that was asked for.
    """
    with transaction.atomic():
        _end(generation, Status.CANCELLED, image_count=len(stored))
        _insert_images(generation, stored)
        _settle_cancel(generation, len(stored))
        events.generation_ended(generation.pk, generation.owner_id, Status.CANCELLED)
    announce_end(generation.pk)


def _settle_cancel(generation: Generation, finished: int) -> None:
    hold = QuotaHold.objects.get(generation_id=generation.pk)
    is_free = quotas.take_free_cancel(generation.owner_id, hold.day)
    charged = finished if is_free else generation.num_images
    if charged:
        quotas.settle(generation.pk, images=charged, reason="cancelled while running")
    else:
        quotas.release(generation.pk, reason="cancelled while running")


def _insert_images(generation: Generation, stored: Iterable[StoredImage]) -> None:
    GeneratedImage.objects.bulk_create(
        GeneratedImage(
            id=image.id,
            generation=generation,
            owner_id=generation.owner_id,
            index=image.index,
            seed=image.seed,
            file=image.file,
            thumbnail=image.thumbnail,
            thumbnail_size=image.thumbnail_size,
            width=image.width,
            height=image.height,
            file_size=image.file_size,
            sha256=image.sha256,
            colour=image.colour,
            generation_time=image.seconds,
            visibility=generation.visibility,
        )
        for image in stored
    )


def fail(generation: Generation, *, code: str, message: str, transient: bool) -> None:
    """End as failed, or queue again with back-off when another attempt may succeed. Never charged."""
    if transient and generation.attempt < settings.MAX_ATTEMPTS:
        with transaction.atomic():
            _back_to_queue(generation, not_before=Now() + _seconds(_backoff(generation.attempt)))
        store.publish_state(Generation(pk=generation.pk, owner_id=generation.owner_id, status=Status.QUEUED))
        return
    with transaction.atomic():
        _end(generation, Status.FAILED, error_code=code, error_message=message)
        quotas.release(generation.pk, reason=code)
        events.generation_ended(generation.pk, generation.owner_id, Status.FAILED)
    announce_end(generation.pk)


def block(generation: Generation) -> None:
    """End as blocked: every picture was held back by the safety check. Not charged, but a strike."""
    with transaction.atomic():
        _end(
            generation,
            Status.BLOCKED,
            error_code="output_blocked",
            error_message="The picture was held back by the safety check. It was not counted.",
        )
        quotas.release(generation.pk, reason="output blocked")
        day = QuotaHold.objects.values_list("day", flat=True).get(generation_id=generation.pk)
        if quotas.strike(generation.owner_id, day) >= settings.STRIKES_PER_DAY:
            User.objects.filter(pk=generation.owner_id, locked_reason="").update(
                locked_reason="Too many pictures were held back today. A moderator will have a look."
            )
        events.generation_ended(generation.pk, generation.owner_id, Status.BLOCKED)
    announce_end(generation.pk)


def hand_back(generation: Generation) -> None:
    """Return a generation to the queue without burning an attempt, as on a deploy."""
    with transaction.atomic():
        _back_to_queue(generation, attempt=F("attempt") - 1, not_before=Now())
    store.publish_state(Generation(pk=generation.pk, owner_id=generation.owner_id, status=Status.QUEUED))
    doorbell.ring()


def _back_to_queue(generation: Generation, **fields: Any) -> None:
    changed = Generation.objects.filter(pk=generation.pk, epoch=generation.epoch, status=Status.PROCESSING).update(
        status=Status.QUEUED, lease_until=None, worker="", phase="", step=0, **fields
    )
    if not changed:
        raise LeaseLost(str(generation.pk))


def _backoff(attempt: int) -> float:
    first, second = settings.RETRY_BACKOFF_SECONDS
    return first if attempt <= 1 else second


def announce_end(generation_id: UUID) -> None:
    """Tell the watchers that a row reached its final state."""
    generation = Generation.objects.filter(pk=generation_id).only("pk", "owner_id", "status").first()
    if generation:
        store.publish_state(generation)
        store.forget_preview(generation_id)


# --- the sweeper --------------------------------------------------------------------------------------------


def sweep() -> dict[str, int]:
    """Repair what lost processes left behind. Safe to run twice at once; returns what it changed."""
    report = {"requeued": 0, "failed": 0, "cancelled": 0, "expired": expire(), "holds_released": _release_stray_holds()}
    for generation in cancel_withdrawn():
        report["cancelled"] += 1
        announce_end(generation.pk)
    while outcome := _sweep_one_lease():
        report[outcome] += 1
    if Generation.objects.filter(status=Status.QUEUED, not_before__lte=Now()).exists():
        doorbell.ring()
    if any(report.values()):
        log.warning("Swept: %s", ", ".join(f"{count} {outcome}" for outcome, count in report.items() if count))
    return report


def take_from(workers: str) -> int:
    """Sweep what workers hold whose names begin with `workers`, for who saw their process end. Returns how many.

    Should it be wrong and the worker live, its writes are fenced as after any lease.
    """
    held = Generation.objects.filter(status=Status.PROCESSING, worker__startswith=workers)
    count = held.update(lease_until=Now())
    while _sweep_one_lease():
        pass
    return count


def _sweep_one_lease() -> str | None:
    """Decide about one generation whose lease ran out; None when there is none left."""
    with transaction.atomic():
        lost = (
            Generation.objects.select_for_update(skip_locked=True)
            .filter(status=Status.PROCESSING, lease_until__lt=Now())
            .order_by("lease_until")
            .first()
        )
        if lost is None:
            return None
        losses = lost.losses + 1
        if lost.cancel_requested:
            _end(lost, Status.CANCELLED)
            _settle_cancel(lost, 0)
            events.generation_ended(lost.pk, lost.owner_id, Status.CANCELLED)
            outcome = "cancelled"
        elif losses >= settings.MAX_ATTEMPTS:
            _end(
                lost,
                Status.FAILED,
                losses=losses,
                error_code="worker_lost",
                error_message=f"The image could not be finished: its worker was lost {_times(settings.MAX_ATTEMPTS)}."
                " It was not counted.",
            )
            quotas.release(lost.pk, reason="worker_lost")
            events.generation_ended(lost.pk, lost.owner_id, Status.FAILED)
            outcome = "failed"
        else:
            # The first loss is most likely a restart, so the next try comes at once.
            wait = 0 if losses == 1 else _backoff(losses)
            _back_to_queue(lost, losses=losses, not_before=Now() + _seconds(wait))
            outcome = "requeued"
    lost.refresh_from_db()
    store.publish_state(lost)
    return outcome


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count) or f"{apnumber(count)} times"


def expire() -> int:
    """End what is past its deadline, running or not."""
    count = 0
    overdue = Generation.objects.active().filter(deadline_at__lt=Now()).values_list("pk", "owner_id")
    for generation_id, owner_id in list(overdue[:1000]):
        with transaction.atomic():
            changed = (
                Generation.objects.active()
                .filter(pk=generation_id, deadline_at__lt=Now())
                .update(
                    status=Status.EXPIRED,
                    finished_at=Now(),
                    lease_until=None,
                    error_code="deadline",
                    error_message="This waited too long and was given up. It was not counted.",
                )
            )
            if changed:
                quotas.release(generation_id, reason="deadline")
                events.generation_ended(generation_id, owner_id, Status.EXPIRED)
        if changed:
            count += 1
            announce_end(generation_id)
    return count


def _release_stray_holds() -> int:
    """Give back holds whose generation is gone. Those of ended generations end with them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT h.generation_id FROM accounts_quotahold h"
            " WHERE h.state = 'held' AND h.created_at < clock_timestamp() - interval '1 minute'"
            "   AND NOT EXISTS (SELECT 1 FROM generation_generation g WHERE g.id = h.generation_id"
            "     AND g.status IN ('queued', 'processing')) LIMIT 1000"
        )
        stray = [row[0] for row in cursor.fetchall()]
    return sum(quotas.release(generation_id, reason="generation gone") for generation_id in stray)
