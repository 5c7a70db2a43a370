"""What is answered: images as addresses or as base64, in the format that was asked for."""

import base64
import io

from django.core.files.storage import default_storage
from PIL import Image

from generation.api.http.results import NotNow
from generation.api.native import serializers as shapes
from generation.engine.request.metadata import convert
from generation.models import GeneratedImage, Generation

from .links import link
from .parse import Asked

STRICT_SIZES = ("1024x1024", "1024x1536", "1536x1024")
NO_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
"""Nothing here is counted in tokens, but clients expect the field."""


def described(request, asked: Asked, generation: Generation, images: list[GeneratedImage]) -> dict:
    """The answer to a call that waited. Next to `data` stands what the native API says of the first image."""
    data = [_one(request, asked, generation, image) for image in images]
    first = shapes.ImageDetail(images[0], context={"request": request}).data if images else {}
    answer = dict(first) | {
        "created": int(generation.created_at.timestamp()),
        "data": data,
        "output_format": asked.format,
    }
    # Only values that strict clients know; a client takes a field that is left out for unknown.
    size = f"{generation.width}x{generation.height}"
    answer |= {"size": size} if size in STRICT_SIZES else {}
    answer |= {"quality": asked.quality} if asked.quality != "auto" else {}
    return answer


def _one(request, asked, generation, image) -> dict:
    one = (
        {"b64_json": encoded(image, asked)}
        if asked.base64
        else {"url": link(request, image, asked.format, asked.compression)}
    )
    if generation.composed_prompt != generation.prompt:
        one["revised_prompt"] = generation.composed_prompt
    return one


def encoded(image: GeneratedImage, asked: Asked) -> str:
    """The file in the asked format as base64."""
    try:
        with default_storage.open(image.file) as stored:
            data = stored.read()
    except FileNotFoundError:
        raise NotNow("The picture was deleted a moment ago.") from None
    return base64.b64encode(convert(data, asked.format, asked.compression)).decode()


def encoded_preview(webp: bytes, asked: Asked) -> str:
    """A live preview in the asked format as base64."""
    with Image.open(io.BytesIO(webp), formats=["WEBP"]) as preview:
        out = io.BytesIO()
        preview.convert("RGB").save(out, asked.format.upper())
    return base64.b64encode(out.getvalue()).decode()


def event_fields(asked: Asked, generation: Generation) -> dict:
    """What every event of a stream says."""
    size = f"{generation.width}x{generation.height}"
    return {
        "created_at": int(generation.created_at.timestamp()),
        "background": "opaque",
        "quality": asked.quality,
        "size": size if size in STRICT_SIZES else "auto",
        "output_format": asked.format,
    }
