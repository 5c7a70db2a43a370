"""Images as they come: server-sent events with live previews, then the finished images.

event: image_generation.partial_image
data: {"type": "image_generation.partial_image", "partial_image_index": 0, "b64_json": "…", …}

event: image_generation.completed
data: {"type": "image_generation.completed", "b64_json": "…", "usage": {…}, …}
"""

import asyncio
import contextlib
import json

from django.db import InterfaceError, OperationalError
from django.http import StreamingHttpResponse

from generation.api.http.errors import describe
from generation.api.http.results import images_of
from generation.api.http.sse import HEARTBEAT, read_rows
from generation.live import store
from generation.live.hub import hub, let_go_of_thread
from generation.models import Generation

from .endpoint import problem
from .parse import Asked
from .render import NO_USAGE, encoded, encoded_preview, event_fields


def image_stream(generation: Generation, asked: Asked, kind: str, place) -> StreamingHttpResponse:
    """The stream of a generation that was just asked for. `place` (events.StreamPlace) is left at its end."""
    name = "image_generation" if kind == "generations" else "image_edit"
    response = StreamingHttpResponse(
        _events(generation, asked, name, place), content_type="text/event-stream; charset=utf-8"
    )
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


async def _events(generation, asked, name, place):
    let_go_of_thread()
    fields = event_fields(asked, generation)
    try:
        async with hub.subscribe(generation.owner_id) as live:
            if not await _has_ended(generation):
                shown = 0
                async for event in live:
                    if _is_progress_of(generation, event):
                        if _is_time_for_a_preview(event["data"], shown, asked.partial_images):
                            picture = await asyncio.to_thread(_preview, generation, asked)
                            if picture:
                                yield _message(
                                    f"{name}.partial_image",
                                    fields | {"partial_image_index": shown, "b64_json": picture},
                                )
                                shown += 1
                        continue
                    if event and event["event"] in ("progress", "state") and event["id"] != str(generation.pk):
                        continue
                    # A change of state, a heartbeat, or a resync, which may hide that it has ended.
                    if await _has_ended(generation):
                        break
                    if event is None:
                        yield HEARTBEAT
        async for picture in _finished(generation, asked):
            yield _message(f"{name}.completed", fields | {"b64_json": picture, "usage": NO_USAGE})
    except Exception as error:
        described = describe(error)
        if described is None:
            raise
        status, code, message, param, _ = described
        yield f"event: error\ndata: {json.dumps(problem(status, code, message, param))}\n\n"
    finally:
        place.leave()


def _is_progress_of(generation, event) -> bool:
    return bool(event) and event["event"] == "progress" and event["id"] == str(generation.pk)


def _is_time_for_a_preview(report, shown: int, wanted: int) -> bool:
    """They are spread evenly over the steps; a quick drawing may have fewer than were wanted."""
    if shown >= wanted or report.get("preview_step") is None:
        return False
    return report["step"] >= report["steps"] * (shown + 1) / (wanted + 1) * 0.8


def _preview(generation, asked) -> str | None:
    webp = store.preview(generation.pk)
    return encoded_preview(webp, asked) if webp else None


async def _has_ended(generation) -> bool:
    # While the database is away the stream waits; the next heartbeat looks again.
    with contextlib.suppress(OperationalError, InterfaceError):
        await read_rows(generation.refresh_from_db)
    return generation.is_final


async def _finished(generation, asked):
    for image in await read_rows(images_of, generation):
        yield await asyncio.to_thread(encoded, image, asked)


def _message(kind: str, fields: dict) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | fields)}\n\n"
