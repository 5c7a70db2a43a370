"""Back-fill: the thumbnails that pictures of earlier versions lack, made of their PNGs, a batch at a time."""

import io
import logging
from collections.abc import Iterator

from django.core.files.storage import default_storage
from django.db.models import F, Q
from django.db.models.functions import Greatest
from PIL import Image

from generation.models import GeneratedImage
from generation.storage.files import (
    WIDE_THUMBNAILS,
    delete_files,
    thumbnail_bytes,
    wide_thumbnail_name,
    wide_thumbnail_sizes,
    widest_thumbnail,
    write_file,
)

log = logging.getLogger(__name__)

BATCH = 200


def make_thumbnails() -> Iterator[tuple[int, int]]:
    """Make what is lacking, newest pictures first; yields how many were made, and how many could not be, so far.

    May be stopped and run again, and beside everything else: it goes on where something is lacking.
    """
    made = unmade = 0
    below = None
    while rows := list(_lacking(below)[:BATCH]):
        below = rows[-1].number
        for image in rows:
            if _make(image):
                made += 1
            else:
                unmade += 1
        yield made, unmade


def _lacking(below: int | None):
    longer = Greatest(F("width"), F("height"))
    lacking = Q()
    for size in WIDE_THUMBNAILS:
        lacking |= Q(longer__gt=size // 2, thumbnail_size__lt=size)
    images = GeneratedImage.objects.alias(longer=longer).filter(lacking).order_by("-number")
    images = images.only("file", "thumbnail", "thumbnail_size", "width", "height")
    return images if below is None else images.filter(number__lt=below)


def _make(image: GeneratedImage) -> bool:
    try:
        with default_storage.open(image.file) as stored, Image.open(io.BytesIO(stored.read()), formats=["PNG"]) as png:
            pixels = png.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        log.warning("No thumbnails of %s: %s", image.file, error)
        return False
    names = []
    for size in wide_thumbnail_sizes(*pixels.size):
        names.append(wide_thumbnail_name(image.thumbnail, size))
        if not default_storage.exists(names[-1]):
            write_file(names[-1], thumbnail_bytes(pixels, size))
    widest = widest_thumbnail(*pixels.size)
    # Deleted for good meanwhile: then nobody else would delete these.
    if not GeneratedImage.objects.filter(pk=image.pk).update(thumbnail_size=widest):
        delete_files(names)
    return True
