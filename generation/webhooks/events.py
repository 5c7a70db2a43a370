"""Webhook events: which there are, their payloads, and queueing a delivery for each endpoint that listens.

A delivery is written in the transaction that makes the change, so there is one if and only if it happened;
`delivery` sends it. The format is that of Standard Webhooks (standardwebhooks.com).
"""

import datetime as dt
import json
import uuid
from collections.abc import Sequence
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from accounts import quotas
from accounts.models import User
from accounts.refusals import Conflict
from generation import doorbell
from generation.models import GeneratedImage, Generation, WebhookDelivery, WebhookEndpoint
from generation.refusals import RateLimited
from generation.representation import describe_error, describe_image, timestamp

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
TESTS_PER_MINUTE = 10

_EVENT_OF = {
    Generation.Status.COMPLETED: "generation.completed",
    Generation.Status.FAILED: "generation.failed",
    Generation.Status.EXPIRED: "generation.failed",
    Generation.Status.CANCELLED: "generation.cancelled",
    Generation.Status.BLOCKED: "generation.blocked",
}


def generation_ended(generation_id: UUID, owner_id: int, state: str) -> None:
    """Queue the event of a generation that has just ended in `state`. Within the transaction that ended it."""
    event = _EVENT_OF[Generation.Status(state)]
    if _anybody_listens(owner_id, event):
        payload = generation_payload(Generation.objects.get(pk=generation_id))
        _enqueue(owner_id, event, str(generation_id), payload)


def images_removed(images: Sequence[GeneratedImage]) -> None:
    """Queue an event for each of these images of one owner. Within the transaction that deletes them."""
    if not images or not _anybody_listens(images[0].owner_id, "image.removed"):
        return
    for image in images:
        payload = {"id": str(image.id), "number": image.number, "generation_id": str(image.generation_id)}
        _enqueue(image.owner_id, "image.removed", str(image.id), payload)


def quota_held(user: User) -> None:
    """Queue the event, once a day, when the hold that was just made takes the last of the day's images."""
    if not _anybody_listens(user.pk, "quota.exhausted"):
        return
    quota = quotas.remaining(user)
    if quota.remaining != 0:
        return
    day = (quota.resets_at - dt.timedelta(days=1)).date().isoformat()
    payload = {
        "plan": quota.plan,
        "limit": quota.limit,
        "used": quota.used,
        "held": quota.held,
        "resets_at": timestamp(quota.resets_at),
    }
    _enqueue(user.pk, "quota.exhausted", day, payload)


def _anybody_listens(owner_id: int, event: str) -> bool:
    return WebhookEndpoint.objects.filter(owner_id=owner_id, enabled=True, events__contains=[event]).exists()


def generation_payload(generation: Generation) -> dict:
    """The `data` of events of a generation: what became of it and where to look. Prompts stay here."""
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


def message_body(event: str, payload: dict) -> str:
    """The JSON text of a message."""
    return json.dumps({"type": event, "timestamp": timestamp(timezone.now()), "data": payload})


def _enqueue(owner_id: int, event: str, subject: str, payload: dict) -> None:
    """Queue one delivery for each endpoint of the owner that listens. A second one for the same subject is none."""
    with connection.cursor() as cursor:
        # The lock keeps an endpoint from being deleted between here and the commit; a deletion that came
        # first leaves no row. Neither can make the change itself fail.
        cursor.execute(
            "INSERT INTO generation_webhookdelivery (id, endpoint_id, event, subject, body, state, attempts, problem)"
            " SELECT gen_random_uuid(), e.id, %s, %s, %s, 'pending', 0, '' FROM generation_webhookendpoint e"
            " WHERE e.owner_id = %s AND e.enabled AND e.events ? %s FOR KEY SHARE"
            " ON CONFLICT DO NOTHING",
            [event, subject, message_body(event, payload), owner_id, event],
        )
        if cursor.rowcount:
            transaction.on_commit(doorbell.ring_webhooks)


def send_test(endpoint: WebhookEndpoint) -> WebhookDelivery:
    """Queue a test message for one endpoint. Raises Conflict (it is switched off) or RateLimited."""
    if not endpoint.enabled:
        raise Conflict("Switch the webhook on first.")
    recent = endpoint.deliveries.filter(event=TEST, created_at__gt=Now() - dt.timedelta(minutes=1))
    if recent.count() >= TESTS_PER_MINUTE:
        raise RateLimited(f"At most {TESTS_PER_MINUTE} tests a minute. Please wait a little.", retry_after=60)
    delivery = WebhookDelivery.objects.create(
        endpoint=endpoint,
        event=TEST,
        subject=uuid.uuid4().hex,
        body=message_body(TEST, {"message": "This is a test of your webhook.", "webhook": str(endpoint.pk)}),
    )
    transaction.on_commit(doorbell.ring_webhooks)
    delivery.refresh_from_db()
    return delivery
