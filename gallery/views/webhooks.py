"""Views of the webhook settings: create, change, test, rotate the secret, switch off, delete, and deliveries."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.refusals import Conflict, Refusal
from generation.engine.errors import InvalidRequest
from generation.models import WebhookDelivery, WebhookEndpoint
from generation.webhooks import delivery
from generation.webhooks.endpoints import change_endpoint, create_endpoint, delete_endpoint, rotate_secret
from generation.webhooks.events import send_test

from ..forms import WebhookForm
from ..htmx import PageRequest, announce, wants_fragment

DELIVERIES_SHOWN = 20


def _own(request: PageRequest) -> QuerySet[WebhookEndpoint]:
    return WebhookEndpoint.objects.owned_by(request.user)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def endpoints(request: PageRequest) -> HttpResponse:
    """The list, with a form for a new one."""
    form = WebhookForm(request.POST) if request.method == "POST" else WebhookForm()
    context = {"form": form}
    if form.is_bound and form.is_valid():
        try:
            context |= _with_secret(create_endpoint(user=request.user, **form.cleaned_data))
            context["form"] = WebhookForm()
        except (InvalidRequest, Conflict) as refusal:
            form.refuse(refusal)
    status = 422 if form.is_bound and not form.is_valid() else 200
    context |= {"section": "webhooks", "endpoints": _own(request)}
    template = "settings/_webhooks.html" if wants_fragment(request) else "settings/webhooks.html"
    return _uncached(render(request, template, context, status=status), context, "Webhook created.")


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def endpoint(request: PageRequest, pk: UUID) -> HttpResponse:
    """One webhook: its fields, its buttons, its deliveries."""
    webhook = get_object_or_404(_own(request), pk=pk)
    form = (
        WebhookForm(request.POST)
        if request.method == "POST"
        else WebhookForm(initial={"url": webhook.url, "description": webhook.description, "events": webhook.events})
    )
    if form.is_bound and form.is_valid():
        try:
            change_endpoint(webhook, **form.cleaned_data)
        except InvalidRequest as refusal:
            form.refuse(refusal)
        if form.is_valid():
            messages.success(request, "The webhook is changed.")
            return redirect("settings-webhook", pk=pk)
    return _page(request, webhook, form=form, status=422 if form.is_bound else 200)


def _page(
    request: PageRequest, webhook: WebhookEndpoint, *, form: WebhookForm | None = None, status: int = 200, **extra
) -> HttpResponse:
    form = form or WebhookForm(
        initial={"url": webhook.url, "description": webhook.description, "events": webhook.events}
    )
    context = {"section": "webhooks", "endpoint": webhook, "form": form, **_newest(webhook), **extra}
    response = render(request, "settings/webhook.html", context, status=status)
    return _uncached(response, context, "New secret made.")


def _newest(webhook: WebhookEndpoint) -> dict:
    newest = list(webhook.deliveries.order_by("-created_at")[:DELIVERIES_SHOWN])
    # Looked at again soon where the first attempt is still to come; later ones take minutes and hours.
    return {"deliveries": newest, "waiting": any(row.state == "pending" and row.attempts < 2 for row in newest)}


@login_required
@require_safe
def deliveries(request: PageRequest, pk: UUID) -> HttpResponse:
    """The newest deliveries, as the page has them: the fragment renews itself while something is on its way."""
    webhook = get_object_or_404(_own(request), pk=pk)
    return render(request, "settings/_deliveries.html", {"endpoint": webhook, **_newest(webhook)})


@login_required
@require_POST
def test(request: PageRequest, pk: UUID) -> HttpResponse:
    webhook = get_object_or_404(_own(request), pk=pk)
    try:
        send_test(webhook)
        messages.success(request, "A test message is on its way.")
    except Refusal as refusal:
        messages.error(request, str(refusal))
    return redirect("settings-webhook", pk=pk)


@login_required
@require_POST
def rotate(request: PageRequest, pk: UUID) -> HttpResponse:
    """Make a new secret and show it: the answer is the page itself, because it is shown only now."""
    webhook = get_object_or_404(_own(request), pk=pk)
    rotate_secret(webhook)
    return _page(request, webhook, **_with_secret(webhook))


@login_required
@require_POST
def switch(request: PageRequest, pk: UUID) -> HttpResponse:
    """Switch a webhook on or off, whichever it is not."""
    webhook = get_object_or_404(_own(request), pk=pk)
    change_endpoint(webhook, enabled=not webhook.enabled)
    messages.success(request, "The webhook is on." if webhook.enabled else "The webhook is off. Nothing is sent to it.")
    return redirect("settings-webhook", pk=pk)


@login_required
@require_POST
def delete(request: PageRequest, pk: UUID) -> HttpResponse:
    delete_endpoint(get_object_or_404(_own(request), pk=pk))
    messages.success(request, "The webhook is deleted.")
    return redirect("settings-webhooks")


@login_required
@require_POST
def resend(request: PageRequest, pk: UUID) -> HttpResponse:
    own = WebhookDelivery.objects.filter(endpoint__in=_own(request)).select_related("endpoint")
    row = get_object_or_404(own, pk=pk)
    try:
        delivery.resend(row)
        messages.success(request, "The message is on its way again.")
    except Conflict as refusal:
        messages.error(request, str(refusal))
    return redirect("settings-webhook", pk=row.endpoint_id)


def _with_secret(webhook: WebhookEndpoint) -> dict:
    return {"secret_endpoint": webhook, "secret": webhook.secret}


def _uncached(response: HttpResponse, context: dict, text: str) -> HttpResponse:
    # The secret must not come back from a cache.
    response["Cache-Control"] = "private, no-store"
    return announce(response, f"{text} Copy the secret now.") if "secret" in context else response
