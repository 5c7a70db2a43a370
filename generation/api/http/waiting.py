"""Waiting for a generation to end, for dialects that answer with the pictures themselves."""

import asyncio
import contextlib

from asgiref.sync import async_to_sync, sync_to_async

from generation.live.hub import hub
from generation.models import Generation

from .sse import let_go_of_database


def wait_for(generation: Generation, seconds: float) -> Generation:
    """The generation as it is when it has ended, or after `seconds` if that is sooner.

    Woken by the hub's events. Between looks at the row this thread holds no database connection.
    """
    return async_to_sync(_until_final)(generation, seconds)


async def _until_final(generation, seconds) -> Generation:
    # Thread-sensitive code under async_to_sync runs in the thread that waits, which has nothing else to do.
    look = sync_to_async(_look, thread_sensitive=True)
    async with hub.subscribe(generation.owner_id) as events:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if await look(generation):
                    return generation
                async for event in events:
                    if _tells_nothing(event, generation):
                        continue
                    if await look(generation):
                        return generation
    await look(generation)
    return generation


def _tells_nothing(event, generation) -> bool:
    """Whether the row cannot have changed. A heartbeat (None) or a resync may hide that it has."""
    return (
        bool(event)
        and event["event"] in ("progress", "state")
        and (event["event"] == "progress" or event["id"] != str(generation.pk))
    )


def _look(generation) -> bool:
    """Read the row anew; whether it has ended."""
    generation.refresh_from_db()
    let_go_of_database()
    return generation.is_final
