"""Views of the composer's pictures: taking them, choosing one of one's own images, small pictures and control maps."""

import io
from pathlib import Path
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.core.files.storage import default_storage
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from PIL import Image

from generation.catalog import abilities_of, addons
from generation.engine.catalog.lora_cards import preview_of
from generation.engine.errors import InvalidRequest
from generation.models import GeneratedImage, Upload

from ..composer import composer_context, spec_of
from ..composer_fields import ROLES
from ..drafts import save_draft, typed_fields, values_of
from ..fitting import fitted
from ..forms import ComposerForm
from ..htmx import PageRequest, announce, wants_fragment
from ..references import SHOWN_MAPS, arrange, role_named
from .create import Composed, show, usual_values

SIDE = 320
"""Pixels of the longer side of a small picture."""
MAP_SIDE = 512
CHOICES = 48
MAX_PREVIEW_BYTES = 5_000_000
TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


@login_required
@require_POST
def pictures(request: PageRequest) -> HttpResponse:
    """The composer's pictures after new ones came, one changed its role or went."""
    data = request.POST.copy()
    abilities = abilities_of(spec_of(data))
    problems = arrange(request.user, data, request.FILES, abilities)
    values = usual_values() | values_of(typed_fields(data))
    fitting = fitted(values, abilities)
    if not wants_fragment(request):
        save_draft(request.user, data)
        return show(request, Composed(fitting.values, changes=[*problems, *fitting.changes]))
    context = composer_context(request.user, ComposerForm(initial=fitting.values), abilities)
    response = render(request, "create/_pictures_and_shapes.html", context | {"picture_problems": problems})
    count = len(context["cards"])
    said = f"{count} picture{'' if count == 1 else 's'} to draw from."
    return announce(response, " ".join(problems) or said)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def choose(request: PageRequest) -> HttpResponse:
    """One's own images to draw from. A form that is sent here is kept as the draft first, and is found again after."""
    if request.method == "POST":
        data = request.POST.copy()
        arrange(request.user, data, request.FILES, abilities_of(spec_of(data)))
        save_draft(request.user, data)
        return redirect("create-pictures-choose")
    query = request.GET.get("q", "").replace("\x00", "")[:200].strip()
    images = GeneratedImage.objects.owned_by(request.user).kept().select_related("generation")
    if query:
        images = images.filter(generation__prompt__icontains=query)
    role = role_named(request.GET.get("role", "")) or ROLES[0]
    template = "create/_choose.html" if wants_fragment(request) else "create/choose.html"
    return render(request, template, {"images": images[:CHOICES], "q": query, "role": role})


@login_required
@require_safe
def picture(request: PageRequest, picture_id: UUID) -> HttpResponse:
    """An upload of one's own, small."""
    return _webp(_small(_upload_pixels(request, picture_id), SIDE))


@login_required
@require_safe
def control_map(request: PageRequest, picture_id: UUID, kind: str) -> HttpResponse:
    """What a ControlNet would follow of a picture."""
    from generation.engine.pictures.edges import edge_map

    if kind not in SHOWN_MAPS:
        raise Http404
    image = GeneratedImage.objects.visible_to(request.user).filter(id=picture_id).first()
    pixels = _pixels(image.file) if image else _upload_pixels(request, picture_id)
    return _webp(edge_map(kind, _small(pixels, MAP_SIDE)))


@login_required
@require_safe
def lora_preview(request: PageRequest, key: str) -> HttpResponse:
    """The picture that lies beside a LoRA."""
    try:
        path = preview_of(addons().lora(key))
    except InvalidRequest:
        raise Http404 from None
    content = _file(path) if path else None
    if path is None or content is None:
        raise Http404
    return _served(HttpResponse(content, content_type=TYPES[path.suffix.lower()]))


def _file(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.stat().st_size <= MAX_PREVIEW_BYTES else None
    except OSError:
        return None


def _upload_pixels(request: PageRequest, picture_id: UUID) -> Image.Image:
    return _pixels(get_object_or_404(Upload.objects.owned_by(request.user), pk=picture_id).file)


def _pixels(name: str) -> Image.Image:
    """The pixels of a PNG of ours."""
    try:
        with default_storage.open(name) as file:
            pixels = Image.open(file, formats=["PNG"])
            pixels.load()
            return pixels
    except FileNotFoundError:
        raise Http404 from None


def _small(pixels: Image.Image, side: int) -> Image.Image:
    small = pixels.convert("RGB")
    small.thumbnail((side, side))
    return small


def _webp(pixels: Image.Image) -> HttpResponse:
    buffer = io.BytesIO()
    pixels.save(buffer, "WEBP", quality=80)
    return _served(HttpResponse(buffer.getvalue(), content_type="image/webp"))


def _served(response: HttpResponse) -> HttpResponse:
    """Private, and kept by the browser: such a picture never changes under its address."""
    response["Cache-Control"] = "private, max-age=3600"
    response["Vary"] = "Cookie"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response
