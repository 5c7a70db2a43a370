"""Throttling: calls a minute per API key or signed-in user, and open event streams per account.

Both only keep one program from crowding out the others. Calls are counted in Redis, and all get through while Redis is
away; streams in each web process. Quota and the hourly limit are rules of their own, counted in Postgres.
"""

import threading
import weakref
from collections import Counter

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.models import ApiKey
from accounts.refusals import Refusal
from generation.live import store

WINDOW_SECONDS = 60
STREAMS_PER_USER = 8

# The times of the calls let through in the last minute, in microseconds by Redis's clock. One script, so that
# calls at the same moment are counted one after the other; refused calls do not count. Returns 0, or the
# microseconds until the oldest call is a minute old.
_SCRIPT = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local window = tonumber(ARGV[2]) * 1000000
local oldest = redis.call('LINDEX', KEYS[1], 0)
while oldest and tonumber(oldest) <= now - window do
  redis.call('LPOP', KEYS[1])
  oldest = redis.call('LINDEX', KEYS[1], 0)
end
local over = redis.call('LLEN', KEYS[1]) - tonumber(ARGV[1])
if over >= 0 then
  return math.max(1, tonumber(redis.call('LINDEX', KEYS[1], over)) + window - now)
end
redis.call('RPUSH', KEYS[1], string.format('%.0f', now))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 0
"""


class CallsPerMinute(BaseThrottle):
    """At most so many calls in any 60 seconds: the key's own limit, never more than the site's."""

    _wait = 0.0

    def allow_request(self, request: Request, view) -> bool:
        if not request.user.is_authenticated:
            return True
        caller, limit = f"user:{request.user.pk}", settings.API_CALLS_PER_MINUTE
        if isinstance(request.auth, ApiKey):
            caller, limit = f"key:{request.auth.pk}", min(limit, request.auth.requests_per_minute or limit)
        self._wait = seconds_to_wait(f"calls:{caller}", limit)
        return self._wait == 0

    def wait(self) -> float:
        return self._wait


def seconds_to_wait(name: str, limit: int) -> float:
    """Count a call under `name`: 0 when it is one of `limit` in the last minute, else when to come back.

    Always 0 while Redis is away.
    """
    wait = store.with_redis(lambda client: client.eval(_SCRIPT, 1, name, limit, WINDOW_SECONDS), 0)
    return (wait or 0) / 1e6


class TooManyStreams(Refusal):
    """This account watches as many streams as one account may, in this web process."""

    code = "too_many_streams"
    http_status = 429


class StreamSlot:
    """One of the open streams that an account may have, given back once, however the stream ends.

    Raises TooManyStreams where all are taken.
    """

    _taken: Counter[int] = Counter()
    _lock = threading.RLock()  # the garbage collector may give a slot back while one is being taken

    def __init__(self, owner_id: int):
        with self._lock:
            if self._taken[owner_id] >= STREAMS_PER_USER:
                raise TooManyStreams(
                    f"At most {STREAMS_PER_USER} event streams at a time. Close one first.", retry_after=10
                )
            self._taken[owner_id] += 1
        self.release = weakref.finalize(self, self._give_back, owner_id)

    @classmethod
    def _give_back(cls, owner_id: int) -> None:
        with cls._lock:
            cls._taken[owner_id] -= 1
            if cls._taken[owner_id] <= 0:
                del cls._taken[owner_id]
