"""Redis store of live progress: reports, previews and events. Losing it loses no job.

Keys, all of them short-lived: `live:<id>` the latest report, `preview:<id>` the latest preview (WebP),
`events:<id>` numbered events for replay, `watched:<owner>` while somebody of that account watches.
One channel, `CHANNEL`, carries every event; each web process subscribes once and fans out.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from generation.models import Generation

log = logging.getLogger(__name__)

CHANNEL = "dreamsketch:live"
LIVE_SECONDS = 3600
PREVIEW_SECONDS = 120
EVENTS_SECONDS = 900
EVENTS_KEPT = 256
WATCHED_SECONDS = 20

QUICK: dict[str, Any] = {"socket_timeout": 0.2, "socket_connect_timeout": 0.2, "retry": Retry(NoBackoff(), 0)}
"""Options of a client that gives up at once: nothing that is kept in Redis is worth a visitor's time."""

_client = redis.Redis.from_url(settings.REDIS_URL, health_check_interval=30, max_connections=32, **QUICK)
_silent_until = 0.0
_trouble = "away"
SILENCE_SECONDS = 3.0
"""After an error Redis is left alone this long, so that its absence slows nobody."""


def with_redis(action: Callable[[redis.Redis], Any], default: Any = None) -> Any:
    """`action(client)`, or `default` while Redis is away."""
    return unless_silent(lambda: action(_client), default)


def unless_silent(action: Callable[[], Any], default: Any = None) -> Any:
    """`action()`, which may talk to Redis, or `default` while Redis is away. All of a process wait for it once."""
    global _silent_until, _trouble
    if time.monotonic() < _silent_until:
        return default
    try:
        return action()
    except redis.RedisError as error:
        _silent_until = time.monotonic() + SILENCE_SECONDS
        _trouble = "full" if isinstance(error, redis.ResponseError) else "away"  # or refuses for another reason
        log.warning("Redis is left alone for a moment: %s", error)
        return default


def publish_progress(
    generation_id: UUID,
    owner_id: int,
    *,
    phase: str,
    step: int,
    steps: int,
    eta_seconds: float | None = None,
    preview: bytes | None = None,
) -> None:
    """Report where a running generation stands: `step` of `steps` denoising steps, and its newest preview (WebP)."""
    report = {"phase": phase, "step": step, "steps": steps, "eta_seconds": eta_seconds}

    def send(client):
        pipe = client.pipeline(transaction=False)
        if preview:
            pipe.set(f"preview:{generation_id}", preview, ex=PREVIEW_SECONDS)
            # The step names the preview, so that an <img> changes its address when the picture changes.
            pipe.set(f"preview-step:{generation_id}", step, ex=PREVIEW_SECONDS)
        pipe.get(f"preview-step:{generation_id}")
        preview_step = pipe.execute()[-1]
        report["preview_step"] = int(preview_step) if preview_step is not None else None
        client.set(f"live:{generation_id}", json.dumps(report), ex=LIVE_SECONDS)
        _send(client, generation_id, owner_id, "progress", report)

    with_redis(send)


def publish_state(generation: Generation) -> None:
    """Report that the row changed: queued, claimed, cancelling, handed back, or at an end."""
    with_redis(lambda client: _send(client, generation.pk, generation.owner_id, "state", {"status": generation.status}))


def _send(client: redis.Redis, generation_id: UUID, owner_id: int, event: str, data: dict) -> None:
    number = client.incr(f"event-number:{generation_id}")
    message = json.dumps({"id": str(generation_id), "owner": owner_id, "number": number, "event": event, "data": data})
    pipe = client.pipeline(transaction=False)
    pipe.expire(f"event-number:{generation_id}", EVENTS_SECONDS)
    pipe.rpush(f"events:{generation_id}", message)
    pipe.ltrim(f"events:{generation_id}", -EVENTS_KEPT, -1)
    pipe.expire(f"events:{generation_id}", EVENTS_SECONDS)
    pipe.publish(CHANNEL, message)
    pipe.execute()


def latest_reports(generation_ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
    """The latest progress reports, by generation id. Those without one are absent."""
    ids = list(generation_ids)
    reports = with_redis(lambda client: client.mget([f"live:{pk}" for pk in ids]), []) if ids else []
    return {pk: json.loads(report) for pk, report in zip(ids, reports, strict=False) if report}


def preview(generation_id: UUID) -> bytes | None:
    """The latest preview of a running generation: a small WebP."""
    return with_redis(lambda client: client.get(f"preview:{generation_id}"))


def forget_preview(generation_id: UUID) -> None:
    """Delete the preview of a generation that has ended."""
    with_redis(lambda client: client.delete(f"preview:{generation_id}", f"preview-step:{generation_id}"))


def watch(*owner_ids: int) -> None:
    """Note that somebody watches these accounts' generations; previews are made only then."""

    def send(client):
        pipe = client.pipeline(transaction=False)
        for owner_id in owner_ids:
            pipe.set(f"watched:{owner_id}", 1, ex=WATCHED_SECONDS)
        pipe.execute()

    with_redis(send)


def is_watched(owner_id: int) -> bool:
    """Whether somebody watched this account's generations in the last WATCHED_SECONDS."""
    return bool(with_redis(lambda client: client.exists(f"watched:{owner_id}"), 0))


def events_after(generation_id: UUID, number: int) -> list[dict]:
    """The kept events of a generation with a number above `number`, oldest first."""
    messages = with_redis(lambda client: client.lrange(f"events:{generation_id}", 0, -1), [])
    return [event for event in map(json.loads, messages) if event["number"] > number]


def state() -> str:
    """How Redis is: `ok`, `full` (it takes nothing more) or `away`."""
    return "ok" if with_redis(lambda client: client.set("probe", 1, ex=1), False) else _trouble
