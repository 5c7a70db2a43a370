"""Ending the work of those who may not generate any more: a suspended or locked account, a revoked key.

Rows decide, however they came to be changed: no claim takes such work, the next heartbeat stops what is running,
and the sweep ends what is queued.
"""

from django.db import transaction
from django.db.models.functions import Now

from accounts import quotas
from generation.models import Generation
from generation.webhooks import events

_REASONS = (
    "EXISTS (SELECT 1 FROM accounts_user w WHERE w.id = {table}.owner_id"
    " AND (NOT w.is_active OR w.locked_reason <> ''))",
    "EXISTS (SELECT 1 FROM accounts_apikey k WHERE k.id = {table}.api_key_id AND k.revoked_at IS NOT NULL)",
)


def is_withdrawn(table: str) -> str:
    """SQL: whether the work of that row of generations is to end."""
    return f"({' OR '.join(_REASONS)})".format(table=table)


def is_not_withdrawn(table: str) -> str:
    """SQL: whether it may go on. Written out, so that Postgres makes joins of it where it looks at a whole queue."""
    return f"({' AND '.join(f'NOT {reason}' for reason in _REASONS)})".format(table=table)


def cancel_queued(generation: Generation) -> bool:
    """End it if it is still queued; it is not charged. Whoever calls announces the end."""
    with transaction.atomic():
        changed = Generation.objects.filter(pk=generation.pk, status=Generation.Status.QUEUED).update(
            status=Generation.Status.CANCELLED, cancel_requested=True, finished_at=Now()
        )
        if changed:
            quotas.release(generation.pk, reason="cancelled while queued")
            events.generation_ended(generation.pk, generation.owner_id, Generation.Status.CANCELLED)
    return bool(changed)


def cancel_withdrawn() -> list[Generation]:
    """End what is queued and withdrawn. Returns those it ended, for the caller to announce."""
    queued = Generation.objects.filter(status=Generation.Status.QUEUED)
    return [
        generation
        for generation in queued.extra(where=[is_withdrawn("generation_generation")])[:1000]
        if cancel_queued(generation)
    ]
