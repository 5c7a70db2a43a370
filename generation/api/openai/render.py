"""Response bodies of the OpenAI dialect: images as URLs or base64, in the format that was asked for."""

import base64
import io

from django.core.files.storage import default_storage
from PIL import Image

from generation.api.http.requests import ApiRequest
from generation.api.http.results import NotNow
from generation.api.native.serializers.images import ImageDetail
from generation.engine.request.metadata import convert
from generation.models import GeneratedImage, Generation

from .links import signed_url
from .parse import ParsedRequest

STRICT_SIZES = ("1024x1024", "1024x1536", "1536x1024")
NO_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
"""Nothing here is counted in tokens, but clients expect the field."""


def images_body(
    request: ApiRequest, parsed: ParsedRequest, generation: Generation, images: list[GeneratedImage]
) -> dict:
    """The answer to a call that waited. Next to `data` stands what the native API says of the first image."""
    data = [_image_entry(request, parsed, generation, image) for image in images]
    first = ImageDetail(images[0], context={"request": request}).data if images else {}
    body = dict(first) | {
        "created": int(generation.created_at.timestamp()),
        "data": data,
        "output_format": parsed.format,
    }
    # Only values that strict clients know; a client takes a field that is left out for unknown.
    size = f"{generation.width}x{generation.height}"
    body |= {"size": size} if size in STRICT_SIZES else {}
    body |= {"quality": parsed.quality} if parsed.quality != "auto" else {}
    return body


def _image_entry(request: ApiRequest, parsed: ParsedRequest, generation: Generation, image: GeneratedImage) -> dict:
    if parsed.base64:
        entry = {"b64_json": base64_image(image, parsed)}
    else:
        entry = {"url": signed_url(request, image, parsed.format, parsed.compression)}
    if generation.composed_prompt != generation.prompt:
        entry["revised_prompt"] = generation.composed_prompt
    return entry


def base64_image(image: GeneratedImage, parsed: ParsedRequest) -> str:
    """The file in the asked format as base64."""
    try:
        with default_storage.open(image.file) as stored:
            data = stored.read()
    except FileNotFoundError:
        raise NotNow("The picture was deleted a moment ago.") from None
    return base64.b64encode(convert(data, parsed.format, parsed.compression)).decode()


def base64_preview(webp: bytes, parsed: ParsedRequest) -> str:
    """A live preview in the asked format as base64."""
    with Image.open(io.BytesIO(webp), formats=["WEBP"]) as preview:
        out = io.BytesIO()
        preview.convert("RGB").save(out, parsed.format.upper())
    return base64.b64encode(out.getvalue()).decode()


def event_fields(parsed: ParsedRequest, generation: Generation) -> dict:
    """What every event of a stream says."""
    size = f"{generation.width}x{generation.height}"
    return {
        "created_at": int(generation.created_at.timestamp()),
        "background": "opaque",
        "quality": parsed.quality,
        "size": size if size in STRICT_SIZES else "auto",
        "output_format": parsed.format,
    }
