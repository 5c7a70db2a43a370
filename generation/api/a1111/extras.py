"""extra-single-image and extra-batch-images: upscales of ours by 2 or 4, scaled to the size that was asked for."""

from generation.engine.catalog.upscalers import upscaler_title
from generation.engine.errors import InvalidRequest
from generation.engine.request import validate
from generation.engine.request.request import MAX_UPSCALED_SIDE
from generation.models import Upload
from generation.storage.uploads import read_picture

from . import multi_part, names
from .fields import EXTRA_BATCH, EXTRA_SINGLE, read_fields
from .render import drawn, encoded, resized

MAX_PICTURES = 8
FACTORS = (2, 4)


def enlarge_one(request) -> dict:
    """The body of extra-single-image."""

    def read():
        given = read_fields(request.data, EXTRA_SINGLE)
        if not given.get("image"):
            raise InvalidRequest("This must be a picture.", "image")
        return _parts(request.user, given, [given["image"]], "image")

    pictures, page = _enlarge(request, read)
    return {"html_info": page, "image": pictures[0] if pictures else None}


def enlarge_several(request) -> dict:
    """The body of extra-batch-images."""

    def read():
        given = read_fields(request.data, EXTRA_BATCH)
        files = given.get("imageList") or []
        if not 1 <= len(files) <= MAX_PICTURES:
            raise InvalidRequest(f"Between 1 and {MAX_PICTURES} pictures are taken.", "imageList")
        if not all(isinstance(one, dict) for one in files):
            raise InvalidRequest("This must be a list of objects with data and name.", "imageList")
        for one in files:
            validate.text(one.get("name") or "", "imageList", 1000)
        return _parts(request.user, given, [one.get("data") for one in files], "imageList")

    pictures, page = _enlarge(request, read)
    return {"html_info": page, "images": pictures}


def _enlarge(request, read) -> tuple[list[str], str]:
    """The pictures in base64, and some words about them."""
    (targets, crop, upscaler), generations = multi_part.draw(request, read, kind="extras")
    wanted = dict(zip((one.pk for one in generations), targets, strict=False))
    pictures = [encoded(resized(one.data, wanted[one.image.generation_id], crop=crop)) for one in drawn(generations)]
    return pictures, f"<p>{len(pictures)} enlarged with {upscaler}.</p>"


def _parts(user, given: dict, values: list, param: str):
    """What `_enlarge` needs, the words of each generation, and no task."""
    upscaler = names.upscaler_of(given.get("upscaler_1"), "upscaler_1")
    uploads = [read_picture(user, value, param) for value in values]
    crop = given.get("upscaling_crop", True)
    targets = [_target(given, upload, crop, param) for upload in uploads]
    parts = [
        {"upscale": {"image": upload, "factor": _factor(upload, target), "upscaler": upscaler}}
        for upload, target in zip(uploads, targets, strict=True)
    ]
    return (targets, crop, upscaler_title(upscaler)), parts, ""


def _target(given: dict, upload: Upload, crop: bool, param: str) -> tuple[int, int]:
    """The size to answer with, in pixels."""
    width, height = upload.width, upload.height
    if given.get("resize_mode", 0) == 0:
        factor = given.get("upscaling_resize", 2.0)
        return max(1, round(width * factor)), max(1, round(height * factor))
    wanted = given.get("upscaling_resize_w", 512), given.get("upscaling_resize_h", 512)
    if crop:
        target = wanted
    else:
        factor = min(wanted[0] / width, wanted[1] / height)
        target = max(1, round(width * factor)), max(1, round(height * factor))
    if max(target[0] / width, target[1] / height) > FACTORS[-1] or max(target) > MAX_UPSCALED_SIDE:
        raise InvalidRequest(f"Pictures are enlarged {FACTORS[-1]} times at most.", param)
    return target


def _factor(upload: Upload, target: tuple[int, int]) -> int:
    """The smallest of ours that reaches the target."""
    needed = max(target[0] / upload.width, target[1] / upload.height)
    return next(factor for factor in FACTORS if factor >= needed - 0.01 or factor == FACTORS[-1])
