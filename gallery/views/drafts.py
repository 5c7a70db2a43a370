"""Views of the composer's draft: keeping it, starting afresh, and having the earlier one back."""

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from ..drafts import put_back, save_draft, start_afresh
from ..htmx import PageRequest, wants_fragment
from .create import begun, show


@login_required
@require_POST
def save(request: PageRequest) -> HttpResponse:
    """Keep what stands in the composer: 204, or 200 where something newer is kept. `age`: seconds since it was last
    changed."""
    try:
        age = min(max(0.0, float(request.POST.get("age", 0))), 1e7)
    except ValueError:
        age = 0.0
    kept = save_draft(request.user, request.POST, age if age == age else 0.0)
    # No 4xx: browsers would note it as an error of the page.
    return HttpResponse(status=204) if kept else HttpResponse("Something newer is kept.", content_type="text/plain")


@login_required
@require_POST
def clear(request: PageRequest) -> HttpResponse:
    """An empty composer; what stood there can be put back."""
    start_afresh(request.user, request.POST)
    return _composer(request, "The composer is empty. Your draft can be put back.")


@login_required
@require_POST
def restore(request: PageRequest) -> HttpResponse:
    put_back(request.user)
    return _composer(request, "Your draft is back.")


def _composer(request: PageRequest, announcement: str) -> HttpResponse:
    if not wants_fragment(request):
        return redirect("create")
    return show(request, begun(request.user, {}), announcement)
