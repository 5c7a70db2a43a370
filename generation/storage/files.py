"""Picture files in the default storage: names, writing a PNG with its thumbnails, deleting."""

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
from generation.engine.request.metadata import XMP, encode_png

log = logging.getLogger(__name__)

THUMBNAIL_QUALITY = 85
WIDE_THUMBNAILS = (512, 1024)
"""Longer sides, in pixels, of the thumbnails beside the one of THUMBNAIL_SIZE."""
WIDE_QUALITY = 78


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
    thumbnail_size: int


class ImageFiles(Protocol):
    """The storage names of a picture's PNG and WebPs: a StoredImage or a GeneratedImage."""

    @property
    def file(self) -> str: ...

    @property
    def thumbnail(self) -> str: ...

    @property
    def thumbnail_size(self) -> int: ...


def store_image(image: EngineImage, request: ImageRequest) -> StoredImage:
    """Write `image` as PNG with what `request` asked for, and its thumbnails.

    Raises StorageUnavailable, leaving nothing.
    """
    image_id = uuid.uuid4()
    folder = timezone.now().strftime("%Y/%m")
    file, thumbnail = f"generated_images/{folder}/{image_id}.png", f"thumbnails/{folder}/{image_id}.webp"
    png = encode_png(image.pixels, request=request, seed=image.seed, recipe=image.recipe)
    contents = {file: png} | thumbnails(image.pixels, thumbnail)
    try:
        for name, content in contents.items():
            write_file(name, content)
    except Exception as error:
        delete_files(contents)
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
        thumbnail_size=widest_thumbnail(*image.pixels.size),
    )


def wide_thumbnail_sizes(width: int, height: int) -> list[int]:
    """Which of WIDE_THUMBNAILS a picture has: those that show more than half their size already does."""
    return [size for size in WIDE_THUMBNAILS if max(width, height) > size // 2]


def widest_thumbnail(width: int, height: int) -> int:
    """The value of `thumbnail_size` once all of a picture's thumbnails are there."""
    return max(wide_thumbnail_sizes(width, height), default=0)


def wide_thumbnail_name(thumbnail: str, size: int) -> str:
    """The storage name of a wider thumbnail, beside the smallest: `…/<id>-512.webp` of `…/<id>.webp`."""
    return f"{thumbnail.removesuffix('.webp')}-{size}.webp"


def smallest_thumbnail_name(name: str) -> str:
    """The other way round: the name that the row has, of any thumbnail of the picture."""
    for size in WIDE_THUMBNAILS:
        if name.endswith(suffix := f"-{size}.webp"):
            return f"{name.removesuffix(suffix)}.webp"
    return name


def thumbnails(pixels: Image.Image, thumbnail: str) -> dict[str, bytes]:
    """The thumbnails of a picture, by storage name."""
    made = {thumbnail: thumbnail_bytes(pixels)}
    for size in wide_thumbnail_sizes(*pixels.size):
        made[wide_thumbnail_name(thumbnail, size)] = thumbnail_bytes(pixels, size)
    return made


def thumbnail_bytes(pixels: Image.Image, size: int = 0) -> bytes:
    """A WebP that fits `size` pixels (else THUMBNAIL_SIZE) on its longer side; smaller pictures keep their size.

    It says that a machine made it, as the picture does.
    """
    small = pixels.convert("RGB")
    longer = size or settings.THUMBNAIL_SIZE
    small.thumbnail((longer, longer), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=WIDE_QUALITY if size else THUMBNAIL_QUALITY, xmp=XMP.encode())
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


def image_file_names(image: ImageFiles) -> list[str]:
    """Everything that is stored of a picture: its PNG and every thumbnail."""
    wide = [wide_thumbnail_name(image.thumbnail, size) for size in WIDE_THUMBNAILS if size <= image.thumbnail_size]
    return [image.file, image.thumbnail, *wide]


def delete_image_files(images: Iterable[ImageFiles]) -> None:
    """Delete everything that is stored of each. See `delete_files`."""
    delete_files(name for image in images for name in image_file_names(image))


def disk_is_full() -> bool:
    """True when a local media disk has less than MIN_FREE_DISK_BYTES left; workers claim nothing then."""
    if settings.STORAGE != "local":
        return False
    with contextlib.suppress(OSError):
        folder = Path(settings.MEDIA_ROOT)
        folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(folder).free < settings.MIN_FREE_DISK_BYTES
    return True
