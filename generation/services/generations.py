"""What people and programs may do with generations and images. Every change of theirs comes through here.

Adapters (pages, the JSON APIs, the command line) translate their words into these calls and nothing else.
Refusals are raised as `accounts.refusals.Refusal` or `InvalidRequest`; nothing has changed then.
"""

import datetime as dt
import hashlib
import json

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from accounts import quotas
from accounts.plans import plan_of
from accounts.refusals import QuotaExceeded
from generation import doorbell
from generation.catalog import addons, model_named, upscalers
from generation.engine.errors import InvalidRequest
from generation.engine.request.complete import complete_request
from generation.engine.request.options import picture_names, to_options, to_words
from generation.engine.request.request import ImageRequest, build_request
from generation.live import store
from generation.models import GeneratedImage, Generation, Upload, Visibility
from generation.prompts import moderation
from generation.prompts.lora_keywords import all_loras
from generation.prompts.styles import composed_prompts, find_style
from generation.refusals import AccountLocked, IdempotencyConflict, RateLimited, TooManyRunning
from generation.storage.files import delete_files
from generation.webhooks import events

IDEMPOTENCY = dt.timedelta(hours=24)
"""How long an Idempotency-Key is remembered."""


def create_generation(*, user, idempotency_key: str | None = None, **asked) -> tuple[Generation, bool]:
    """Accept a request for images; the only door, whoever knocks. `asked` is described at `_prepare`.

    Returns the queued generation and True, or the earlier one and False when `idempotency_key` was seen
    before with the same request. Raises InvalidRequest (a field is wrong), PromptRejected, AccountLocked,
    IdempotencyConflict, RateLimited, TooManyRunning or QuotaExceeded.
    """
    if idempotency_key is not None and not 1 <= len(idempotency_key) <= 255:
        raise InvalidRequest("The Idempotency-Key must have 1 to 255 characters.", "Idempotency-Key")
    generation = _prepare(user=user, idempotency_key=idempotency_key, **asked)
    with transaction.atomic():
        _one_at_a_time(user)
        earlier = _earlier(user, generation)
        if earlier:
            return earlier, False
        _admit(generation)
        generation.save(force_insert=True)
        _keep_uploads(generation)
        transaction.on_commit(lambda: _announce(generation))
    generation.refresh_from_db()
    return generation, True


def quote_generation(*, user, **asked) -> Generation:
    """The unsaved generation that `create_generation` would make now. Raises as it does, and changes nothing."""
    generation = _prepare(user=user, **asked)
    with transaction.atomic():
        _one_at_a_time(user)
        _admit(generation)
        # The real checks, the hold included, and then all of it undone: a quote cannot differ from the deed.
        transaction.set_rollback(True)
    return generation


def _admit(generation: Generation) -> None:
    """Check the owner's limits and hold the images. Within the transaction that makes the generation."""
    _check_limits(generation.owner, plan_of(generation.owner))
    _check_key(generation)
    quotas.hold(user=generation.owner, generation_id=generation.pk, images=generation.num_images)
    events.quota_held(generation.owner)


def _prepare(
    *,
    user,
    prompt: str = "",
    negative_prompt: str = "",
    model: str | None = None,
    style: str = "",
    visibility: str = Visibility.PRIVATE,
    source: str = Generation.Source.API,
    api_key=None,
    idempotency_key: str | None = None,
    retry_of: Generation | None = None,
    loras: list | None = None,
    **drawing,
) -> Generation:
    """Check what was asked for, apart from the limits, and return the generation it makes, not saved yet.

    `drawing` are the other words of `engine.request.build_request`; pictures come as `Upload`, also within
    `control`, `reference` and `upscale`.
    """
    spec = model_named(model)
    chosen_style = find_style(style)
    if visibility not in Visibility.values:
        raise InvalidRequest(f"This must be one of {', '.join(Visibility.values)}.", "visibility")
    words, loras = all_loras(prompt, loras, spec)
    asked = build_request(
        spec,
        prompt=words,
        negative_prompt=negative_prompt,
        loras=loras,
        upscalers=upscalers(),
        **_with_pictures(user, drawing),
    )
    asked = complete_request(asked, spec, addons())
    plan = plan_of(user)
    if asked.num_images > plan.max_images:
        raise InvalidRequest(f"Your plan makes at most {plan.max_images} images at a time.", "num_images")
    if user.locked_reason:
        raise AccountLocked(user.locked_reason)
    moderation.check_prompt(asked.prompt, param="prompt")
    moderation.check_prompt(asked.negative_prompt, param="negative_prompt")

    composed, composed_negative = composed_prompts(asked, chosen_style, spec)
    return Generation(
        owner=user,
        source=source,
        api_key=api_key,
        retry_of=retry_of,
        idempotency_key=idempotency_key,
        fingerprint=_fingerprint(asked, drawing.get("seed"), style, visibility),
        prompt=prompt.strip(),
        negative_prompt=asked.negative_prompt,
        style=chosen_style.key if chosen_style else "",
        composed_prompt=composed,
        composed_negative_prompt=composed_negative,
        model=asked.model,
        width=asked.width,
        height=asked.height,
        steps=asked.steps,
        guidance_scale=asked.guidance_scale,
        sampler=asked.sampler,
        seed=asked.seed,
        num_images=asked.num_images,
        mode=asked.mode,
        options=to_options(asked),
        visibility=visibility,
        priority=plan.priority,
        owner_slots=plan.running,
        deadline_at=timezone.now() + dt.timedelta(seconds=settings.GENERATION_DEADLINE_SECONDS),
    )


def _with_pictures(user, drawing: dict) -> dict:
    """`drawing` with every `Upload` as the engine's Picture. Somebody else's is no different from none."""

    def exchanged(value, param):
        if isinstance(value, Upload):
            if value.owner_id != user.pk:
                raise InvalidRequest("There is no such picture.", param)
            return value.picture()
        if isinstance(value, dict):
            return {name: exchanged(each, param) for name, each in value.items()}
        return value

    return {name: exchanged(value, name) for name, value in drawing.items()}


def _keep_uploads(generation) -> None:
    """Pictures stay until a day after the generation may still be drawn, so that it can be tried again."""
    needed = generation.deadline_at + dt.timedelta(days=1)
    Upload.objects.filter(pk__in=picture_names(generation.options), expires_at__lt=needed).update(expires_at=needed)


def _announce(generation) -> None:
    doorbell.ring()
    store.publish_state(generation)


def _fingerprint(asked: ImageRequest, seed, style, visibility) -> str:
    """The same for the same request. A seed that was left to us does not count, nor a picture's name:
    a program that asks again uploads again."""

    def nameless(value):
        if isinstance(value, dict):
            return {name: nameless(each) for name, each in value.items() if not (name == "name" and "digest" in value)}
        return value

    content = {
        name: getattr(asked, name)
        for name in (
            "model",
            "prompt",
            "negative_prompt",
            "width",
            "height",
            "steps",
            "guidance_scale",
            "sampler",
            "num_images",
        )
    }
    content |= {
        "seed": None if seed in (None, -1) else asked.seed,
        "style": style,
        "visibility": visibility,
        "options": nameless(to_options(asked)),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _one_at_a_time(user) -> None:
    """Hold back other requests of this user until the transaction ends, so that the counts below are exact."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"requests of user {user.pk}"])


def _earlier(user, generation) -> Generation | None:
    if generation.idempotency_key is None:
        return None
    Generation.objects.filter(
        owner=user, idempotency_key=generation.idempotency_key, created_at__lt=Now() - IDEMPOTENCY
    ).update(idempotency_key=None)
    earlier = Generation.objects.filter(owner=user, idempotency_key=generation.idempotency_key).first()
    if earlier and earlier.fingerprint != generation.fingerprint:
        raise IdempotencyConflict("This Idempotency-Key was used for another request.", param="Idempotency-Key")
    return earlier


def _check_key(generation) -> None:
    """The API key's own limit of images a day, if it has one. What it gave back does not count."""
    key = generation.api_key
    if key is None or key.daily_images is None:
        return
    quota = quotas.remaining(generation.owner)
    day = (quota.resets_at - dt.timedelta(days=1)).date()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(CASE h.state WHEN 'held' THEN h.images ELSE h.charged END), 0)"
            " FROM accounts_quotahold h JOIN generation_generation g ON g.id = h.generation_id"
            " WHERE h.user_id = %s AND h.day = %s AND g.api_key_id = %s",
            [generation.owner_id, day, key.pk],
        )
        (taken,) = cursor.fetchone()
    if taken + generation.num_images > key.daily_images:
        raise QuotaExceeded(
            f"This API key may make {key.daily_images} images a day; {max(0, key.daily_images - taken)} are left.",
            retry_after=quotas.seconds_until(quota.resets_at),
        )


def _check_limits(user, plan) -> None:
    own = Generation.objects.filter(owner=user)
    if plan.running is not None and own.active().count() >= plan.running + plan.queued:
        raise TooManyRunning(
            f"You already have {plan.running + plan.queued} generations running or waiting. Let one finish first.",
            retry_after=10,
        )
    if plan.hourly_requests is not None:
        last_hour = own.filter(created_at__gt=Now() - dt.timedelta(hours=1)).order_by("-created_at")
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
    from generation.queue import jobs

    with transaction.atomic():
        changed = Generation.objects.filter(pk=generation.pk, status=Generation.Status.QUEUED).update(
            status=Generation.Status.CANCELLED, cancel_requested=True, finished_at=Now()
        )
        if changed:
            quotas.release(generation.pk, reason="cancelled while queued")
            events.generation_ended(generation.pk, generation.owner_id, Generation.Status.CANCELLED)
    if changed:
        jobs.announce_end(generation.pk)
        return "cancelled"
    running = Generation.objects.filter(pk=generation.pk, status=Generation.Status.PROCESSING)
    if running.update(cancel_requested=True):
        store.publish_state(generation)
        return "cancelling"
    generation.refresh_from_db()
    return "cancelled" if generation.status == Generation.Status.CANCELLED else "already_finished"


def retry_generation(generation: Generation, *, source: str, api_key=None) -> Generation:
    """Ask again for the same as a generation that ended without completing. Counts like any new request."""
    generation.refresh_from_db(fields=["status"])
    if not generation.is_final or generation.status == Generation.Status.COMPLETED:
        raise InvalidRequest("Only a generation that failed, expired or was cancelled can be tried again.", "id")
    again, _ = create_generation(
        user=generation.owner,
        prompt=generation.prompt,
        negative_prompt=generation.negative_prompt,
        model=generation.model,
        style=generation.style,
        visibility=generation.visibility,
        source=source,
        api_key=api_key,
        retry_of=generation,
        **_drawing(generation),
    )
    return again


def _drawing(generation) -> dict:
    """The words of `create_generation` that draw the same again."""
    words = to_words(generation.request())
    if generation.mode == "upscale":
        return {"upscale": words["upscale"], "seed": generation.seed}
    return words | {
        name: getattr(generation, name)
        for name in ("width", "height", "steps", "guidance_scale", "sampler", "seed", "num_images")
    }


def trash_images(user, images) -> list[GeneratedImage]:
    """Move `images` (a queryset or list of GeneratedImage) to the trash; returns those of `user` that moved."""
    return _move(user, images, from_trash=False)


def restore_images(user, images) -> list[GeneratedImage]:
    """Bring `images` back from the trash; returns those of `user` that came back."""
    return _move(user, images, from_trash=True)


def _move(user, images, *, from_trash) -> list[GeneratedImage]:
    with transaction.atomic():
        own = GeneratedImage.objects.owned_by(user).filter(pk__in=[image.pk for image in images])
        own = own.trashed() if from_trash else own.kept()
        rows = list(own.select_for_update())
        GeneratedImage.objects.filter(pk__in=[row.pk for row in rows]).update(deleted_at=None if from_trash else Now())
    return rows


def delete_images(user, images) -> int:
    """Delete `images` of `user` for good, files and thumbnails included; returns how many went.

    Row first, file after the commit: a crash between leaves a file that `prune` removes, never a row
    without its file.
    """
    with transaction.atomic():
        own = GeneratedImage.objects.owned_by(user).filter(pk__in=[image.pk for image in images])
        rows = list(own.select_for_update())
        GeneratedImage.objects.filter(pk__in=[row.pk for row in rows]).delete()
        events.images_removed(rows)
        transaction.on_commit(lambda: delete_files(name for row in rows for name in (row.file, row.thumbnail)))
    return len(rows)


def change_images(user, images, **changes) -> int:
    """Set `visibility`, `favourite` or `title` of those of `images` that `user` owns; returns how many there were."""
    if changes.get("visibility", Visibility.PRIVATE) not in Visibility.values:
        raise InvalidRequest(f"This must be one of {', '.join(Visibility.values)}.", "visibility")
    own = GeneratedImage.objects.owned_by(user).filter(pk__in=[image.pk for image in images])
    return own.update(**changes) if changes else own.count()


def set_visibility(image: GeneratedImage, visibility: str) -> None:
    """Publish or withdraw an image."""
    if visibility not in Visibility.values:
        raise InvalidRequest(f"This must be one of {', '.join(Visibility.values)}.", "visibility")
    GeneratedImage.objects.filter(pk=image.pk).update(visibility=visibility)
    image.visibility = visibility


def set_favourite(image: GeneratedImage, favourite: bool) -> None:
    GeneratedImage.objects.filter(pk=image.pk).update(favourite=favourite)
    image.favourite = favourite
