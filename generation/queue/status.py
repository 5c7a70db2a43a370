"""How a generation is described to those who watch it: one shape for the API, the event streams and the pages."""

from datetime import UTC

from django.urls import reverse

from generation.live import store
from generation.models import Generation

from . import estimates

SAVING_SHARE = 0.04
"""The part of the bar kept for decoding and saving, so that it is full only when the picture is there."""

ERROR_WORDS = {
    "worker_lost": "The worker was lost three times while drawing this. It was not counted.",
    "deadline": "This waited too long in the queue and was given up. It was not counted.",
}


def describe(generation: Generation) -> dict:
    return describe_all([generation])[0]


def describe_all(generations) -> list[dict]:
    """Statuses as REQUIREMENTS.md section 1 gives them, with plain JSON values, in the given order.

    Takes two database queries at most (queue positions, unless they were read along; images), however many there are.
    """
    generations = list(generations)
    live = store.live([one.pk for one in generations if one.status == Generation.Status.PROCESSING])
    positions = estimates.queue_positions(generations)
    images = _images_by_generation(generations)
    return [_describe(one, live.get(one.pk), positions.get(one.pk), images.get(one.pk, [])) for one in generations]


def _images_by_generation(generations) -> dict:
    from generation.models import GeneratedImage

    done = [one.pk for one in generations if one.image_count]
    grouped = {}
    if done:
        for image in GeneratedImage.objects.kept().filter(generation_id__in=done).order_by("index"):
            grouped.setdefault(image.generation_id, []).append(image)
    return grouped


def _describe(generation, live, position, images) -> dict:
    phase, step, eta = "queued", 0, None
    if generation.status == Generation.Status.PROCESSING:
        report = live or {"phase": generation.phase or "loading", "step": generation.step}
        phase, step = report["phase"], report["step"]
        eta = remaining_seconds(generation, step)
    elif generation.status == Generation.Status.QUEUED:
        eta = _queued_eta(generation, position)
    elif generation.is_final:
        phase, step = "done", generation.step
    duration = None
    if generation.started_at and generation.finished_at:
        duration = round((generation.finished_at - generation.started_at).total_seconds() * 1000)
    error = {"code": generation.error_code, "message": generation.error_message} if generation.error_code else None
    return {
        "id": str(generation.pk),
        "job_id": str(generation.pk),
        "status": generation.status,
        "cancel_requested": generation.cancel_requested and not generation.is_final,
        "phase": phase,
        "progress": progress_share(generation, phase, step),
        "step": step,
        "steps": generation.total_steps,
        "preview_step": (live or {}).get("preview_step"),
        "queue_position": position,
        "eta_seconds": None if eta is None else round(eta, 1),
        "attempt": generation.attempt,
        "prompt": generation.prompt,
        "model": generation.model,
        "num_images": generation.num_images,
        "images": [describe_image(image) for image in images],
        "result_url": describe_image(images[0])["imageUrl"] if images else None,
        "error": error,
        "error_message": generation.error_message or None,
        "processing_time_ms": duration,
        "created_at": timestamp(generation.created_at),
        "finished_at": timestamp(generation.finished_at) if generation.finished_at else None,
        "status_url": reverse("api-status", args=[generation.pk]),
        "events_url": reverse("api-events", args=[generation.pk]),
        "cancel_url": reverse("api-cancel", args=[generation.pk]),
    }


def progress_share(generation, phase, step) -> float:
    """0 to 1; it is 1 only when the generation has completed."""
    if generation.status == Generation.Status.COMPLETED:
        return 1.0
    return round((1 - SAVING_SHARE) * min(1.0, step / generation.total_steps), 4)


def remaining_seconds(generation, step) -> float | None:
    pace = estimates.seconds_per_step(generation.model, generation.width, generation.height)
    return None if pace is None else pace * max(0, generation.total_steps - step)


def _queued_eta(generation, position) -> float | None:
    wait = estimates.seconds_until_start(position - 1) if position else None
    own = remaining_seconds(generation, 0)
    return None if own is None else (wait or 0) + own


def describe_image(image) -> dict:
    """The short form that statuses carry."""
    return {
        "id": str(image.id),
        "number": image.number,
        "imageUrl": reverse("image-file", args=[image.id]),
        "thumbnailUrl": reverse("image-thumbnail", args=[image.id]),
        "pageUrl": reverse("image", args=[image.short_id]),
        "width": image.width,
        "height": image.height,
        "seed": image.seed,
        "colour": image.colour,
    }


def timestamp(moment) -> str:
    """ISO 8601 in UTC with a Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
