"""Rows as plain JSON values, the same for statuses, event streams, webhooks and the API."""

import datetime as dt
from typing import Any

from django.urls import reverse

from .engine.request.fields import Picture
from .engine.request.options import to_dict
from .models import GeneratedImage, Generation
from .storage.image_requests import request_of


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


def describe_request(generation: Generation, viewer_id: int | None) -> dict[str, Any]:
    """Every field that a generation is drawn with, as our JSON API spells it, with style and visibility.

    Prompts are those that the model gets, with the words of style and model. Only the owner learns the ids of pictures,
    which are what the `image` of another request may be.
    """
    is_owner = generation.owner_id == viewer_id

    def describe_picture(picture: Picture) -> dict[str, Any]:
        name = picture.name if is_owner else None
        return {"id": name, "width": picture.width, "height": picture.height, "sha256": picture.digest}

    fields = to_dict(request_of(generation), describe_picture)
    return fields | {"style": generation.style, "visibility": generation.visibility}


def timestamp(moment: dt.datetime) -> str:
    """ISO 8601 in UTC, to the millisecond: `2026-11-21T11:22:33.444Z`."""
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
