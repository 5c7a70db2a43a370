"""Views and responses that serve image files after a permission check: the only way out for a stored file."""

import re
from collections.abc import Callable
from urllib.parse import quote
from uuid import UUID

from django.conf import settings
from django.core.files.storage import default_storage
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.cache import get_conditional_response
from django.utils.http import content_disposition_header, http_date
from django.views.decorators.http import require_safe

from accounts.authentication import user_of
from generation.engine.request import metadata
from generation.models import GeneratedImage, Upload

from .files import WIDE_THUMBNAILS, wide_thumbnail_name

GONE = "The picture was deleted a moment ago."
VARIANTS = {"file": ("file", "image/png"), "thumbnail": ("thumbnail", "image/webp")}


@require_safe
def image_file(request: HttpRequest, image_id: UUID) -> HttpResponse:
    """The PNG of an image, for `/media/images/<id>.png`."""
    return image_response(request, visible_image(request, id=image_id), "file")


@require_safe
def image_thumbnail(request: HttpRequest, image_id: UUID, size: int | None = None) -> HttpResponse:
    """A WebP thumbnail of an image: `/media/thumbnails/<id>.webp`, or `<id>-<size>.webp` for one of WIDE_THUMBNAILS.

    A picture from before there were several, or a small one, answers with the widest that it has.
    """
    if size not in (None, *WIDE_THUMBNAILS):
        raise Http404("There are no thumbnails of that size.")
    image = visible_image(request, id=image_id)
    size = min(size or 0, image.thumbnail_size)
    if not size:
        return image_response(request, image, "thumbnail")
    return _response(
        request,
        image,
        f"{image.sha256[:32]}-thumbnail-{size}",
        "image/webp",
        file_name(image, "webp"),
        False,
        lambda: _file_response(wide_thumbnail_name(image.thumbnail, size)),
    )


def visible_image(request: HttpRequest, **lookup) -> GeneratedImage:
    """The image that the caller (session or API key) may see, else 404."""
    images = GeneratedImage.objects.visible_to(user_of(request)).select_related("generation")
    return get_object_or_404(images, **lookup)


def image_response(
    request: HttpRequest, image: GeneratedImage, variant: str, *, download: bool = False
) -> HttpResponse:
    """The stored bytes of one variant ("file" or "thumbnail"). The caller has checked the permission."""
    field, content_type = VARIANTS[variant]
    return _response(
        request,
        image,
        f"{image.sha256[:32]}-{variant}",
        content_type,
        file_name(image),
        download,
        lambda: _file_response(getattr(image, field)),
    )


def converted_response(
    request: HttpRequest, image: GeneratedImage, *, format: str, quality: int, strip: bool
) -> HttpResponse:
    """The image to save, as png, jpeg or webp (see `engine.metadata`). The caller has checked the permission."""
    convert = metadata.strip if strip else metadata.convert
    variant = "plain" if strip else "full"
    return _response(
        request,
        image,
        f"{image.sha256[:32]}-{variant}-{format}-{quality}",
        f"image/{format}",
        file_name(image, format),
        True,
        lambda: HttpResponse(convert(_read(image.file), format, quality)),
    )


def upload_response(request: HttpRequest, upload: Upload) -> HttpResponse:
    """The bytes of a picture to draw from. The caller has checked that it is the visitor's own."""
    return _guarded(
        request,
        f'"{upload.sha256[:32]}-upload"',
        upload.created_at.timestamp(),
        "image/png",
        lambda: _file_response(upload.file),
    )


def _response(
    request: HttpRequest,
    image: GeneratedImage,
    version: str,
    content_type: str,
    name: str,
    download: bool,
    make_response: Callable[[], HttpResponse],
) -> HttpResponse:
    """The bytes of a `version` never change, so it serves as ETag. `make_response()` gives them, where they are
    needed."""
    response = _guarded(request, f'"{version}"', image.created_at.timestamp(), content_type, make_response)
    response["Content-Disposition"] = content_disposition_header(download, name) or "inline"
    return response


def _guarded(
    request: HttpRequest, etag: str, changed: float, content_type: str, make_response: Callable[[], HttpResponse]
) -> HttpResponse:
    """Permission may be withdrawn, so browsers ask each time; and what is served is a picture and nothing else."""
    response = get_conditional_response(request, etag, int(changed))
    if response is None:
        response = make_response()
        response["Content-Type"] = content_type
    response["ETag"] = etag
    response["Last-Modified"] = http_date(changed)
    response["Cache-Control"] = "private, no-cache"
    response["Vary"] = "Cookie, Authorization"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def _file_response(name: str) -> HttpResponse:
    """The file's bytes, or a header that lets the proxy send it (`MEDIA_ACCEL_REDIRECT`)."""
    if not settings.MEDIA_ACCEL_REDIRECT:
        return HttpResponse(_read(name))
    if not default_storage.exists(name):
        raise Http404(GONE)
    return HttpResponse(headers={"X-Accel-Redirect": settings.MEDIA_ACCEL_REDIRECT + quote(name)})


def _read(name: str) -> bytes:
    # Whole, not streamed: Django's file streaming is synchronous, and pictures are small.
    try:
        with default_storage.open(name) as file:
            return file.read()
    except FileNotFoundError:
        raise Http404(GONE) from None


def file_name(image: GeneratedImage, format: str = "png") -> str:
    """A friendly name: words of the prompt and the image's number. `a-red-boat-at-sea-17.png`."""
    name_parts = re.findall(r"[a-z0-9]+", image.generation.prompt.lower())[:8]
    return f"{'-'.join(name_parts)[:60] or 'dreamsketch'}-{image.number}.{'jpg' if format == 'jpeg' else format}"
