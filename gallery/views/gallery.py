"""Views of the gallery: grids of one's own images with filters, bulk actions, undo and the ZIP download."""

import datetime as dt
import itertools
import tempfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import PurePosixPath

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core import signing
from django.core.exceptions import BadRequest
from django.core.files.storage import default_storage
from django.db.models import Q
from django.http import Http404, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from generation.catalog import catalog
from generation.models import GeneratedImage, GeneratedImageQuerySet, ImageCount
from generation.services.images import delete_images, restore_images, set_favourite, trash_images
from generation.storage.serving import file_name

from ..forms import MOST_SELECTED, selected_numbers
from ..htmx import PageRequest, announce, came_from, reload_htmx, wants_fragment
from ..panels import images_word

PAGE_IMAGES = 40
MAX_PAGE_IMAGES = 200
"""A reload shows again what was loaded, up to this many."""
ZIP_IMAGES = 200
UNDO_SECONDS = 3600
UNDO_SALT = "gallery.undo"
VIEWS = {"gallery": "All", "gallery-favourites": "Favourites", "trash": "Trash"}


@login_required
@require_safe
def gallery(request: PageRequest) -> HttpResponse:
    return _grid(request, "gallery", GeneratedImage.objects.owned_by(request.user).kept())


@login_required
@require_safe
def favourites(request: PageRequest) -> HttpResponse:
    kept = GeneratedImage.objects.owned_by(request.user).kept()
    return _grid(request, "gallery-favourites", kept.filter(favourite=True))


@login_required
@require_safe
def trash(request: PageRequest) -> HttpResponse:
    return _grid(request, "trash", GeneratedImage.objects.owned_by(request.user).trashed())


def _grid(request: PageRequest, view: str, images: GeneratedImageQuerySet) -> HttpResponse:
    matches = _filtered(images, request.GET)
    before, upto = _number(request.GET.get("before")), _number(request.GET.get("upto"))
    shown = matches.filter(number__lt=before) if before else matches
    limit = PAGE_IMAGES
    if upto and not before:
        limit = min(MAX_PAGE_IMAGES, max(PAGE_IMAGES, matches.filter(number__gte=upto).count()))
    rows = list(shown.select_related("generation")[: limit + 1])
    next_before = rows[limit - 1].number if len(rows) > limit else None
    rows = rows[:limit]
    filters = {name: request.GET[name] for name in ("q", "model") if request.GET.get(name)}
    context = {
        "view": view,
        "views": VIEWS,
        "days": _days(rows, request.GET.get("day", "")),
        "rows": rows,
        "filters": filters,
        "query": urlencode(filters),
        "before": before,
        "next_before": next_before,
        "last_day": f"{rows[-1].created_at:%Y-%m-%d}" if rows else "",
        "trash_days": settings.TRASH_DAYS,
    }
    if wants_fragment(request) and before:
        response = render(request, "gallery/_more.html", context)
        return announce(response, f"{images_word(len(rows), 'more ')}.")
    # The counter knows all that are kept; any narrower view is counted.
    whole = view == "gallery" and not filters
    count = ImageCount.kept_by(request.user) if whole else matches.count()
    context |= {"count": count, "models": catalog(), "has_images": bool(rows) or images.exists()}
    if wants_fragment(request):
        return announce(render(request, "gallery/_results.html", context), f"{images_word(count)}.")
    return render(request, "gallery/gallery.html", context)


def _filtered(images: GeneratedImageQuerySet, query: QueryDict) -> GeneratedImageQuerySet:
    """By words (each must occur in the prompt or title) and by model."""
    for word in query.get("q", "").replace("\x00", "").split()[:10]:
        images = images.filter(Q(generation__prompt__icontains=word) | Q(title__icontains=word))
    if model := query.get("model", "").replace("\x00", ""):
        images = images.filter(generation__model=model)
    return images


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None


def _days(rows: list[GeneratedImage], continued: str) -> list[dict]:
    """Day sections; the first goes without a heading where it continues the day of the page before."""
    days = []
    for day, group in itertools.groupby(rows, key=lambda image: image.created_at.date()):
        days.append(
            {
                "day": day,
                "images": list(group),
                "continued": not days and f"{day:%Y-%m-%d}" == continued,
                "name": _day_name(day),
            }
        )
    return days


def _day_name(day: dt.date) -> str:
    ago = (timezone.now().date() - day).days
    return {0: "Today", 1: "Yesterday"}.get(ago, "")


# --- many at once ---------------------------------------------------------------------------------------


@login_required
@require_POST
def bulk(request: PageRequest) -> HttpResponse:
    """One action on the ticked images (or, for the trash, on all of it)."""
    action = request.POST.get("action", "")
    numbers = selected_numbers(request.POST)
    if numbers is None or action not in BULK:
        raise BadRequest("Unknown action or images.")
    images = GeneratedImage.objects.owned_by(request.user).filter(pk__in=numbers)
    if action == "empty":
        images = GeneratedImage.objects.owned_by(request.user).trashed()
    if not images.exists():
        messages.info(request, "Select at least one image first.")
        return _redirect_back(request)
    return BULK[action](request, images)


def _favourite(request: PageRequest, images: GeneratedImageQuerySet) -> HttpResponse:
    marked = request.POST["action"] == "favourite"
    rows = list(images.kept())
    for image in rows:
        set_favourite(image, marked)
    messages.success(request, f"{images_word(len(rows))} {'added to' if marked else 'removed from'} favourites.")
    return _refresh(request)


def _trash(request: PageRequest, images: GeneratedImageQuerySet) -> HttpResponse:
    moved = trash_images(request.user, images)
    note_trashed(request, moved)
    return _remove_cards(request, moved)


def note_trashed(request: PageRequest, moved: list[GeneratedImage]) -> None:
    """Tell that `moved` went to the trash, with a way back."""
    if not moved:
        messages.info(request, "Nothing moved: it was in the trash already.")
        return
    token = signing.dumps([image.number for image in moved], salt=UNDO_SALT, compress=True)
    messages.success(request, f"{images_word(len(moved))} moved to trash.", extra_tags=f"undo={token}")


def _restore(request: PageRequest, images: GeneratedImageQuerySet) -> HttpResponse:
    moved = restore_images(request.user, images)
    messages.success(request, f"{images_word(len(moved))} restored.")
    return _remove_cards(request, moved)


def _delete(request: PageRequest, images: GeneratedImageQuerySet) -> HttpResponse:
    images = images.trashed()
    if request.POST.get("sure") != "yes":
        listed = list(images.select_related("generation")[:MOST_SELECTED])
        return render(
            request,
            "gallery/confirm_delete.html",
            {"images": listed, "count": images.count(), "action": request.POST["action"]},
        )
    deleted = delete_images(request.user, list(images))
    messages.success(request, f"{images_word(deleted)} deleted for good.")
    return redirect("trash")


BULK = {
    "favourite": _favourite,
    "unfavourite": _favourite,
    "trash": _trash,
    "restore": _restore,
    "delete": _delete,
    "empty": _delete,
}


def _remove_cards(request: PageRequest, moved: list[GeneratedImage]) -> HttpResponse:
    """The cards that left the grid are taken out of the page; without htmx the page is shown anew."""
    if not wants_fragment(request):
        return _redirect_back(request)
    return render(request, "gallery/_gone.html", {"images": moved})


def _redirect_back(request: PageRequest) -> HttpResponse:
    target = request.POST.get("next", "")
    return redirect(target if target in {reverse(view) for view in VIEWS} else "gallery")


def _refresh(request: PageRequest) -> HttpResponse:
    if wants_fragment(request):
        return reload_htmx()
    return _redirect_back(request)


@login_required
@require_POST
def undo(request: PageRequest, token: str) -> HttpResponse:
    """Bring back what the token names, for an hour after it went to the trash."""
    try:
        numbers = signing.loads(token, salt=UNDO_SALT, max_age=UNDO_SECONDS)
    except signing.SignatureExpired:
        messages.info(request, "That was more than an hour ago. You find the images in the trash.")
        return redirect("trash")
    except signing.BadSignature:
        raise Http404("No such undo.") from None
    own = GeneratedImage.objects.owned_by(request.user)
    restored = restore_images(request.user, own.filter(pk__in=numbers))
    messages.success(request, f"{images_word(len(restored))} restored." if restored else "Nothing was left to restore.")
    if wants_fragment(request) and request.POST.get("stay"):
        return HttpResponse()  # the viewer has kept their cards
    if len(restored) == 1 and came_from(request).startswith("/i/"):
        return redirect("image", restored[0].short_id)
    if wants_fragment(request) and came_from(request).startswith((reverse("gallery"), reverse("create"))):
        return reload_htmx()  # so that the images come back to their places
    return redirect("gallery")


@login_required
@require_POST
def download_zip(request: PageRequest) -> HttpResponse | StreamingHttpResponse:
    """The ticked images in one archive, written while it is sent."""
    numbers = selected_numbers(request.POST)
    if numbers is None:
        raise BadRequest("Unknown images.")
    selected = GeneratedImage.objects.owned_by(request.user).filter(pk__in=numbers)
    images = list(selected.select_related("generation")[:ZIP_IMAGES])
    if not images:
        messages.info(request, "Select at least one image first.")
        return _redirect_back(request)
    response = StreamingHttpResponse(_zip(images), content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="dreamsketch-{timezone.now():%Y-%m-%d}.zip"'
    response["Cache-Control"] = "private, no-store"
    return response


async def _zip(images: list[GeneratedImage]) -> AsyncIterator[bytes]:
    """The archive in pieces: one picture at a time, so that memory holds one picture."""
    with tempfile.TemporaryFile() as buffer:
        archive = zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED)  # PNGs do not get smaller
        sent = 0
        for image in images:
            await sync_to_async(_add_to_zip, thread_sensitive=False)(archive, image)
            buffer.seek(sent)
            yield (piece := buffer.read())
            sent += len(piece)
        archive.close()
        buffer.seek(sent)
        yield buffer.read()


def _add_to_zip(archive: zipfile.ZipFile, image: GeneratedImage) -> None:
    try:
        with default_storage.open(image.file) as stored:
            archive.writestr(PurePosixPath(file_name(image)).name, stored.read())
    except FileNotFoundError:
        return  # deleted for good a moment ago
