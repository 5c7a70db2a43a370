"""Server-sent events of a page: job panels, dock and quota as HTML, and named events for scripts.

A stream keeps the panels it shows in memory and merges progress into them, so that only changes of state
ask the database; between those it holds no database connection, however many streams are open.
"""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterable
from typing import cast

from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.template.loader import render_to_string
from django.views.decorators.http import require_GET

from accounts import quotas
from accounts.models import User
from accounts.standing import Caller, caller_of
from generation.live.hub import hub, let_go_of_thread
from generation.live.sse import (
    HEARTBEAT,
    RETRY_MILLISECONDS,
    encode_event,
    read_rows,
    release_connection,
    stream_response,
)
from generation.models import Generation
from generation.queue import estimates, status

from .panels import dock_panels, panel, panels, spoken

LIFE_SECONDS = 300
PACE_SECONDS = 0.25
"""A panel is sent at most four times a second; the hub joins what comes in between."""
PANES = ("panel", "dock")


@require_GET
async def events(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    user = cast(User | AnonymousUser, await request.auser())
    # In the thread that looked up the session: its connection must not live as long as the stream.
    await sync_to_async(release_connection)()
    let_go_of_thread()
    if isinstance(user, AnonymousUser):
        return HttpResponse(status=401)
    panes = [pane for pane in PANES if pane in request.GET.get("panes", "dock,panel").split(",")]
    return stream_response(PageStream(user, panes, caller_of(request, user)).events())


class PageStream:
    """The stream of one tab. `events()` yields encoded events until nothing is at work, five minutes passed, or
    `caller` is turned away."""

    def __init__(self, user: User, panes: list[str], caller: Caller):
        self.user = user
        self.caller = caller
        self.panes = panes
        self.numbers = itertools.count(1)
        self.rows: dict[str, Generation] = {}
        self.panels: dict[str, dict] = {}
        self.step_seconds: dict[str, float | None] = {}
        self.tenths: dict[str, int] = {}
        self.ended: set[str] = set()
        self.dock: list[dict] = []
        self.quota: quotas.Quota | None = None

    async def events(self) -> AsyncIterator[str]:
        deadline = time.monotonic() + LIFE_SECONDS
        # The hub also notes that this account is watched, without which no previews are made.
        async with hub.subscribe(self.user.pk, self.caller) as live:
            # Subscribed before reading, so that nothing falls between the two.
            for encoded in await read_rows(self._snapshot):
                yield encoded
            if not self.rows:
                yield self._named("stream-end", {})
                return
            sent = time.monotonic()
            async for event in live:
                for encoded in await self._react(event):
                    yield encoded
                if not self.rows:
                    yield self._named("stream-end", {})
                    return
                if time.monotonic() > deadline:
                    return
                await asyncio.sleep(max(0.0, PACE_SECONDS - (time.monotonic() - sent)))
                sent = time.monotonic()

    async def _react(self, event: dict | None) -> list[str]:
        """What an event of the hub means for the page."""
        if event is None:
            # A quiet quarter of a minute: places in line move without an event of ours.
            return [HEARTBEAT, *await read_rows(self._reread_all)]
        if event["event"] == "resync":
            return await read_rows(self._reread_all)
        if event["id"] in self.ended:
            return []
        if event["event"] == "progress" and event["id"] in self.rows:
            return self._progress(event)
        return await read_rows(self._reread, event["id"])

    # --- these run in a thread, with the database ---

    def _snapshot(self) -> list[str]:
        self._keep(list(Generation.objects.visible_to(self.user).active().order_by("created_at")))
        self._refresh_frame()
        return [self._partials(self.panels.values(), frame=True)]

    def _reread(self, generation_id: str) -> list[str]:
        row = Generation.objects.visible_to(self.user).filter(pk=generation_id).first()
        if row is None:
            return []
        before = self.panels.get(str(row.pk))
        after = panels([row])[0]
        if after["active"]:
            self._keep([row])
        else:
            self.rows.pop(after["id"], None)
            self.panels.pop(after["id"], None)
            self.ended.add(after["id"])
        self._refresh_frame()
        return [self._partials([after], frame=True), *self._state_events(before, after)]

    def _reread_all(self) -> list[str]:
        active = Generation.objects.visible_to(self.user).active().values_list("pk", flat=True)
        encoded = []
        for generation_id in {*self.rows, *map(str, active)}:
            encoded += self._reread(generation_id)
        return encoded

    def _keep(self, rows: list[Generation]) -> None:
        for shown, row in zip(panels(rows), rows, strict=True):
            # Remembered here, because progress must not ask the database.
            self.step_seconds[shown["id"]] = estimates.seconds_per_step(row.model, row.width, row.height)
            self.rows[shown["id"]], self.panels[shown["id"]] = row, shown

    def _refresh_frame(self) -> None:
        self.quota = quotas.remaining(self.user)
        self.dock = dock_panels(self.user) if "dock" in self.panes else []

    # --- and these without ---

    def _progress(self, event: dict) -> list[str]:
        row, report = self.rows[event["id"]], event["data"]
        before = self.panels[event["id"]]
        if report["step"] < before["step"]:
            return []  # an event from before the snapshot; the bar never goes backwards
        row.status = Generation.Status.PROCESSING
        after = panel(
            row,
            before
            | {
                "status": Generation.Status.PROCESSING,
                "phase": report["phase"],
                "step": report["step"],
                "queue_position": None,
                "eta_seconds": report.get("eta_seconds") or self._eta(row, report["step"]),
                "preview_step": report.get("preview_step") or before["preview_step"],
                "progress": status.progress_share(row, report["step"]),
            },
        )
        self.panels[after["id"]] = after
        self.dock = [after if docked["id"] == after["id"] else docked for docked in self.dock]
        return [self._partials([after], frame=False), *self._tenth_reached(after)]

    def _eta(self, row: Generation, step: int) -> float | None:
        seconds = self.step_seconds[str(row.pk)]
        return seconds and seconds * max(0, row.total_steps - step)

    def _tenth_reached(self, shown: dict) -> list[str]:
        """The named event for scripts, once for each tenth of the way."""
        tenth = shown["percent"] // 10
        if tenth <= self.tenths.get(shown["id"], 0):
            return []
        self.tenths[shown["id"]] = tenth
        names = {"id": "id", "step": "step", "steps": "steps", "pct": "percent", "eta_s": "eta_seconds"}
        return [self._named("job-progress", {name: shown[source] for name, source in names.items()})]

    def _state_events(self, before: dict | None, after: dict) -> list[str]:
        """The named events for a change of state, for titles and screen readers; nothing when it is as before."""
        state = after["status"]
        if before and (before["status"], before["headline"]) == (state, after["headline"]):
            return []
        same_state = before and before["status"] == state and before["cancelling"] == after["cancelling"]
        common = {"id": after["id"], "say": "" if same_state and state != "queued" else spoken(after)}
        match state:
            case "queued":
                place = {"position": after["queue_position"], "eta_s": after["eta_seconds"]}
                return [self._named("job-queued", common | place)]
            case "processing":
                return [self._named("job-started", common | {"model": after["model"], "steps": after["steps"]})]
            case "completed":
                return self._done_events(common, after)
            case "cancelled":
                return [self._named("job-cancelled", common | {"at_step": after["step"]}), self._quota_event()]
        failure = {
            "code": (after["error"] or {}).get("code", state),
            "reason": after["error_message"],
            "retryable": after["retryable"],
        }
        return [self._named("job-failed", common | failure), self._quota_event()]

    def _done_events(self, common: dict, after: dict) -> list[str]:
        images = [
            {
                "id": picture["id"],
                "url": picture["imageUrl"],
                "thumb": picture["thumbnailUrl"],
                "w": picture["width"],
                "h": picture["height"],
                "alt": after["alt"],
            }
            for picture in after["pictures"]
        ]
        took = after["processing_time_ms"] and after["processing_time_ms"] / 1000
        return [
            self._named("job-done", common | {"images": images, "took_s": took}),
            self._named("gallery-changed", {"count": len(images)}),
            self._quota_event(),
        ]

    def _quota_event(self) -> str:
        quota = quotas.remaining(self.user)
        return self._named(
            "quota", {"used": quota.used, "limit": quota.limit, "resets_at": quota.resets_at.isoformat()}
        )

    def _partials(self, shown: Iterable[dict], *, frame: bool) -> str:
        """The fragments that htmx swaps in; `frame`: also what stands around the panels."""
        html = render_to_string(
            "_stream.html",
            {
                "panels": list(shown) if "panel" in self.panes else [],
                "dock": self.dock,
                "panes": self.panes,
                "frame": frame,
                "quota": self.quota,
                "user": self.user,
                "active_jobs": len(self.rows),
            },
        )
        return self._encode(html)

    def _named(self, name: str, data: dict) -> str:
        return self._encode(json.dumps(data, default=str), name)

    def _encode(self, data: str, name: str = "") -> str:
        number = next(self.numbers)
        return encode_event(data, name=name, number=number, retry=RETRY_MILLISECONDS if number == 1 else None)
