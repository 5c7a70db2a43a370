"""Webhook endpoints of an account: create, change, rotate the secret, delete, and the rules about them."""

import datetime as dt
from collections.abc import Sequence

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import User
from accounts.refusals import Conflict
from generation.engine.errors import InvalidRequest
from generation.models import WebhookDelivery, WebhookEndpoint

from .egress import AddressRefused, parse
from .events import EVENTS
from .signatures import new_secret

MOST_ENDPOINTS = 10
MAX_DESCRIPTION = 100
ROTATION = dt.timedelta(hours=24)
"""How long the previous secret signs beside the new one."""


def create_endpoint(
    *, user: User, url: str, events: Sequence[str] | None = None, description: str = ""
) -> WebhookEndpoint:
    """Make an endpoint; its `secret` is to be shown once. `events` None: all. Raises InvalidRequest or Conflict."""
    fields = {"url": _url(url), "events": _events(events), "description": _description(description)}
    with transaction.atomic():
        # Their endpoints are counted and made one after the other.
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        if WebhookEndpoint.objects.filter(owner=user).count() >= MOST_ENDPOINTS:
            raise Conflict(f"You have {MOST_ENDPOINTS} webhooks. Delete one that you no longer use first.")
        endpoint = WebhookEndpoint.objects.create(owner=user, secret=new_secret(), **fields)
    endpoint.refresh_from_db()
    return endpoint


def change_endpoint(
    endpoint: WebhookEndpoint,
    *,
    url: str | None = None,
    events: Sequence[str] | None = None,
    description: str | None = None,
    enabled: bool | None = None,
) -> None:
    """Change what is not None. Enabling starts afresh; disabling gives up what is still on its way.

    Raises InvalidRequest.
    """
    fields: dict = {}
    if url is not None:
        fields |= {"url": _url(url), "quick": False, "failing_since": None}
    if events is not None:
        fields["events"] = _events(events)
    if description is not None:
        fields["description"] = _description(description)
    if enabled is not None:
        fields |= {"enabled": enabled, "disabled_reason": "", "failing_since": None}
    with transaction.atomic():
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(**fields)
        if enabled is False:
            fail_pending_deliveries(endpoint)
    endpoint.refresh_from_db()


def fail_pending_deliveries(endpoint: WebhookEndpoint) -> None:
    """End the deliveries that an endpoint still waits for, because it is switched off."""
    WebhookDelivery.objects.filter(endpoint=endpoint, state=WebhookDelivery.State.PENDING).update(
        state=WebhookDelivery.State.FAILED, problem="The webhook was switched off.", ended_at=Now()
    )


def delete_endpoint(endpoint: WebhookEndpoint) -> None:
    """Delete an endpoint with its deliveries."""
    with transaction.atomic():
        # Locked first: an event that is written now then waits, and finds the endpoint gone.
        WebhookEndpoint.objects.select_for_update().filter(pk=endpoint.pk).first()
        endpoint.delete()


def rotate_secret(endpoint: WebhookEndpoint) -> str:
    """Give the endpoint a new secret, which is returned this once. The previous one stays valid for a day."""
    secret = new_secret()
    with transaction.atomic():
        locked = WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk)
        locked.previous_secret, locked.secret = locked.secret, secret
        locked.previous_until = timezone.now() + ROTATION
        locked.save(update_fields=["secret", "previous_secret", "previous_until"])
    endpoint.refresh_from_db()
    return secret


def _url(url: str) -> str:
    try:
        parse(url)
    except AddressRefused as refusal:
        raise InvalidRequest(str(refusal), "url") from None
    return url


def _events(events: Sequence[str] | None) -> list[str]:
    if events is None:
        return list(EVENTS)
    if not events or not all(isinstance(event, str) and event in EVENTS for event in events):
        raise InvalidRequest(f"Name at least one of {', '.join(EVENTS)}.", "events")
    return [event for event in EVENTS if event in events]


def _description(text: str) -> str:
    text = text.strip()
    if len(text) > MAX_DESCRIPTION or not text.isprintable():
        raise InvalidRequest(f"This may have at most {MAX_DESCRIPTION} printable characters.", "description")
    return text
