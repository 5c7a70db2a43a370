"""Progress of a caller's work: `/progress`, and `/internal/progress` for one named task."""

import base64
import io

from django.utils import timezone
from PIL import Image

from generation.api.http.requests import ApiRequest
from generation.live import store
from generation.models import Generation
from generation.queue import status

from . import multi_part
from .render import timestamp

MIN_PROGRESS = 0.01
"""What the web UI shows as soon as there is work, because 0 means idle."""
BETWEEN_SECONDS = 10
"""How long after one part of a run has ended the next may take to be asked for."""
IDLE = {
    "skipped": False,
    "interrupted": False,
    "stopping_generation": False,
    "job": "",
    "job_count": 0,
    "job_timestamp": "0",
    "job_no": 0,
    "sampling_step": 0,
    "sampling_steps": 0,
}


def current(request: ApiRequest) -> Generation | None:
    """What this caller has in hand: drawn now, waiting, or just ended with more of its run to come."""
    own = multi_part.own_work(request)
    active = own.active().order_by("status", "created_at").first()  # processing before queued
    if active is None:
        last = own.order_by("-created_at").first()
        if last and _just_ended(last) and multi_part.goes_on(last):
            return last
    return active


def _just_ended(generation: Generation) -> bool:
    return bool(generation.finished_at) and (timezone.now() - generation.finished_at).total_seconds() < BETWEEN_SECONDS


def progress_body(request: ApiRequest, *, with_preview: bool) -> dict:
    """The body of `/progress`; idle is progress 0 with job_count 0."""
    generation = current(request)
    if generation is None:
        return {"progress": 0.0, "eta_relative": 0.0, "state": IDLE, "current_image": None, "textinfo": None}
    store.watch(generation.owner_id)
    report, position = status.describe(generation), multi_part.position_of(generation)
    return {
        "progress": _share(report, position),
        "eta_relative": report["eta_seconds"] or 0.0,
        "state": _state(generation, report, position),
        "current_image": _preview(generation) if with_preview else None,
        "textinfo": _text(report),
    }


def task_progress_body(request: ApiRequest, task: str, *, seen: int, with_preview: bool) -> dict:
    """The body of `/internal/progress`. `seen`: number of the preview that the caller has."""
    entry = multi_part.generation_of_task(request, task)
    own = multi_part.own_work(request).filter(pk=entry["generation"]).first() if entry and entry["generation"] else None
    if own is None or (own.is_final and not multi_part.goes_on(own)):
        return _task_body(completed=entry is not None, text=None if entry else "Waiting...")
    store.watch(own.owner_id)
    report = status.describe(own)
    if own.status == Generation.Status.QUEUED:
        return _task_body(queued=True, text=_text(report))
    number = report["preview_step"] or 0
    preview = _preview(own) if with_preview and number and number != seen else None
    return _task_body(
        active=True,
        share=_share(report, multi_part.position_of(own)),
        eta=report["eta_seconds"],
        text=_text(report),
        preview=f"data:image/png;base64,{preview}" if preview else None,
        number=number if preview else seen,
    )


def _task_body(
    *, active=False, queued=False, completed=False, share=None, eta=None, preview=None, number=-1, text=None
):
    return {
        "active": active,
        "queued": queued,
        "paused": False,
        "completed": completed,
        "progress": share,
        "eta": eta,
        "live_preview": preview,
        "id_live_preview": number,
        "textinfo": text,
    }


def _share(report: dict, position: dict) -> float:
    """Of the whole run, which may have several parts."""
    return round(min(1.0, max(MIN_PROGRESS, (position["place"] + report["progress"]) / position["count"])), 4)


def _state(generation: Generation, report: dict, position: dict) -> dict:
    steps = generation.total_steps // generation.num_images
    return IDLE | {
        "interrupted": report["cancel_requested"],
        "job": f"scripts_{position['kind']}",
        "job_count": position["count"],
        "job_no": position["place"],
        "job_timestamp": timestamp(generation),
        # Ours counts over all images; the web UI counts over one batch.
        "sampling_step": min(steps, report["step"] // generation.num_images),
        "sampling_steps": steps,
    }


def _text(report: dict) -> str | None:
    if report["queue_position"]:
        return f"Waiting, place {report['queue_position']} in line"
    return {"downloading": "Downloading the model", "loading": "Loading the model"}.get(report["phase"])


def _preview(generation: Generation) -> str | None:
    """The latest preview as base64 of a PNG."""
    preview = store.preview(generation.pk)
    if not preview:
        return None
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(preview)) as image:
        image.convert("RGB").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
