"""The settings' page of webhooks: make, change, test, rotate, switch off, and what became of the deliveries."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.refusals import Conflict, Refusal
from generation.engine.errors import InvalidRequest
from generation.models import WebhookDelivery, WebhookEndpoint
from generation.webhooks import events

from ..forms import WebhookForm
from ..htmx import announce, wants_fragment

DELIVERIES_SHOWN = 20


def _own(request):
    return WebhookEndpoint.objects.owned_by(request.user)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def endpoints(request):
    """The list, with a form for a new one."""
    form = WebhookForm(request.POST) if request.method == "POST" else WebhookForm()
    context = {"form": form}
    if form.is_bound and form.is_valid():
        try:
            context |= _with_secret(events.create_endpoint(user=request.user, **form.cleaned_data))
            context["form"] = WebhookForm()
        except (InvalidRequest, Conflict) as refusal:
            form.refuse(refusal)
    status = 422 if form.is_bound and not form.is_valid() else 200
    context |= {"section": "webhooks", "endpoints": _own(request)}
    template = "settings/_webhooks.html" if wants_fragment(request) else "settings/webhooks.html"
    return _shown_once(render(request, template, context, status=status), context, "Webhook created.")


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def endpoint(request, pk):
    """One webhook: its fields, its buttons, its deliveries."""
    found = get_object_or_404(_own(request), pk=pk)
    form = (
        WebhookForm(request.POST)
        if request.method == "POST"
        else WebhookForm(initial={"url": found.url, "description": found.description, "events": found.events})
    )
    if form.is_bound and form.is_valid():
        try:
            events.change_endpoint(found, **form.cleaned_data)
        except InvalidRequest as refusal:
            form.refuse(refusal)
        if form.is_valid():
            messages.success(request, "The webhook is changed.")
            return redirect("settings-webhook", pk=pk)
    return _page(request, found, form=form, status=422 if form.is_bound else 200)


def _page(request, found, *, form=None, status=200, **more):
    form = form or WebhookForm(initial={"url": found.url, "description": found.description, "events": found.events})
    context = {"section": "webhooks", "endpoint": found, "form": form, **_newest(found), **more}
    response = render(request, "settings/webhook.html", context, status=status)
    return _shown_once(response, context, "New secret made.")


def _newest(found) -> dict:
    newest = list(found.deliveries.order_by("-created_at")[:DELIVERIES_SHOWN])
    # Looked at again soon where the first attempt is still to come; later ones take minutes and hours.
    return {"deliveries": newest, "waiting": any(one.state == "pending" and one.attempts < 2 for one in newest)}


@login_required
@require_safe
def deliveries(request, pk):
    """The newest deliveries, as the page has them: the fragment renews itself while something is on its way."""
    found = get_object_or_404(_own(request), pk=pk)
    return render(request, "settings/_deliveries.html", {"endpoint": found, **_newest(found)})


@login_required
@require_POST
def test(request, pk):
    found = get_object_or_404(_own(request), pk=pk)
    try:
        events.send_test(found)
        messages.success(request, "A test message is on its way.")
    except Refusal as refusal:
        messages.error(request, str(refusal))
    return redirect("settings-webhook", pk=pk)


@login_required
@require_POST
def rotate(request, pk):
    """Make a new secret and show it: the answer is the page itself, because it is shown only now."""
    found = get_object_or_404(_own(request), pk=pk)
    events.rotate_secret(found)
    return _page(request, found, **_with_secret(found))


@login_required
@require_POST
def switch(request, pk):
    """Switch a webhook on or off, whichever it is not."""
    found = get_object_or_404(_own(request), pk=pk)
    events.change_endpoint(found, enabled=not found.enabled)
    messages.success(request, "The webhook is on." if found.enabled else "The webhook is off. Nothing is sent to it.")
    return redirect("settings-webhook", pk=pk)


@login_required
@require_POST
def delete(request, pk):
    events.delete_endpoint(get_object_or_404(_own(request), pk=pk))
    messages.success(request, "The webhook is deleted.")
    return redirect("settings-webhooks")


@login_required
@require_POST
def resend(request, pk):
    own = WebhookDelivery.objects.filter(endpoint__in=_own(request)).select_related("endpoint")
    found = get_object_or_404(own, pk=pk)
    try:
        events.resend(found)
        messages.success(request, "The message is on its way again.")
    except Conflict as refusal:
        messages.error(request, str(refusal))
    return redirect("settings-webhook", pk=found.endpoint_id)


def _with_secret(endpoint) -> dict:
    return {"secret_endpoint": endpoint, "secret": endpoint.secret}


def _shown_once(response, context, text):
    # The secret must not come back from a cache.
    response["Cache-Control"] = "private, no-store"
    return announce(response, f"{text} Copy the secret now.") if "secret" in context else response
