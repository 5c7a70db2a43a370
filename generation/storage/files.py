"""Picture files in the default storage: names, writing a PNG with its thumbnail, deleting."""

import contextlib
import hashlib
import io
import logging
import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone
from PIL import Image

from generation.engine.protocol import EngineImage
from generation.engine.request.fields import ImageRequest
from generation.engine.request.metadata import encode_png

log = logging.getLogger(__name__)

THUMBNAIL_QUALITY = 85


class StorageUnavailable(Exception):
    """The picture could not be stored (full disk, storage away). Worth another attempt."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A picture whose files exist and whose row does not yet. `seconds`: how long drawing it took."""

    id: uuid.UUID
    index: int
    seed: int
    file: str
    thumbnail: str
    width: int
    height: int
    file_size: int
    sha256: str
    colour: str
    seconds: float


class ImageFiles(Protocol):
    """The storage names of a picture's PNG and WebP: a StoredImage or a GeneratedImage."""

    @property
    def file(self) -> str: ...

    @property
    def thumbnail(self) -> str: ...


def store_image(image: EngineImage, request: ImageRequest) -> StoredImage:
    """Write `image` as PNG with what `request` asked for, and its thumbnail.

    Raises StorageUnavailable, leaving nothing.
    """
    image_id = uuid.uuid4()
    folder = timezone.now().strftime("%Y/%m")
    file, thumbnail = f"generated_images/{folder}/{image_id}.png", f"thumbnails/{folder}/{image_id}.webp"
    png = encode_png(image.pixels, request=request, seed=image.seed, recipe=image.recipe)
    try:
        for name, content in ((file, png), (thumbnail, thumbnail_bytes(image.pixels))):
            write_file(name, content)
    except Exception as error:
        delete_files([file, thumbnail])
        raise StorageUnavailable(f"The picture could not be stored: {error}") from error
    return StoredImage(
        id=image_id,
        index=image.index,
        seed=image.seed,
        file=file,
        thumbnail=thumbnail,
        width=image.pixels.width,
        height=image.pixels.height,
        file_size=len(png),
        sha256=hashlib.sha256(png).hexdigest(),
        colour=dominant_colour(image.pixels),
        seconds=image.seconds,
    )


def thumbnail_bytes(pixels: Image.Image) -> bytes:
    """A WebP that fits THUMBNAIL_SIZE pixels on its longer side (Lanczos); smaller pictures keep their size."""
    small = pixels.convert("RGB")
    small.thumbnail((settings.THUMBNAIL_SIZE, settings.THUMBNAIL_SIZE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()


def dominant_colour(pixels: Image.Image) -> str:
    """The mean colour of the most common of eight clusters, as #rrggbb."""
    clusters = pixels.convert("RGB").resize((32, 32)).quantize(8)
    _, index = max((count, index) for index, count in enumerate(clusters.histogram()))
    palette = clusters.getpalette() or []
    red, green, blue = palette[index * 3 : index * 3 + 3]
    return f"#{red:02x}{green:02x}{blue:02x}"


def write_file(name: str, content: bytes) -> None:
    """Store under exactly that name. On a local disk: a temporary name, fsync, rename."""
    if settings.STORAGE != "local":
        saved = default_storage.save(name, ContentFile(content))
        if saved != name:
            default_storage.delete(saved)
            raise FileExistsError(name)
        return
    path = Path(default_storage.path(name))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    part = path.with_suffix(path.suffix + ".part")
    try:
        with open(part, "wb", opener=lambda part_path, flags: os.open(part_path, flags, 0o640)) as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def delete_files(names: Iterable[str]) -> None:
    """Delete stored files; a missing one is no error, and `prune` deletes what stays behind."""
    for name in names:
        try:
            default_storage.delete(name)
        except Exception as error:  # any storage error: the row is gone, and the orphan is swept later
            log.warning("%s could not be deleted: %s", name, error)


def delete_image_files(images: Iterable[ImageFiles]) -> None:
    """Delete the PNG and the thumbnail of each. See `delete_files`."""
    delete_files(name for image in images for name in (image.file, image.thumbnail))


def disk_is_full() -> bool:
    """True when a local media disk has less than MIN_FREE_DISK_BYTES left; workers claim nothing then."""
    if settings.STORAGE != "local":
        return False
    with contextlib.suppress(OSError):
        folder = Path(settings.MEDIA_ROOT)
        folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(folder).free < settings.MIN_FREE_DISK_BYTES
    return True
