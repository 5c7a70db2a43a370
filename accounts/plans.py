"""Billing plans: Free, Pro and Staff, and the only place that holds a limit."""

from dataclasses import dataclass

from django.conf import settings

from .models import User


@dataclass(frozen=True, slots=True)
class Plan:
    """What an account may do. None means without limit.

    `daily_images` per UTC day; `running` and `queued` generations at one time; `hourly_requests` accepted
    in any 60 minutes; `max_images` per request; `priority`: lower is served first; `retention_days` until
    unstarred private images are pruned.
    """

    key: str
    title: str
    daily_images: int | None
    running: int | None
    queued: int | None
    hourly_requests: int | None
    max_images: int
    priority: int
    retention_days: int | None


FREE = Plan(
    key="free",
    title="Free",
    daily_images=settings.FREE_DAILY_IMAGES,
    running=1,
    queued=3,
    hourly_requests=settings.REQUESTS_PER_HOUR,
    max_images=4,
    priority=20,
    retention_days=settings.RETENTION_DAYS or None,
)
PRO = Plan(
    key="pro",
    title="Pro",
    daily_images=settings.PRO_DAILY_IMAGES,
    running=settings.CONCURRENT_GENERATIONS,
    queued=20,
    hourly_requests=settings.REQUESTS_PER_HOUR,
    max_images=4,
    priority=10,
    retention_days=None,
)
STAFF = Plan(
    key="staff",
    title="Staff",
    daily_images=None,
    running=None,
    queued=None,
    hourly_requests=None,
    max_images=4,
    priority=10,
    retention_days=None,
)

PLANS = {plan.key: plan for plan in (FREE, PRO)}


def plan_of(user: User) -> Plan:
    """The plan that counts for `user` now. Staff have no limits, whatever they pay."""
    return STAFF if user.is_staff else PLANS[user.plan]
