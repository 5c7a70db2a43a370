"""Rows as plain JSON values, the same for statuses, event streams, webhooks and the API."""

import datetime as dt

from django.urls import reverse

from .models import GeneratedImage, Generation


def describe_image(image: GeneratedImage) -> dict:
    """The short form that statuses and webhook messages carry. URLs are paths of this site."""
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


def describe_error(generation: Generation) -> dict | None:
    """`code` and `message` of a generation that ended with an error, else None."""
    if not generation.error_code:
        return None
    return {"code": generation.error_code, "message": generation.error_message}


def timestamp(moment: dt.datetime) -> str:
    """ISO 8601 in UTC, to the millisecond: `2026-11-21T11:22:33.444Z`."""
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
