"""Fair turns for web requests: few are worked on at once, fewer of one caller, and the others wait in line.

Each request that is worked on takes a thread and mostly a database connection, so their number is bounded below what
PostgreSQL grants. Nobody's requests wait for those of another caller who sends many: the address with the fewest at
work comes next, and of its callers the one with the fewest. A request has its turn from when its body is there until
its answer begins; streams and calls that wait for pictures give it back before (`generation.turn`).
"""

import asyncio
import contextlib
import random
import re
import time
from collections import Counter, deque
from dataclasses import dataclass

from generation import turn
from generation.api.http.errors import Problem

from .asgi_scope import address_of, headers_of, refuse, shown_credential

TURNS, TURNS_PER_CALLER, TURNS_PER_ADDRESS = 12, 3, 5
"""Threads of one process share one interpreter, so more of them at once would answer no more requests. An address is
counted too, for those who show another credential each time."""
WAITING, WAITING_PER_CALLER, WAITING_PER_ADDRESS = 1000, 250, 400
WAIT_SECONDS = 15
PAUSE_SECONDS, MOST_PAUSED = (2, 5), 1000
"""At least and at most, before a refusal, so that who asks again at once costs little; of so many at a time."""
STREAMS_PER_CALLER, STREAMS_PER_ADDRESS = 64, 1000
"""Event streams that are open; they have no turn, but each holds a descriptor and is sent all news."""
STREAM_PATHS = re.compile(r"/(events|api/generate/[^/]+/events)/?")
"""Where nothing but streams is asked for, so that one too many is refused before anything is looked up."""
TOO_MANY = Problem(
    429, "too_many_calls", "Too many requests at once. Please wait for the answers first.", headers={"Retry-After": "2"}
)
TOO_MANY_STREAMS = Problem(
    429, "too_many_streams", "Too many event streams are open. Close one first.", headers={"Retry-After": "10"}
)
CROWDED = Problem(503, "unavailable", "The site is very busy. Please try again shortly.", headers={"Retry-After": "5"})


class Refused(Exception):
    def __init__(self, problem: Problem):
        super().__init__(problem.message)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is counted as one: those of one address who show the same credential, or none."""

    address: str
    credential: str

    @classmethod
    def of(cls, scope) -> "Caller":
        headers = headers_of(scope)
        return cls(address_of(scope, headers), shown_credential(headers))


class Turn:
    """One turn, given back once. May be given back from any thread."""

    def __init__(self, turns: "Turns", caller: Caller):
        self._turns, self._caller, self._loop = turns, caller, asyncio.get_running_loop()
        self.over = asyncio.Event()

    def give_back(self) -> None:
        if asyncio._get_running_loop() is self._loop:
            self._give_back()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._give_back)

    def _give_back(self) -> None:
        if not self.over.is_set():
            self.over.set()
            self._turns.leave(self._caller)


class Turns:
    """Who is at work in this process, and who waits. Used from its event loop only."""

    def __init__(self) -> None:
        self._at_work: Counter[Caller] = Counter()
        self._by_address: Counter[str] = Counter()
        self._line: dict[Caller, deque[tuple[float, asyncio.Future]]] = {}
        self._waiting: Counter[str] = Counter()
        self._paused = 0

    def take_at_once(self, caller: Caller) -> Turn | None:
        if caller in self._line or not self._may_begin(caller):
            return None
        self._begin(caller)
        return Turn(self, caller)

    async def take(self, caller: Caller) -> Turn:
        """Wait for a turn. Raises Refused where too many wait already, or for too long."""
        if turn := self.take_at_once(caller):
            return turn
        await self.refuse_too_many(caller)
        if self._waiting.total() >= WAITING:
            raise Refused(CROWDED)
        place: tuple[float, asyncio.Future] = time.monotonic(), asyncio.get_running_loop().create_future()
        self._line.setdefault(caller, deque()).append(place)
        self._waiting[caller.address] += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await place[1]
        except BaseException as error:
            if place[1].done() and not place[1].cancelled():
                self.leave(caller)  # it came at the same moment
            else:
                self._forget(caller, place)
            if isinstance(error, TimeoutError):
                raise Refused(TOO_MANY if self._at_work[caller] else CROWDED) from None
            raise
        return Turn(self, caller)

    async def refuse_too_many(self, caller: Caller) -> None:
        """Raise Refused, after a pause, where this caller or address has its share of the line."""
        of_caller, of_address = len(self._line.get(caller, ())), self._waiting[caller.address]
        if of_caller >= WAITING_PER_CALLER or of_address >= WAITING_PER_ADDRESS:
            await self.pause()
            raise Refused(TOO_MANY)

    async def pause(self) -> None:
        if self._paused < MOST_PAUSED:
            self._paused += 1
            try:
                await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
            finally:
                self._paused -= 1

    def leave(self, caller: Caller) -> None:
        """One of the caller's requests is no longer at work; those who wait come next."""
        self._at_work -= Counter([caller])  # without those that are left with none
        self._by_address -= Counter([caller.address])
        while next_caller := self._next():
            _, future = place = self._line[next_caller][0]
            self._forget(next_caller, place)
            if not future.done():
                self._begin(next_caller)
                future.set_result(None)

    def _may_begin(self, caller: Caller) -> bool:
        return (
            self._at_work.total() < TURNS
            and self._at_work[caller] < TURNS_PER_CALLER
            and self._by_address[caller.address] < TURNS_PER_ADDRESS
        )

    def _begin(self, caller: Caller) -> None:
        self._at_work[caller] += 1
        self._by_address[caller.address] += 1

    def _next(self) -> Caller | None:
        """Of those who may begin, the caller with the fewest at work; of several the one who has waited longest."""
        able = (caller for caller in self._line if self._may_begin(caller))
        return min(able, key=self._rank, default=None)

    def _rank(self, caller: Caller) -> tuple[int, int, float]:
        return self._by_address[caller.address], self._at_work[caller], self._line[caller][0][0]

    def _forget(self, caller: Caller, place: tuple[float, asyncio.Future]) -> None:
        line = self._line.get(caller)
        if line and place in line:
            line.remove(place)
            self._waiting -= Counter([caller.address])
            if not line:
                del self._line[caller]


turns = Turns()


@contextlib.asynccontextmanager
async def turn_of(scope):
    """A turn for something short within a request, such as to look up who calls. Raises Refused."""
    taken = await turns.take(Caller.of(scope))
    try:
        yield
    finally:
        taken.give_back()


class InTurn:
    """ASGI middleware: hands the end of a body to the application when it is this request's turn, and bounds event
    streams."""

    def __init__(self, application):
        self.application = application
        self.streams: Counter[Caller | str] = Counter()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.application(scope, receive, send)
        request = RequestInTurn(self.streams, scope, receive, send)
        try:
            await self.application(scope, request.receive, request.send)
        except Refused as refusal:
            request.problem = refusal.problem
        finally:
            request.end()
        if request.problem is not None:
            await refuse(scope, send, request.problem)


class RequestInTurn:
    """One request. `problem` is what it is refused for, once the application has ended without an answer."""

    def __init__(self, streams: Counter[Caller | str], scope, receive, send):
        self._streams, self._receive, self._send = streams, receive, send
        self._caller, self._path = Caller.of(scope), scope["path"]
        self._turn: Turn | None = None
        self._hang_up: asyncio.Task | None = None
        self._whole = self._is_stream = False
        self.problem: Problem | None = None

    async def receive(self) -> dict:
        if self._whole:
            return await self._receive_hang_up()
        message = await self._receive()
        if message["type"] != "http.request" or message.get("more_body"):
            return message
        self._whole = True
        try:
            await self._refuse_stream()
            self._turn = turns.take_at_once(self._caller)
            if self._turn is None:
                await turns.refuse_too_many(self._caller)
                self._turn = await self._wait_for_turn()
                await self._refuse_stream()  # others were opened while this one waited
        except Refused as refusal:
            self.problem = refusal.problem
        if self._turn is None:
            return {"type": "http.disconnect"}  # ends the application, which has nothing to answer yet
        turn.begin(self._turn.give_back)
        return message

    async def _refuse_stream(self) -> None:
        """Raise Refused, after a pause, for a stream that would be one too many."""
        if STREAM_PATHS.fullmatch(self._path) and self._has_all_streams():
            if self._turn is not None:
                self._turn.give_back()
                self._turn = None
            await turns.pause()
            raise Refused(TOO_MANY_STREAMS)

    async def _receive_hang_up(self) -> dict:
        """All that comes after a body. The application hears of it when the turn is over: it would end at once, and
        give back a turn whose thread is still at work."""
        if self._turn is not None:
            await self._turn.over.wait()
        return await (self._hang_up or self._receive())

    async def _wait_for_turn(self) -> Turn | None:
        """The turn, or None when the caller has hung up before it came. Raises Refused."""
        self._hang_up = asyncio.create_task(self._receive())
        waiting = asyncio.create_task(turns.take(self._caller))
        try:
            await asyncio.wait((waiting, self._hang_up), return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else None
        finally:
            waiting.cancel()

    async def send(self, message: dict) -> None:
        if message["type"] == "http.response.start":
            if self._turn is not None:
                self._turn.give_back()
            if is_event_stream(message):
                self._open_stream()
        await self._send(message)

    def _open_stream(self) -> None:
        """Count one more stream, or raise Refused, which ends the application."""
        if self._has_all_streams():
            raise Refused(TOO_MANY_STREAMS)
        self._is_stream = True
        self._streams.update((self._caller, self._caller.address))

    def _has_all_streams(self) -> bool:
        of_address = self._streams[self._caller.address]
        return self._streams[self._caller] >= STREAMS_PER_CALLER or of_address >= STREAMS_PER_ADDRESS

    def end(self) -> None:
        """Give back what the request has."""
        if self._hang_up is not None:
            self._hang_up.cancel()
        if self._turn is not None:
            self._turn.give_back()
        if self._is_stream:
            for counted in (self._caller, self._caller.address):
                self._streams[counted] -= 1
                if not self._streams[counted]:
                    del self._streams[counted]


def is_event_stream(message: dict) -> bool:
    """Whether the head of an answer says that events follow."""
    headers = {name.lower(): value for name, value in message.get("headers", ())}
    return headers.get(b"content-type", b"").startswith(b"text/event-stream")
