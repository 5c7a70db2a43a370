"""Pillow pictures: preview encoding, the check for black pictures, and resampling filters by name. No torch."""

import io

from PIL import Image

from generation.engine.errors import BadOutput

PREVIEW_SIDE = 256
RESAMPLING = {"lanczos": Image.Resampling.LANCZOS, "nearest": Image.Resampling.NEAREST}
"""By the names of the upscalers that need no model."""


def encode_preview(picture: Image.Image, width: int, height: int) -> bytes:
    """A small WebP of `picture`, shaped like the `width` x `height` pixels it will become.

    The longer side is at most 256 px. Method 0 because this runs between two steps: 1.5 ms at 256 x 256.
    """
    scale = min(PREVIEW_SIDE / max(width, height), 1.0)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    out = io.BytesIO()
    picture.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(out, "WEBP", quality=60, method=0)
    return out.getvalue()


def refuse_black(picture: Image.Image) -> None:
    """Raise BadOutput if every pixel is black.

    Numerical failure in half precision and some safety filters show up as a black picture and nothing
    else (huggingface/diffusers#845, #3422); a user must never be charged for one.
    """
    if all(high == 0 for _, high in picture.convert("RGB").getextrema()):
        raise BadOutput("The model returned a black picture. Try another seed, sampler or size.")
