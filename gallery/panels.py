"""A generation as people see it: the words, shares and actions that `_job.html` and the dock show."""

import math

from django.urls import reverse

from generation.catalog import model_named
from generation.engine.errors import UnknownModel
from generation.models import Generation
from generation.prompts.styles import STYLES
from generation.queue.status import describe_all

from .picture_actions import offers_for

Status = Generation.Status

DOCK_JOBS = 5
ORDINALS = {1: "Next", 2: "2nd", 3: "3rd"}


def panels(generations) -> list[dict]:
    """One panel for each, in the given order. Two queries at most."""
    generations = list(generations)
    return [
        panel(generation, status) for generation, status in zip(generations, describe_all(generations), strict=True)
    ]


def panel(generation: Generation, status: dict) -> dict:
    """`status` as `generation.queue.status.describe` gives it, with what a person needs to read and press."""
    active = generation.status in Generation.ACTIVE
    cancelling = active and status["cancel_requested"]
    return status | {
        "active": active,
        "cancelling": cancelling,
        "tone": _tone(generation, status),
        "headline": headline(generation, status),
        "time_left": f"about {duration_words(status['eta_seconds'])} left" if _shows_time(status) else "",
        "percent": math.floor(status["progress"] * 100),
        "width": generation.width,
        "height": generation.height,
        "ratio": round(generation.width / generation.height, 4),
        "preview_url": _preview_url(generation, status) if active else "",
        "model_title": model_title(generation.model),
        "style_title": STYLES[generation.style].title if generation.style in STYLES else "",
        "pictures": _pictures(generation, status["images"]),
        "caption": generation.caption,
        "making": making(generation),
        "alt": f"AI-generated image: {generation.caption[:200]}",
        "not_counted": _not_counted(generation),
        "retryable": generation.is_final and generation.status != Status.COMPLETED and not generation.is_erased,
        "url": reverse("job", args=[generation.pk]),
    }


def _pictures(generation: Generation, images: list[dict]) -> list[dict]:
    """The finished pictures, each with what may be made of it."""
    sizes = {(image["width"], image["height"]) for image in images}
    offers = {size: offers_for(generation, *size) for size in sizes}
    return [
        image
        | {
            "short_id": image["pageUrl"].rstrip("/").rpartition("/")[2],
            "offers": offers[image["width"], image["height"]],
        }
        for image in images
    ]


def _shows_time(status) -> bool:
    return status["status"] == Status.PROCESSING and status["phase"] == "generating" and bool(status["eta_seconds"])


def _preview_url(generation, status) -> str:
    if not status["preview_step"]:
        return ""
    return f"{reverse('job-preview', args=[generation.pk])}?s={status['preview_step']}"


def _tone(generation, status) -> str:
    """Which of the looks of the panel: waiting, warming, drawing, finishing, done, wrong or stopped."""
    if generation.status == Status.QUEUED:
        return "waiting"
    if generation.status == Status.PROCESSING:
        return {"generating": "drawing", "saving": "finishing"}.get(status["phase"], "warming")
    if generation.status == Status.COMPLETED:
        return "done"
    return "stopped" if generation.status == Status.CANCELLED else "wrong"


def _not_counted(generation) -> bool:
    """Whether to say that it cost nothing; some messages say so themselves."""
    free = (Status.FAILED, Status.BLOCKED, Status.EXPIRED)
    return generation.status in free and "not counted" not in generation.error_message


def headline(generation: Generation, status: dict) -> str:
    """The one sentence about where it stands."""
    if status["cancel_requested"] and generation.status in Generation.ACTIVE:
        return "Cancelling…"
    match generation.status:
        case Status.QUEUED:
            return _queued(status)
        case Status.PROCESSING:
            return _processing(generation, status)
        case Status.COMPLETED:
            return _completed(generation, status)
        case Status.CANCELLED:
            return _cancelled(generation, status)
        case Status.BLOCKED:
            return "This picture was held back"
        case Status.EXPIRED:
            return "This waited too long and was given up"
    return "The image could not be finished"


def _completed(generation, status) -> str:
    if not status["images"]:
        return "Finished"
    count, requested = generation.image_count, generation.num_images
    pictures = images_word(count) if count == requested else f"{count} of {images_word(requested)}"
    took = f" in {seconds_words(status['processing_time_ms'] / 1000)}" if status["processing_time_ms"] else ""
    return f"{pictures} ready{took}"


def _cancelled(generation, status) -> str:
    if not status["step"] and not generation.image_count:
        return "Cancelled before it began. Not counted."
    kept = f", {images_word(generation.image_count)} kept" if generation.image_count else ""
    return f"Cancelled at step {status['step']}{kept}"


def images_word(count: int, kind: str = "") -> str:
    """`1 image`, `5 images`, `5 more images`."""
    return f"{count} {kind}image{'' if count == 1 else 's'}"


def _queued(status) -> str:
    place = status["queue_position"]
    if not place:
        return "Waiting for a place at the desk"
    line = f"{ORDINALS.get(place, f'{place}th')} in line"
    return f"{line} · ready in about {duration_words(status['eta_seconds'])}" if status["eta_seconds"] else line


def _processing(generation, status) -> str:
    match status["phase"]:
        case "downloading":
            return f"Fetching {model_title(generation.model)} — only needed once"
        case "generating" if generation.mode == "upscale":
            return "Enlarging"
        case "generating":
            return f"Step {status['step']} of {status['steps']}"
        case "saving":
            return "Finishing touches"
    return f"Warming up {model_title(generation.model)} — the first run takes longer"


def spoken(panel: dict) -> str:
    """What a screen reader says about a change of state."""
    if panel["status"] == Status.COMPLETED:
        return f"Done. {images_word(len(panel['pictures']))} ready."
    if panel["status"] == Status.PROCESSING:
        return "Cancelling." if panel["cancelling"] else "Started."
    if panel["status"] == Status.QUEUED:
        return f"Queued, {panel['headline'].split(' · ')[0].lower()}."
    if panel["status"] == Status.CANCELLED:
        return "Cancelled."
    return f"Failed: {panel['error_message'] or panel['headline']}"


def duration_words(seconds: float) -> str:
    """Rounded so that it does not flicker: seconds under 10, fives under a minute, then minutes."""
    if seconds < 10:
        return f"{max(1, math.ceil(seconds))} s"
    if seconds < 57:
        return f"{math.ceil(seconds / 5) * 5} s"
    if seconds < 3600:
        return f"{math.ceil(seconds / 60)} min"
    return f"{math.ceil(seconds / 3600)} h"


def seconds_words(seconds: float) -> str:
    """An exact duration: `12.4 s`, `2 min 5 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def making(generation: Generation) -> str:
    """How a picture came about, where it was not drawn from words alone: `Enlarged 2×`, `Extended`. Else nothing."""
    if generation.mode == "upscale":
        return f"Enlarged {generation.options.get('upscale', {}).get('factor', 2)}×"
    if "variation" in generation.options:
        return "Variation"
    return {"img2img": "Drawn over a picture", "inpaint": "Part redrawn", "outpaint": "Extended"}.get(
        generation.mode, ""
    )


def model_title(key: str) -> str:
    """The model's title; its key when it is no longer offered."""
    try:
        return model_named(key).title
    except UnknownModel:
        return key


def dock_panels(user) -> list[dict]:
    """The latest jobs, those at work first, for the dock."""
    newest = list(Generation.objects.visible_to(user).order_by("-created_at")[:DOCK_JOBS])
    at_work = list(Generation.objects.visible_to(user).active().order_by("created_at")[:DOCK_JOBS])
    shown = (at_work + [generation for generation in newest if generation not in at_work])[:DOCK_JOBS]
    return panels(shown)
