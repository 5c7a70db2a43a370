"""Creating, quoting, cancelling, retrying and deleting generations: every change of one by people and programs.

Adapters (pages, the JSON APIs, the command line) translate their words into these calls and nothing else.
Refusals are raised as `accounts.refusals.Refusal` or `InvalidRequest`; nothing has changed then.
"""

import datetime as dt
import hashlib
import json
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from accounts import quotas
from accounts.models import ApiKey, User
from accounts.plans import Plan, plan_of
from accounts.refusals import Conflict, QuotaExceeded
from generation import doorbell
from generation.catalog import why_missing
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import ImageRequest
from generation.engine.request.options import picture_names, to_columns, to_keywords, to_options
from generation.live import store
from generation.models import GeneratedImage, Generation, Upload, Visibility
from generation.queue import jobs, withdrawal
from generation.refusals import AccountLocked, IdempotencyConflict, ModelMissing, RateLimited, TooManyRunning
from generation.storage.image_requests import picture_of, request_of
from generation.webhooks import events

from .erasing import erase_requests
from .images import check_visibility, delete_images
from .resolve import resolve_request

IDEMPOTENCY = dt.timedelta(hours=24)
"""How long an Idempotency-Key is remembered."""


def create_generation(*, user: User, idempotency_key: str | None = None, **fields: Any) -> tuple[Generation, bool]:
    """Accept a request for images; the only door, whoever knocks. `fields` are described at `_prepare`.

    Returns the queued generation and True, or the earlier one and False: when `idempotency_key` was seen
    before with the same request, or when it is a retry and another of the same has not ended yet.
    Raises InvalidRequest (a field is wrong), PromptRejected, AccountLocked, IdempotencyConflict, RateLimited,
    TooManyRunning or QuotaExceeded.
    """
    if idempotency_key is not None and not 1 <= len(idempotency_key) <= 255:
        raise InvalidRequest("The Idempotency-Key must have 1 to 255 characters.", "Idempotency-Key")
    generation = _prepare(user=user, idempotency_key=idempotency_key, **fields)
    with transaction.atomic():
        _one_at_a_time(user)
        earlier = _earlier(user, generation) or _unfinished_retry(generation)
        if earlier:
            return earlier, False
        _admit(generation)
        generation.save(force_insert=True)
        _keep_uploads(generation)
        transaction.on_commit(lambda: _announce(generation))
    generation.refresh_from_db()
    return generation, True


def quote_generation(*, user: User, **fields: Any) -> Generation:
    """The unsaved generation that `create_generation` would make now. Raises as it does, and changes nothing."""
    generation = _prepare(user=user, **fields)
    with transaction.atomic():
        _one_at_a_time(user)
        _admit(generation)
        # The real checks, the hold included, and then all of it undone: a quote cannot differ from the deed.
        transaction.set_rollback(True)
    return generation


def plan_generation(*, user: User, **fields: Any) -> Generation:
    """The unsaved generation that these fields describe, whatever limits and quota say. Raises InvalidRequest and
    the like for what is wrong with the fields."""
    return _prepare(user=user, **fields)


def _admit(generation: Generation) -> None:
    """Check the owner's limits and hold the images. Within the transaction that makes the generation."""
    _check_limits(generation.owner, plan_of(generation.owner))
    _check_key(generation)
    quotas.hold(user=generation.owner, generation_id=generation.pk, images=generation.num_images)
    events.quota_held(generation.owner)


def _prepare(
    *,
    user: User,
    visibility: str = Visibility.PRIVATE,
    source: str = Generation.Source.API,
    api_key: ApiKey | None = None,
    idempotency_key: str | None = None,
    retry_of: Generation | None = None,
    parent: GeneratedImage | None = None,
    **fields: Any,
) -> Generation:
    """Check the fields of a request, apart from the limits, and return the generation it makes, not saved yet.

    `fields` are the keyword arguments of `resolve_request`; pictures come as `Upload`, also within `control`,
    `reference` and `upscale`. `parent`: the image of `user` that the picture to start from was.
    """
    check_visibility(visibility)
    if parent is not None and parent.owner_id != user.pk:
        raise InvalidRequest("There is no such picture.", "image")
    if user.locked_reason:
        raise AccountLocked(user.locked_reason)
    resolved = resolve_request(**_with_pictures(user, fields))
    request, composed, plan = resolved.request, resolved.composed, plan_of(user)
    if not request.upscale and (missing := why_missing(resolved.spec)):
        raise ModelMissing(f"{resolved.spec.title} {missing}. Choose another model.", param="model")
    if request.num_images > plan.max_images:
        raise InvalidRequest(f"Your plan makes at most {plan.max_images} images at a time.", "num_images")
    columns = to_columns(request) | {
        "prompt": (fields.get("prompt") or "").strip(),
        "style": resolved.style.key if resolved.style else "",
        "composed_prompt": composed.prompt,
        "composed_negative_prompt": composed.negative_prompt,
    }
    return Generation(
        owner=user,
        source=source,
        api_key=api_key,
        retry_of=retry_of,
        parent=parent,
        idempotency_key=idempotency_key,
        fingerprint=_fingerprint(request, fields.get("seed"), fields.get("style", ""), visibility, retry_of),
        **columns,
        total_steps=request.total_steps,
        mode=request.mode,
        options=to_options(request),
        visibility=visibility,
        priority=plan.priority,
        owner_slots=plan.running,
        # By the database's clock, as all times of a row: those of the machines may differ.
        deadline_at=Now() + dt.timedelta(seconds=settings.GENERATION_DEADLINE_SECONDS),
    )


def _with_pictures(user: User, fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` with every `Upload` as the engine's Picture. Somebody else's is no different from none."""

    def exchanged(value: Any, param: str) -> Any:
        if isinstance(value, Upload):
            if value.owner_id != user.pk:
                raise InvalidRequest("There is no such picture.", param)
            return picture_of(value)
        if isinstance(value, dict):
            return {name: exchanged(inner, param) for name, inner in value.items()}
        return value

    return {name: exchanged(value, name) for name, value in fields.items()}


def _keep_uploads(generation: Generation) -> None:
    """Pictures stay until a day after the generation may still be drawn, so that it can be tried again."""
    needed = generation.deadline_at + dt.timedelta(days=1)
    Upload.objects.filter(pk__in=picture_names(generation.options), expires_at__lt=needed).update(expires_at=needed)


def _announce(generation: Generation) -> None:
    doorbell.ring()
    store.publish_state(generation)


def _fingerprint(
    request: ImageRequest, seed: Any, style: str, visibility: str, retry_of: Generation | None = None
) -> str:
    """SHA-256, the same for the same request. A seed that was left to us does not count, nor a picture's name:
    a program that sends its request again uploads again."""

    def nameless(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: nameless(each) for name, each in value.items() if not (name == "name" and "digest" in value)}
        return value

    content = to_columns(request) | {
        "seed": None if seed in (None, -1) else request.seed,
        "style": style,
        "visibility": visibility,
        "options": nameless(to_options(request)),
    }
    if retry_of is not None:
        content["retry_of"] = str(retry_of.pk)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _one_at_a_time(user: User) -> None:
    """Hold back other requests of this user until the transaction ends, so that the counts below are exact."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"requests of user {user.pk}"])


def _earlier(user: User, generation: Generation) -> Generation | None:
    if generation.idempotency_key is None:
        return None
    Generation.objects.filter(
        owner=user, idempotency_key=generation.idempotency_key, created_at__lt=Now() - IDEMPOTENCY
    ).update(idempotency_key=None)
    earlier = Generation.objects.filter(owner=user, idempotency_key=generation.idempotency_key).first()
    if earlier and earlier.fingerprint != generation.fingerprint:
        raise IdempotencyConflict("This Idempotency-Key was used for another request.", param="Idempotency-Key")
    return earlier


def _unfinished_retry(generation: Generation) -> Generation | None:
    """The retry of the same that is queued or running: who asks again meanwhile, or clicks twice, means that one."""
    if generation.retry_of_id is None:
        return None
    return Generation.objects.active().filter(retry_of=generation.retry_of_id).first()


def _check_key(generation: Generation) -> None:
    """The API key's own limit of images a day, if it has one. What it gave back does not count."""
    key = generation.api_key
    if key is None or key.daily_images is None:
        return
    quota = quotas.remaining(generation.owner)
    day = (quota.resets_at - dt.timedelta(days=1)).date()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(CASE h.state WHEN 'held' THEN h.images ELSE h.charged END), 0)"
            " FROM accounts_quotahold h LEFT JOIN generation_generation g ON g.id = h.generation_id"
            # Which key a deleted generation was of is not known any more; it counts, or deleting would raise the limit.
            " WHERE h.user_id = %s AND h.day = %s AND (g.api_key_id = %s OR g.id IS NULL)",
            [generation.owner_id, day, key.pk],
        )
        (taken,) = cursor.fetchone()
    if taken + generation.num_images > key.daily_images:
        raise QuotaExceeded(
            f"This API key may make {key.daily_images} images a day; {max(0, key.daily_images - taken)} are left.",
            retry_after=quotas.seconds_until(quota.resets_at),
        )


def _check_limits(user: User, plan: Plan) -> None:
    own = Generation.objects.filter(owner=user)
    unfinished = None if plan.running is None or plan.queued is None else plan.running + plan.queued
    if unfinished is not None and own.active().count() >= unfinished:
        raise TooManyRunning(
            f"You already have {unfinished} generations running or waiting. Let one finish first.", retry_after=10
        )
    if plan.hourly_requests is not None:
        # By their holds, which stay when a generation is deleted.
        last_hour = user.holds.filter(created_at__gt=Now() - dt.timedelta(hours=1)).order_by("-created_at")
        recent = list(last_hour.values_list("created_at", flat=True)[: plan.hourly_requests])
        if len(recent) >= plan.hourly_requests:
            wait = recent[-1] + dt.timedelta(hours=1) - timezone.now()
            raise RateLimited(
                f"At most {plan.hourly_requests} requests an hour are accepted. Please wait a little.",
                retry_after=max(1, int(wait.total_seconds()) + 1),
            )


def cancel_generation(generation: Generation) -> str:
    """Cancel; returns what the row says now: `cancelled`, `cancelling` or `already_finished`.

    A queued generation ends at once and is not charged. A running one stops at the next step border.
    """
    if withdrawal.cancel_queued(generation):
        jobs.announce_end(generation.pk)
        return "cancelled"
    running = Generation.objects.filter(pk=generation.pk, status=Generation.Status.PROCESSING)
    if running.update(cancel_requested=True):
        store.publish_state(generation)
        return "cancelling"
    generation.refresh_from_db()
    return "cancelled" if generation.status == Generation.Status.CANCELLED else "already_finished"


def retry_generation(
    generation: Generation, *, source: str, api_key: ApiKey | None = None, idempotency_key: str | None = None
) -> Generation:
    """Submit the same again as a generation that ended without completing. Counts like any new request.

    One at a time: while a retry of it is queued or running, that one is returned, whatever the key.
    """
    generation.refresh_from_db(fields=["status"])
    if not generation.is_final or generation.status == Generation.Status.COMPLETED:
        raise InvalidRequest("Only a generation that failed, expired or was cancelled can be tried again.", "id")
    if generation.is_erased:
        raise Conflict("What it asked for was deleted, so it cannot be tried again.")
    retry, _ = create_generation(
        user=generation.owner,
        source=source,
        api_key=api_key,
        retry_of=generation,
        parent=generation.parent,
        idempotency_key=idempotency_key,
        **fields_of(generation),
    )
    return retry


def delete_generation(generation: Generation) -> None:
    """Delete one that has ended for good, its pictures and uploads included. Raises Conflict before its end."""
    with transaction.atomic():
        row = Generation.objects.select_for_update(of=["self"]).select_related("owner").filter(pk=generation.pk).first()
        if row is None:
            return
        if not row.is_final:
            raise Conflict("It has not ended yet. Cancel it first.")
        delete_images(row.owner, row.images.all())
        erase_requests([row.pk])
        row.delete()


def fields_of(generation: Generation) -> dict[str, Any]:
    """The fields of `create_generation` that draw the same again; pictures as the engine's `Picture`."""
    names = ("prompt", "negative_prompt", "model", "style", "visibility")
    return to_keywords(request_of(generation)) | {name: getattr(generation, name) for name in names}
