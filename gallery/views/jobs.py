"""Views of one job: its page, its panel, cancel, retry, delete, and the live preview."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from generation.live import store
from generation.models import GeneratedImage, Generation
from generation.refusals import REFUSALS
from generation.services.generations import cancel_generation, delete_generation, retry_generation
from generation.storage.serving import image_response

from ..htmx import PageRequest, announce, wants_fragment
from ..panels import panels, spoken


def _own(request: PageRequest, pk: UUID) -> Generation:
    return get_object_or_404(Generation.objects.visible_to(request.user), pk=pk)


@login_required
@require_safe
def job(request: PageRequest, pk: UUID) -> HttpResponse:
    generation = _own(request, pk)
    shown = panels([generation])[0]
    if shown["active"]:
        # Without scripts the page reloads itself and is the only one watching.
        store.watch(request.user.pk)
    return render(request, "jobs/job.html", {"generation": generation, "panel": shown})


@login_required
@require_safe
def job_panel(request: PageRequest, pk: UUID) -> HttpResponse:
    """The panel alone, for pages whose event stream does not get through."""
    generation = _own(request, pk)
    if not wants_fragment(request):
        return redirect("job", pk)
    store.watch(request.user.pk)
    return _panel(request, generation)


def _panel(request: PageRequest, generation: Generation) -> HttpResponse:
    return render(request, "jobs/_panel_and_frame.html", {"panel": panels([generation])[0]})


@login_required
@require_POST
def job_cancel(request: PageRequest, pk: UUID) -> HttpResponse:
    generation = _own(request, pk)
    outcome = cancel_generation(generation)
    generation.refresh_from_db()
    if not wants_fragment(request):
        if outcome == "already_finished":
            messages.info(request, "It had already finished.")
        return redirect("job", pk)
    response = _panel(request, generation)
    return announce(response, "Cancelling." if outcome == "cancelling" else spoken(panels([generation])[0]))


@login_required
@require_POST
def job_retry(request: PageRequest, pk: UUID) -> HttpResponse:
    generation = _own(request, pk)
    try:
        new = retry_generation(generation, source=Generation.Source.PAGE)
    except REFUSALS as refusal:
        messages.error(request, str(refusal))
        if not wants_fragment(request):
            return redirect("job", pk)
        response = _panel(request, generation)
        if refusal.retry_after:
            response.status_code = refusal.http_status
            response["Retry-After"] = str(refusal.retry_after)
        return response
    if not wants_fragment(request):
        return redirect("job", new.pk)
    shown = panels([new])[0]
    return announce(
        render(request, "jobs/_panel_and_frame.html", {"panel": shown, "oob_bus": True}),
        f"Queued. {shown['headline']}.",
    )


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def job_delete(request: PageRequest, pk: UUID) -> HttpResponse:
    """Delete a job with no pictures outside the trash for good, after one more question."""
    generation = _own(request, pk)
    images = GeneratedImage.objects.owned_by(request.user).filter(generation=generation)
    if not generation.is_final or images.kept().exists():
        messages.info(request, "Only jobs that have ended, and whose images are not in your gallery, can be deleted.")
        return redirect("job", pk)
    if request.method != "POST":
        shown = {"generation": generation, "trashed": images.trashed().count()}
        return render(request, "jobs/confirm_delete.html", shown)
    delete_generation(generation)
    messages.success(request, "The job is deleted for good.")
    return redirect("create")


@login_required
@require_safe
def job_preview(request: PageRequest, pk: UUID) -> HttpResponse:
    generation = _own(request, pk)
    preview = store.preview(generation.pk)
    if preview is None:
        # Not yet, or a page asked while the job ended: nothing to see, and nothing wrong either.
        finished = generation.images.kept().select_related("generation").first()
        return image_response(request, finished, "thumbnail") if finished else HttpResponse(status=204)
    return HttpResponse(preview, content_type="image/webp", headers={"Cache-Control": "private, max-age=60"})
