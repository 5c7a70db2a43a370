"""Creating API keys: the rules about their names, scopes, limits and expiry, for the page and the API."""

import datetime as dt
from collections.abc import Sequence

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from .models import ApiKey, Scope, User, every_scope
from .refusals import Conflict, Refusal

MOST_KEYS = 20
MAX_NAME = 60
MAX_DAYS = 3650
MAX_DAILY_IMAGES = 1_000_000


class KeyRefused(Refusal):
    """Such a key cannot be made; `param` names the field."""

    code = "invalid_request"
    http_status = 400


def issue_key(
    *,
    user: User,
    name: str,
    scopes: Sequence[str] | None = None,
    expires_at: dt.datetime | None = None,
    daily_images: int | None = None,
    requests_per_minute: int | None = None,
) -> tuple[ApiKey, str]:
    """Make a key of `user`; the second value is the key itself, which exists only now.

    `scopes`: names of `Scope`, None for all. None as a limit means the account's own. Raises KeyRefused, or
    Conflict when there are too many.
    """
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME:
        raise KeyRefused("Give the key a name, such as the program it is for.", param="name")
    limits = {
        "daily_images": _limit(daily_images, "daily_images", MAX_DAILY_IMAGES),
        "requests_per_minute": _limit(requests_per_minute, "requests_per_minute", settings.API_CALLS_PER_MINUTE),
    }
    expires_at = _expiry(expires_at)
    with transaction.atomic():
        # Their keys are counted and made one after the other.
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        if ApiKey.objects.filter(user=user, revoked_at=None).count() >= MOST_KEYS:
            raise Conflict(f"You have {MOST_KEYS} keys. Revoke one that you no longer use first.")
        return ApiKey.issue(user=user, name=name, expires_at=expires_at, scopes=_scopes(scopes), **limits)


def in_days(days: int | None) -> dt.datetime | None:
    """The moment that many days from now; None stays None."""
    return None if days is None else timezone.now() + dt.timedelta(days=days)


def _scopes(scopes: Sequence[str] | None) -> list[str]:
    if scopes is None:
        return every_scope()
    if not scopes or not all(isinstance(scope, str) and scope in Scope.values for scope in scopes):
        raise KeyRefused(f"Name at least one of {', '.join(Scope.values)}.", param="scopes")
    return [scope for scope in Scope.values if scope in scopes]


def _limit(value: int | None, param: str, maximum: int) -> int | None:
    if value is not None and not 1 <= value <= maximum:
        raise KeyRefused(f"This must be a whole number between 1 and {maximum}.", param=param)
    return value


def _expiry(moment: dt.datetime | None) -> dt.datetime | None:
    if moment is not None and not timezone.now() < moment <= timezone.now() + dt.timedelta(days=MAX_DAYS + 1):
        raise KeyRefused("This must lie in the future, at most ten years ahead.", param="expires_at")
    return moment
