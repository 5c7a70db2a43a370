"""The one event stream of a page: job panels, dock and quota, as they change.

A stream keeps the panels it shows in memory and merges progress into them, so that only changes of state
ask the database; between those it holds no database connection, however many streams are open.
"""

import asyncio
import itertools
import json
import time

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import HttpResponse, StreamingHttpResponse
from django.template.loader import render_to_string
from django.views.decorators.http import require_GET

from accounts import quotas
from generation.live.hub import hub, let_go_of_thread
from generation.models import Generation
from generation.queue import estimates, status

from .panels import dock_panels, panel, panels, spoken

LIFE_SECONDS = 300
PACE_SECONDS = 0.25
"""A panel is sent at most four times a second; the hub joins what comes in between."""
RETRY_MS = 2000
PANES = ("panel", "dock")


@require_GET
async def events(request):
    user = await request.auser()
    await on_database(lambda: None)  # gives back the connection that looked up the session
    if not user.is_authenticated:
        return HttpResponse(status=401)
    panes = [pane for pane in PANES if pane in request.GET.get("panes", "dock,panel").split(",")]
    response = StreamingHttpResponse(Stream(user, panes).messages(), content_type="text/event-stream; charset=utf-8")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


async def on_database(read):
    """Run `read()` in a thread, and close the connection that it used and the thread."""

    def run():
        try:
            return read()
        finally:
            connection.close()

    found = await sync_to_async(run)()
    let_go_of_thread()
    return found


class Stream:
    """What one tab is told. `messages()` yields server-sent events until nothing is at work or five minutes passed."""

    def __init__(self, user, panes):
        self.user = user
        self.panes = panes
        self.numbers = itertools.count(1)
        self.rows: dict[str, Generation] = {}
        self.told: dict[str, dict] = {}
        self.tenths: dict[str, int] = {}
        self.ended: set[str] = set()
        self.dock: list[dict] = []
        self.quota = None
        self.first = True

    async def messages(self):
        ends = time.monotonic() + LIFE_SECONDS
        # The hub also notes that this account is watched, without which no previews are made.
        async with hub.subscribe(self.user.pk) as happenings:
            # Subscribed before reading, so that nothing falls between the two.
            for message in await on_database(self._snapshot):
                yield message
            if not self.rows:
                yield self._named("stream-end", {})
                return
            sent = time.monotonic()
            async for happening in happenings:
                for message in await self._about(happening):
                    yield message
                if not self.rows:
                    yield self._named("stream-end", {})
                    return
                if time.monotonic() > ends:
                    return
                await asyncio.sleep(max(0.0, PACE_SECONDS - (time.monotonic() - sent)))
                sent = time.monotonic()

    async def _about(self, happening) -> list[bytes]:
        if happening is None:
            # A quiet quarter of a minute: places in line move without an event of ours.
            return [b": still here\n\n", *await on_database(self._reread_all)]
        if happening["event"] == "resync":
            return await on_database(self._reread_all)
        if happening["id"] in self.ended:
            return []
        if happening["event"] == "progress" and happening["id"] in self.rows:
            return self._progress(happening)
        return await on_database(lambda: self._reread(happening["id"]))

    # --- these run in a thread, with the database ---

    def _snapshot(self) -> list[bytes]:
        at_work = list(Generation.objects.visible_to(self.user).active().order_by("created_at"))
        self._keep(at_work)
        self._refresh_frame()
        return [self._partials(self.told.values(), frame=True)]

    def _reread(self, generation_id) -> list[bytes]:
        row = Generation.objects.visible_to(self.user).filter(pk=generation_id).first()
        if row is None:
            return []
        before = self.told.get(str(row.pk))
        told = panels([row])[0]
        if told["active"]:
            self._keep([row])
        else:
            self.rows.pop(told["id"], None)
            self.told.pop(told["id"], None)
            self.ended.add(told["id"])
        self._refresh_frame()
        return [self._partials([told], frame=True), *self._state_event(before, told)]

    def _reread_all(self) -> list[bytes]:
        at_work = Generation.objects.visible_to(self.user).active().values_list("pk", flat=True)
        messages = []
        for generation_id in {*self.rows, *map(str, at_work)}:
            messages += self._reread(generation_id)
        return messages

    def _keep(self, rows):
        for told, row in zip(panels(rows), rows, strict=True):
            # Remembered here, because progress must not ask the database.
            row.pace = estimates.seconds_per_step(row.model, row.width, row.height)
            self.rows[told["id"]], self.told[told["id"]] = row, told

    def _refresh_frame(self):
        self.quota = quotas.remaining(self.user)
        self.dock = dock_panels(self.user) if "dock" in self.panes else []

    # --- and these without ---

    def _progress(self, happening) -> list[bytes]:
        row, data = self.rows[happening["id"]], happening["data"]
        before = self.told[happening["id"]]
        if data["step"] < before["step"]:
            return []  # an event from before the snapshot; the bar never goes backwards
        row.status = Generation.Status.PROCESSING
        told = panel(
            row,
            before
            | {
                "status": Generation.Status.PROCESSING,
                "phase": data["phase"],
                "step": data["step"],
                "queue_position": None,
                "eta_seconds": data.get("eta_seconds") or self._eta(row, data["step"]),
                "preview_step": data.get("preview_step") or before["preview_step"],
                "progress": status.progress_share(row, data["step"]),
            },
        )
        self.told[told["id"]] = told
        self.dock = [told if one["id"] == told["id"] else one for one in self.dock]
        messages = [self._partials([told], frame=False)]
        tenth = told["percent"] // 10
        if tenth > self.tenths.get(told["id"], 0):
            self.tenths[told["id"]] = tenth
            messages.append(
                self._named(
                    "job-progress",
                    {
                        "id": told["id"],
                        "step": told["step"],
                        "steps": told["steps"],
                        "pct": told["percent"],
                        "eta_s": told["eta_seconds"],
                    },
                )
            )
        return messages

    @staticmethod
    def _eta(row, step):
        return row.pace and row.pace * max(0, row.total_steps - step)

    def _state_event(self, before, told) -> list[bytes]:
        """The named event for a change of state, for titles and screen readers; nothing when it is as before."""
        state = told["status"]
        if before and (before["status"], before["headline"]) == (state, told["headline"]):
            return []
        same_state = before and before["status"] == state and before["cancelling"] == told["cancelling"]
        about = {"id": told["id"], "say": "" if same_state and state != "queued" else spoken(told)}
        match state:
            case "queued":
                place = {"position": told["queue_position"], "eta_s": told["eta_seconds"]}
                return [self._named("job-queued", about | place)]
            case "processing":
                return [self._named("job-started", about | {"model": told["model"], "steps": told["steps"]})]
            case "completed":
                images = [
                    {
                        "id": one["id"],
                        "url": one["imageUrl"],
                        "thumb": one["thumbnailUrl"],
                        "w": one["width"],
                        "h": one["height"],
                        "alt": told["alt"],
                    }
                    for one in told["pictures"]
                ]
                took = told["processing_time_ms"] and told["processing_time_ms"] / 1000
                return [
                    self._named("job-done", about | {"images": images, "took_s": took}),
                    self._named("gallery-changed", {"count": len(images)}),
                    self._quota_event(),
                ]
            case "cancelled":
                return [self._named("job-cancelled", about | {"at_step": told["step"]}), self._quota_event()]
        return [
            self._named(
                "job-failed",
                about
                | {
                    "code": (told["error"] or {}).get("code", state),
                    "reason": told["error_message"],
                    "retryable": told["retryable"],
                },
            ),
            self._quota_event(),
        ]

    def _quota_event(self) -> bytes:
        quota = quotas.remaining(self.user)
        return self._named(
            "quota", {"used": quota.used, "limit": quota.limit, "resets_at": quota.resets_at.isoformat()}
        )

    def _partials(self, shown, *, frame: bool) -> bytes:
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
        return self._message(html)

    def _named(self, name: str, data: dict) -> bytes:
        return self._message(json.dumps(data, default=str), name)

    def _message(self, data: str, name: str = "") -> bytes:
        lines = [f"id: {next(self.numbers)}"]
        if self.first:
            lines.append(f"retry: {RETRY_MS}")
            self.first = False
        if name:
            lines.append(f"event: {name}")
        lines += [f"data: {line}" for line in data.splitlines() if line.strip()] or ["data:"]
        return ("\n".join(lines) + "\n\n").encode()
