"""Inpainting masks of the A1111 dialect: white changes, or black where they are inverted."""

import io

from PIL import ImageOps

from accounts.models import User
from generation.models import Upload
from generation.storage.image_requests import load_upload
from generation.storage.uploads import read_picture, store_upload


def read_mask(user: User, value: str, *, inverted: bool) -> Upload:
    """The mask as an upload, white for what changes."""
    mask = read_picture(user, value, "mask", mask=True)
    if not inverted:
        return mask
    buffer = io.BytesIO()
    ImageOps.invert(load_upload(str(mask.pk)).convert("L")).save(buffer, "PNG")
    return store_upload(user, buffer.getvalue(), param="mask", mask=True)
