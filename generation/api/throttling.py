"""The general guard: calls a minute, per API key or signed-in user.

It only keeps one program from crowding out the others, so it counts in Redis and lets everything through
while Redis is away. Quota and the hourly limit are rules of their own, counted in Postgres.
"""

import time

from django.conf import settings
from django.core.cache import cache
from redis.exceptions import RedisError
from rest_framework.throttling import BaseThrottle

WINDOW_SECONDS = 60


class CallsPerMinute(BaseThrottle):
    def allow_request(self, request, view) -> bool:
        if not request.user.is_authenticated:
            return True
        who = f"key:{request.auth.pk}" if request.auth else f"user:{request.user.pk}"
        return _count(f"calls:{who}:{int(time.time() // WINDOW_SECONDS)}") <= settings.API_CALLS_PER_MINUTE

    def wait(self) -> float:
        return WINDOW_SECONDS - time.time() % WINDOW_SECONDS


def _count(key: str) -> int:
    """How often this key was counted, this time included."""
    try:
        cache.add(key, 0, timeout=WINDOW_SECONDS * 2)
        return cache.incr(key)
    except (RedisError, ValueError):
        return 0
