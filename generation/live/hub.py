"""Fan-out of live events to open streams: one Redis pub/sub subscription per web process, shared by all.

    async with hub.subscribe(user.pk) as events:
        async for event in events:      # a dict as `store` publishes it, {"event": "resync"}, or None
            ...

A stream may miss nothing that matters: whenever events may have been lost (Redis was away, or the reader
was too slow) it is told to `resync`, which means "read the rows again". While Redis is away that comes
every two seconds, so that streams go on as slow polling. `None` comes every 15 s, for heartbeats.

The events end when the caller is turned away meanwhile: signed out, suspended, or with a revoked key.
"""

import asyncio
import contextlib
import itertools
import json
import logging
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakKeyDictionary

import redis.asyncio
from asgiref.sync import SyncToAsync
from django.conf import settings
from django.db import DatabaseError, InterfaceError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from accounts.standing import Caller, withdrawn

from . import store
from .sse import read_rows

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
AWAY_SECONDS = 2.0
"""Between attempts to reach Redis, and so between resyncs while it is away."""
PING_SECONDS = 10.0
"""A subscription that is silent this long is asked whether it is still there."""
JOIN_SECONDS = 1.0
"""How long a new stream waits for the subscription before it goes on without."""
WATCH_SECONDS = 8.0
STANDING_SECONDS = 2.0
"""Between two looks at whether those who watch still may."""
PENDING_LIMIT = 500
RESYNC = {"event": "resync"}


class _Mailbox:
    """The events that one stream has yet to read, oldest first.

    Of the progress of one generation only the newest report waits. Other events are all kept; if a stream
    falls so far behind that `PENDING_LIMIT` of them wait, a resync takes the place of them all.
    """

    def __init__(self, caller: Caller | None):
        self.caller = caller
        self._pending: dict = {}
        self._arrived = asyncio.Event()
        self._closed = False

    def close(self) -> None:
        """End `events`; what waits is not read any more."""
        self._closed = True
        self._arrived.set()

    def put(self, event: dict) -> None:
        key = event["event"]
        if key == "progress":
            key = (event["id"], "progress")
        elif key != "resync":
            key = (event["id"], event["number"])
        self._pending.pop(key, None)  # a newer report goes to the end, so that numbers rise
        self._pending[key] = event
        if len(self._pending) > PENDING_LIMIT:
            self._pending = {"resync": RESYNC}
        self._arrived.set()

    async def events(self) -> AsyncIterator[dict | None]:
        clock = asyncio.get_running_loop().time
        beat = clock() + HEARTBEAT_SECONDS
        while not self._closed:
            while self._pending and not self._closed:
                yield self._pending.pop(next(iter(self._pending)))
                if clock() >= beat:
                    break
            else:
                if self._closed:
                    return
                self._arrived.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._arrived.wait(), max(0, beat - clock()))
            if clock() >= beat:
                beat = clock() + HEARTBEAT_SECONDS
                yield None


class Hub:
    """The subscription of one event loop and the mailboxes of its streams. Connected only while somebody watches."""

    def __init__(self):
        self._mailboxes: dict[int, set[_Mailbox]] = {}
        self._streams = 0
        self._tasks: list[asyncio.Task] = []
        self._connected = asyncio.Event()

    @contextlib.asynccontextmanager
    async def subscribe(self, owner_id: int, caller: Caller | None = None) -> AsyncIterator[AsyncIterator[dict | None]]:
        """Yields an iterator over the events of one account's generations, from now on and without an end, unless
        `caller` is turned away.

        Also keeps the account marked as watched, so that previews are made. Takes no database connection.
        """
        mailbox = _Mailbox(caller)
        self._streams += 1
        if not self._tasks:
            chores = (self._listen(), self._keep_watched(), self._check_callers())
            self._tasks = [asyncio.create_task(chore) for chore in chores]
        try:
            with contextlib.suppress(TimeoutError):
                # From here on nothing is missed by a snapshot that the caller reads next.
                await asyncio.wait_for(self._connected.wait(), JOIN_SECONDS)
            self._mailboxes.setdefault(owner_id, set()).add(mailbox)
            await asyncio.to_thread(store.watch, owner_id)
            yield mailbox.events()
        finally:
            mailboxes = self._mailboxes.get(owner_id, set())
            mailboxes.discard(mailbox)
            if not mailboxes:
                self._mailboxes.pop(owner_id, None)
            self._streams -= 1
            if not self._streams:
                tasks, self._tasks = self._tasks, []
                self._connected.clear()
                for task in tasks:
                    task.cancel()

    async def _listen(self) -> None:
        while True:
            try:
                await self._dispatch_events()
            except (RedisError, OSError) as error:
                if self._connected.is_set():
                    log.warning("Live events are off until Redis answers: %s", error)
                self._connected.clear()
            self._resync()
            await asyncio.sleep(AWAY_SECONDS)

    async def _dispatch_events(self) -> None:
        """Put events into mailboxes until the connection breaks, which raises."""
        # No retries inside the client: it would reconnect in silence, and what was said meanwhile is lost.
        client = redis.asyncio.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=5,
            socket_connect_timeout=2,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
        )
        async with client, client.pubsub() as subscription:
            await subscription.subscribe(store.CHANNEL)
            pinged = False
            while True:
                message = await subscription.get_message(timeout=PING_SECONDS)
                if message is None and pinged:
                    raise redis.exceptions.TimeoutError("no answer to PING")
                if message is None:
                    pinged = True
                    await subscription.ping()
                    continue
                pinged = False
                if message["type"] == "subscribe":
                    self._resync()  # those that came while Redis was away
                    self._connected.set()
                elif message["type"] == "message":
                    self._dispatch(message["data"])

    def _dispatch(self, data: Any) -> None:
        try:
            event = json.loads(data)
            for mailbox in self._mailboxes.get(event["owner"], ()):
                mailbox.put(event)
        except (ValueError, TypeError, LookupError):
            # A worker of another version, perhaps. One strange message must not silence all the others.
            log.exception("A live event could not be understood.")

    def _resync(self) -> None:
        for mailbox in itertools.chain.from_iterable(self._mailboxes.values()):
            mailbox.put(RESYNC)

    async def _keep_watched(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            owners = list(self._mailboxes)
            if owners:
                await asyncio.to_thread(store.watch, *owners)

    async def _check_callers(self) -> None:
        while True:
            await asyncio.sleep(STANDING_SECONDS)
            mailboxes = list(itertools.chain.from_iterable(self._mailboxes.values()))
            callers = {mailbox.caller for mailbox in mailboxes if mailbox.caller}
            if not callers:
                continue
            try:
                gone = await read_rows(withdrawn, callers)
            except (DatabaseError, InterfaceError) as error:
                log.warning("Whether those who watch still may is unknown for a moment: %s", error)
                continue
            for mailbox in mailboxes:
                if mailbox.caller in gone:
                    mailbox.close()


class _LoopHub:
    """The Hub of the running event loop. Connections cannot be shared between loops; a web process has one."""

    def __init__(self):
        self._hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()

    def subscribe(
        self, owner_id: int, caller: Caller | None = None
    ) -> contextlib.AbstractAsyncContextManager[AsyncIterator[dict | None]]:
        """See `Hub.subscribe`."""
        loop = asyncio.get_running_loop()
        if loop not in self._hubs:
            self._hubs[loop] = Hub()
        return self._hubs[loop].subscribe(owner_id, caller)


hub = _LoopHub()


def let_go_of_thread() -> None:
    """End the thread that this request's synchronous part ran in; another is started should one be needed again.

    Django keeps it until the response has been sent, which for a stream is minutes: a stack for each watcher, and
    whatever the thread holds, such as its cache's connection to Redis. To be called from within the stream.
    """
    request = SyncToAsync.thread_sensitive_context.get(None)
    if executor := SyncToAsync.context_to_thread_executor.pop(request, None) if request else None:
        executor.shutdown(wait=False)
