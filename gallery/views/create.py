"""The Create page: describe a picture, send it off, watch it come."""

import datetime as dt
import uuid
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db.models import Case, F, Q, Value, When
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import User
from accounts.refusals import QuotaExceeded, Refusal
from generation.catalog import abilities_of, model_named
from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import InvalidRequest, UnknownModel
from generation.live import store
from generation.models import GeneratedImage, Generation, Visibility
from generation.prompts.ideas import improve, suggestions, surprise
from generation.refusals import IdempotencyConflict, RateLimited, TooManyRunning
from generation.services.generations import create_generation
from generation.services.parse import read_request
from generation.storage.uploads import undone_on_refusal

from ..composer import IDEAS, composer_context, cost_context, spec_of
from ..drafts import ASIDE, draft_of, is_empty, is_unsent, note_sent, save_draft, typed_fields, values_of
from ..fitting import USUAL_SHAPE, fitted
from ..forms import ComposerForm
from ..htmx import PageRequest, announce, wants_fragment
from ..panels import duration_words, panels
from ..references import arrange, drop_missing, place, role_named
from ..reuse import generation_values, image_values

TODAY_IMAGES = 24
Status = Generation.Status
MOST_PANELS = 10
RECENT = dt.timedelta(minutes=15)
LINK_WINS = "link"
"""Value of `use` in an address whose prompt replaces what was typed."""


@dataclass
class Composed:
    """What the composer begins with. `changes`: what the model made of it; `notes`: what is lost; `offers`: drafts and
    prompts that can be had instead."""

    values: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    offers: list[dict[str, str]] = field(default_factory=list)
    source_image: GeneratedImage | None = None
    before: ModelSpec | None = None
    """The model that the values were chosen for, where the address names another."""

    def messages(self) -> dict[str, Any]:
        """For the templates."""
        names = ("notes", "changes", "offers", "source_image")
        return {name: getattr(self, name) for name in names}


@require_http_methods(["GET", "HEAD", "POST"])
def create(request: PageRequest) -> HttpResponse:
    if not request.user.is_authenticated and request.GET.get("prompt"):
        # Came from the field on the home page: most likely somebody new.
        return redirect(f"{reverse('account_signup')}?{urlencode({'next': request.get_full_path()})}")
    return _create(request)


@login_required
def _create(request: PageRequest) -> HttpResponse:
    return _submit(request) if request.method == "POST" else begin(request)


def begin(request: PageRequest) -> HttpResponse:
    """The composer as the address and the draft have it."""
    composed = begun(request.user, {name: str(text).replace("\x00", "") for name, text in request.GET.items()})
    return show(request, composed)


def show(request: PageRequest, composed: Composed, announcement: str = "") -> HttpResponse:
    """The page with these values; for htmx the composer alone."""
    composed.notes += drop_missing(request.user, composed.values)
    abilities = abilities_of(spec_of(composed.values))
    fitting = fitted(composed.values, abilities, composed.before)
    composed.changes += fitting.changes
    context = composer_context(request.user, ComposerForm(initial=fitting.values), abilities) | composed.messages()
    if wants_fragment(request):
        response = render(request, "create/_composer.html", context)
        return announce(response, announcement) if announcement else response
    return render(request, "create/create.html", context | _results_context(request.user))


def usual_values() -> dict[str, Any]:
    return {"model": settings.DEFAULT_MODEL, "shape": USUAL_SHAPE, "num_images": 1, "visibility": Visibility.PRIVATE}


def begun(user: User, address: dict[str, str]) -> Composed:
    """An image's or a job's settings where the address names one, else the draft; a prompt or picture on top."""
    draft = draft_of(user)
    composed = _named_settings(user, address)
    if composed:
        if is_unsent(draft):
            composed.offers.append(_draft_offer(draft))
    else:
        composed = Composed(usual_values() | ({} if is_empty(draft) else values_of(draft)))
        if aside := draft.get(ASIDE):
            composed.offers.append(_aside_offer(aside))
    if not _wants_other_prompt(composed, draft, address):
        composed.before = spec_of(composed.values)
        for name in ("style", "model"):
            if address.get(name):
                composed.values[name] = address[name]
    _add_picture(user, composed, address)
    return composed


def _named_settings(user: User, address: dict[str, str]) -> Composed | None:
    if short_id := address.get("from", ""):
        image = _visible_image(user, short_id)
        values, notes = image_values(image, user)
        values |= {"origin": f"from={short_id}"}
        return Composed(usual_values() | values, notes, source_image=image)
    if job := address.get("job", ""):
        try:
            pk = uuid.UUID(job)
        except ValueError:
            raise Http404 from None
        generation = get_object_or_404(Generation.objects.visible_to(user), pk=pk)
        values, notes = generation_values(generation, user)
        values |= {"visibility": generation.visibility, "origin": f"job={pk}"}
        return Composed(usual_values() | values, notes)
    return None


def _visible_image(user: User, short_id: str) -> GeneratedImage:
    images = GeneratedImage.objects.visible_to(user).select_related("generation")
    return get_object_or_404(images, short_id=short_id)


def _wants_other_prompt(composed: Composed, draft: dict[str, Any], address: dict[str, str]) -> bool:
    """Put the address's prompt into the field, unless words stand there that were typed and not sent off: these stay,
    and the other prompt is offered beside them. Returns whether it is only offered."""
    prompt = address.get("prompt", "")
    if not prompt:
        return False
    typed = (composed.values.get("origin") or "") == draft.get("origin", "") and is_unsent(draft)
    if typed and prompt.strip() != str(draft.get("prompt", "")).strip() and address.get("use") != LINK_WINS:
        query = {name: address[name] for name in ("prompt", "style", "model") if address.get(name)}
        composed.offers.append(
            {
                "text": f"The link brought another prompt: “{_short(prompt)}”",
                "label": "Use it",
                "href": f"{reverse('create')}?{urlencode(query | {'use': LINK_WINS})}",
            }
        )
        return True
    if typed and prompt.strip() != str(draft.get("prompt", "")).strip():
        composed.offers = [_draft_offer(draft)]
        composed.values["origin"] = f"prompt={prompt[:150]}"
    composed.values["prompt"] = prompt
    return False


def _draft_offer(draft: dict[str, Any]) -> dict[str, str]:
    text = f"Your draft is kept: “{_short(str(draft.get('prompt', '')))}”"
    return {"text": text, "label": "Back to it", "href": reverse("create")}


def _aside_offer(aside: dict[str, Any]) -> dict[str, str]:
    prompt = str(aside.get("prompt") or "").strip()
    text = f"An earlier draft is kept: “{_short(prompt)}”" if prompt else "An earlier draft is kept."
    return {"text": text, "label": "Put it back", "action": reverse("create-draft-restore")}


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"


def _add_picture(user: User, composed: Composed, address: dict[str, str]) -> None:
    """The picture of an address, `?image=<short id>&role=start`."""
    if short_id := address.get("image", ""):
        role = role_named(address.get("role", "start"))
        if not role:
            raise Http404
        place(composed.values, role, str(_visible_image(user, short_id).id))


def _submit(request: PageRequest) -> HttpResponse:
    data = request.POST.copy()
    problems = arrange(request.user, data, request.FILES, abilities_of(spec_of(data)))
    form = ComposerForm(data)
    if not form.is_valid() or problems:
        return _refuse(request, form, data, problems)
    try:
        generation, created = _create_generation(request.user, form)
    except (QuotaExceeded, RateLimited, TooManyRunning) as refusal:
        save_draft(request.user, data)
        response = _page(request, form, status=429, refusal=refusal)
        if refusal.retry_after:
            response["Retry-After"] = str(refusal.retry_after)
        return response
    except (InvalidRequest, Refusal) as refusal:
        return _refuse(request, form, data, [], refusal)
    note_sent(request.user, data)
    # Previews are made for those who watch, and from the first step on.
    store.watch(request.user.pk)
    if not wants_fragment(request):
        return redirect("job", generation.pk)
    shown = panels([generation])[0]
    context = {"panel": shown, "created": created, "client_token": uuid.uuid4()}
    response = render(request, "create/_accepted.html", context | cost_context(request.user, form.values()))
    if not created:
        response["HX-Reswap"] = "none"
    return announce(response, f"Queued. {shown['headline']}.")


def _refuse(
    request: PageRequest,
    form: ComposerForm,
    data: QueryDict,
    problems: list[str],
    refusal: InvalidRequest | Refusal | None = None,
) -> HttpResponse:
    """The form again, with everything that is wrong at once."""
    for problem in problems:
        form.add_error(None, problem)
    form.check_with(request.user)
    if refusal and not form.errors:
        form.refuse(refusal)
    save_draft(request.user, data)
    return _page(request, form, status=422)


def _create_generation(user: User, form: ComposerForm) -> tuple[Generation, bool]:
    with undone_on_refusal():
        fields = read_request(form.request_body(), user) | {"user": user, "source": Generation.Source.PAGE}
        try:
            return create_generation(**fields, idempotency_key=form.idempotency_key())
        except IdempotencyConflict:
            # The page was sent once, changed and sent again from the same form: a new wish, not a repeat.
            return create_generation(**fields, idempotency_key=f"page-{uuid.uuid4()}")


def _page(
    request: PageRequest, form: ComposerForm, *, status: int = 200, refusal: Refusal | None = None
) -> HttpResponse:
    context = composer_context(request.user, form) | {"refusal": refusal}
    if refusal is not None:
        wait = duration_words(refusal.retry_after) if refusal.retry_after else ""
        context |= {"refusal_code": refusal.code, "wait": wait}
    if wants_fragment(request):
        return render(request, "create/_composer.html", context, status=status)
    return render(request, "create/create.html", context | _results_context(request.user), status=status)


def _results_context(user: User) -> dict[str, Any]:
    now = timezone.now()
    jobs = Generation.objects.visible_to(user).filter(
        Q(status__in=Generation.ACTIVE)
        | Q(status__in=(Status.COMPLETED, Status.FAILED, Status.BLOCKED, Status.EXPIRED), finished_at__gt=now - RECENT)
    )
    # The running ones first, then those that wait in their order, then what ended, the last first.
    rank = Case(
        When(status=Status.PROCESSING, then=Value(0)), When(status=Status.QUEUED, then=Value(1)), default=Value(2)
    )
    order = (rank, F("finished_at").desc(nulls_first=True), "created_at")
    shown = [
        panel for panel in panels(jobs.order_by(*order)[:MOST_PANELS]) if panel["tone"] != "done" or panel["pictures"]
    ]
    today = GeneratedImage.objects.owned_by(user).kept().filter(created_at__date=now.date())
    # Each picture once: those of a job that has just ended stand in its panel.
    today = today.exclude(generation__in=[panel["id"] for panel in shown])
    return {"panels": shown, "today": list(today.select_related("generation")[:TODAY_IMAGES])}


@login_required
@require_safe
def estimate(request: PageRequest) -> HttpResponse:
    return render(request, "create/_cost.html", cost_context(request.user, values_of(typed_fields(request.GET))))


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def controls(request: PageRequest) -> HttpResponse:
    """The controls of the chosen model, with what still fits, and what became of the rest.

    htmx asks for them when the model changes. Without scripts a button sends the whole form.
    """
    data = (request.POST or request.GET).copy()
    problems = arrange(request.user, data, request.FILES, abilities_of(spec_of(data)))
    values = usual_values() | values_of(typed_fields(data))
    abilities = abilities_of(spec_of(values))
    fitting = fitted(values, abilities, _model_before(data))
    composed = Composed(fitting.values, changes=[*problems, *fitting.changes])
    if not wants_fragment(request):
        save_draft(request.user, data)
        return show(request, composed)
    form = ComposerForm(initial=fitting.values)
    context = composer_context(request.user, form, abilities) | composed.messages()
    said = " ".join([f"{abilities.spec.title}.", *composed.changes])
    return announce(render(request, "create/_controls_and_cost.html", context), said)


def _model_before(data: QueryDict) -> ModelSpec | None:
    try:
        return model_named(data.get("for_model") or data.get("model"))
    except UnknownModel:
        return None


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
    data = request.POST.copy()
    before = data.get("prompt", "")
    data["prompt"] = prompt
    save_draft(request.user, data)
    values = usual_values() | values_of(typed_fields(data))
    context = composer_context(request.user, ComposerForm(initial=values)) | {
        "previous": before if before.strip() and before != prompt else ""
    }
    if wants_fragment(request):
        return announce(render(request, "create/_prompt.html", context), announcement)
    return render(request, "create/create.html", context | _results_context(request.user))


@login_required
@require_safe
def more_ideas(request: PageRequest) -> HttpResponse:
    if not wants_fragment(request):
        return redirect("create")
    return render(request, "create/_ideas.html", {"ideas": suggestions(IDEAS)})
