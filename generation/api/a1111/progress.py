"""How a caller's work stands: `/progress`, and `/internal/progress` for one named task."""

import base64
import io

from django.utils import timezone
from PIL import Image

from generation.live import store
from generation.models import Generation
from generation.queue import status

from . import multi_part
from .render import timestamp

BEGUN = 0.01
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


def current(request) -> Generation | None:
    """What this caller has in hand: drawn now, waiting, or just ended with more of its run to come."""
    own = multi_part.own_work(request)
    found = own.active().order_by("status", "created_at").first()  # processing before queued
    if found is None:
        last = own.order_by("-created_at").first()
        if last and _just_ended(last) and multi_part.goes_on(last):
            return last
    return found


def _just_ended(generation: Generation) -> bool:
    return bool(generation.finished_at) and (timezone.now() - generation.finished_at).total_seconds() < BETWEEN_SECONDS


def describe(request, *, with_picture: bool) -> dict:
    """The body of `/progress`; idle is progress 0 with job_count 0."""
    generation = current(request)
    if generation is None:
        return {"progress": 0.0, "eta_relative": 0.0, "state": IDLE, "current_image": None, "textinfo": None}
    store.watch(generation.owner_id)
    told, note = status.describe(generation), multi_part.place_of(generation)
    return {
        "progress": _share(told, note),
        "eta_relative": told["eta_seconds"] or 0.0,
        "state": _state(generation, told, note),
        "current_image": _preview(generation) if with_picture else None,
        "textinfo": _words(told),
    }


def describe_task(request, task: str, *, seen: int, with_picture: bool) -> dict:
    """The body of `/internal/progress`. `seen`: number of the preview that the caller has."""
    known = multi_part.generation_of_task(request, task)
    own = multi_part.own_work(request).filter(pk=known["generation"]).first() if known and known["generation"] else None
    if own is None or (own.is_final and not multi_part.goes_on(own)):
        return _task(completed=known is not None, text=None if known else "Waiting...")
    store.watch(own.owner_id)
    told = status.describe(own)
    if own.status == Generation.Status.QUEUED:
        return _task(queued=True, text=_words(told))
    number = told["preview_step"] or 0
    picture = _preview(own) if with_picture and number and number != seen else None
    return _task(
        active=True,
        share=_share(told, multi_part.place_of(own)),
        eta=told["eta_seconds"],
        text=_words(told),
        picture=f"data:image/png;base64,{picture}" if picture else None,
        number=number if picture else seen,
    )


def _task(*, active=False, queued=False, completed=False, share=None, eta=None, picture=None, number=-1, text=None):
    return {
        "active": active,
        "queued": queued,
        "paused": False,
        "completed": completed,
        "progress": share,
        "eta": eta,
        "live_preview": picture,
        "id_live_preview": number,
        "textinfo": text,
    }


def _share(told: dict, note: dict) -> float:
    """Of the whole run, which may have several parts."""
    return round(min(1.0, max(BEGUN, (note["place"] + told["progress"]) / note["count"])), 4)


def _state(generation: Generation, told: dict, note: dict) -> dict:
    steps = generation.total_steps // generation.num_images
    return IDLE | {
        "interrupted": told["cancel_requested"],
        "job": f"scripts_{note['kind']}",
        "job_count": note["count"],
        "job_no": note["place"],
        "job_timestamp": timestamp(generation),
        # Ours counts over all images; the web UI counts over one batch.
        "sampling_step": min(steps, told["step"] // generation.num_images),
        "sampling_steps": steps,
    }


def _words(told: dict) -> str | None:
    if told["queue_position"]:
        return f"Waiting, place {told['queue_position']} in line"
    return {"downloading": "Downloading the model", "loading": "Loading the model"}.get(told["phase"])


def _preview(generation: Generation) -> str | None:
    """The latest preview as base64 of a PNG."""
    preview = store.preview(generation.pk)
    if not preview:
        return None
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(preview)) as image:
        image.convert("RGB").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
