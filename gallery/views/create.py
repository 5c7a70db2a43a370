"""The Create page: describe a picture, send it off, watch it come."""

import datetime as dt
import uuid

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import quotas
from accounts.plans import plan_of
from accounts.refusals import QuotaExceeded
from generation.catalog import catalog, is_ready, model_named
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import ASPECT_RATIOS, MAX_PROMPT_CHARACTERS
from generation.engine.request.request import build_request, size_for
from generation.live import store
from generation.models import GeneratedImage, Generation, Visibility
from generation.prompts.ideas import improve, suggestions, surprise
from generation.prompts.styles import STYLES
from generation.queue import estimates
from generation.refusals import AccountLocked, IdempotencyConflict, PromptRejected, RateLimited, TooManyRunning
from generation.services.generations import create_generation

from ..forms import CUSTOM_SHAPE, SHAPES, ComposerForm
from ..htmx import announce, wants_fragment
from ..panels import duration_words, panels

IDEAS = 6
TODAY_IMAGES = 24
RECENT = dt.timedelta(minutes=15)
FINE_TUNING = ("negative_prompt", "steps", "guidance_scale", "sampler", "seed", "width", "height", "visibility")
CHOSEN = ("negative_prompt", "steps", "guidance_scale", "seed")
"""Of these, the fields that are empty unless somebody chose. The drawer opens for them and for mistakes."""


@require_http_methods(["GET", "HEAD", "POST"])
def create(request):
    if not request.user.is_authenticated and request.GET.get("prompt"):
        # Came from the field on the home page: most likely somebody new.
        return redirect(f"{reverse('account_signup')}?{urlencode({'next': request.get_full_path()})}")
    return _create(request)


@login_required
def _create(request):
    if request.method == "POST":
        return _submit(request)
    return _page(request, _form_for(_starting_values(request)))


def _starting_values(request) -> dict:
    """From an image whose settings are reused, or from the address; else the site's defaults."""
    values = {"model": settings.DEFAULT_MODEL, "shape": "1:1", "num_images": 1, "visibility": Visibility.PRIVATE}
    if source := request.GET.get("from", "").replace("\x00", ""):
        images = GeneratedImage.objects.visible_to(request.user).select_related("generation")
        image = get_object_or_404(images, short_id=source)
        asked = image.generation
        values |= {
            name: getattr(asked, name)
            for name in (
                "prompt",
                "negative_prompt",
                "model",
                "style",
                "width",
                "height",
                "steps",
                "guidance_scale",
                "sampler",
            )
        }
        values |= {"seed": image.seed, "shape": _shape_of(asked), "source_image": image}
    for name in ("prompt", "style", "model"):
        if name in request.GET:
            values[name] = request.GET[name].replace("\x00", "")
    return values


def _shape_of(generation) -> str:
    """The name of the shape whose size is exactly that of `generation`, or "custom"."""
    try:
        spec = model_named(generation.model)
    except InvalidRequest:
        return CUSTOM_SHAPE
    size = (generation.width, generation.height)
    return next((shape for shape in ASPECT_RATIOS if size_for(spec, shape) == size), CUSTOM_SHAPE)


def _form_for(values: dict) -> ComposerForm:
    form = ComposerForm(initial=values)
    form.source_image = values.get("source_image")
    return form


def _submit(request):
    form = ComposerForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    asked = form.asked() | {"user": request.user, "source": Generation.Source.PAGE}
    try:
        try:
            generation, created = create_generation(**asked)
        except IdempotencyConflict:
            # The page was sent once, changed and sent again from the same form: a new wish, not a repeat.
            generation, created = create_generation(**asked | {"idempotency_key": f"page-{uuid.uuid4()}"})
    except (InvalidRequest, PromptRejected) as refusal:
        form.refuse(refusal)
        return _page(request, form, status=422)
    except AccountLocked as refusal:
        form.add_error(None, str(refusal))
        return _page(request, form, status=422)
    except (QuotaExceeded, RateLimited, TooManyRunning) as refusal:
        response = _page(request, form, status=429, refusal=refusal)
        if refusal.retry_after:
            response["Retry-After"] = str(refusal.retry_after)
        return response
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


def _page(request, form, *, status=200, refusal=None):
    context = _composer_context(request, form) | {"refusal": refusal}
    if refusal is not None:
        wait = duration_words(refusal.retry_after) if refusal.retry_after else ""
        context |= {"refusal_code": refusal.code, "wait": wait}
    if wants_fragment(request):
        return render(request, "create/_composer.html", context, status=status)
    return render(request, "create/create.html", context | _results_context(request.user), status=status)


def _composer_context(request, form) -> dict:
    values = form.data if form.is_bound else form.initial
    specs = list(catalog())
    try:
        chosen = model_named(values.get("model"))
    except InvalidRequest:
        chosen = model_named(None)
    plan = plan_of(request.user)
    return {
        "form": form,
        "values": values,
        "source_image": getattr(form, "source_image", None),
        "client_token": uuid.uuid4(),
        "chosen_model": chosen,
        "models": [{"spec": spec, "ready": is_ready(spec)} for spec in specs],
        "styles": STYLES.values(),
        "shapes": [
            {"key": key, "name": name, "across": ASPECT_RATIOS[key][0], "down": ASPECT_RATIOS[key][1]}
            for key, name in SHAPES.items()
        ],
        "visibilities": Visibility.choices,
        "max_images": plan.max_images,
        "max_prompt": MAX_PROMPT_CHARACTERS,
        "ideas": suggestions(IDEAS),
        "fine_tuned": values.get("shape") == CUSTOM_SHAPE
        or any(name in form.errors or name in CHOSEN and values.get(name) not in (None, "") for name in FINE_TUNING),
        **_cost_context(request, values),
    }


def _results_context(user) -> dict:
    now = timezone.now()
    jobs = Generation.objects.visible_to(user).filter(
        Q(status__in=Generation.ACTIVE)
        | Q(
            status__in=(Generation.Status.FAILED, Generation.Status.BLOCKED, Generation.Status.EXPIRED),
            finished_at__gt=now - RECENT,
        )
    )
    today = GeneratedImage.objects.owned_by(user).kept().filter(created_at__date=now.date())
    return {
        "panels": panels(jobs.order_by("-created_at")[:10]),
        "today": list(today.select_related("generation")[:TODAY_IMAGES]),
    }


@login_required
@require_safe
def estimate(request):
    return render(request, "create/_cost.html", _cost_context(request, request.GET))


def _cost_context(request, values) -> dict:
    """What the choice costs in images and, where past runs tell, in time. Unfinished input counts as unknown."""
    count = _whole(values.get("num_images")) or 1
    seconds = None
    try:
        spec = model_named(values.get("model"))
        size = {"width": _whole(values.get("width")), "height": _whole(values.get("height"))}
        custom = values.get("shape") == CUSTOM_SHAPE
        asked = build_request(
            spec,
            prompt="x",
            steps=_whole(values.get("steps")),
            num_images=count,
            **(size if custom else {"aspect_ratio": values.get("shape") or None}),
        )
        pace = estimates.seconds_per_step(spec.key, asked.width, asked.height)
        seconds = pace and pace * asked.steps * count
    except InvalidRequest:
        asked = None
    quota = quotas.remaining(request.user)
    return {
        "count": count,
        "size": asked,
        "took": f"≈ {duration_words(seconds)}" if seconds else "",
        "quota": quota,
        "short": quota.remaining is not None and count > quota.remaining,
    }


def _whole(value) -> int | None:
    text = str(value if value is not None else "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


@login_required
@require_POST
def surprise_me(request):
    """A new prompt; with `back`, the one that was there before."""
    return _replace_prompt(request, request.POST.get("back") or surprise(), "A surprise is in the field.")


@login_required
@require_POST
def improve_prompt(request):
    before = request.POST.get("prompt", "")
    after = improve(before)
    return _replace_prompt(request, after, "Details added." if after != before else "There is nothing to add.")


def _replace_prompt(request, prompt, words):
    before = request.POST.get("prompt", "")
    form = ComposerForm(initial=request.POST.dict() | {"prompt": prompt})
    context = _composer_context(request, form) | {"previous": before if before.strip() and before != prompt else ""}
    if wants_fragment(request):
        return announce(render(request, "create/_prompt.html", context), words)
    return render(request, "create/create.html", context | _results_context(request.user))


@login_required
@require_safe
def more_ideas(request):
    if not wants_fragment(request):
        return redirect("create")
    return render(request, "create/_ideas.html", {"ideas": suggestions(IDEAS)})
