"""The daily quota: images are held at submit and settled or released exactly once at the end.

The day is UTC by the database clock, so no other clock can move it, and a generation belongs to the day
on which it was submitted. Callers hold the locks in one order: generation, hold, usage.
"""

import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from .models import DailyUsage, QuotaHold, User
from .plans import plan_of
from .refusals import QuotaExceeded

_TODAY = "(clock_timestamp() AT TIME ZONE 'utc')::date"


@dataclass(frozen=True, slots=True)
class Quota:
    """One user's day. `limit` and `remaining` are None without a limit; `resets_at` is the next UTC midnight."""

    plan: str
    limit: int | None
    used: int
    held: int
    resets_at: dt.datetime

    @property
    def remaining(self) -> int | None:
        return None if self.limit is None else max(0, self.limit - self.used - self.held)


def remaining(user: User) -> Quota:
    """What `user` has used, holds and has left today."""
    plan = plan_of(user)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT coalesce(sum(used), 0), coalesce(sum(held), 0), ({_TODAY} + 1)::timestamp"
            f" FROM accounts_dailyusage WHERE user_id = %s AND day = {_TODAY}",
            [user.pk],
        )
        used, held, midnight = cursor.fetchone()
    return Quota(plan.key, plan.daily_images, used=used, held=held, resets_at=midnight.replace(tzinfo=dt.UTC))


def hold(*, user: User, generation_id: UUID, images: int) -> QuotaHold:
    """Set `images` aside for a generation, or raise QuotaExceeded. Must run in the transaction that makes it.

    One conditional upsert decides, so simultaneous requests admit exactly what is left.
    """
    limit = plan_of(user).daily_images
    # The INSERT arm, for the first request of a day, does not look at the limit; hence the guard.
    if limit is not None and images > limit:
        raise _exceeded(user, images)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO accounts_dailyusage AS u (user_id, day, held) VALUES (%s, {_TODAY}, %s)"
            " ON CONFLICT (user_id, day) DO UPDATE SET held = u.held + excluded.held"
            " WHERE %s::int IS NULL OR u.held + u.used + excluded.held <= %s RETURNING day",
            [user.pk, images, limit, limit],
        )
        row = cursor.fetchone()
    if row is None:
        raise _exceeded(user, images)
    return QuotaHold.objects.create(user=user, generation_id=generation_id, day=row[0], images=images)


def settle(generation_id: UUID, *, images: int, reason: str = "") -> bool:
    """Charge `images` of the hold and give back the rest. False when it had already ended."""
    return _end(generation_id, QuotaHold.State.SETTLED, images, reason)


def release(generation_id: UUID, *, reason: str = "") -> bool:
    """Give the whole hold back. False when it had already ended."""
    return _end(generation_id, QuotaHold.State.RELEASED, 0, reason)


@transaction.atomic
def _end(generation_id: UUID, state: str, charged: int, reason: str) -> bool:
    # The change of the hold's own state is the gate: whoever changes no row changes no usage.
    changed = QuotaHold.objects.filter(generation_id=generation_id, state=QuotaHold.State.HELD).update(
        state=state, charged=charged, reason=reason, ended_at=Now()
    )
    if not changed:
        return False
    ended = QuotaHold.objects.get(generation_id=generation_id)
    DailyUsage.objects.filter(user_id=ended.user_id, day=ended.day).update(
        held=F("held") - ended.images, used=F("used") + charged
    )
    return True


def take_free_cancel(user_id: int, day: dt.date) -> bool:
    """Use one of the day's free cancels of a running generation. False when there are none left."""
    return bool(
        DailyUsage.objects.filter(user_id=user_id, day=day, free_cancels__lt=settings.FREE_RUNNING_CANCELS).update(
            free_cancels=F("free_cancels") + 1
        )
    )


def strike(user_id: int, day: dt.date) -> int:
    """Count one blocked output; returns the day's strikes."""
    DailyUsage.objects.filter(user_id=user_id, day=day).update(strikes=F("strikes") + 1)
    return DailyUsage.objects.values_list("strikes", flat=True).get(user_id=user_id, day=day)


def _exceeded(user: User, images: int) -> QuotaExceeded:
    quota = remaining(user)
    if quota.remaining:
        message = f"You have {quota.remaining} of {quota.limit} images left today and asked for {images}."
    else:
        message = f"You have used today's {quota.limit} images. More at 00:00 UTC."
    return QuotaExceeded(message, retry_after=seconds_until(quota.resets_at))


def seconds_until(moment: dt.datetime) -> int:
    """Whole seconds until then, at least one: what a refused caller is told to wait."""
    return max(1, int((moment - dt.datetime.now(dt.UTC)).total_seconds()) + 1)
