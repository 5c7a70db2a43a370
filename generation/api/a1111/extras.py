"""extra-single-image and extra-batch-images: upscales by 2 or 4, resized to the size that was asked for."""

from collections.abc import Callable

from accounts.models import User
from generation.api.http.requests import ApiRequest
from generation.engine.catalog.upscalers import upscaler_title
from generation.engine.errors import InvalidRequest
from generation.engine.request import validate
from generation.engine.request.request import MAX_UPSCALED_SIDE
from generation.models import Upload
from generation.storage.uploads import read_picture

from . import multi_part, names
from .fields import EXTRA_BATCH, EXTRA_SINGLE, read_fields
from .render import finished_images, resized, to_base64

MAX_PICTURES = 8
FACTORS = (2, 4)


def upscale_image(request: ApiRequest) -> dict:
    """The body of extra-single-image."""

    def read() -> tuple:
        fields = read_fields(request.data, EXTRA_SINGLE)
        if not fields.get("image"):
            raise InvalidRequest("This must be a picture.", "image")
        return _parse(request.user, fields, [fields["image"]], "image")

    pictures, html = _upscale(request, read)
    return {"html_info": html, "image": pictures[0] if pictures else None}


def upscale_batch(request: ApiRequest) -> dict:
    """The body of extra-batch-images."""

    def read() -> tuple:
        fields = read_fields(request.data, EXTRA_BATCH)
        files = fields.get("imageList") or []
        if not 1 <= len(files) <= MAX_PICTURES:
            raise InvalidRequest(f"Between 1 and {MAX_PICTURES} pictures are taken.", "imageList")
        if not all(isinstance(file, dict) for file in files):
            raise InvalidRequest("This must be a list of objects with data and name.", "imageList")
        for file in files:
            validate.text(file.get("name") or "", "imageList", 1000)
        return _parse(request.user, fields, [file.get("data") for file in files], "imageList")

    pictures, html = _upscale(request, read)
    return {"html_info": html, "images": pictures}


def _upscale(request: ApiRequest, read: Callable[[], tuple]) -> tuple[list[str], str]:
    """The pictures in base64, and a sentence about them."""
    (targets, crop, upscaler), generations = multi_part.draw(request, read, kind="extras")
    target_of = dict(zip((generation.pk for generation in generations), targets, strict=False))
    pictures = [
        to_base64(resized(picture.data, target_of[picture.image.generation_id], crop=crop))
        for picture in finished_images(generations)
    ]
    return pictures, f"<p>{len(pictures)} enlarged with {upscaler}.</p>"


def _parse(user: User, fields: dict, values: list, param: str) -> tuple:
    """What `multi_part.draw` needs: (targets, crop, title of the upscaler) for `_upscale`, the keyword arguments of
    each generation, and no task."""
    upscaler = names.upscaler_of(fields.get("upscaler_1"), "upscaler_1")
    uploads = [read_picture(user, value, param) for value in values]
    crop = fields.get("upscaling_crop", True)
    targets = [_target(fields, upload, crop, param) for upload in uploads]
    parts = [
        {"upscale": {"image": upload, "factor": _factor(upload, target), "upscaler": upscaler}}
        for upload, target in zip(uploads, targets, strict=True)
    ]
    return (targets, crop, upscaler_title(upscaler)), parts, ""


def _target(fields: dict, upload: Upload, crop: bool, param: str) -> tuple[int, int]:
    """The size to answer with, in pixels."""
    width, height = upload.width, upload.height
    if fields.get("resize_mode", 0) == 0:
        factor = fields.get("upscaling_resize", 2.0)
        return max(1, round(width * factor)), max(1, round(height * factor))
    target = fields.get("upscaling_resize_w", 512), fields.get("upscaling_resize_h", 512)
    if not crop:
        factor = min(target[0] / width, target[1] / height)
        target = max(1, round(width * factor)), max(1, round(height * factor))
    if max(target[0] / width, target[1] / height) > FACTORS[-1] or max(target) > MAX_UPSCALED_SIDE:
        raise InvalidRequest(f"Pictures are enlarged {FACTORS[-1]} times at most.", param)
    return target


def _factor(upload: Upload, target: tuple[int, int]) -> int:
    """The smallest of FACTORS that reaches the target."""
    needed = max(target[0] / upload.width, target[1] / upload.height)
    return next(factor for factor in FACTORS if factor >= needed - 0.01 or factor == FACTORS[-1])
