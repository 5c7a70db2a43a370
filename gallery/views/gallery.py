"""Views of the gallery: grids of one's own images, changes to many at once, undo and the ZIP download."""

import tempfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from urllib.parse import parse_qs, urlsplit

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core import signing
from django.core.exceptions import BadRequest
from django.core.files.storage import default_storage
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_POST, require_safe

from accounts.refusals import Refusal
from generation.engine.errors import InvalidRequest
from generation.models import GeneratedImage, GeneratedImageQuerySet, Visibility
from generation.services.images import change_images, delete_images, restore_images, trash_images
from generation.storage.serving import file_name

from ..collections import add_images, create_collection, remove_images, restore_collection
from ..filters import DAYS, Filters
from ..forms import MOST_SELECTED, selected_numbers
from ..grids import AUTOMATIC_PAGES, COLLECTION_ORDER, Grid, grid_at, grid_of, page_of
from ..htmx import PageRequest, announce, came_from, reload_htmx, trigger, wants_fragment
from ..models import Collection, SavedSearch
from ..panels import images_word

ZIP_IMAGES = 200
MOST_AT_ONCE = 10_000
"""How many images one action on everything that matches may change."""
EAGER_IMAGES = 6
"""About a first row: loaded at once, and the rest when they come near."""
UNDO_SECONDS = 3600
UNDO_SALT = "gallery.undo"
VIEWS = {"gallery": "All", "gallery-favourites": "Favourites", "collections": "Collections", "trash": "Trash"}


@login_required
@require_safe
def gallery(request: PageRequest) -> HttpResponse:
    return grid_page(request, grid_of(request.user, "gallery", request.GET))


@login_required
@require_safe
def favourites(request: PageRequest) -> HttpResponse:
    return grid_page(request, grid_of(request.user, "gallery-favourites", request.GET))


@login_required
@require_safe
def trash(request: PageRequest) -> HttpResponse:
    return grid_page(request, grid_of(request.user, "trash", request.GET))


def grid_page(request: PageRequest, grid: Grid) -> HttpResponse:
    """The page of a grid; for htmx its results, or the next images."""
    page = page_of(grid, request.GET)
    loads = request.GET.get("loads", "")
    load = int(loads) if loads.isascii() and loads.isdigit() and len(loads) < 5 else 0
    context = {
        "grid": grid,
        "page": page,
        "view": grid.view,
        "collection": grid.collection,
        "filters": grid.filters,
        "rows": page.rows,
        "days": page.days,
        "automatic": load < AUTOMATIC_PAGES and not request.GET.get("upto"),
        "eager_images": EAGER_IMAGES if not request.GET.get("more") else 0,
        "trash_days": settings.TRASH_DAYS,
    }
    if page.older:
        context |= {
            "older_url": grid.address(before=page.older),
            "more_url": grid.address(
                before=page.older,
                day=f"{page.rows[-1].created_at:%Y-%m-%d}",
                loads=str(load + 1),
                more="1",
                auto="1" if context["automatic"] else "",
            ),
        }
    if wants_fragment(request) and request.GET.get("more"):
        response = render(request, "gallery/_more.html", context)
        # So that a reload shows again what was loaded.
        response["HX-Replace-Url"] = grid.address(upto=page.last)
        return response if request.GET.get("auto") else announce(response, f"{images_word(len(page.rows), 'more ')}.")
    count = grid.count()
    context |= {
        "count": count,
        "views": VIEWS,
        "days_choices": DAYS,
        "searches": SavedSearch.objects.owned_by(request.user),
        "own_collections": Collection.objects.owned_by(request.user),
    }
    if not wants_fragment(request):
        return render(request, "gallery/gallery.html", context)
    response = render(request, "gallery/_results.html", context)
    return _with_history(request, grid, announce(response, f"{count}."))


def _with_history(request: PageRequest, grid: Grid, response: HttpResponse) -> HttpResponse:
    """Every change of filters is a step of the browser's history, but not every letter of a search."""
    parts = urlsplit(request.htmx.current_url_abs_path or "")
    shown = {name: values[-1] for name, values in parse_qs(parts.query[:2000]).items()}
    own_order = COLLECTION_ORDER if grid.collection else None
    before, now = Filters.read(shown, own_order).values, grid.filters.values
    if before == now:
        del response["HX-Trigger"]  # shown anew after a change, which says itself what happened
    elif before.get("q") and now.get("q") and before | {"q": ""} == now | {"q": ""}:
        response["HX-Replace-Url"] = grid.address()
    else:
        response["HX-Push-Url"] = grid.address()
    return response


# --- many at once ---------------------------------------------------------------------------------------


@login_required
@require_POST
def bulk(request: PageRequest) -> HttpResponse:
    """One action on the ticked images, or on everything that the grid shows."""
    action, _, target = request.POST.get("action", "").partition(":")
    if action not in BULK:
        raise BadRequest("Unknown action.")
    images = _selected(request)
    if action == "empty":
        images = GeneratedImage.objects.owned_by(request.user).trashed()
    if images is None:
        messages.error(request, f"That is more than {MOST_AT_ONCE:,} images. Narrow it down with the filters first.")
        return _shown_anew(request)
    if not images.exists():
        messages.info(request, "Select at least one image first.")
        return _shown_anew(request)
    try:
        return BULK[action](request, images, target)
    except (Refusal, InvalidRequest) as refusal:
        messages.error(request, str(refusal))
        return _shown_anew(request)


def _selected(request: PageRequest) -> GeneratedImageQuerySet | None:
    """The images that a selection means; None for too many. Raises BadRequest."""
    own = GeneratedImage.objects.owned_by(request.user)
    if request.POST.get("scope") == "all":
        grid = grid_at(request.user, request.POST.get("next", ""))
        if grid is None:
            raise BadRequest("Unknown images.")
        numbers = list(grid.matches.order_by().values_list("pk", flat=True)[: MOST_AT_ONCE + 1])
        return own.filter(pk__in=numbers) if len(numbers) <= MOST_AT_ONCE else None
    numbers = selected_numbers(request.POST)
    if numbers is None:
        raise BadRequest("Unknown images.")
    return own.filter(pk__in=numbers)


def _favourite(request: PageRequest, images: GeneratedImageQuerySet, target: str) -> HttpResponse:
    marked = request.POST["action"] == "favourite"
    changed = change_images(request.user, images.kept(), favourite=marked)
    messages.success(request, f"{images_word(changed)} {'added to' if marked else 'removed from'} favourites.")
    return _shown_anew(request)


def _visibility(request: PageRequest, images: GeneratedImageQuerySet, target: str) -> HttpResponse:
    visibility = Visibility.PUBLIC if request.POST["action"] == "publish" else Visibility.PRIVATE
    images = images.kept()
    hidden = images.exclude(taken_down_at=None).count() if visibility == Visibility.PUBLIC else 0
    if hidden:
        images = images.filter(taken_down_at=None)
    changed = change_images(request.user, images, visibility=visibility)
    left_out = f" {images_word(hidden)} stayed private: taken down by the people who run this site." if hidden else ""
    verb = "public: everybody can see" if visibility == Visibility.PUBLIC else "private: only you can see"
    it = "it and its prompt" if changed == 1 else "them and their prompts"
    messages.success(request, f"{images_word(changed)} now {verb} {it}.{left_out}")
    return _shown_anew(request)


def _trash(request: PageRequest, images: GeneratedImageQuerySet, target: str) -> HttpResponse:
    note_trashed(request, trash_images(request.user, images))
    return _shown_anew(request)


def note_trashed(request: PageRequest, moved: list[GeneratedImage]) -> None:
    """Tell that `moved` went to the trash, with a way back."""
    if not moved:
        messages.info(request, "Nothing moved: it was in the trash already.")
        return
    # They went at one moment, which names them however many there are.
    moment = GeneratedImage.objects.filter(pk=moved[0].pk).values_list("deleted_at", flat=True).first()
    if moment is None:
        return  # somebody was quicker, and has brought them back
    note_undo(request, f"{images_word(len(moved))} moved to trash.", {"trashed": moment.isoformat()})


def note_undo(request: PageRequest, text: str, change: dict) -> None:
    """Tell `text`, with a button that undoes `change` (see `undo`)."""
    token = signing.dumps(change, salt=UNDO_SALT, compress=True)
    messages.success(request, text, extra_tags=f"undo={token}")


def _restore(request: PageRequest, images: GeneratedImageQuerySet, target: str) -> HttpResponse:
    moved = restore_images(request.user, images)
    messages.success(request, f"{images_word(len(moved))} restored.")
    return _shown_anew(request)


def _delete(request: PageRequest, images: GeneratedImageQuerySet, target: str) -> HttpResponse:
    images = images.trashed()
    if request.POST.get("sure") != "yes":
        listed = list(images.select_related("generation")[:MOST_SELECTED])
        context = {"images": listed, "count": images.count(), "action": request.POST["action"]}
        if request.POST.get("scope") == "all":
            context |= {"scope": "all", "next": request.POST.get("next", "")}
        return render(request, "gallery/confirm_delete.html", context)
    deleted = delete_images(request.user, list(images))
    messages.success(request, f"{images_word(deleted)} deleted for good.")
    return redirect("trash")


def _collect(request: PageRequest, images: GeneratedImageQuerySet, slug: str) -> HttpResponse:
    """Into the collection of that address; without one, into a new one by the name of `title`."""
    if slug:
        collection = Collection.objects.owned_by(request.user).filter(slug=slug).first()
        if collection is None:
            raise Http404("No such collection.")
    else:
        collection = create_collection(request.user, request.POST.get("title", ""))
    added = add_images(collection, images.kept().order_by("number"))
    messages.success(
        request,
        f"{images_word(added)} added to “{collection}”." if added else f"All of it is in “{collection}” already.",
    )
    return _shown_anew(request)


def _uncollect(request: PageRequest, images: GeneratedImageQuerySet, slug: str) -> HttpResponse:
    collection = Collection.objects.owned_by(request.user).filter(slug=slug).first()
    if collection is None:
        raise Http404("No such collection.")
    removed = remove_images(collection, images)
    messages.success(request, f"{images_word(removed)} taken out of “{collection}”. You find them under All.")
    return _shown_anew(request)


BULK = {
    "favourite": _favourite,
    "unfavourite": _favourite,
    "publish": _visibility,
    "unpublish": _visibility,
    "trash": _trash,
    "restore": _restore,
    "delete": _delete,
    "empty": _delete,
    "collect": _collect,
    "uncollect": _uncollect,
}


def _shown_anew(request: PageRequest) -> HttpResponse:
    """The grid as it is now: its page asks for it, where there is htmx."""
    if wants_fragment(request):
        return trigger(HttpResponse(), "gallery-refresh")
    return _redirect_back(request)


def _redirect_back(request: PageRequest) -> HttpResponse:
    target = request.POST.get("next", "")
    return redirect(target if grid_at(request.user, target) else "gallery")


@login_required
@require_POST
def undo(request: PageRequest, token: str) -> HttpResponse:
    """Undo the change that the token names, for an hour."""
    try:
        change = signing.loads(token, salt=UNDO_SALT, max_age=UNDO_SECONDS)
    except signing.SignatureExpired:
        messages.info(request, "That was more than an hour ago. You find deleted images in the trash.")
        return redirect("trash")
    except signing.BadSignature:
        raise Http404("No such undo.") from None
    if "collection" in change:
        return _undo_collection(request, change["collection"])
    if "search" in change:
        return _undo_search(request, *change["search"])
    own = GeneratedImage.objects.owned_by(request.user)
    restored = restore_images(request.user, own.filter(deleted_at=parse_datetime(change["trashed"])))
    messages.success(request, f"{images_word(len(restored))} restored." if restored else "Nothing was left to restore.")
    if wants_fragment(request) and request.POST.get("stay"):
        return HttpResponse()  # the viewer has kept their cards
    came = came_from(request)
    if len(restored) == 1 and came.startswith("/i/"):
        return redirect("image", restored[0].short_id)
    if wants_fragment(request) and came.startswith(reverse("gallery")):
        return _shown_anew(request)  # so that the images come back to their places
    if wants_fragment(request) and came == reverse("create"):
        return reload_htmx()
    return redirect("gallery")


def _undo_collection(request: PageRequest, pk: str) -> HttpResponse:
    collection = restore_collection(request.user, pk)
    if collection is None:
        messages.info(request, "That collection is no longer kept.")
        return redirect("collections")
    messages.success(request, f"“{collection}” is back.")
    return redirect("collection", collection.slug)


def _undo_search(request: PageRequest, name: str, query: str) -> HttpResponse:
    SavedSearch.objects.get_or_create(owner=request.user, name=name, defaults={"query": query})
    messages.success(request, f"“{name}” is back.")
    return redirect("searches")


@login_required
@require_POST
def download_zip(request: PageRequest) -> HttpResponse | StreamingHttpResponse:
    """The ticked images in one archive, written while it is sent."""
    selected = _selected(request)
    if selected is not None and not selected.exists():
        messages.info(request, "Select at least one image first.")
        return _redirect_back(request)
    images = [] if selected is None else list(selected.select_related("generation")[: ZIP_IMAGES + 1])
    if selected is None or len(images) > ZIP_IMAGES:
        messages.error(
            request, f"A zip holds up to {ZIP_IMAGES} images. Select fewer, and take the rest in a second one."
        )
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
