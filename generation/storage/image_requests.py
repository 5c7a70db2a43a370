"""Generation rows as the engine's ImageRequest, with their uploads as pictures that are read when needed."""

import logging

from django.core.files.storage import default_storage
from PIL import Image

from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import ImageRequest, Picture
from generation.engine.request.options import from_options
from generation.models import Generation, Upload

log = logging.getLogger(__name__)


def request_of(generation: Generation) -> ImageRequest:
    """What the engine is asked to draw. Pictures are read when the engine loads them, not before."""
    return ImageRequest(
        model=generation.model,
        prompt=generation.composed_prompt,
        negative_prompt=generation.composed_negative_prompt,
        width=generation.width,
        height=generation.height,
        steps=generation.steps,
        guidance_scale=generation.guidance_scale,
        sampler=generation.sampler,
        seed=generation.seed,
        num_images=generation.num_images,
        **from_options(generation.options, load_upload),
    )


def picture_of(upload: Upload) -> Picture:
    """An upload as a picture of an ImageRequest, named by the upload's id."""
    upload_id = str(upload.pk)
    return Picture(upload_id, upload.width, upload.height, upload.sha256, lambda: load_upload(upload_id))


def load_upload(upload_id: str) -> Image.Image:
    """The pixels of an upload: RGB, or L for a mask. Raises InvalidRequest when it is no longer kept."""
    upload = Upload.objects.filter(pk=upload_id).first()
    if upload is not None:
        try:
            with default_storage.open(upload.file) as file:
                pixels = Image.open(file, formats=["PNG"])
                pixels.load()
                return pixels
        except FileNotFoundError:
            log.warning("The file of upload %s is gone.", upload_id)
    raise InvalidRequest("The picture to start from is no longer kept. Please give it again.", "image")
