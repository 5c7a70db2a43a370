"""Views of what is made of a finished picture: Vary, Upscale, the menu of a card, and Compare."""

import hashlib
import uuid
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import BadRequest
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from generation.engine.request.fields import MAX_SEED
from generation.live import store
from generation.models import GeneratedImage, Generation
from generation.refusals import REFUSALS, IdempotencyConflict
from generation.services.generations import create_generation
from generation.storage.serving import upload_response
from generation.storage.uploads import undone_on_refusal

from ..htmx import PageRequest, announce, wants_fragment
from ..panels import panels
from ..picture_actions import FACTORS, NOISE, enlargement_fields, offers_for, source_of, variation_fields
from .image import detail_context

LOOKS = ("full", "quick")
"""The looks of the buttons: all of them, or the one that is pressed most."""
COMPARED = 12
"""How many of the latest pictures Compare proposes."""
MAX_TOKEN = 64


def _kept(request: PageRequest, short_id: str) -> GeneratedImage:
    """One's own picture or a published one, unless it is in the trash."""
    images = GeneratedImage.objects.visible_to(request.user).kept().select_related("generation")
    return get_object_or_404(images, short_id=short_id)


@login_required
@require_POST
def vary(request: PageRequest, short_id: str) -> HttpResponse:
    image, strength = _kept(request, short_id), request.POST.get("strength", "")
    if strength not in NOISE:
        raise BadRequest("There is no such strength.")
    token = _token(request)
    # The same press sent twice must be the same wish, so its chance is drawn from the token.
    seed = int(hashlib.sha256(token.encode()).hexdigest(), 16) % (MAX_SEED + 1)
    return _make(
        request,
        image,
        "image/_vary.html",
        f"page-vary-{short_id}-{strength}-{token}",
        lambda: variation_fields(request.user, image, strength, seed),
    )


@login_required
@require_POST
def upscale(request: PageRequest, short_id: str) -> HttpResponse:
    image, factor = _kept(request, short_id), request.POST.get("factor", "")
    if factor not in map(str, FACTORS):
        raise BadRequest("There is no such factor.")
    return _make(
        request,
        image,
        "image/_upscale.html",
        f"page-upscale-{short_id}-{factor}-{_token(request)}",
        lambda: enlargement_fields(request.user, image, int(factor)),
    )


def _token(request: PageRequest) -> str:
    return request.POST.get("client_token", "").replace("\x00", "")[:MAX_TOKEN] or str(uuid.uuid4())


def _make(
    request: PageRequest, image: GeneratedImage, template: str, key: str, make_fields: Callable[[], dict[str, Any]]
) -> HttpResponse:
    """Ask for what `make_fields()` describes. The buttons come back with a new token, a refusal stands beside them."""
    look = request.POST.get("look", "")
    context = {
        "image": image,
        "offers": offers_for(image.generation, image.width, image.height),
        "look": look if look in LOOKS else LOOKS[0],
    }
    try:
        with undone_on_refusal():
            generation, created = _create(request, key, make_fields())
    except REFUSALS as refusal:
        if not wants_fragment(request):
            messages.error(request, str(refusal))
            return _see_other(_way_back(request, image))
        status = 429 if refusal.http_status == 429 else 422
        response = render(request, template, context | {"refusal": refusal}, status=status)
        if refusal.retry_after:
            response["Retry-After"] = str(refusal.retry_after)
        return response
    # Previews are made for those who watch, and from the first step on.
    store.watch(request.user.pk)
    if not wants_fragment(request):
        return _see_other(reverse("job", args=[generation.pk]))
    shown = panels([generation])[0]
    if request.htmx.current_url_abs_path != reverse("create"):
        link = format_html('{}. <a href="{}">See the job</a>', shown["headline"], shown["url"])
        messages.success(request, link)
    context |= {"form_template": template, "panel": shown, "created": created}
    return announce(render(request, "image/_queued.html", context), f"Queued. {shown['headline']}.")


def _create(request: PageRequest, key: str, fields: dict[str, Any]) -> tuple[Generation, bool]:
    fields |= {"user": request.user, "source": Generation.Source.PAGE}
    try:
        return create_generation(**fields, idempotency_key=key)
    except IdempotencyConflict:
        # The same press, but what the site offers for it has changed meanwhile: a new wish, not a repeat.
        return create_generation(**fields, idempotency_key=f"page-{uuid.uuid4()}")


def _see_other(url: str) -> HttpResponse:
    return HttpResponse(status=303, headers={"Location": url})


def _way_back(request: PageRequest, image: GeneratedImage) -> str:
    """The page that the button was on, as far as it is one of ours."""
    target = request.POST.get("next", "")
    if target.startswith("/") and url_has_allowed_host_and_scheme(target, allowed_hosts=None):
        return target
    return reverse("image", args=[image.short_id])


@login_required
@require_safe
def menu(request: PageRequest, short_id: str) -> HttpResponse:
    """The actions of a card. Without htmx they stand on the picture's page."""
    images = GeneratedImage.objects.visible_to(request.user).select_related("generation")
    image = get_object_or_404(images, short_id=short_id)
    if not wants_fragment(request):
        return redirect(f"{reverse('image', args=[short_id])}#actions")
    return render(request, "image/_menu.html", detail_context(request, image) | {"place": "menu"})


# --- comparing ------------------------------------------------------------------------------------------


@login_required
@require_safe
def compare(request: PageRequest, short_id: str) -> HttpResponse:
    """A picture beside the one it was made from, or beside another: `with` is that one's short id, or "source"."""
    image = _kept(request, short_id)
    own = GeneratedImage.objects.owned_by(request.user).kept().select_related("generation").exclude(pk=image.pk)
    source = source_of(request.user, image)
    siblings = list(own.filter(generation=image.generation_id).order_by("index"))
    latest = own.exclude(generation=image.generation_id)[:COMPARED]
    others = [*siblings, *latest]
    chosen = request.GET.get("with", "").replace("\x00", "")
    before = None
    if chosen and chosen != "source":
        before = _kept(request, chosen)
    elif not source and others:
        before = others[0]
    context = {"image": image, "before": before, "source": source, "others": others}
    return render(request, "image/compare.html", context)


@login_required
@require_safe
def source_file(request: PageRequest, short_id: str) -> HttpResponse:
    """The picture that one's own picture was made from, while it is kept."""
    own = GeneratedImage.objects.owned_by(request.user).select_related("generation")
    found = source_of(request.user, get_object_or_404(own, short_id=short_id))
    if found is None:
        raise Http404("That picture is no longer kept.")
    return upload_response(request, found[0])
