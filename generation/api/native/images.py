"""Images over HTTP: history, detail, change and delete one or many, download in other formats."""

import uuid

from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import api_view
from rest_framework.response import Response

from accounts.authentication import key_scope
from generation.api.http.query import whole
from generation.api.http.requests import ApiRequest
from generation.engine.errors import InvalidRequest
from generation.engine.request.metadata import FORMATS
from generation.models import GeneratedImage, ImageCount, Visibility
from generation.services.images import change_images, delete_images, restore_images, trash_images
from generation.services.parse import flag, text
from generation.storage import serving

from . import openapi as doc
from .serializers.images import IMAGE_ACTIONS, HistoryImage, ImageDetail

READ = ["GET", "HEAD"]
PER_PAGE, MAX_PER_PAGE, MAX_PAGE = 20, 100, 100_000
MAX_AT_ONCE = 100
MAX_TITLE = 120
QUALITY = 90

CHANGES = {
    "favourite": {"favourite": True},
    "unfavourite": {"favourite": False},
    **{visibility: {"visibility": visibility} for visibility in Visibility.values},
}
MOVES = {"trash": trash_images, "restore": restore_images, "delete": delete_images}
"""The actions of `bulk`, with those of CHANGES."""


@extend_schema(**doc.HISTORY)
@api_view(READ)
def history(request) -> Response:
    """Your images, newest first, without those in the trash. By `page`, or by `cursor`, which stays quick."""
    query = request.query_params
    page = whole(query.get("page"), "page", 1, MAX_PAGE, 1)
    per_page = whole(query.get("perPage"), "perPage", 1, MAX_PER_PAGE, PER_PAGE)
    cursor = whole(query.get("cursor"), "cursor", 0, 10**18 - 1, -1)
    own = GeneratedImage.objects.owned_by(request.user).kept().order_by("-number")
    start = 0 if cursor >= 0 else (page - 1) * per_page
    if cursor >= 0:
        own = own.filter(number__lt=cursor)
    # Only numbers are counted off, out of the index; rows are read for this page alone.
    numbers = own.values("number")[start : start + per_page + 1]
    rows = list(
        GeneratedImage.objects.owned_by(request.user)
        .filter(number__in=numbers)
        .select_related("generation")
        .order_by("-number")
    )
    images = rows[:per_page]
    return Response(
        {
            "images": HistoryImage(images, many=True, context={"request": request}).data,
            "total": ImageCount.kept_by(request.user),
            "page": None if cursor >= 0 else page,
            "perPage": per_page,
            "nextCursor": str(images[-1].number) if len(rows) > per_page else None,
        }
    )


@extend_schema(methods=["GET"], **doc.IMAGE)
@extend_schema(methods=["PATCH"], **doc.IMAGE_CHANGE)
@extend_schema(methods=["DELETE"], **doc.IMAGE_DELETE)
@api_view([*READ, "PATCH", "DELETE"])
def image(request, image_id: uuid.UUID) -> Response:
    """One image: what it shows and how it was drawn."""
    if request.method == "DELETE":
        return _delete(request, image_id)
    if request.method == "PATCH":
        return _change(request, image_id)
    images = GeneratedImage.objects.visible_to(request.user).select_related("generation")
    return _detail(request, get_object_or_404(images, id=image_id))


def _detail(request: ApiRequest, image: GeneratedImage) -> Response:
    return Response(ImageDetail(image, context={"request": request}).data)


def _change(request: ApiRequest, image_id: uuid.UUID) -> Response:
    own = GeneratedImage.objects.owned_by(request.user).select_related("generation")
    image = get_object_or_404(own, id=image_id)
    data, changes = request.data, {}
    if data.get("visibility") is not None:
        changes["visibility"] = text(data["visibility"], "visibility")
    if data.get("favourite") is not None:
        changes["favourite"] = flag(data["favourite"], "favourite")
    if data.get("title") is not None:
        changes["title"] = " ".join(text(data["title"], "title", limit=MAX_TITLE).split())
    change_images(request.user, [image], **changes)
    return _detail(request, own.get(pk=image.pk))


def _delete(request: ApiRequest, image_id: uuid.UUID) -> Response:
    permanent = flag(request.query_params.get("permanent"), "permanent")
    image = get_object_or_404(GeneratedImage.objects.owned_by(request.user), id=image_id)
    if permanent:
        delete_images(request.user, [image])
    else:
        trash_images(request.user, [image])
    return Response(status=204)


@extend_schema(**doc.IMAGES_BULK)
@key_scope("manage")
@api_view(["POST"])
def bulk(request) -> Response:
    """Do one thing to many of your images. Those that are not yours, or not there, are left out of the answer."""
    action, ids = request.data.get("action"), _ids(request.data.get("ids"))
    if not isinstance(action, str) or action not in IMAGE_ACTIONS:
        raise InvalidRequest(f"This must be one of {', '.join(IMAGE_ACTIONS)}.", "action")
    own = list(GeneratedImage.objects.owned_by(request.user).filter(id__in=ids).order_by("number"))
    if action in CHANGES:
        change_images(request.user, own, **CHANGES[action])
    else:
        MOVES[action](request.user, own)
    return Response({"action": action, "count": len(own), "ids": [str(image.id) for image in own]})


def _ids(value: object) -> list[uuid.UUID]:
    if isinstance(value, str):
        value = [item.strip() for item in value.split(",")]
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_AT_ONCE:
        raise InvalidRequest(f"This must be a list of 1 to {MAX_AT_ONCE} ids.", "ids")
    try:
        return [uuid.UUID(text(item, "ids")) for item in value]
    except ValueError:
        raise InvalidRequest("This must be a list of ids of images.", "ids") from None


@extend_schema(**doc.IMAGE_DOWNLOAD)
@api_view(READ)
def download(request, image_id: uuid.UUID) -> HttpResponseBase:
    """The file, as `format`, with or without what it says about its making. The mark of its origin always stays."""
    query = request.query_params
    format = query.get("format", "png").lower()
    if format not in FORMATS:
        raise InvalidRequest(f"This must be one of {', '.join(FORMATS)}.", "format")
    quality = whole(query.get("quality"), "quality", 1, 100, QUALITY)
    if query.get("metadata", "keep") not in ("keep", "strip"):
        raise InvalidRequest("This must be keep or strip.", "metadata")
    images = GeneratedImage.objects.visible_to(request.user).select_related("generation")
    return serving.converted_response(
        request,
        get_object_or_404(images, id=image_id),
        format=format,
        quality=quality,
        strip=query.get("metadata") == "strip",
    )
