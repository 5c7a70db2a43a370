"""Webhook delivery: threads that post queued messages to their endpoints, at least once each, with retries.

Runs in the maintenance worker: a bell or the schedule starts as many threads as there is work for, up to
THREADS. Each takes an endpoint that nobody is at (a lease in the database), sends what is due there, oldest
first, and ends when there is nothing left. Any number of processes may do this at once.

A receiver that is slow or down costs the others nothing. It holds one thread at a time. Threads belong to lanes: some
serve only endpoints whose last answer was a success and came at once, most serve those too that have not failed yet,
and few serve the failing ones. Nobody holds more threads than their share, and failing endpoints of one host neither.
"""

import contextlib
import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import connection, connections, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from accounts.refusals import Conflict
from generation import doorbell
from generation.engine.remote.signatures import sign
from generation.models import WebhookDelivery, WebhookEndpoint

from . import egress
from .endpoints import fail_pending_deliveries

log = logging.getLogger(__name__)

RETRY_AFTER = [
    dt.timedelta(seconds=seconds)
    for seconds in (5, 300, 1800, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
]
"""Pauses between the attempts; after the last one a delivery is given up."""
DISABLE_AFTER = dt.timedelta(days=5)
"""An endpoint that fails this long is switched off."""
KEPT = dt.timedelta(days=30)
"""How long ended deliveries are shown."""
TIMEOUT_SECONDS = 10
LEASE_SECONDS = 30
"""More than one attempt takes, looking up the name included."""
QUICK_SECONDS = 1.0
BATCH = 20
"""How many deliveries one endpoint gets before others have their turn."""
QUICK, STEADY, ANY = "quick", "steady", "any"
LANES = {QUICK: 6, STEADY: 30, ANY: 12}
"""Threads of a lane, in each process. They cost little: while a receiver takes its time they hold no connection."""
SHARES = {"quick": 8, "fresh": 5, "failing": 2}
"""An endpoint of this kind has its turn while fewer endpoints of its owner than this are being delivered to."""
HOST_SHARE = 4
"""As many failing endpoints of one host are delivered to at a time, whoever owns them."""
DATABASE_THREADS = 8
"""As many of all threads are at the database at a time."""

State = WebhookDelivery.State

_database_turns = threading.BoundedSemaphore(DATABASE_THREADS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt. `status` None: there was no answer, for the reason that `problem` tells."""

    status: int | None
    problem: str
    seconds: float

    @property
    def succeeded(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


# --- one delivery -----------------------------------------------------------------------------------------


def deliver_due(*, lane: str = ANY, on_claim: Callable[[], object] = lambda: None) -> int:
    """Deliver what is due, until nothing is left that this lane may claim. Returns the number of attempts.

    `on_claim()` is called whenever an endpoint was claimed: there may be work for others too.
    """
    count = 0
    while not _stopping.is_set() and (endpoint_id := _claim_endpoint(lane)) is not None:
        on_claim()
        try:
            for _ in range(BATCH):
                if _stopping.is_set() or not _attempt_next(endpoint_id):
                    break
                count += 1
        finally:
            with _at_database():
                WebhookEndpoint.objects.filter(pk=endpoint_id).update(busy_until=None)
    return count


@contextlib.contextmanager
def _at_database() -> Iterator[None]:
    """Wait for a turn at the database; no connection is kept after it."""
    with _database_turns:
        try:
            yield
        finally:
            if not connection.in_atomic_block:
                connection.close()


_CLAIM = """
WITH candidate AS (
    SELECT id, owner_id, split_part(url, '/', 3) AS host, quick, failing_since IS NOT NULL AS failing
    FROM generation_webhookendpoint WHERE enabled AND (busy_until IS NULL OR busy_until < clock_timestamp())
), busy AS (
    SELECT owner_id, split_part(url, '/', 3) AS host, failing_since IS NOT NULL AS failing
    FROM generation_webhookendpoint WHERE busy_until >= clock_timestamp()
)
UPDATE generation_webhookendpoint SET busy_until = clock_timestamp() + %(lease)s WHERE id = (
    SELECT c.id FROM candidate c WHERE c.id IN (
        SELECT d.endpoint_id FROM generation_webhookdelivery d
        WHERE d.state = 'pending' AND d.next_at <= clock_timestamp()
    )
    AND CASE WHEN c.quick THEN true WHEN c.failing THEN %(lane)s = 'any' ELSE %(lane)s <> 'quick' END
    AND (SELECT count(*) FROM busy b WHERE b.owner_id = c.owner_id)
        < CASE WHEN c.quick THEN %(quick)s WHEN c.failing THEN %(failing)s ELSE %(fresh)s END
    AND (NOT c.failing OR (SELECT count(*) FROM busy b WHERE b.failing AND b.host = c.host) < %(host_share)s)
    ORDER BY c.failing, NOT c.quick, random() LIMIT 1
) RETURNING id
"""


def _claim_endpoint(lane: str) -> UUID | None:
    """The id of an endpoint with something due that nobody is at, now leased to the caller, or None."""
    with _at_database(), transaction.atomic(), connection.cursor() as cursor:
        # One claim after the other, or two would both take the last of a share.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('webhook claims', 0))")
        lease = dt.timedelta(seconds=LEASE_SECONDS)
        cursor.execute(_CLAIM, {"lane": lane, "lease": lease, "host_share": HOST_SHARE} | SHARES)
        row = cursor.fetchone()
    return row and row[0]


def _attempt_next(endpoint_id: UUID) -> bool:
    """Make one attempt at the oldest due delivery of a leased endpoint. False when none is due."""
    with _at_database(), transaction.atomic():
        endpoint = WebhookEndpoint.objects.filter(pk=endpoint_id, enabled=True).first()
        delivery = (
            WebhookDelivery.objects.select_for_update(skip_locked=True)
            .filter(endpoint_id=endpoint_id, state=State.PENDING, next_at__lte=Now())
            .order_by("created_at")
            .first()
        )
        if endpoint is None or delivery is None:
            return False
        lease = Now() + dt.timedelta(seconds=LEASE_SECONDS)
        # Counted before it is made, so that one that ends its process counts too.
        WebhookDelivery.objects.filter(pk=delivery.pk).update(attempts=F("attempts") + 1, next_at=lease)
        WebhookEndpoint.objects.filter(pk=endpoint_id).update(busy_until=lease)
        delivery.attempts += 1
    outcome = attempt(endpoint, delivery)
    with _at_database():
        _record(endpoint, delivery, outcome)
    return True


def attempt(endpoint: WebhookEndpoint, delivery: WebhookDelivery) -> Outcome:
    """Send a delivery once. Never raises: whatever a receiver does is an outcome."""
    began = time.monotonic()
    status, problem = None, ""
    try:
        status = egress.post(endpoint.url, delivery.body.encode(), headers(endpoint, delivery), seconds=TIMEOUT_SECONDS)
        if not 200 <= status < 300:
            problem = "Redirects are not followed." if 300 <= status < 400 else f"The answer was {status}."
    except (egress.AddressRefused, egress.CallFailed) as error:
        problem = str(error)
    except Exception:
        log.exception("A webhook could not be sent.")
        problem = "The message could not be sent."
    return Outcome(status, problem, time.monotonic() - began)


def headers(endpoint: WebhookEndpoint, delivery: WebhookDelivery) -> dict[str, str]:
    """The headers of an attempt made now: the same id each time, a new timestamp, one signature per valid secret."""
    now, body = int(time.time()), delivery.body.encode()
    secrets = [endpoint.secret]
    if endpoint.previous_until and endpoint.previous_until.timestamp() > now:
        secrets.append(endpoint.previous_secret)
    return {
        "Content-Type": "application/json",
        "User-Agent": "DreamSketch-Webhooks/1",
        "webhook-id": delivery.message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": " ".join(sign(secret, delivery.message_id, now, body) for secret in secrets),
    }


def _record(endpoint: WebhookEndpoint, delivery: WebhookDelivery, outcome: Outcome) -> None:
    """Write down what came of an attempt, unless a later one has begun meanwhile."""
    fields: dict = {"answer_status": outcome.status, "problem": outcome.problem[:100]}
    if outcome.succeeded:
        fields |= {"state": State.DELIVERED, "ended_at": Now()}
    elif outcome.status == 410 or delivery.attempts > len(RETRY_AFTER):
        fields |= {"state": State.FAILED, "ended_at": Now()}
    else:
        fields["next_at"] = Now() + RETRY_AFTER[delivery.attempts - 1]
    with transaction.atomic():
        WebhookDelivery.objects.filter(pk=delivery.pk, state=State.PENDING, attempts=delivery.attempts).update(**fields)
        # Only while it is the address that was called: its owner may have mended it since.
        unchanged = WebhookEndpoint.objects.filter(pk=endpoint.pk, url=endpoint.url, enabled=True)
        if outcome.succeeded:
            unchanged.update(failing_since=None, quick=outcome.seconds < QUICK_SECONDS)
            return
        unchanged.filter(failing_since=None).update(failing_since=Now())
        unchanged.update(quick=False)
        if outcome.status == 410:
            _switch_off(unchanged, endpoint, "The receiver answered 410 Gone.")
        else:
            _switch_off(
                unchanged.filter(failing_since__lt=Now() - DISABLE_AFTER),
                endpoint,
                "Nothing could be delivered for five days.",
            )


def _switch_off(rows: QuerySet, endpoint: WebhookEndpoint, reason: str) -> None:
    if rows.update(enabled=False, disabled_reason=reason):
        fail_pending_deliveries(endpoint)
        log.warning("Webhook %s is switched off: %s", endpoint.pk, reason)


# --- records of deliveries --------------------------------------------------------------------------------


def resend(delivery: WebhookDelivery) -> None:
    """Send a delivery that has ended once more, with the same id. Raises Conflict while it is on its way."""
    if not delivery.endpoint.enabled:
        raise Conflict("Switch the webhook on first.")
    changed = (
        WebhookDelivery.objects.filter(pk=delivery.pk)
        .exclude(state=State.PENDING)
        .update(state=State.PENDING, attempts=0, next_at=Now(), ended_at=None, answer_status=None, problem="")
    )
    if not changed:
        raise Conflict("This delivery is still on its way.")
    transaction.on_commit(doorbell.ring_webhooks)
    delivery.refresh_from_db()


def prune_deliveries(*, dry_run: bool = False) -> int:
    """Remove the records of deliveries that ended long ago; returns how many."""
    old = WebhookDelivery.objects.exclude(state=State.PENDING).filter(created_at__lt=Now() - KEPT)
    return old.count() if dry_run else old.delete()[0]


# --- threads ----------------------------------------------------------------------------------------------


_lock = threading.Lock()
_threads: dict[tuple[str, int], threading.Thread] = {}
"""Those at work, by lane and number."""
_stopping = threading.Event()


def bell() -> None:
    """There may be deliveries: start threads for them, and return at once. Those that find nothing end."""
    for lane in LANES:
        _start(lane)


def _start(lane: str) -> None:
    """Start one more thread of a lane, if it has one free."""
    with _lock:
        free = next(((lane, number) for number in range(LANES[lane]) if (lane, number) not in _threads), None)
        if free is None or _stopping.is_set():
            return
        # A daemon: should its process be killed, the attempt is made again after its lease.
        name = f"webhook-delivery-{lane}-{free[1]}"
        _threads[free] = threading.Thread(target=_work, args=free, name=name, daemon=True)
        _threads[free].start()


def _work(lane: str, number: int) -> None:
    try:
        deliver_due(lane=lane, on_claim=bell)
    except DatabaseError as error:
        log.warning("Webhooks wait for the database: %s", error)
    finally:
        connections.close_all()
        with _lock:
            del _threads[lane, number]


def stop() -> None:
    """Begin nothing more, and let the attempts in flight end. Called when the process shuts down."""
    _stopping.set()
    with _lock:
        threads = list(_threads.values())
    deadline = time.monotonic() + TIMEOUT_SECONDS + 1
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
