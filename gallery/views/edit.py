"""The edit page of one's own image: paint a mask or extend it, watch the change come, keep or discard it."""

import uuid
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from PIL import Image

from accounts import quotas
from accounts.plans import plan_of
from accounts.refusals import QuotaExceeded, Refusal
from generation.catalog import upscalers
from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import Picture
from generation.engine.request.schema import Offer
from generation.live import store
from generation.models import GeneratedImage, Generation
from generation.prompts.styles import STYLES
from generation.queue import estimates
from generation.refusals import IdempotencyConflict, RateLimited, TooManyRunning
from generation.services.generations import create_generation
from generation.services.images import restore_images, trash_images
from generation.services.parse import read_request
from generation.services.resolve import resolve_request
from generation.storage.image_requests import load_upload
from generation.storage.uploads import undone_on_refusal

from ..chain import earlier_versions, later_versions
from ..edit_forms import AREAS, SIDES, WHOLE, EditForm, edit_controls, edit_models
from ..htmx import PageRequest, announce, wants_fragment
from ..panels import duration_words, panels
from .gallery import note_trashed


class Tool(NamedTuple):
    """One thing that the pointer does on the picture. `mode`: what a model without it does not show."""

    name: str
    label: str
    icon: str
    key: str
    mode: str = ""


TOOLS = (
    Tool(name="brush", label="Brush", icon="brush", key="B", mode="inpaint"),
    Tool(name="eraser", label="Eraser", icon="eraser", key="E", mode="inpaint"),
    Tool(name="rectangle", label="Rectangle", icon="square-dashed", key="R", mode="inpaint"),
    Tool(name="lasso", label="Lasso", icon="lasso", key="L", mode="inpaint"),
    Tool(name="extend", label="Extend", icon="scaling", key="X", mode="outpaint"),
    Tool(name="move", label="Move", icon="hand", key="H"),
)
BLACK = "This mask is black everywhere, so nothing would change. White is what is drawn anew."
LIGHT = 128
"""From this value of 255 on a mask counts as white."""


def _own(request: PageRequest, short_id: str) -> GeneratedImage:
    images = GeneratedImage.objects.owned_by(request.user).select_related("generation")
    return get_object_or_404(images, short_id=short_id)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: PageRequest, short_id: str) -> HttpResponse:
    image = _own(request, short_id)
    if image.deleted_at is not None:
        messages.info(request, "This image is in the trash. Restore it to edit it.")
        return redirect("image", short_id)
    if not edit_models():
        messages.info(request, "No model here can change a part of a picture.")
        return redirect("image", short_id)
    if request.method == "POST":
        return _submit(request, image)
    return _page(request, image, EditForm(initial=_starting_values(image)))


def _starting_values(image: GeneratedImage) -> dict[str, Any]:
    generation = image.generation
    values = {name: getattr(generation, name) for name in ("prompt", "negative_prompt", "model")}
    return values | {"num_images": 1, "area": WHOLE, "keep_style": bool(generation.style)}


def _submit(request: PageRequest, image: GeneratedImage) -> HttpResponse:
    form = EditForm(request.POST, request.FILES)
    if not form.is_valid():
        return _page(request, image, form, status=422)
    try:
        generation = _create_generation(request, image, form)
    except (QuotaExceeded, RateLimited, TooManyRunning) as refusal:
        response = _page(request, image, form, status=429, refusal=refusal)
        if refusal.retry_after:
            response["Retry-After"] = str(refusal.retry_after)
        return response
    except (InvalidRequest, Refusal) as refusal:
        form.refuse(refusal)
        return _page(request, image, form, status=422)
    store.watch(request.user.pk)
    if not wants_fragment(request):
        return redirect("job", generation.pk)
    shown = panels([generation])[0]
    context = {"image": image, "panel": shown, "client_token": uuid.uuid4(), **_cost_context(request, image, form.data)}
    response = render(request, "edit/_accepted.html", context)
    response["HX-Replace-Url"] = f"{reverse('image-edit', args=[image.short_id])}?job={generation.pk}"
    return announce(response, f"Queued. {shown['headline']}.")


def _create_generation(request: PageRequest, image: GeneratedImage, form: EditForm) -> Generation:
    with undone_on_refusal():
        fields = read_request(form.request_fields(image), request.user)
        if "mask" in fields and "expand" not in fields:
            _refuse_black(load_upload(str(fields["mask"].pk)))
        fields |= {"user": request.user, "source": Generation.Source.PAGE}
        try:
            return create_generation(**fields, idempotency_key=form.idempotency_key())[0]
        except IdempotencyConflict:
            # The same form was changed and sent again: a new wish, not a repeat.
            return create_generation(**fields, idempotency_key=f"page-{uuid.uuid4()}")[0]


def _refuse_black(mask: Image.Image) -> None:
    if mask.convert("L").point(lambda value: 255 if value >= LIGHT else 0).getbbox() is None:
        raise InvalidRequest(BLACK, "mask")


def _page(
    request: PageRequest, image: GeneratedImage, form: EditForm, *, status: int = 200, refusal: Refusal | None = None
) -> HttpResponse:
    context = _form_context(request, image, form) | {"refusal": refusal}
    if refusal is not None:
        context["wait"] = duration_words(refusal.retry_after) if refusal.retry_after else ""
    if wants_fragment(request):
        return render(request, "edit/_fields.html", context, status=status)
    context |= _chain_context(request, image) | _outcome_context(request, image, _job_of(request, image))
    return render(request, "edit/edit.html", context, status=status)


def _form_context(request: PageRequest, image: GeneratedImage, form: EditForm) -> dict[str, Any]:
    values = form.data if form.is_bound else form.initial
    models = edit_models()
    spec = _chosen_model(models, values.get("model"))
    offer = Offer(spec, upscalers(), spec.max_steps)
    style = STYLES.get(image.generation.style)
    return {
        "image": image,
        "ratio": round(image.width / image.height, 4),
        "form": form,
        "spec": spec,
        "controls": edit_controls(form, offer, models, plan_of(request.user).max_images),
        "sides": list(SIDES),
        "areas": AREAS,
        "area": form["area"].value() or WHOLE,
        "style": style,
        "keep_style": style is not None and form["keep_style"].value(),
        "tools": [tool for tool in TOOLS if not tool.mode or any(tool.mode in model.modes for model in models)],
        "tool": _first_tool(request, spec),
        "brush_size": max(8, round(min(image.width, image.height) / 10)),
        "brush_most": max(64, min(image.width, image.height) // 2),
        "client_token": uuid.uuid4(),
        **_cost_context(request, image, values),
    }


def _chosen_model(models: list[ModelSpec], name: Any) -> ModelSpec:
    """The model of that name, the site's default, or the first, whichever can edit."""
    by_key = {spec.key: spec for spec in models}
    return by_key.get(str(name)) or by_key.get(settings.DEFAULT_MODEL) or models[0]


def _first_tool(request: PageRequest, spec: ModelSpec) -> str:
    """The tool in hand: the one that the address names, else the first that the model has."""
    names = [tool.name for tool in TOOLS if not tool.mode or tool.mode in spec.modes]
    return request.GET["tool"] if request.GET.get("tool") in names else names[0]


@login_required
@require_safe
def cost(request: PageRequest, short_id: str) -> HttpResponse:
    """The line below Generate, for what stands in the form."""
    return render(request, "edit/_cost.html", _cost_context(request, _own(request, short_id), request.GET))


def _cost_context(request: PageRequest, image: GeneratedImage, values: Any) -> dict[str, Any]:
    """What the change costs in images and time, and how large it will be. Unfinished input counts as unknown."""
    count, planned, seconds = _whole(values.get("num_images")) or 1, None, None
    expand = {side: _whole(values.get(side)) or 0 for side in SIDES}
    spec = _chosen_model(edit_models(), values.get("model"))
    try:
        planned = resolve_request(
            model=spec.key,
            prompt="x",
            num_images=count,
            image=Picture("", image.width, image.height, "", lambda: Image.new("RGB", (8, 8))),
            strength=float(values["strength"]) if values.get("strength") else None,
            expand=expand,
        ).request
        pace = estimates.seconds_per_step(planned.model, planned.width, planned.height)
        seconds = pace and pace * planned.total_steps
    except (InvalidRequest, ValueError):
        pass  # said when it is sent
    quota = quotas.remaining(request.user)
    largest = max(image.width + expand["left"] + expand["right"], image.height + expand["top"] + expand["bottom"])
    return {
        "count": count,
        "size": planned,
        "shrinks": largest > spec.max_side,
        "cost_model": spec,
        "took": f"≈ {duration_words(seconds)}" if seconds else "",
        "quota": quota,
        "short": quota.remaining is not None and count > quota.remaining,
    }


def _whole(value: Any) -> int | None:
    text = str(value if value is not None else "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _chain_context(request: PageRequest, image: GeneratedImage) -> dict[str, Any]:
    return {"earlier": earlier_versions(request.user, image), "later": later_versions(request.user, image)}


# --- what came of it --------------------------------------------------------------------------------------


@login_required
@require_safe
def outcome(request: PageRequest, short_id: str) -> HttpResponse:
    """The panel of a change, or its pictures beside the original."""
    image = _own(request, short_id)
    job = _job_of(request, image)
    if not wants_fragment(request):
        return redirect(f"{reverse('image-edit', args=[short_id])}?{request.GET.urlencode()}")
    return _outcome(request, image, job)


def _outcome(request: PageRequest, image: GeneratedImage, job: Generation | None, *, moved: str = "") -> HttpResponse:
    """`moved`: the picture that just went to the trash or came back, which the focus stays with."""
    context = {"image": image, "moved": moved, **_chain_context(request, image)}
    context |= _outcome_context(request, image, job, moved)
    return render(request, "edit/_outcome_and_chain.html", context)


def _job_of(request: PageRequest, image: GeneratedImage) -> Generation | None:
    """The change that the address names, or else one that is at work."""
    changes = Generation.objects.visible_to(request.user).filter(parent=image.id)
    try:
        return changes.filter(pk=uuid.UUID(request.GET["job"])).first()
    except (KeyError, ValueError):
        return changes.active().order_by("-created_at").first()


def _outcome_context(
    request: PageRequest, image: GeneratedImage, job: Generation | None, short_id: str = ""
) -> dict[str, Any]:
    """`short_id`: the picture of the job to show; the first that is kept where there is none of that id."""
    if job is None:
        return {"job": None}
    own = GeneratedImage.objects.owned_by(request.user).filter(generation=job).order_by("index")
    pictures = list(own.select_related("generation"))
    if not job.is_final or not pictures:
        shown = panels([job])[0]
        return {"job": job, "panel": shown, "has_ended": job.is_final}
    short_id = short_id or request.GET.get("picture", "")
    kept = [picture for picture in pictures if picture.deleted_at is None]
    result = next((picture for picture in pictures if picture.short_id == short_id), (kept or pictures)[0])
    return {"job": job, "pictures": pictures, "result": result, "place": _place_of_original(image, job)}


def _place_of_original(image: GeneratedImage, job: Generation) -> dict[str, float]:
    """Where the original lies in what became of it, in percent: all of it but where the picture was extended."""
    by = (job.options.get("start") or {}).get("expand") or dict.fromkeys(SIDES, 0)
    width, height = image.width + by["left"] + by["right"], image.height + by["top"] + by["bottom"]
    return {
        "left": round(100 * by["left"] / width, 3),
        "top": round(100 * by["top"] / height, 3),
        "across": round(100 * image.width / width, 3),
        "down": round(100 * image.height / height, 3),
    }


@login_required
@require_POST
def discard(request: PageRequest, short_id: str) -> HttpResponse:
    """Move a result to the trash, or with `back` take it out again, and stay with the original."""
    result = _own(request, short_id)
    back = bool(request.POST.get("back"))
    change = restore_images if back else trash_images
    moved = change(request.user, [result])
    original = GeneratedImage.objects.owned_by(request.user).filter(id=result.generation.parent_id).first()
    if original is None:
        note_trashed(request, moved)
        return redirect("gallery")
    if not wants_fragment(request):
        query = f"job={result.generation_id}&picture={short_id}"
        return redirect(f"{reverse('image-edit', args=[original.short_id])}?{query}")
    response = _outcome(request, original, result.generation, moved=short_id)
    return announce(response, "Restored." if back else "Moved to trash. Undo available.")
