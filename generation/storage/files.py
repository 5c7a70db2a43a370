"""Where pictures lie: storage names, writing a PNG with its thumbnail, removing them."""

import contextlib
import hashlib
import io
import logging
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone
from PIL import Image

from generation.engine.errors import InvalidRequest
from generation.engine.protocol import EngineImage
from generation.engine.request.metadata import encode_png

log = logging.getLogger(__name__)

THUMBNAIL_QUALITY = 85


class StorageUnavailable(Exception):
    """The picture could not be stored (full disk, storage away). Worth another attempt."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A picture whose files exist, not yet known to the database. `seconds` it took to draw."""

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


def store_image(generation, image: EngineImage) -> StoredImage:
    """Write `image` as PNG with its recipe, and its thumbnail. Raises StorageUnavailable, leaving nothing."""
    name = uuid.uuid4()
    folder = timezone.now().strftime("%Y/%m")
    file, thumbnail = f"generated_images/{folder}/{name}.png", f"thumbnails/{folder}/{name}.webp"
    png = encode_png(image.pixels, request=generation.request(), seed=image.seed, recipe=image.recipe)
    try:
        for target, content in ((file, png), (thumbnail, thumbnail_bytes(image.pixels))):
            write_file(target, content)
    except Exception as error:
        delete_files([file, thumbnail])
        raise StorageUnavailable(f"The picture could not be stored: {error}") from error
    return StoredImage(
        id=name,
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


def load_upload(name: str) -> Image.Image:
    """The pixels of an upload, by its id. Raises InvalidRequest when it is no longer kept."""
    from generation.models import Upload

    upload = Upload.objects.filter(pk=name).first()
    try:
        if upload is not None:
            with default_storage.open(upload.file) as stored:
                pixels = Image.open(stored, formats=["PNG"])
                pixels.load()
                return pixels
    except FileNotFoundError:
        log.warning("The file of upload %s is gone.", name)
    raise InvalidRequest("The picture to start from is no longer kept. Please give it again.", "image")


def thumbnail_bytes(pixels: Image.Image) -> bytes:
    """A WebP that fits THUMBNAIL_SIZE pixels on its longer side (Lanczos); smaller pictures keep their size."""
    small = pixels.convert("RGB")
    small.thumbnail((settings.THUMBNAIL_SIZE, settings.THUMBNAIL_SIZE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()


def dominant_colour(pixels: Image.Image) -> str:
    """The mean colour of the most common of eight clusters, as #rrggbb."""
    small = pixels.convert("RGB").resize((32, 32)).quantize(8)
    _, index = max(small.getcolors())
    red, green, blue = small.getpalette()[index * 3 : index * 3 + 3]
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
        with open(part, "wb", opener=lambda target, flags: os.open(target, flags, 0o640)) as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def delete_files(names) -> None:
    """Remove stored files; one that is already gone is no error, and `prune` removes what stays behind."""
    for name in names:
        try:
            default_storage.delete(name)
        except Exception as error:  # any storage error: the row is gone, and the orphan is swept later
            log.warning("%s could not be deleted: %s", name, error)


def disk_is_full() -> bool:
    """True when a local media disk has less than MIN_FREE_DISK_BYTES left; workers claim nothing then."""
    if settings.STORAGE != "local":
        return False
    with contextlib.suppress(OSError):
        folder = Path(settings.MEDIA_ROOT)
        folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(folder).free < settings.MIN_FREE_DISK_BYTES
    return True
