"""Webhooks: the addresses that users name, the events they are told of, and how messages are signed.

A delivery is written in the transaction that makes the change, so there is one if and only if it happened;
`courier` carries it. The format is that of Standard Webhooks (standardwebhooks.com).
"""

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import json
import secrets
import time
import uuid

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from accounts import quotas
from accounts.models import User
from accounts.refusals import Conflict, Refusal
from generation import doorbell
from generation.engine.errors import InvalidRequest
from generation.models import GeneratedImage, Generation, WebhookDelivery, WebhookEndpoint
from generation.refusals import RateLimited
from generation.representation import describe_error, describe_image, timestamp

from .egress import AddressRefused, parse

EVENTS = {
    "generation.completed": "An image is finished",
    "generation.failed": "A generation failed or waited too long",
    "generation.cancelled": "A generation was cancelled",
    "generation.blocked": "The safety check held an image back",
    "image.removed": "An image was deleted for good",
    "quota.exhausted": "Today's images are used up",
}
TEST = "webhook.test"
"""Sent to one endpoint on request, whatever it subscribes to."""

MOST_ENDPOINTS = 10
MAX_DESCRIPTION = 100
ROTATION = dt.timedelta(hours=24)
"""How long the previous secret signs beside the new one."""
KEPT = dt.timedelta(days=30)
"""How long ended deliveries are shown."""
TOLERANCE_SECONDS = 300
TESTS_PER_MINUTE = 10

_EVENT_OF = {
    Generation.Status.COMPLETED: "generation.completed",
    Generation.Status.FAILED: "generation.failed",
    Generation.Status.EXPIRED: "generation.failed",
    Generation.Status.CANCELLED: "generation.cancelled",
    Generation.Status.BLOCKED: "generation.blocked",
}


class BadSignature(Refusal):
    """A message to us is not signed with the right secret, or not now."""

    code = "invalid_signature"


# --- signatures -------------------------------------------------------------------------------------------


def new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One entry of `webhook-signature`."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(_key(secret), content, hashlib.sha256)).decode()


def verify(secret: str, headers, body: bytes) -> None:
    """Raise BadSignature unless `body` came with a signature by `secret` that is at most five minutes old."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (message_id and timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise BadSignature("The headers webhook-id, webhook-timestamp and webhook-signature are needed.")
    if abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        raise BadSignature("The webhook-timestamp is more than five minutes off.")
    expected = sign(secret, message_id, int(timestamp), body).encode()
    # Several may be given, as while a secret is being changed; compared as bytes, because text may be anything.
    given = headers.get("webhook-signature", "").encode("utf-8", "replace").split()
    if not any(hmac.compare_digest(expected, one) for one in given):
        raise BadSignature("The webhook-signature is wrong.")


def _key(secret: str) -> bytes:
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


# --- endpoints --------------------------------------------------------------------------------------------


def create_endpoint(*, user, url: str, events=None, description: str = "") -> WebhookEndpoint:
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


def change_endpoint(endpoint: WebhookEndpoint, *, url=None, events=None, description=None, enabled=None) -> None:
    """Change what is not None. Enabling starts afresh; disabling gives up what is still on its way."""
    fields = {}
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
            give_up(endpoint)
    endpoint.refresh_from_db()


def give_up(endpoint) -> None:
    """End the deliveries that an endpoint still waits for."""
    WebhookDelivery.objects.filter(endpoint=endpoint, state=WebhookDelivery.State.PENDING).update(
        state=WebhookDelivery.State.FAILED, problem="The webhook was switched off.", ended_at=Now()
    )


def delete_endpoint(endpoint: WebhookEndpoint) -> None:
    with transaction.atomic():
        # Locked first: an event that is written now then waits, and finds the endpoint gone.
        WebhookEndpoint.objects.select_for_update().filter(pk=endpoint.pk).first()
        endpoint.delete()


def rotate_secret(endpoint: WebhookEndpoint) -> str:
    """Give the endpoint a new secret, which is returned this once. The previous one stays valid for a day."""
    new = new_secret()
    with transaction.atomic():
        locked = WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk)
        locked.previous_secret, locked.secret = locked.secret, new
        locked.previous_until = timezone.now() + ROTATION
        locked.save(update_fields=["secret", "previous_secret", "previous_until"])
    endpoint.refresh_from_db()
    return new


def _url(url) -> str:
    try:
        parse(url)
    except AddressRefused as refusal:
        raise InvalidRequest(str(refusal), "url") from None
    return url


def _events(events) -> list[str]:
    if events is None:
        return list(EVENTS)
    if not events or not all(isinstance(one, str) and one in EVENTS for one in events):
        raise InvalidRequest(f"Name at least one of {', '.join(EVENTS)}.", "events")
    return [one for one in EVENTS if one in events]


def _description(text: str) -> str:
    text = text.strip()
    if len(text) > MAX_DESCRIPTION or not text.isprintable():
        raise InvalidRequest(f"This may have at most {MAX_DESCRIPTION} printable characters.", "description")
    return text


# --- events -----------------------------------------------------------------------------------------------


def generation_ended(generation_id, owner_id: int, state: str) -> None:
    """Queue the event of a generation that has just ended in `state`. Within the transaction that ended it."""
    event = _EVENT_OF[state]
    if _anybody_listens(owner_id, event):
        _queue(owner_id, event, str(generation_id), _describe(Generation.objects.get(pk=generation_id)))


def images_removed(images) -> None:
    """Queue an event for each of these images of one owner. Within the transaction that deletes them."""
    if not images or not _anybody_listens(images[0].owner_id, "image.removed"):
        return
    for image in images:
        _queue(
            image.owner_id,
            "image.removed",
            str(image.id),
            {"id": str(image.id), "number": image.number, "generation_id": str(image.generation_id)},
        )


def quota_held(user) -> None:
    """Queue the event, once a day, when the hold that was just made takes the last of the day's images."""
    if not _anybody_listens(user.pk, "quota.exhausted"):
        return
    quota = quotas.remaining(user)
    if quota.remaining == 0:
        day = (quota.resets_at - dt.timedelta(days=1)).date().isoformat()
        _queue(
            user.pk,
            "quota.exhausted",
            day,
            {
                "plan": quota.plan,
                "limit": quota.limit,
                "used": quota.used,
                "held": quota.held,
                "resets_at": timestamp(quota.resets_at),
            },
        )


def _anybody_listens(owner_id, event) -> bool:
    return WebhookEndpoint.objects.filter(owner_id=owner_id, enabled=True, events__contains=[event]).exists()


def _describe(generation) -> dict:
    """What a receiver is told: what became of it and where to look. Prompts stay here."""
    images = GeneratedImage.objects.filter(generation=generation).order_by("index")
    return {
        "id": str(generation.pk),
        "status": generation.status,
        "source": generation.source,
        "model": generation.model,
        "num_images": generation.num_images,
        "images": [_absolute(describe_image(image)) for image in images],
        "error": describe_error(generation),
        "created_at": timestamp(generation.created_at),
        "finished_at": timestamp(generation.finished_at),
        "status_url": f"{settings.SITE_URL}/api/status/{generation.pk}",
    }


def _absolute(image: dict) -> dict:
    return {name: settings.SITE_URL + value if name.endswith("Url") else value for name, value in image.items()}


def _body(event: str, data: dict) -> str:
    return json.dumps({"type": event, "timestamp": timestamp(timezone.now()), "data": data})


def _queue(owner_id, event, subject, data) -> None:
    """One delivery for each endpoint of the owner that listens. A second one for the same subject is none."""
    with connection.cursor() as cursor:
        # The lock keeps an endpoint from being deleted between here and the commit; a deletion that came
        # first leaves no row. Neither can make the change itself fail.
        cursor.execute(
            "INSERT INTO generation_webhookdelivery (id, endpoint_id, event, subject, body, state, attempts, problem)"
            " SELECT gen_random_uuid(), e.id, %s, %s, %s, 'pending', 0, '' FROM generation_webhookendpoint e"
            " WHERE e.owner_id = %s AND e.enabled AND e.events ? %s FOR KEY SHARE"
            " ON CONFLICT DO NOTHING",
            [event, subject, _body(event, data), owner_id, event],
        )
        if cursor.rowcount:
            transaction.on_commit(doorbell.ring_courier)


def send_test(endpoint: WebhookEndpoint) -> WebhookDelivery:
    """Queue a test message for one endpoint. Raises Conflict (it is switched off) or RateLimited."""
    if not endpoint.enabled:
        raise Conflict("Switch the webhook on first.")
    minute = endpoint.deliveries.filter(event=TEST, created_at__gt=Now() - dt.timedelta(minutes=1))
    if minute.count() >= TESTS_PER_MINUTE:
        raise RateLimited(f"At most {TESTS_PER_MINUTE} tests a minute. Please wait a little.", retry_after=60)
    delivery = WebhookDelivery.objects.create(
        endpoint=endpoint,
        event=TEST,
        subject=uuid.uuid4().hex,
        body=_body(TEST, {"message": "This is a test of your webhook.", "webhook": str(endpoint.pk)}),
    )
    transaction.on_commit(doorbell.ring_courier)
    delivery.refresh_from_db()
    return delivery


def resend(delivery: WebhookDelivery) -> None:
    """Send a delivery that has ended once more, with the same id. Raises Conflict while it is on its way."""
    if not delivery.endpoint.enabled:
        raise Conflict("Switch the webhook on first.")
    again = (
        WebhookDelivery.objects.filter(pk=delivery.pk)
        .exclude(state=WebhookDelivery.State.PENDING)
        .update(
            state=WebhookDelivery.State.PENDING,
            attempts=0,
            next_at=Now(),
            ended_at=None,
            answer_status=None,
            problem="",
        )
    )
    if not again:
        raise Conflict("This delivery is still on its way.")
    transaction.on_commit(doorbell.ring_courier)
    delivery.refresh_from_db()


def prune_deliveries(*, dry_run: bool = False) -> int:
    """Remove the records of deliveries that ended long ago; returns how many."""
    old = WebhookDelivery.objects.exclude(state=WebhookDelivery.State.PENDING).filter(created_at__lt=Now() - KEPT)
    return old.count() if dry_run else old.delete()[0]
