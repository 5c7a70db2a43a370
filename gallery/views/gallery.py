"""The gallery: one's own images by day, in three views, with filters, and what may be done to many at once."""

import itertools
import tempfile
import zipfile
from pathlib import PurePosixPath

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core import signing
from django.core.exceptions import BadRequest
from django.core.files.storage import default_storage
from django.db.models import Q
from django.http import Http404, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from generation.catalog import catalog
from generation.models import GeneratedImage, ImageCount
from generation.services.images import delete_images, restore_images, set_favourite, trash_images
from generation.storage.serving import file_name

from ..forms import MOST_SELECTED, selected_numbers
from ..htmx import announce, reload_htmx, wants_fragment
from ..panels import images_word

PAGE_IMAGES = 40
MOST_IMAGES = 200
"""A reload shows again what was loaded, up to this many."""
ZIP_IMAGES = 200
UNDO_SECONDS = 3600
UNDO_SALT = "gallery.undo"
VIEWS = {"gallery": "All", "gallery-favourites": "Favourites", "trash": "Trash"}


@login_required
@require_safe
def gallery(request):
    return _grid(request, "gallery", GeneratedImage.objects.owned_by(request.user).kept())


@login_required
@require_safe
def favourites(request):
    kept = GeneratedImage.objects.owned_by(request.user).kept()
    return _grid(request, "gallery-favourites", kept.filter(favourite=True))


@login_required
@require_safe
def trash(request):
    return _grid(request, "trash", GeneratedImage.objects.owned_by(request.user).trashed())


def _grid(request, view, images):
    found = _filtered(images, request.GET)
    before, upto = _number(request.GET.get("before")), _number(request.GET.get("upto"))
    shown = found.filter(number__lt=before) if before else found
    wanted = PAGE_IMAGES
    if upto and not before:
        wanted = min(MOST_IMAGES, max(PAGE_IMAGES, found.filter(number__gte=upto).count()))
    rows = list(shown.select_related("generation")[: wanted + 1])
    more = rows[wanted - 1].number if len(rows) > wanted else None
    rows = rows[:wanted]
    filters = {name: request.GET[name] for name in ("q", "model") if request.GET.get(name)}
    context = {
        "view": view,
        "views": VIEWS,
        "days": _days(rows, request.GET.get("day", "")),
        "rows": rows,
        "filters": filters,
        "query": urlencode(filters),
        "before": before,
        "more": more,
        "last_day": f"{rows[-1].created_at:%Y-%m-%d}" if rows else "",
        "trash_days": settings.TRASH_DAYS,
    }
    if wants_fragment(request) and before:
        response = render(request, "gallery/_more.html", context)
        return announce(response, f"{images_word(len(rows), 'more ')}.")
    # The counter knows all that are kept; any narrower view is counted.
    whole = view == "gallery" and not filters
    count = ImageCount.kept_by(request.user) if whole else found.count()
    context |= {"count": count, "models": catalog(), "any": bool(rows) or images.exists()}
    if wants_fragment(request):
        return announce(render(request, "gallery/_results.html", context), f"{images_word(context['count'])}.")
    return render(request, "gallery/gallery.html", context)


def _filtered(images, asked):
    """By words (each must occur in the prompt or title) and by model."""
    for word in asked.get("q", "").replace("\x00", "").split()[:10]:
        images = images.filter(Q(generation__prompt__icontains=word) | Q(title__icontains=word))
    if model := asked.get("model", "").replace("\x00", ""):
        images = images.filter(generation__model=model)
    return images


def _number(text) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None


def _days(rows, continued: str) -> list[dict]:
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


def _day_name(day) -> str:
    ago = (timezone.now().date() - day).days
    return {0: "Today", 1: "Yesterday"}.get(ago, "")


# --- many at once ---------------------------------------------------------------------------------------


@login_required
@require_POST
def bulk(request):
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
        return _back(request)
    return BULK[action](request, images)


def _favourite(request, images):
    wanted = request.POST["action"] == "favourite"
    rows = list(images.kept())
    for image in rows:
        set_favourite(image, wanted)
    messages.success(request, f"{images_word(len(rows))} {'added to' if wanted else 'removed from'} favourites.")
    return _refresh(request)


def _trash(request, images):
    moved = trash_images(request.user, images)
    note_trashed(request, moved)
    return _cards_left(request, moved)


def note_trashed(request, moved) -> None:
    """Tell that `moved` went to the trash, with a way back."""
    if not moved:
        messages.info(request, "Nothing moved: it was in the trash already.")
        return
    token = signing.dumps([image.number for image in moved], salt=UNDO_SALT, compress=True)
    messages.success(request, f"{images_word(len(moved))} moved to trash.", extra_tags=f"undo={token}")


def _restore(request, images):
    moved = restore_images(request.user, images)
    messages.success(request, f"{images_word(len(moved))} restored.")
    return _cards_left(request, moved)


def _delete(request, images):
    images = images.trashed()
    if request.POST.get("sure") != "yes":
        named = list(images.select_related("generation")[:MOST_SELECTED])
        return render(
            request,
            "gallery/confirm_delete.html",
            {"images": named, "count": images.count(), "action": request.POST["action"]},
        )
    gone = delete_images(request.user, list(images))
    messages.success(request, f"{images_word(gone)} deleted for good.")
    return redirect("trash")


BULK = {
    "favourite": _favourite,
    "unfavourite": _favourite,
    "trash": _trash,
    "restore": _restore,
    "delete": _delete,
    "empty": _delete,
}


def _cards_left(request, moved):
    """The cards that left the grid are taken out of the page; without htmx the page is shown anew."""
    if not wants_fragment(request):
        return _back(request)
    return render(request, "gallery/_gone.html", {"images": moved})


def _back(request):
    came_from = request.POST.get("next", "")
    return redirect(came_from if came_from in {reverse(view) for view in VIEWS} else "gallery")


def _refresh(request):
    if wants_fragment(request):
        return reload_htmx()
    return _back(request)


@login_required
@require_POST
def undo(request, token):
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
    words = f"{images_word(len(restored))} restored." if restored else "Nothing was left to restore."
    messages.success(request, words)
    if wants_fragment(request) and (request.htmx.current_url_abs_path or "").startswith(reverse("gallery")):
        return reload_htmx()  # so that the images come back to their places
    return redirect("gallery")


@login_required
@require_POST
def download_zip(request):
    """The ticked images in one archive, written while it is sent."""
    numbers = selected_numbers(request.POST)
    if numbers is None:
        raise BadRequest("Unknown images.")
    chosen = GeneratedImage.objects.owned_by(request.user).filter(pk__in=numbers)
    images = list(chosen.select_related("generation")[:ZIP_IMAGES])
    if not images:
        messages.info(request, "Select at least one image first.")
        return _back(request)
    response = StreamingHttpResponse(_zip(images), content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="dreamsketch-{timezone.now():%Y-%m-%d}.zip"'
    response["Cache-Control"] = "private, no-store"
    return response


async def _zip(images):
    """The archive in pieces: one picture at a time, so that memory holds one picture."""
    with tempfile.TemporaryFile() as kept:
        archive = zipfile.ZipFile(kept, "w", zipfile.ZIP_STORED)  # PNGs do not get smaller
        sent = 0
        for image in images:
            await sync_to_async(_add_to_zip, thread_sensitive=False)(archive, image)
            kept.seek(sent)
            yield (piece := kept.read())
            sent += len(piece)
        archive.close()
        kept.seek(sent)
        yield kept.read()


def _add_to_zip(archive, image) -> None:
    try:
        with default_storage.open(image.file) as stored:
            archive.writestr(PurePosixPath(file_name(image)).name, stored.read())
    except FileNotFoundError:
        return  # deleted for good a moment ago
