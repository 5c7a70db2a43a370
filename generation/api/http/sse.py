"""Server-sent events of one generation.

    event: status      the whole status, as /api/status/{id}; first, after every change of state, and last
    id: 12
    event: progress    {"phase", "step", "steps", "eta_seconds", "preview_step"}
    id: 13
    event: state       {"status"}

Numbered events are kept for some minutes; `Last-Event-ID` replays those that a reader missed. The stream
ends after the status of an ended generation. While open it holds no database connection.
"""

import asyncio
import contextlib
import json
import threading
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from django.db import InterfaceError, OperationalError, connection
from django.http import StreamingHttpResponse

from accounts.refusals import Refusal
from generation.api.native.serializers import described
from generation.live import store
from generation.live.hub import hub, let_go_of_thread
from generation.models import Generation
from generation.queue.order import with_places

STREAMS_PER_USER = 8
RETRY_MILLISECONDS = 2000
HEARTBEAT = ": still here\n\n"

# Rows are read here and not in the thread that Django keeps for each open request: that one would keep its
# connection for as long as the stream lives.
_readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="stream-rows")


class TooManyStreams(Refusal):
    """This account watches as many streams as one account may, in this web process."""

    code = "too_many_streams"


class StreamPlace:
    """One of the places for open streams that an account has. Given back once, however the stream ends."""

    _taken: Counter[int] = Counter()
    _lock = threading.RLock()  # the garbage collector may give a place back while one is being taken

    def __init__(self, owner_id: int):
        with self._lock:
            if self._taken[owner_id] >= STREAMS_PER_USER:
                raise TooManyStreams(
                    f"At most {STREAMS_PER_USER} event streams at a time. Close one first.", retry_after=10
                )
            self._taken[owner_id] += 1
        self.leave = weakref.finalize(self, self._leave, owner_id)

    @classmethod
    def _leave(cls, owner_id):
        with cls._lock:
            cls._taken[owner_id] -= 1
            if cls._taken[owner_id] <= 0:
                del cls._taken[owner_id]


def event_stream(generation: Generation, *, root: str, last_event_id: str | None) -> StreamingHttpResponse:
    """The stream of a generation that the caller may see. `root` is the site's address. Raises TooManyStreams."""
    place = StreamPlace(generation.owner_id)
    after = int(last_event_id) if last_event_id and last_event_id.isdecimal() and len(last_event_id) < 16 else None
    response = StreamingHttpResponse(
        _events(generation.pk, generation.owner_id, root, after, place), content_type="text/event-stream; charset=utf-8"
    )
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


async def _events(generation_id, owner_id, root, after, place):
    let_go_of_thread()
    try:
        async with hub.subscribe(owner_id) as live:
            status = await _read_status(generation_id, root)
            if status is None:
                return
            yield f"retry: {RETRY_MILLISECONDS}\n" + _message("status", status)
            sent = 0
            if after is not None:
                for event in await asyncio.to_thread(store.events_after, generation_id, after):
                    sent = event["number"]
                    yield _numbered(event)
                if _is_final(status):
                    yield _message("status", status)
            if _is_final(status):
                return
            async for event in live:
                if event and event["event"] == "progress":
                    if event["id"] == str(generation_id) and event["number"] > sent:
                        yield _numbered(event)
                    continue
                if event and event["event"] == "state":
                    if event["id"] != str(generation_id):
                        continue
                    if event["number"] > sent:
                        yield _numbered(event)
                elif event:
                    sent = 0  # a resync: Redis may have come back empty and count from one again
                # A change of state, a resync or a heartbeat, which also brings news of the place in line.
                before = status
                # While the database is away the old status stands; the next heartbeat looks again.
                with contextlib.suppress(OperationalError, InterfaceError):
                    status = await _read_status(generation_id, root)
                if status is None:
                    return
                yield HEARTBEAT if status == before else _message("status", status)
                if _is_final(status):
                    return
    finally:
        place.leave()


async def _read_status(generation_id, root) -> dict | None:
    """What the row says now; None when it is gone."""
    return await read_rows(_status_now, generation_id, root)


def _status_now(generation_id, root) -> dict | None:
    generation = with_places(Generation.objects.filter(pk=generation_id)).first()
    return generation and described(generation, root)


async def read_rows(function, *arguments):
    """What `function` returns, which reads the database; no connection is kept after it."""

    def read():
        try:
            return function(*arguments)
        finally:
            let_go_of_database()

    return await asyncio.get_running_loop().run_in_executor(_readers, read)


def let_go_of_database() -> None:
    """Close this thread's database connection, unless a transaction of the caller's is open on it."""
    if not connection.in_atomic_block:
        connection.close()


def _is_final(status: dict) -> bool:
    return status["status"] in Generation.FINAL


def _numbered(event: dict) -> str:
    return f"id: {event['number']}\n" + _message(event["event"], event["data"])


def _message(name: str, data) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
