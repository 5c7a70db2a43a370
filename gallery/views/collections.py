"""Views of collections: all of them, one as a grid, its order, and making, renaming and deleting."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.refusals import Refusal
from generation.engine.errors import InvalidRequest
from generation.models import GeneratedImage

from ..collections import (
    MOST_COLLECTIONS,
    TITLE_LENGTH,
    collections_of,
    create_collection,
    delete_collection,
    following,
    fronts_of,
    move_before,
    move_by,
    rename_collection,
    set_cover,
)
from ..grids import COLLECTION_ORDER, Grid, grid_of
from ..htmx import PageRequest, announce, wants_fragment
from ..models import Collection
from .gallery import VIEWS, grid_page, note_undo

ARRANGED_AT_ONCE = 200
STEPS = {
    "first": "Moved to the front.",
    "earlier": "Moved one place to the front.",
    "later": "Moved one place to the back.",
    "last": "Moved to the end.",
}


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def collections(request: PageRequest) -> HttpResponse:
    """All of them; a POST makes one."""
    problem, title = "", ""
    if request.method == "POST":
        title = request.POST.get("title", "")
        try:
            return redirect("collection", create_collection(request.user, title).slug)
        except (Refusal, InvalidRequest) as refusal:
            problem = str(refusal)
    own = list(collections_of(request.user))
    fronts = fronts_of(own)
    context = {
        "view": "collections",
        "views": VIEWS,
        "shelf": [(collection, fronts.get(collection.pk)) for collection in own],
        "most": MOST_COLLECTIONS,
        "title_length": TITLE_LENGTH,
        "problem": problem,
        "title": title[:TITLE_LENGTH],
    }
    return render(request, "collections/collections.html", context, status=422 if problem else 200)


def _own(request: PageRequest, slug: str) -> Collection:
    return get_object_or_404(Collection.objects.owned_by(request.user), slug=slug)


def _grid(request: PageRequest, slug: str) -> Grid:
    try:
        return grid_of(request.user, "collection", request.GET, slug)
    except Collection.DoesNotExist:
        raise Http404("No such collection.") from None


@login_required
@require_safe
def collection(request: PageRequest, slug: str) -> HttpResponse:
    return grid_page(request, _grid(request, slug))


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def rename(request: PageRequest, slug: str) -> HttpResponse:
    own = _own(request, slug)
    problem, title = "", own.title
    if request.method == "POST":
        title = request.POST.get("title", "")
        try:
            rename_collection(own, title)
            messages.success(request, "Renamed.")
            return redirect("collection", slug)
        except InvalidRequest as refusal:
            problem = str(refusal)
    context = {"collection": _own(request, slug), "problem": problem, "title": title, "title_length": TITLE_LENGTH}
    return render(request, "collections/rename.html", context, status=422 if problem else 200)


@login_required
@require_POST
def delete(request: PageRequest, slug: str) -> HttpResponse:
    own = _own(request, slug)
    delete_collection(own)
    note_undo(request, f"“{own}” deleted. Its images are still in your gallery.", {"collection": str(own.pk)})
    return redirect("collections")


@login_required
@require_safe
def arrange(request: PageRequest, slug: str) -> HttpResponse:
    """Its images in order, each with buttons that move it; up to ARRANGED_AT_ONCE from `from` on."""
    return render(request, "collections/arrange.html", _arranged(request, slug, request.GET.get("from")))


def _arranged(request: PageRequest, slug: str, start: str | None) -> dict:
    grid = grid_of_order(request, slug)
    images = grid.images.select_related("generation")
    first = COLLECTION_ORDER.read_cursor(start)
    shown = images.filter(COLLECTION_ORDER.beyond(first, inclusive=True)) if first else images
    rows = list(shown.order_by(*COLLECTION_ORDER.fields)[: ARRANGED_AT_ONCE + 1])
    more = COLLECTION_ORDER.cursor(rows.pop()) if len(rows) > ARRANGED_AT_ONCE else ""
    return {
        "collection": grid.collection,
        "rows": rows,
        "start": start if first else "",
        "more": more,
        "cover": grid.collection.cover_id if grid.collection else None,
    }


def grid_of_order(request: PageRequest, slug: str) -> Grid:
    """The whole collection, without filters."""
    try:
        return grid_of(request.user, "collection", {}, slug)
    except Collection.DoesNotExist:
        raise Http404("No such collection.") from None


@login_required
@require_POST
def move(request: PageRequest, slug: str) -> HttpResponse:
    """Move `image`: by a `step`, or right behind the image `after`, or before the image `before` (none: to the end)."""
    own = _own(request, slug)
    image = _image_in(own, request.POST.get("image", ""))
    step = request.POST.get("step", "")
    try:
        if step:
            move_by(own, image, step)
        elif after := request.POST.get("after"):
            target = following(own, _image_in(own, after))
            if target != image:
                move_before(own, image, target)
        else:
            before = request.POST.get("before", "")
            move_before(own, image, _image_in(own, before) if before else None)
    except InvalidRequest as refusal:
        messages.error(request, str(refusal))
    return _arranged_anew(request, slug, STEPS.get(step, "Moved."))


@login_required
@require_POST
def cover(request: PageRequest, slug: str) -> HttpResponse:
    own = _own(request, slug)
    set_cover(own, _image_in(own, request.POST.get("image", "")))
    return _arranged_anew(request, slug, "This is the cover now.")


def _image_in(own: Collection, number: str) -> GeneratedImage:
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        raise Http404("No such image.")
    return get_object_or_404(own.images.all(), pk=int(number))


def _arranged_anew(request: PageRequest, slug: str, text: str) -> HttpResponse:
    start = request.POST.get("from", "")
    if wants_fragment(request):
        return announce(render(request, "collections/_arranged.html", _arranged(request, slug, start)), text)
    address = reverse("collection-arrange", args=[slug])
    return redirect(f"{address}?from={start}" if COLLECTION_ORDER.read_cursor(start) else address)
