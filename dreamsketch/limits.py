"""ASGI middleware for request bodies: how large, whose, how many bytes at once, and how slowly they may come.

All of it is decided before the body is received, because Django's handler writes what it receives to disk first. A
small body may come from anybody. A larger one is read for an account only, whose share of the bytes that are on their
way is bounded, so that bodies of all callers together fit on a small disk.
"""

import asyncio
import contextlib
import io
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import DatabaseError

from accounts.callers import user_by_headers
from generation.api.http.errors import Problem, problem_of
from generation.live.sse import release_connection
from generation.queue import engine_results

from .asgi_scope import headers_of, refuse
from .turns import Refused, turn_of

log = logging.getLogger(__name__)

MARGIN = 1_000_000
"""For the other fields of a form that carries an upload, and all that endpoints without pictures may be sent."""
SMALL = 64 * 1024
"""A body of this size is read whoever sends it; a sign-in or a sign-up has less than one KiB."""
PICTURES = re.compile(r"/(api/(generate|txt2img|img2img)|v1/images|sdapi/v1|inference/images|create|i/\w+/edit)(/|$)")
"""Where pictures are taken."""
ENGINE_RESULT = re.compile(r"/api/generate/webhook/?")
"""Signed over the whole body, which must be read therefore."""
SIGNATURE_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")

BODIES, BODIES_PER_ACCOUNT = 3, 1.25
"""Bytes that may be on their way or at work, all together and per account: as many times the largest body."""
WAIT_SECONDS = 15
QUIET_SECONDS = 10
"""Without a byte a body is given up, and after SLOW_SECONDS one that comes slower than SLOWEST."""
SLOW_SECONDS, SLOWEST = 20, 16 * 1024

TOO_LARGE = Problem(413, "too_large", "This request is too large.")
TOO_SLOW = Problem(408, "too_slow", "The request came too slowly. Please send it again.")
TOO_MANY_BODIES = Problem(
    429,
    "too_many_calls",
    "Too many large requests at once. Please send them one after the other.",
    headers={"Retry-After": "5"},
)


class Bytes:
    """Bytes of large bodies that are taken, by account. Used from the event loop only."""

    def __init__(self) -> None:
        self._taken: Counter[object] = Counter()
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def room(self, owner: object, size: int) -> AsyncIterator[None]:
        """Wait until `size` bytes of this owner fit in. Raises Refused after WAIT_SECONDS."""
        async with self._changed:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await self._changed.wait_for(lambda: self._fits(owner, size))
            except TimeoutError:
                raise Refused(TOO_MANY_BODIES) from None
            self._taken[owner] += size
        try:
            yield
        finally:
            self._taken[owner] -= size
            if not self._taken[owner]:
                del self._taken[owner]
            async with self._changed:
                self._changed.notify_all()

    def _fits(self, owner: object, size: int) -> bool:
        largest = settings.DATA_UPLOAD_MAX_MEMORY_SIZE + MARGIN
        total = self._taken.total() + size <= BODIES * largest
        return total and self._taken[owner] + size <= BODIES_PER_ACCOUNT * largest


class BodyLimit:
    """413 for bodies above what their address takes, 408 for slow ones; a stranger's large body is never read.

    For that the application answers as to an empty body, which is its own way of saying that nobody is signed in. A
    body that does not tell its length (it comes in chunks) is cut off at the limit, which Django sees as a caller who
    hung up and does not answer; of a whole one the application is told the length, without which it would take it for
    empty.
    """

    def __init__(self, application):
        self.application = application
        self.bytes = Bytes()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.application(scope, receive, send)
        headers = headers_of(scope)
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE + MARGIN if PICTURES.match(scope["path"]) else MARGIN
        told = headers.get("content-length", "")
        untold = "transfer-encoding" in headers
        length = limit if untold else int(told) if told.isdecimal() and len(told) < 20 else 0
        try:
            if length > limit:
                raise Refused(TOO_LARGE)
            if length <= SMALL:
                return await self._pass_on(scope, receive, send, limit)
            owner = await _owner(scope, headers)
            if owner is not None:
                async with self.bytes.room(owner, length):
                    return await self._pass_on(scope, receive, send, limit)
            if untold:
                # It may be small all the same.
                return await self._pass_on(scope, receive, send, SMALL)
            await self.application(_without_body(scope), _nothing_more(), send)
        except Refused as refusal:
            await refuse(scope, send, refusal.problem)

    async def _pass_on(self, scope, receive, send, limit: int) -> None:
        scope = scope | {"headers": list(scope["headers"])}
        body = IncomingBody(scope["headers"], receive, limit)
        answered = False

        async def note_and_send(message):
            nonlocal answered
            answered = True
            await send(message)

        await self.application(scope, body.receive, note_and_send)
        if body.problem is not None and not answered:
            await refuse(scope, send, body.problem)


class IncomingBody:
    """What the application receives: a body within its limit and times, or a hang-up, with `problem` for the answer."""

    def __init__(self, headers: list[tuple[bytes, bytes]], receive, limit: int):
        self._headers, self._receive, self._limit = headers, receive, limit
        self._size, self._began, self._whole = 0, time.monotonic(), False
        self.problem: Problem | None = None

    async def receive(self) -> dict:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(self._patience()):
                message = await self._receive()
        except TimeoutError:
            return self._give_up(TOO_SLOW)
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._size > self._limit:
                return self._give_up(TOO_LARGE)
            if self._whole:
                self._tell_length()
        return message

    def _tell_length(self) -> None:
        """Put it in the place of `Transfer-Encoding`. Django looks at the headers once it has the body."""
        if any(name == b"transfer-encoding" for name, _ in self._headers):
            self._headers[:] = [header for header in self._headers if header[0] != b"transfer-encoding"]
            self._headers.append((b"content-length", str(self._size).encode()))

    def _patience(self) -> float:
        """Seconds until the next bytes must be there."""
        left = self._began + SLOW_SECONDS + self._size / SLOWEST - time.monotonic()
        return max(0.0, min(QUIET_SECONDS, left))

    def _give_up(self, problem: Problem) -> dict:
        self.problem = problem
        return {"type": "http.disconnect"}


async def _owner(scope, headers: dict[str, str]) -> object | None:
    """Whose a large body is: an account's number, the engines', or None for nobody's. Raises Refused."""
    if ENGINE_RESULT.fullmatch(scope["path"]):
        signed = engine_results.is_on() and all(name in headers for name in SIGNATURE_HEADERS)
        return "engines" if signed else None
    async with turn_of(scope), ThreadSensitiveContext():
        try:
            return await sync_to_async(_user_id)(scope)
        except DatabaseError as error:
            log.error("The database is away: %s", error)
            raise Refused(problem_of(error) or TOO_MANY_BODIES) from None


def _user_id(scope) -> int | None:
    try:
        # pyrefly: ignore [bad-argument-count]
        user = user_by_headers(ASGIRequest(scope, io.BytesIO()))  # the stubs take the arguments of HttpRequest
        return user.pk if user else None
    finally:
        release_connection()


def _without_body(scope) -> dict:
    about_body = (b"content-length", b"transfer-encoding", b"content-type", b"expect")
    return scope | {"headers": [(name, value) for name, value in scope["headers"] if name not in about_body]}


def _nothing_more():
    """An empty body, and then nothing: whether the caller hangs up is not looked at."""
    given = False

    async def receive() -> dict:
        nonlocal given
        if given:
            await asyncio.Event().wait()
        given = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive
