"""The images of an ended generation, or the HTTP error that says why there are none."""

from rest_framework.exceptions import APIException

from generation.models import GeneratedImage, Generation

TRY_AGAIN_SECONDS = 30
REQUEST_FAULTS = ("out_of_memory", "bad_output", "invalid_request")
"""Ends of a generation that another request may avoid."""


class NotDrawn(APIException):
    """There are no images, because of what was asked for or because it was cancelled. `default_code` says why."""

    status_code = 422

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.default_code = code


class NotNow(APIException):
    """There are no images, and not because of what was asked for."""

    status_code = 503
    default_code = "not_finished"
    wait = TRY_AGAIN_SECONDS


def images_of(generation: Generation) -> list[GeneratedImage]:
    """The images of an ended generation, those in the trash too. Raises NotDrawn or NotNow where it has none."""
    images = list(GeneratedImage.objects.filter(generation=generation).order_by("index"))
    for image in images:
        image.generation = generation
    if images or generation.status == Generation.Status.COMPLETED:
        return images
    message = generation.error_message or f"No image came of this: it was {generation.status}."
    if generation.status == Generation.Status.CANCELLED:
        raise NotDrawn("cancelled", message)
    if generation.status == Generation.Status.BLOCKED or generation.error_code in REQUEST_FAULTS:
        raise NotDrawn(generation.error_code or generation.status, message)
    raise NotNow(message)
