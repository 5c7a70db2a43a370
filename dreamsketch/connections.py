"""The HTTP protocol of the web process: uvicorn's, with bounds on connections that hold no whole request.

    uvicorn dreamsketch.asgi:application --http dreamsketch.connections:Protocol --ws none

A connection that waits for its caller costs a descriptor and nothing else, so a caller could take them all. Headers
must come within HEADER_SECONDS; of the connections without a whole request an address keeps PER_ADDRESS, and all
together a SHARE of the descriptors. Who comes later goes before: the oldest one of the address with the most is closed.
The same holds for those whose callers do not read their answers. What httptools keeps of a head has a bound here, and
so have requests that are sent before the answers to earlier ones.
"""

import asyncio

from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .addresses import network_of
from .web_process import prepare

HEADER_SECONDS = 10
REST_SECONDS = 10
"""Within which the rest of a body must come that was answered before it was whole."""
PER_ADDRESS, UNREAD_PER_ADDRESS, GRACE_SECONDS = 100, 30, 2
"""Older connections of an address are closed where there are more; a burst of honest ones has time to send."""
UNREAD_SECONDS = 30
"""Within which a caller must read on: what it has not read is kept in memory."""
HEAD_BYTES = 64 * 1024
"""Of a request's first line and headers, and of what follows a body in pieces."""
PIPELINED = 8
"""Requests of one connection that may wait for the answer to an earlier one."""
SHARE = 0.5
"""Of the descriptors, for each kind of held connections; the others are for requests at work and their files."""


class Held:
    """Connections that are held by their callers, by address, the oldest first."""

    def __init__(self, per_address: int, most: int):
        self.per_address, self.most = per_address, most
        self.count = 0
        self._by_address: dict[str, dict[Protocol, None]] = {}

    def add(self, connection: "Protocol") -> None:
        """Count one more, and close an older one where that makes too many."""
        self.discard(connection)
        of_address = self._by_address.setdefault(connection.address, {})
        of_address[connection] = None
        self.count += 1
        # Behind a proxy all have its address; it keeps half a request to itself.
        if not settings.ALLAUTH_TRUSTED_PROXY_COUNT:
            self._trim(of_address, connection.since - GRACE_SECONDS)
        if self.count > self.most:
            self._close_oldest(max(self._by_address.values(), key=len))

    def _trim(self, of_address: dict["Protocol", None], old: float) -> None:
        while len(of_address) > self.per_address and next(iter(of_address)).since < old:
            self._close_oldest(of_address)

    def discard(self, connection: "Protocol") -> None:
        of_address = self._by_address.get(connection.address, {})
        if connection in of_address:
            del of_address[connection]
            self.count -= 1
            if not of_address:
                del self._by_address[connection.address]

    def _close_oldest(self, of_address: dict["Protocol", None]) -> None:
        oldest = next(iter(of_address))
        self.discard(oldest)
        oldest.transport.abort()


class TooManyAtOnce(Exception):
    """More requests than PIPELINED wait on one connection."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    address = ""
    since = 0.0
    """When this connection began to wait for a request, by the loop's clock."""
    _timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None
    _unread_bytes = 0
    _head_bytes = 0
    _whole = True
    _at_work: RequestResponseCycle | None = None

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self.address = network_of(self.client[0]) if self.client else ""
        self._await_request()

    def connection_lost(self, exc) -> None:
        self._stop_timer()
        self._stop_unread_timer()
        unfinished.discard(self)
        unread.discard(self)
        if self._at_work is not None and not self._at_work.response_complete:
            # uvicorn tells only the request that came last.
            self._at_work.disconnected = True
            self._at_work.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        idle = self.cycle is None or self.cycle.response_complete
        if self.transport.is_closing():
            return
        if self._head_bytes > HEAD_BYTES:
            self.transport.abort() if not idle else self.send_400_response("The head of this request is too large.")
        elif idle and self._timer is None and self.timeout_keep_alive_task is None:
            self._start_timer(HEADER_SECONDS)  # bytes between two requests, such as empty lines

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= PIPELINED:
            raise TooManyAtOnce  # which is answered like what is no HTTP
        super().on_message_begin()
        if self._whole:
            self._await_request()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app) -> None:
        self._at_work = cycle
        super()._start_asgi_task(cycle, app)

    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        self._stop_timer()  # the body's time is bounded by dreamsketch.limits
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._whole, self._head_bytes = True, 0
        self._stop_timer()
        unfinished.discard(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if not self._whole:
            self._start_timer(REST_SECONDS)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.since = self.loop.time()
        unread.add(self)
        self._watch_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_unread_timer()
        unread.discard(self)

    def _watch_reading(self) -> None:
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self._look_at_reading)

    def _look_at_reading(self) -> None:
        """A slow line takes long for a large answer; whoever has read some of it meanwhile goes on."""
        if self.transport.get_write_buffer_size() < self._unread_bytes:
            self._watch_reading()
        else:
            self.transport.abort()

    def _await_request(self) -> None:
        self._whole, self.since = False, self.loop.time()
        self._start_timer(HEADER_SECONDS)
        unfinished.add(self)

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None


_share = int(prepare() * SHARE)
unfinished, unread = Held(PER_ADDRESS, _share), Held(UNREAD_PER_ADDRESS, _share)
