"""Server-sent events: the wire format, the streaming response, and reading rows without keeping a connection.

All three streams (pages, native API, OpenAI dialect) are written with it. Format: WHATWG HTML, "Server-sent events".
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection
from django.http import StreamingHttpResponse

T = TypeVar("T")

CONTENT_TYPE = "text/event-stream; charset=utf-8"
RETRY_MILLISECONDS = 2000
HEARTBEAT = ": still here\n\n"
"""A comment that keeps proxies from closing a quiet stream."""

# Rows are read here and not in the thread that Django keeps for each open request: that one would keep its
# connection for as long as the stream lives.
_readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="stream-rows")


def encode_event(data: str | dict, *, name: str = "", number: int | None = None, retry: int | None = None) -> str:
    """One event. `data` is text of any number of lines, or what becomes JSON; `retry` is in milliseconds.

    `encode_event({"step": 3}, name="progress", number=7)` is 'id: 7\\nevent: progress\\ndata: {"step": 3}\\n\\n'.
    """
    text = data if isinstance(data, str) else json.dumps(data)
    fields = (("id", number), ("retry", retry), ("event", name or None))
    lines = [f"{field}: {value}" for field, value in fields if value is not None]
    lines += [f"data: {line}" for line in text.splitlines() if line.strip()] or ["data:"]
    return "\n".join(lines) + "\n\n"


def stream_response(events: AsyncIterator[str]) -> StreamingHttpResponse:
    """The response that sends encoded events as they come, uncached and unbuffered."""
    response = StreamingHttpResponse(events, content_type=CONTENT_TYPE)
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


async def read_rows(function: Callable[..., T], *arguments) -> T:
    """What `function` returns, which reads the database in another thread; no connection is kept after it."""

    def read() -> T:
        try:
            return function(*arguments)
        finally:
            release_connection()

    return await asyncio.get_running_loop().run_in_executor(_readers, read)


def release_connection() -> None:
    """Close this thread's database connection, unless a transaction of the caller's is open on it."""
    if not connection.in_atomic_block:
        connection.close()
