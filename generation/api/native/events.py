"""Server-sent events of one generation, for `GET /api/generate/{id}/events`.

    event: status      the whole status, as /api/status/{id}; first, after every change of state, and last
    id: 12
    event: progress    {"phase", "step", "steps", "eta_seconds", "preview_step"}
    id: 13
    event: state       {"status"}

Numbered events are kept for some minutes; `Last-Event-ID` replays those that a reader missed. The stream
ends after the status of an ended generation, and when the caller is turned away (a revoked key, a suspended account).
While open it holds no database connection.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from uuid import UUID

from django.db import InterfaceError, OperationalError
from django.http import StreamingHttpResponse

from accounts.standing import Caller
from generation.api.http.throttling import StreamSlot
from generation.live import store
from generation.live.hub import hub, let_go_of_thread
from generation.live.sse import HEARTBEAT, RETRY_MILLISECONDS, encode_event, read_rows, stream_response
from generation.models import Generation
from generation.queue.order import with_places

from .serializers.generations import serialize_generation


def event_stream(
    generation: Generation, *, caller: Caller, root: str, last_event_id: str | None
) -> StreamingHttpResponse:
    """The stream of a generation that the caller may see. `root` is the site's address. Raises TooManyStreams."""
    slot = StreamSlot(generation.owner_id)
    is_number = last_event_id and last_event_id.isdecimal() and len(last_event_id) < 16
    return stream_response(_until_ended(generation, caller, root, int(last_event_id) if is_number else None, slot))


async def _until_ended(
    generation: Generation, caller: Caller, root: str, last_number: int | None, slot: StreamSlot
) -> AsyncGenerator[str]:
    let_go_of_thread()
    try:
        # Closed with this one, so that a reader who leaves also leaves the hub.
        async with contextlib.aclosing(_events(generation.pk, caller, root, last_number)) as events:
            async for event in events:
                yield event
    finally:
        slot.release()


async def _events(generation_id: UUID, caller: Caller, root: str, last_number: int | None) -> AsyncGenerator[str]:
    async with hub.subscribe(caller.user_id, caller) as live:
        status = await _read_status(generation_id, root)
        if status is None:
            return
        yield encode_event(status, name="status", retry=RETRY_MILLISECONDS)
        sent = 0
        if last_number is not None:
            for event in await asyncio.to_thread(store.events_after, generation_id, last_number):
                sent = event["number"]
                yield _encode_numbered(event)
            if _is_final(status):
                yield encode_event(status, name="status")
        if _is_final(status):
            return
        async for event in live:
            if event and event["event"] in ("progress", "state"):
                if event["id"] != str(generation_id):
                    continue
                if event["number"] > sent:
                    yield _encode_numbered(event)
                if event["event"] == "progress":
                    continue
            elif event:
                sent = 0  # a resync: Redis may have come back empty and count from one again
            # A change of state, a resync or a heartbeat, which also brings news of the place in line.
            before = status
            # While the database is away the old status stands; the next heartbeat looks again.
            with contextlib.suppress(OperationalError, InterfaceError):
                status = await _read_status(generation_id, root)
            if status is None:
                return
            yield HEARTBEAT if status == before else encode_event(status, name="status")
            if _is_final(status):
                return


async def _read_status(generation_id: UUID, root: str) -> dict | None:
    """What the row says now; None when it is gone."""
    return await read_rows(_status_now, generation_id, root)


def _status_now(generation_id: UUID, root: str) -> dict | None:
    generation = with_places(Generation.objects.filter(pk=generation_id)).first()
    return serialize_generation(generation, root) if generation else None


def _is_final(status: dict) -> bool:
    return status["status"] in Generation.FINAL


def _encode_numbered(event: dict) -> str:
    return encode_event(event["data"], name=event["event"], number=event["number"])
