"""Status of a generation for those who watch it: one shape for the API, the event streams and the pages."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.urls import reverse

from generation.live import store
from generation.models import GeneratedImage, Generation
from generation.representation import describe_error, describe_image, describe_request, timestamp

from . import estimates
from .order import queue_positions

SAVING_SHARE = 0.04
"""The part of the bar kept for decoding and saving, so that it is full only when the picture is there."""


def describe(generation: Generation) -> dict[str, Any]:
    """The status of one generation. See `describe_all`."""
    return describe_all([generation])[0]


def describe_all(generations: Iterable[Generation]) -> list[dict[str, Any]]:
    """Statuses as docs/api.md gives them, with plain JSON values, in the given order.

    Takes two database queries at most (queue positions, unless they were read along; images), however many there are.
    """
    rows = list(generations)
    reports = store.latest_reports([row.pk for row in rows if row.status == Generation.Status.PROCESSING])
    positions = queue_positions(rows)
    images = _images_by_generation(rows)
    return [_describe(row, reports.get(row.pk), positions.get(row.pk), images.get(row.pk, [])) for row in rows]


def _images_by_generation(generations: Iterable[Generation]) -> dict[UUID, list[GeneratedImage]]:
    with_images = [generation.pk for generation in generations if generation.image_count]
    grouped: dict[UUID, list[GeneratedImage]] = {}
    if with_images:
        for image in GeneratedImage.objects.kept().filter(generation_id__in=with_images).order_by("index"):
            grouped.setdefault(image.generation_id, []).append(image)
    return grouped


def _describe(
    generation: Generation, report: dict[str, Any] | None, position: int | None, images: list[GeneratedImage]
) -> dict[str, Any]:
    phase, step, eta = _whereabouts(generation, report, position)
    duration = None
    if generation.started_at and generation.finished_at:
        duration = round((generation.finished_at - generation.started_at).total_seconds() * 1000)
    return {
        "id": str(generation.pk),
        "job_id": str(generation.pk),
        "status": generation.status,
        "cancel_requested": generation.cancel_requested and not generation.is_final,
        "phase": phase,
        "progress": progress_share(generation, step),
        "step": step,
        "steps": generation.total_steps,
        "preview_step": (report or {}).get("preview_step"),
        "queue_position": position,
        "eta_seconds": None if eta is None else round(eta, 1),
        "attempt": generation.attempt,
        "prompt": generation.prompt,
        "model": generation.model,
        "num_images": generation.num_images,
        "parent": str(generation.parent_id) if generation.parent_id else None,
        "request": describe_request(generation, generation.owner_id),
        "images": [describe_image(image) for image in images],
        "result_url": describe_image(images[0])["imageUrl"] if images else None,
        "error": describe_error(generation),
        "error_message": generation.error_message or None,
        "processing_time_ms": duration,
        "created_at": timestamp(generation.created_at),
        "finished_at": timestamp(generation.finished_at) if generation.finished_at else None,
        "status_url": reverse("api-status", args=[generation.pk]),
        "events_url": reverse("api-events", args=[generation.pk]),
        "cancel_url": reverse("api-cancel", args=[generation.pk]),
    }


def _whereabouts(
    generation: Generation, report: dict[str, Any] | None, position: int | None
) -> tuple[str, int, float | None]:
    """Phase, steps done, and seconds left: by the worker's latest report, or by the row where there is none."""
    if generation.status == Generation.Status.PROCESSING:
        phase, step = generation.phase or "loading", generation.step
        if report:
            phase, step = report["phase"], report["step"]
        return phase, step, estimates.remaining_seconds(generation, step)
    if generation.status == Generation.Status.QUEUED:
        return "queued", 0, estimates.queued_seconds(generation, position)
    return "done", generation.step, None


def progress_share(generation: Generation, step: int) -> float:
    """0 to 1; it is 1 only when the generation has completed."""
    if generation.status == Generation.Status.COMPLETED:
        return 1.0
    return round((1 - SAVING_SHARE) * min(1.0, step / generation.total_steps), 4)
