"""Blocking until a generation has ended, for endpoints that answer with the images themselves."""

import asyncio
import contextlib

from asgiref.sync import async_to_sync, sync_to_async

from accounts.standing import Caller
from generation.live.hub import hub
from generation.live.sse import release_connection
from generation.models import Generation
from generation.turn import step_aside


def wait_for(generation: Generation, seconds: float) -> Generation:
    """The generation as it is when it has ended, or after `seconds` if that is sooner, or when its owner or their key
    is turned away.

    Woken by the hub's events. Between looks at the row this thread holds no database connection.
    """
    step_aside()
    return async_to_sync(_until_final)(generation, seconds)


async def _until_final(generation: Generation, seconds: float) -> Generation:
    # Thread-sensitive code under async_to_sync runs in the thread that waits, which has nothing else to do.
    has_ended = sync_to_async(_has_ended, thread_sensitive=True)
    async with hub.subscribe(generation.owner_id, submitter_of(generation)) as events:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if await has_ended(generation):
                    return generation
                async for event in events:
                    if _is_unrelated(event, generation):
                        continue
                    if await has_ended(generation):
                        return generation
    await has_ended(generation)
    return generation


def submitter_of(generation: Generation) -> Caller:
    """Who asked for it, as far as its row says."""
    return Caller(generation.owner_id, key_id=generation.api_key_id)


def _is_unrelated(event: dict | None, generation: Generation) -> bool:
    """Whether the row cannot have changed. A heartbeat (None) or a resync may hide that it has."""
    return (
        bool(event)
        and event["event"] in ("progress", "state")
        and (event["event"] == "progress" or event["id"] != str(generation.pk))
    )


def _has_ended(generation: Generation) -> bool:
    """Read the row anew; whether it has ended."""
    generation.refresh_from_db()
    release_connection()
    return generation.is_final
