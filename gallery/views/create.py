"""The Create page: describe a picture, send it off, watch it come."""

import datetime as dt
import json
import uuid
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import quotas
from accounts.models import User
from accounts.plans import plan_of
from accounts.refusals import QuotaExceeded, Refusal
from generation.catalog import catalog, is_ready, model_named, upscalers
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import ASPECT_RATIOS, MAX_PROMPT_CHARACTERS
from generation.engine.request.request import size_for
from generation.engine.request.schema import Offer
from generation.live import store
from generation.models import GeneratedImage, Generation, Visibility
from generation.prompts.ideas import improve, suggestions, surprise
from generation.prompts.styles import STYLES
from generation.queue import estimates
from generation.refusals import IdempotencyConflict, RateLimited, TooManyRunning
from generation.services.generations import create_generation
from generation.services.parse import read_request
from generation.services.resolve import resolve_request
from generation.storage.uploads import undone_on_refusal

from ..controls import COMPOSER_FIELDS, MORE_FIELDS, feature_of, is_available, is_chosen
from ..forms import CUSTOM_SHAPE, SHAPES, ComposerForm
from ..htmx import PageRequest, announce, wants_fragment
from ..panels import duration_words, panels
from ..request_parts import request_parts
from ..reuse import carried_fields, composer_values, kept_fields

IDEAS = 6
TODAY_IMAGES = 24
Status = Generation.Status
RECENT = dt.timedelta(minutes=15)
MORE = tuple(field.name for field in MORE_FIELDS)
FINE_TUNING = ("negative_prompt", "steps", "guidance_scale", "sampler", "seed", "width", "height", "visibility", *MORE)
CHOSEN = ("negative_prompt", "steps", "guidance_scale", "seed", *MORE)
"""Of these, the fields that are empty unless somebody chose. The drawer opens for them and for mistakes."""


@require_http_methods(["GET", "HEAD", "POST"])
def create(request: PageRequest) -> HttpResponse:
    if not request.user.is_authenticated and request.GET.get("prompt"):
        # Came from the field on the home page: most likely somebody new.
        return redirect(f"{reverse('account_signup')}?{urlencode({'next': request.get_full_path()})}")
    return _create(request)


@login_required
def _create(request: PageRequest) -> HttpResponse:
    if request.method == "POST":
        return _submit(request)
    return _page(request, _form_for(_starting_values(request)))


def _starting_values(request: PageRequest) -> dict[str, Any]:
    """From an image whose settings are reused, or from the address; else the site's defaults."""
    values = {"model": settings.DEFAULT_MODEL, "shape": "1:1", "num_images": 1, "visibility": Visibility.PRIVATE}
    if short_id := request.GET.get("from", "").replace("\x00", ""):
        images = GeneratedImage.objects.visible_to(request.user).select_related("generation")
        image = get_object_or_404(images, short_id=short_id)
        values |= composer_values(image, request.user)
        values |= {"shape": _shape_of(image.generation), "source_image": image}
    for name in ("prompt", "style", "model"):
        if name in request.GET:
            values[name] = request.GET[name].replace("\x00", "")
    return values


def _shape_of(generation: Generation) -> str:
    """The name of the shape whose size is exactly that of `generation`, or "custom"."""
    try:
        spec = model_named(generation.model)
    except InvalidRequest:
        return CUSTOM_SHAPE
    size = (generation.width, generation.height)
    return next((shape for shape in ASPECT_RATIOS if size_for(spec, shape) == size), CUSTOM_SHAPE)


def _form_for(values: dict[str, Any]) -> ComposerForm:
    form = ComposerForm(initial=values)
    form.source_image = values.get("source_image")
    return form


def _submit(request: PageRequest) -> HttpResponse:
    form = ComposerForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    try:
        generation, created = _create_generation(request.user, form)
    except (QuotaExceeded, RateLimited, TooManyRunning) as refusal:
        response = _page(request, form, status=429, refusal=refusal)
        if refusal.retry_after:
            response["Retry-After"] = str(refusal.retry_after)
        return response
    except (InvalidRequest, Refusal) as refusal:
        form.refuse(refusal)
        return _page(request, form, status=422)
    # Previews are made for those who watch, and from the first step on.
    store.watch(request.user.pk)
    if not wants_fragment(request):
        return redirect("job", generation.pk)
    shown = panels([generation])[0]
    response = render(
        request,
        "create/_accepted.html",
        {"panel": shown, "created": created, "client_token": uuid.uuid4(), **_cost_context(request, form.data)},
    )
    if not created:
        response["HX-Reswap"] = "none"
    return announce(response, f"Queued. {shown['headline']}.")


def _create_generation(user: User, form: ComposerForm) -> tuple[Generation, bool]:
    with undone_on_refusal():
        fields = read_request(form.request_fields(), user) | {"user": user, "source": Generation.Source.PAGE}
        try:
            return create_generation(**fields, idempotency_key=form.idempotency_key())
        except IdempotencyConflict:
            # The page was sent once, changed and sent again from the same form: a new wish, not a repeat.
            return create_generation(**fields, idempotency_key=f"page-{uuid.uuid4()}")


def _page(
    request: PageRequest, form: ComposerForm, *, status: int = 200, refusal: Refusal | None = None
) -> HttpResponse:
    context = _composer_context(request, form) | {"refusal": refusal}
    if refusal is not None:
        wait = duration_words(refusal.retry_after) if refusal.retry_after else ""
        context |= {"refusal_code": refusal.code, "wait": wait}
    if wants_fragment(request):
        return render(request, "create/_composer.html", context, status=status)
    return render(request, "create/create.html", context | _results_context(request.user), status=status)


def _composer_context(request: PageRequest, form: ComposerForm) -> dict[str, Any]:
    values = form.data if form.is_bound else form.initial
    try:
        spec = model_named(values.get("model"))
    except InvalidRequest:
        spec = model_named(None)
    return {
        "form": form,
        "values": values,
        "source_image": getattr(form, "source_image", None),
        "client_token": uuid.uuid4(),
        "offer": Offer(spec, upscalers(), spec.max_steps),
        "models": [(spec, is_ready(spec)) for spec in catalog()],
        "more_fields": [(field, feature_of(field), is_available(field, spec)) for field in MORE_FIELDS],
        "styles": STYLES.values(),
        "shapes": [
            {"key": key, "name": name, "across": ASPECT_RATIOS[key][0], "down": ASPECT_RATIOS[key][1]}
            for key, name in SHAPES.items()
        ],
        "visibilities": Visibility.choices,
        "max_images": plan_of(request.user).max_images,
        "max_prompt": MAX_PROMPT_CHARACTERS,
        "ideas": suggestions(IDEAS),
        "fine_tuned": _is_fine_tuned(form, values),
        **_carried_context(values),
        **_cost_context(request, values),
    }


def _is_fine_tuned(form: ComposerForm, values: Any) -> bool:
    """Whether something in the drawer was chosen, or is wrong: then it is open."""
    if values.get("shape") == CUSTOM_SHAPE:
        return True
    chosen = [
        name for name in CHOSEN if is_chosen(values.get(name)) and values.get(name) != COMPOSER_FIELDS[name].default
    ]
    return bool(chosen) or any(name in form.errors for name in FINE_TUNING)


def _carried_context(values: Any) -> dict[str, Any]:
    """What Reuse settings brought along and the composer has no control for."""
    try:
        carried = carried_fields(values)
    except InvalidRequest:
        return {}
    kept = set(values.getlist("keep")) if isinstance(values, QueryDict) else None
    parts = [{"part": part, "kept": kept is None or part.key in kept} for part in request_parts(carried)]
    return {"carried": json.dumps(carried), "carried_parts": parts, "notes": values.get("notes") or []}


def _results_context(user: User) -> dict[str, Any]:
    now = timezone.now()
    jobs = Generation.objects.visible_to(user).filter(
        Q(status__in=Generation.ACTIVE)
        | Q(status__in=(Status.COMPLETED, Status.FAILED, Status.BLOCKED, Status.EXPIRED), finished_at__gt=now - RECENT)
    )
    shown = [
        panel for panel in panels(jobs.order_by("-created_at")[:10]) if panel["tone"] != "done" or panel["pictures"]
    ]
    today = GeneratedImage.objects.owned_by(user).kept().filter(created_at__date=now.date())
    # Each picture once: those of a job that has just ended stand in its panel.
    today = today.exclude(generation__in=[panel["id"] for panel in shown])
    return {"panels": shown, "today": list(today.select_related("generation")[:TODAY_IMAGES])}


@login_required
@require_safe
def estimate(request: PageRequest) -> HttpResponse:
    return render(request, "create/_cost.html", _cost_context(request, request.GET))


def _cost_context(request: PageRequest, values: Any) -> dict[str, Any]:
    """What the choice costs in images and, where past runs tell, in time. Unfinished input counts as unknown."""
    count = _whole(values.get("num_images")) or 1
    seconds = None
    try:
        planned = resolve_request(**_planned_fields(values, count)).request
        pace = estimates.seconds_per_step(planned.model, planned.width, planned.height)
        seconds = pace and pace * planned.total_steps
    except InvalidRequest:
        planned = None
    quota = quotas.remaining(request.user)
    return {
        "count": count,
        "size": planned,
        "took": f"≈ {duration_words(seconds)}" if seconds else "",
        "quota": quota,
        "short": quota.remaining is not None and count > quota.remaining,
    }


def _planned_fields(values: Any, count: int) -> dict[str, Any]:
    """The fields that decide about size and time, as far as they can be read."""
    fields: dict[str, Any] = {"model": values.get("model"), "prompt": "x", "num_images": count}
    fields |= {"steps": _whole(values.get("steps")), "hires": kept_fields(values).get("hires_fix")}
    if values.get("shape") == CUSTOM_SHAPE:
        return fields | {name: _whole(values.get(name)) for name in ("width", "height")}
    return fields | {"aspect_ratio": values.get("shape") or None}


def _whole(value: Any) -> int | None:
    text = str(value if value is not None else "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


@login_required
@require_POST
def surprise_me(request: PageRequest) -> HttpResponse:
    """A new prompt; with `back`, the one that was there before."""
    return _replace_prompt(request, request.POST.get("back") or surprise(), "A surprise is in the field.")


@login_required
@require_POST
def improve_prompt(request: PageRequest) -> HttpResponse:
    before = request.POST.get("prompt", "")
    after = improve(before)
    return _replace_prompt(request, after, "Details added." if after != before else "There is nothing to add.")


def _replace_prompt(request: PageRequest, prompt: str, announcement: str) -> HttpResponse:
    before = request.POST.get("prompt", "")
    form = ComposerForm(initial=_typed(request.POST) | {"prompt": prompt})
    context = _composer_context(request, form) | {"previous": before if before.strip() and before != prompt else ""}
    if wants_fragment(request):
        return announce(render(request, "create/_prompt.html", context), announcement)
    return render(request, "create/create.html", context | _results_context(request.user))


def _typed(data: QueryDict) -> dict[str, Any]:
    """What stands in the form, with what it carries of another image."""
    try:
        return data.dict() | {"carried": kept_fields(data)}
    except InvalidRequest:
        return data.dict() | {"carried": {}}


@login_required
@require_safe
def more_ideas(request: PageRequest) -> HttpResponse:
    if not wants_fragment(request):
        return redirect("create")
    return render(request, "create/_ideas.html", {"ideas": suggestions(IDEAS)})
