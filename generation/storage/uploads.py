"""Uploads: pictures to draw from, read from requests, sanitized, and kept privately for a while.

    upload = read_picture(user, request.data["image"], "image")      # a file, base64, a data URI or an image's id
    upload = store_upload(user, data, param="image")                 # bytes

Only a fresh PNG made by `sanitize` is kept; the bytes that came never are.
"""

import base64
import binascii
import contextlib
import hashlib
import io
import logging
import re
import uuid
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from datetime import datetime, timedelta

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.db.models import Count, Q, Sum
from django.db.models.functions import Now
from django.utils import timezone
from PIL import Image

from accounts.models import User
from generation.engine.errors import InvalidRequest
from generation.models import GeneratedImage, Upload
from generation.refusals import PictureTooLarge, StorageAway, TooManyUploads

from . import files
from .sanitizing import clean_png

log = logging.getLogger(__name__)

MIN_BYTES = 24
"""No picture is smaller."""
REUSE_MARGIN = timedelta(hours=1)
DATA_URI = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w.+=-]+)*;base64,", re.IGNORECASE | re.ASCII)

_new_uploads: ContextVar[list[Upload] | None] = ContextVar("new_uploads", default=None)


def read_picture(user: User, value: object, param: str, *, mask: bool | str = False) -> Upload:
    """The picture that `value` is: an uploaded file, base64 text, a data URI, or the id of an upload of `user` or of
    an image that `user` may see. `mask` as in `store_upload`.

    Raises InvalidRequest, PictureTooLarge, UnsupportedPicture, TooManyUploads or StorageAway.
    """
    if isinstance(value, File):
        if value.size > settings.MAX_IMAGE_FILE_SIZE:
            raise _too_large(param)
        return store_upload(user, value.read(), param=param, mask=mask)
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequest("This must be a picture: a file, base64 text, or the id of an image.", param)
    if picture_id := _as_uuid(value):
        return _find_picture(user, picture_id, param, mask)
    if re.match(r"\s*https?:", value[:20], re.IGNORECASE):
        raise InvalidRequest("Addresses are not fetched. Send the picture itself, or the id of an image.", param)
    return store_upload(user, decode_base64(value, param), param=param, mask=mask)


def store_upload(user: User, data: bytes, *, param: str, mask: bool | str = False) -> Upload:
    """Make `data` safe and keep it for UPLOAD_HOURS. The same picture again is the same upload.

    `mask`: False for a picture; True for a mask whose white part changes; "alpha" for one whose transparent part
    does. Raises as `read_picture` does, and nothing is kept then.
    """
    if len(data) > settings.MAX_IMAGE_FILE_SIZE:
        raise _too_large(param)
    return _store(user, data, param, mask)


def _store(user: User, data: bytes, param: str, mask: bool | str) -> Upload:
    _check_room(user, param, 0)
    kind = "alpha" if mask == "alpha" else "mask" if mask else "picture"
    return _keep(user, clean_png(user.pk, data, kind, param), param)


@contextlib.contextmanager
def undone_on_refusal() -> Iterator[None]:
    """Uploads that are new within this block are removed again when an exception leaves it."""
    token = _new_uploads.set([])
    try:
        yield
    except BaseException:
        discard(made_here())
        raise
    finally:
        _new_uploads.reset(token)


def discard(uploads: Iterable[Upload]) -> None:
    """Remove uploads that nothing has asked for again since they were made."""
    for upload in uploads:
        # Whoever was given the same picture again in between has moved its end.
        if Upload.objects.filter(pk=upload.pk, expires_at=upload.expires_at).delete()[0]:
            files.delete_files([upload.file])


def made_here() -> list[Upload]:
    """What `undone_on_refusal` would remove now."""
    return list(_new_uploads.get() or ())


def _too_large(param: str) -> PictureTooLarge:
    limit = settings.MAX_IMAGE_FILE_SIZE / 2**20
    return PictureTooLarge(f"This picture is too large: at most {limit:.3g} MiB are read.", param=param)


def _as_uuid(value: str) -> uuid.UUID | None:
    value = value.strip() if len(value) < 50 else ""
    with contextlib.suppress(ValueError):
        return uuid.UUID(value) if len(value) == 36 else None


def _find_picture(user: User, picture_id: uuid.UUID, param: str, mask: bool | str) -> Upload:
    upload = Upload.objects.owned_by(user).filter(pk=picture_id, expires_at__gt=Now()).first()
    if upload is not None:
        return upload
    image = GeneratedImage.objects.visible_to(user).filter(id=picture_id).first()
    if image is not None:
        try:
            with default_storage.open(image.file) as file:
                # Drawn here, it may be larger than what is taken from outside.
                return _store(user, file.read(), param, mask)
        except FileNotFoundError:
            log.warning("The file of image %s is gone.", image.number)
    raise InvalidRequest("There is no such picture.", param)


def own_image(user: User, value: object) -> GeneratedImage | None:
    """The image of `user` whose id `value` is, if it is one."""
    image_id = _as_uuid(value) if isinstance(value, str) else None
    return None if image_id is None else GeneratedImage.objects.owned_by(user).filter(id=image_id).first()


def decode_base64(value: str, param: str) -> bytes:
    """The bytes of a picture as base64 text, in either alphabet, with or without the head of a data URI.

    Raises PictureTooLarge or InvalidRequest, both with `param`.
    """
    head = DATA_URI.match(value[:200].lstrip())
    encoded = value.lstrip()[head.end() :] if head else value
    if len(encoded) > settings.MAX_IMAGE_FILE_SIZE * 1.5:
        raise _too_large(param)
    with contextlib.suppress(UnicodeEncodeError, binascii.Error):
        digits = b"".join(encoded.encode("ascii").split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
        data = base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
        if len(data) > MIN_BYTES:  # a word may be base64, too
            return data
    raise InvalidRequest("This is neither a picture as base64 text nor the id of an image.", param)


def _keep(user: User, png: bytes, param: str) -> Upload:
    digest = hashlib.sha256(png).hexdigest()
    expires = timezone.now() + timedelta(hours=settings.UPLOAD_HOURS)
    if (earlier := _extend_earlier(user, digest, expires)) is not None:
        return earlier
    with Image.open(io.BytesIO(png), formats=["PNG"]) as header:
        width, height = header.size
    pk = uuid.uuid4()
    upload = Upload(
        pk=pk,
        owner=user,
        file=f"uploads/{timezone.now():%Y/%m}/{pk}.png",
        width=width,
        height=height,
        file_size=len(png),
        sha256=digest,
        expires_at=expires,
    )
    try:
        files.write_file(upload.file, png)
    except Exception as error:
        files.delete_files([upload.file])
        log.error("An upload could not be stored: %s", error)
        raise StorageAway("Pictures cannot be stored at the moment. Please try again later.", retry_after=60) from error
    try:
        with transaction.atomic():
            _one_at_a_time(user)
            _check_room(user, param, len(png))
            upload.save(force_insert=True)
    except BaseException:
        files.delete_files([upload.file])
        raise
    if (new_uploads := _new_uploads.get()) is not None:
        new_uploads.append(upload)
    return upload


def _extend_earlier(user: User, digest: str, expires: datetime) -> Upload | None:
    """The same picture of the same account, kept for longer from now on; None if there is none."""
    # One that ends soon is left to end: its file may be about to be removed.
    earlier = Upload.objects.filter(owner=user, sha256=digest, expires_at__gt=Now() + REUSE_MARGIN).first()
    if earlier is None:
        return None
    if any(upload.pk == earlier.pk for upload in made_here()):
        return earlier  # given twice in one request: moved, it would not be removed again with the others
    # Only ever later: a generation may need it beyond our time.
    expires = max(expires, earlier.expires_at + timedelta(microseconds=1))
    extendable = Upload.objects.filter(pk=earlier.pk, expires_at__gt=Now(), expires_at__lt=expires)
    if not extendable.update(expires_at=expires):
        return None
    earlier.expires_at = expires
    return earlier


def _one_at_a_time(user: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"uploads of user {user.pk}"])


def _check_room(user: User, param: str, new_bytes: int) -> None:
    last_hour = Q(created_at__gt=Now() - timedelta(hours=1))
    totals = Upload.objects.filter(owner=user).aggregate(size=Sum("file_size"), recent=Count("pk", filter=last_hour))
    if totals["recent"] >= settings.UPLOADS_PER_HOUR:
        raise TooManyUploads(
            f"At most {settings.UPLOADS_PER_HOUR} pictures an hour are taken. Please wait a little.",
            param=param,
            retry_after=600,
        )
    if (totals["size"] or 0) + new_bytes > settings.UPLOAD_MEGABYTES * 2**20:
        raise TooManyUploads(
            f"Your pictures to draw from fill their {settings.UPLOAD_MEGABYTES} MiB. They are removed after"
            f" {settings.UPLOAD_HOURS} hours.",
            param=param,
            retry_after=3600,
        )
