"""One image: its page, and what its owner may do with it."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from generation.engine.errors import InvalidRequest
from generation.models import GeneratedImage, Visibility
from generation.prompts.styles import STYLES
from generation.services.images import delete_images, restore_images, set_favourite, set_visibility, trash_images
from generation.storage.serving import image_response

from ..htmx import announce, wants_fragment
from ..panels import model_title, seconds_words
from .gallery import note_trashed

VISIBILITY_HINTS = {
    "private": "Only you can see this image.",
    "unlisted": "Anyone with the link can see this image and its prompt.",
    "public": "Everybody can see this image and its prompt, also on the home page.",
}


def _visible(request, short_id) -> GeneratedImage:
    images = GeneratedImage.objects.visible_to(request.user).select_related("generation")
    return get_object_or_404(images, short_id=short_id)


def _own(request, short_id) -> GeneratedImage:
    images = GeneratedImage.objects.owned_by(request.user).select_related("generation")
    return get_object_or_404(images, short_id=short_id)


@require_safe
def image(request, short_id):
    shown = _visible(request, short_id)
    mine = request.user.is_authenticated and shown.owner_id == request.user.pk
    asked = shown.generation
    context = {
        "image": shown,
        "generation": asked,
        "mine": mine,
        "ratio": round(shown.width / shown.height, 4),
        "model_title": model_title(asked.model),
        "style_title": STYLES[asked.style].title if asked.style in STYLES else "None",
        "took": seconds_words(shown.generation_time),
        "trash_days": settings.TRASH_DAYS,
    }
    if mine:
        context |= _visibility_context(shown) | _neighbours(request.user, shown)
        kept = GeneratedImage.objects.owned_by(request.user).kept()
        context["siblings"] = kept.filter(generation=asked).order_by("index")
    return render(request, "image/image.html", context)


def _neighbours(user, shown) -> dict:
    own = GeneratedImage.objects.owned_by(user).kept()
    return {
        "newer": own.filter(number__gt=shown.number).order_by("number").first(),
        "older": own.filter(number__lt=shown.number).order_by("-number").first(),
    }


def _visibility_context(shown) -> dict:
    return {"visibilities": Visibility.choices, "visibility_hint": VISIBILITY_HINTS[shown.visibility]}


def by_uuid(request, image_id):
    """The address that images had elsewhere."""
    images = GeneratedImage.objects.visible_to(request.user)
    return redirect("image", get_object_or_404(images, id=image_id).short_id)


@require_safe
def download(request, short_id):
    return image_response(request, _visible(request, short_id), "file", download=True)


@login_required
@require_POST
def favourite(request, short_id):
    """`favourite` is 1 or 0; without it the mark is turned round."""
    shown = _own(request, short_id)
    wanted = {"1": True, "0": False}.get(request.POST.get("favourite"), not shown.favourite)
    set_favourite(shown, wanted)
    words = "Added to favourites." if wanted else "Removed from favourites."
    if wants_fragment(request):
        return announce(
            render(request, "image/_favourite.html", {"image": shown, "labelled": request.POST.get("labelled", "")}),
            words,
        )
    messages.success(request, words)
    return _after(request, shown)


def _after(request, shown):
    """Back to the grid or the page that the button was on."""
    target = request.POST.get("next", "")
    grids = {reverse(view) for view in ("gallery", "gallery-favourites", "create")}
    return redirect(target) if target in grids else redirect("image", shown.short_id)


@login_required
@require_POST
def visibility(request, short_id):
    shown = _own(request, short_id)
    try:
        set_visibility(shown, request.POST.get("visibility", ""))
    except InvalidRequest as refusal:
        messages.error(request, f"Visibility: {refusal}")
        if wants_fragment(request):
            return render(request, "image/_visibility.html", {"image": shown} | _visibility_context(shown), status=422)
        return redirect("image", short_id)
    if wants_fragment(request):
        context = {"image": shown, "saved": True} | _visibility_context(shown)
        return announce(render(request, "image/_visibility.html", context), f"Saved. {context['visibility_hint']}")
    messages.success(request, f"Saved. {VISIBILITY_HINTS[shown.visibility]}")
    return redirect("image", short_id)


@login_required
@require_POST
def trash(request, short_id):
    shown = _own(request, short_id)
    note_trashed(request, trash_images(request.user, [shown]))
    return redirect("gallery")


@login_required
@require_POST
def restore(request, short_id):
    shown = _own(request, short_id)
    restored = restore_images(request.user, [shown])
    messages.success(request, "Restored." if restored else "It was not in the trash.")
    return redirect("image", short_id)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request, short_id):
    """Delete for good, from the trash only, after one more question."""
    shown = _own(request, short_id)
    if shown.deleted_at is None:
        messages.info(request, "Only images in the trash can be deleted for good.")
        return redirect("image", short_id)
    if request.method != "POST" or request.POST.get("sure") != "yes":
        return render(request, "gallery/confirm_delete.html", {"images": [shown], "count": 1, "action": "delete"})
    delete_images(request.user, [shown])
    messages.success(request, "1 image deleted for good.")
    return redirect("trash")
