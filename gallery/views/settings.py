"""Views of the settings: overview, plan and usage, API keys, appearance."""

import datetime as dt

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.keys import KeyRefused, issue_key
from accounts.models import ApiKey, DailyUsage, User
from accounts.plans import PRO, plan_of
from accounts.refusals import Conflict

from ..context import THEMES
from ..forms import KeyForm
from ..htmx import PageRequest, announce, wants_fragment

WEEK = 7
YEAR_SECONDS = 365 * 86400


@login_required
@require_safe
def overview(request: PageRequest) -> HttpResponse:
    return render(request, "settings/overview.html", {"section": "overview", "plan": plan_of(request.user)})


@login_required
@require_safe
def plan(request: PageRequest) -> HttpResponse:
    return render(
        request,
        "settings/plan.html",
        {"section": "plan", "plan": plan_of(request.user), "pro": PRO, "week": _week(request.user)},
    )


def _week(user: User) -> list[dict]:
    """The last seven UTC days, oldest first, with bar heights in percent of the highest."""
    today = timezone.now().date()
    days = [today - dt.timedelta(days=ago) for ago in range(WEEK - 1, -1, -1)]
    used = dict(DailyUsage.objects.filter(user=user, day__gte=days[0]).values_list("day", "used"))
    highest = max([*used.values(), 1])
    return [{"day": day, "used": used.get(day, 0), "height": round(100 * used.get(day, 0) / highest)} for day in days]


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def keys(request: PageRequest) -> HttpResponse:
    form = KeyForm(request.POST) if request.method == "POST" else KeyForm()
    context: dict = {"section": "keys", "form": form}
    status = 200
    if form.is_bound:
        if form.is_valid():
            try:
                context["new_key"], context["secret"] = issue_key(user=request.user, **form.key_fields())
                context["form"] = KeyForm()
            except (KeyRefused, Conflict) as refusal:
                form.add_error(refusal.param if refusal.param in form.fields else None, str(refusal))
        if not form.is_valid():
            status = 422
    context["keys"] = _keys(request.user)
    template = "settings/_keys.html" if wants_fragment(request) else "settings/keys.html"
    response = render(request, template, context, status=status)
    # The secret must not come back from a cache.
    response["Cache-Control"] = "private, no-store"
    return announce(response, "Key created. Copy it now.") if "secret" in context else response


def _keys(user: User) -> QuerySet[ApiKey]:
    return ApiKey.objects.visible_to(user).filter(revoked_at=None)


@login_required
@require_POST
def revoke_key(request: PageRequest, pk: int) -> HttpResponse:
    key = get_object_or_404(_keys(request.user), pk=pk)
    key.revoke()
    messages.success(request, f"The key “{key.name}” is revoked. Programs that use it get no answer from now on.")
    if wants_fragment(request):
        context = {"section": "keys", "form": KeyForm(), "keys": _keys(request.user)}
        return render(request, "settings/_keys.html", context)
    return redirect("settings-keys")


@require_http_methods(["GET", "HEAD", "POST"])
def appearance(request: PageRequest) -> HttpResponse:
    """The theme. Kept in a cookie, so that it also holds before signing in."""
    if request.method != "POST":
        return _appearance_page(request)
    theme = request.POST.get("theme", "")
    if theme not in THEMES:
        messages.error(request, f"The theme must be one of {', '.join(THEMES)}.")
        return render(request, "settings/appearance.html", {"section": "appearance"}, status=422)
    if wants_fragment(request):
        response = HttpResponse(status=204)
    else:
        target = request.POST.get("next", "")
        safe = url_has_allowed_host_and_scheme(
            target, allowed_hosts={request.get_host()}, require_https=request.is_secure()
        )
        response = redirect(target if safe else "settings-appearance")
    response.set_cookie("theme", theme, max_age=YEAR_SECONDS, samesite="Lax", secure=request.is_secure())
    return response


@login_required
def _appearance_page(request: PageRequest) -> HttpResponse:
    return render(request, "settings/appearance.html", {"section": "appearance"})
