"""Server-sent events of the OpenAI dialect: partial images (live previews), then the finished images.

event: image_generation.partial_image
data: {"type": "image_generation.partial_image", "partial_image_index": 0, "b64_json": "…", …}

event: image_generation.completed
data: {"type": "image_generation.completed", "b64_json": "…", "usage": {…}, …}
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from django.db import InterfaceError, OperationalError
from django.http import StreamingHttpResponse
from rest_framework.exceptions import AuthenticationFailed

from generation.api.http.errors import problem_of
from generation.api.http.results import images_of
from generation.api.http.throttling import StreamSlot
from generation.api.http.waiting import submitter_of
from generation.live import store
from generation.live.hub import hub, let_go_of_thread
from generation.live.sse import HEARTBEAT, encode_event, read_rows, stream_response
from generation.models import Generation

from .endpoint import error_body
from .parse import ParsedRequest
from .render import NO_USAGE, base64_image, base64_preview, event_fields


def image_stream(generation: Generation, parsed: ParsedRequest, kind: str, slot: StreamSlot) -> StreamingHttpResponse:
    """The stream of a generation that was just created. `slot` is released at its end."""
    prefix = "image_generation" if kind == "generations" else "image_edit"
    return stream_response(_events(generation, parsed, prefix, slot))


async def _events(generation: Generation, parsed: ParsedRequest, prefix: str, slot: StreamSlot) -> AsyncGenerator[str]:
    let_go_of_thread()
    fields = event_fields(parsed, generation)
    try:
        async with contextlib.aclosing(_previews(generation, parsed)) as previews:
            shown = 0
            async for preview in previews:
                if preview is None:
                    yield HEARTBEAT
                    continue
                partial = {"partial_image_index": shown, "b64_json": preview}
                yield _encode(f"{prefix}.partial_image", fields | partial)
                shown += 1
        for image in await read_rows(images_of, generation):
            encoded = await asyncio.to_thread(base64_image, image, parsed)
            yield _encode(f"{prefix}.completed", fields | {"b64_json": encoded, "usage": NO_USAGE})
    except Exception as error:
        problem = problem_of(error)
        if problem is None:
            raise
        yield encode_event(error_body(problem), name="error")
    finally:
        slot.release()


async def _previews(generation: Generation, parsed: ParsedRequest) -> AsyncGenerator[str | None]:
    """Previews as base64 until the generation has ended, at most as many as were asked for; None is a heartbeat."""
    shown = 0
    async with hub.subscribe(generation.owner_id, submitter_of(generation)) as live:
        if await _has_ended(generation):
            return
        async for event in live:
            if event and event["event"] in ("progress", "state") and event["id"] != str(generation.pk):
                continue
            if event and event["event"] == "progress":
                if _is_preview_due(event["data"], shown, parsed.partial_images):
                    preview = await asyncio.to_thread(_latest_preview, generation, parsed)
                    if preview:
                        yield preview
                        shown += 1
                continue
            # A change of state, a heartbeat, or a resync, which may hide that it has ended.
            if await _has_ended(generation):
                return
            if event is None:
                yield None
    raise AuthenticationFailed("This API key is not valid any more.")


def _is_preview_due(report: dict, shown: int, count: int) -> bool:
    """They are spread evenly over the steps; a quick drawing may have fewer than `count`."""
    if shown >= count or report.get("preview_step") is None:
        return False
    return report["step"] >= report["steps"] * (shown + 1) / (count + 1) * 0.8


def _latest_preview(generation: Generation, parsed: ParsedRequest) -> str | None:
    webp = store.preview(generation.pk)
    return base64_preview(webp, parsed) if webp else None


async def _has_ended(generation: Generation) -> bool:
    # While the database is away the stream waits; the next heartbeat looks again.
    with contextlib.suppress(OperationalError, InterfaceError):
        await read_rows(generation.refresh_from_db)
    return generation.is_final


def _encode(kind: str, fields: dict) -> str:
    return encode_event({"type": kind} | fields, name=kind)
