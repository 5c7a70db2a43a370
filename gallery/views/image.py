"""Views of one image: its page, download, favourite, visibility, trash, restore and delete."""

from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import User
from accounts.refusals import Conflict
from generation.engine.errors import InvalidRequest
from generation.models import GeneratedImage, ImageCount, Visibility
from generation.prompts.styles import STYLES
from generation.representation import describe_request
from generation.services.images import delete_images, restore_images, set_favourite, set_visibility, trash_images
from generation.storage.serving import image_response

from ..htmx import PageRequest, announce, wants_fragment
from ..panels import making, model_title, seconds_words
from ..picture_actions import offers_for, source_of
from ..request_parts import option_facts, request_parts
from .gallery import note_trashed

UPSCALE = "upscale"
"""The field of an enlargement, which is said in words of its own."""
VISIBILITY_HINTS = {
    "private": "Only you can see this image.",
    "unlisted": "Anyone with the link can see this image and its prompt.",
    "public": "Everybody can see this image and its prompt, also on the home page.",
}


TRASHED = "Moved to trash. Undo available."


def _visible(request: PageRequest, short_id: str) -> GeneratedImage:
    images = GeneratedImage.objects.visible_to(request.user).select_related("generation")
    return get_object_or_404(images, short_id=short_id)


def _own(request: PageRequest, short_id: str) -> GeneratedImage:
    images = GeneratedImage.objects.owned_by(request.user).select_related("generation")
    return get_object_or_404(images, short_id=short_id)


@require_safe
def image_page(request: PageRequest, short_id: str) -> HttpResponse:
    """The page; as a fragment what the viewer shows beside the picture."""
    image = _visible(request, short_id)
    context = detail_context(request, image)
    if context["is_owner"]:
        context |= _neighbours(request.user, image)
    if wants_fragment(request):
        return render(request, "image/_detail.html", context | {"place": "viewer"})
    if context["is_owner"]:
        kept = GeneratedImage.objects.owned_by(request.user).kept().select_related("generation")
        context["siblings"] = kept.filter(generation=image.generation_id).order_by("index")
    return render(request, "image/image.html", context | {"place": "page"})


def detail_context(request: PageRequest, image: GeneratedImage) -> dict:
    """What stands beside a picture: its words, its making, and what may be done with it."""
    is_owner = request.user.is_authenticated and image.owner_id == request.user.pk
    generation = image.generation
    fields = describe_request(generation, None)
    context = {
        "image": image,
        "generation": generation,
        "is_owner": is_owner,
        "ratio": round(image.width / image.height, 4),
        "model_title": model_title(generation.model),
        "style_title": STYLES[generation.style].title if generation.style in STYLES else "None",
        "making": making(generation),
        "enlarged": generation.mode == "upscale",
        "request_parts": option_facts(fields)
        + request_parts({name: fields[name] for name in fields if name != UPSCALE}),
        "duration": seconds_words(image.generation_time),
        "trash_days": settings.TRASH_DAYS,
    }
    if request.user.is_authenticated and not image.deleted_at:
        context["offers"] = offers_for(generation, image.width, image.height)
    if is_owner:
        context |= _visibility_context(image)
        context["comparable"] = ImageCount.kept_by(request.user) > 1 or source_of(request.user, image) is not None
    return context


def _neighbours(user: User, image: GeneratedImage) -> dict:
    own = GeneratedImage.objects.owned_by(user).kept().select_related("generation")
    newer = own.filter(number__gt=image.number).order_by("number").first()
    older = own.filter(number__lt=image.number).order_by("-number").first()
    beside = {"newer": newer, "older": older}
    return beside | {"neighbours": [(side, neighbour) for side, neighbour in beside.items() if neighbour]}


def _visibility_context(image: GeneratedImage) -> dict:
    return {"visibilities": Visibility.choices, "visibility_hint": VISIBILITY_HINTS[image.visibility]}


def redirect_from_uuid(request: PageRequest, image_id: UUID) -> HttpResponse:
    """The address that images had elsewhere."""
    images = GeneratedImage.objects.visible_to(request.user)
    return redirect("image", get_object_or_404(images, id=image_id).short_id)


@require_safe
def download(request: PageRequest, short_id: str) -> HttpResponse:
    return image_response(request, _visible(request, short_id), "file", download=True)


@login_required
@require_POST
def favourite(request: PageRequest, short_id: str) -> HttpResponse:
    """`favourite` is 1 or 0; without it the mark is turned round."""
    image = _own(request, short_id)
    marked = {"1": True, "0": False}.get(request.POST.get("favourite", ""), not image.favourite)
    set_favourite(image, marked)
    message = "Added to favourites." if marked else "Removed from favourites."
    if wants_fragment(request):
        labelled = request.POST.get("labelled", "")
        return announce(render(request, "image/_favourites.html", {"image": image, "labelled": labelled}), message)
    messages.success(request, message)
    return _redirect_back(request, image)


def _redirect_back(request: PageRequest, image: GeneratedImage) -> HttpResponse:
    """Back to the grid or the page that the button was on."""
    target = request.POST.get("next", "")
    grids = {reverse(view) for view in ("gallery", "gallery-favourites", "create")}
    return redirect(target) if target in grids else redirect("image", image.short_id)


@login_required
@require_POST
def visibility(request: PageRequest, short_id: str) -> HttpResponse:
    image = _own(request, short_id)
    try:
        set_visibility(image, request.POST.get("visibility", ""))
    except (InvalidRequest, Conflict) as refusal:
        messages.error(request, f"Visibility: {refusal}")
        if wants_fragment(request):
            return render(request, "image/_visibility.html", {"image": image} | _visibility_context(image), status=422)
        return redirect("image", short_id)
    if wants_fragment(request):
        context = {"image": image, "saved": True} | _visibility_context(image)
        return announce(render(request, "image/_visibility.html", context), f"Saved. {context['visibility_hint']}")
    messages.success(request, f"Saved. {VISIBILITY_HINTS[image.visibility]}")
    return redirect("image", short_id)


@login_required
@require_POST
def trash(request: PageRequest, short_id: str) -> HttpResponse:
    """To the trash. From its own page one comes to the next older picture, else the next newer, else the gallery;
    with `stay` the grid stays, without its card."""
    image = _own(request, short_id)
    moved = trash_images(request.user, [image])
    note_trashed(request, moved)
    if wants_fragment(request) and request.POST.get("stay"):
        return announce(render(request, "image/_gone.html", {"images": moved}), TRASHED)
    beside = _neighbours(request.user, image)
    neighbour = beside["older"] or beside["newer"]
    return redirect("image", neighbour.short_id) if neighbour else redirect("gallery")


@login_required
@require_POST
def restore(request: PageRequest, short_id: str) -> HttpResponse:
    image = _own(request, short_id)
    restored = restore_images(request.user, [image])
    messages.success(request, "Restored." if restored else "It was not in the trash.")
    return redirect("image", short_id)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: PageRequest, short_id: str) -> HttpResponse:
    """Delete for good, from the trash only, after one more question."""
    image = _own(request, short_id)
    if image.deleted_at is None:
        messages.info(request, "Only images in the trash can be deleted for good.")
        return redirect("image", short_id)
    if request.method != "POST" or request.POST.get("sure") != "yes":
        return render(request, "gallery/confirm_delete.html", {"images": [image], "count": 1, "action": "delete"})
    delete_images(request.user, [image])
    messages.success(request, "1 image deleted for good.")
    return redirect("trash")
