"""Redis cache backend that makes do with this process's memory while Redis is away."""

import logging
from functools import cached_property
from typing import ClassVar

from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from redis.exceptions import RedisError

log = logging.getLogger(__name__)


class ForgivingRedisCache(RedisCache):
    """While Redis is away, so that pages go on and limits hold, each process remembers for itself.

    What it remembered then is forgotten with the first answer of Redis.

    Django makes a cache object for each request; all of a process share one pool of connections here, or each
    request would open a connection of its own and a stream would keep it.
    """

    _shared: ClassVar[dict] = {}
    _memory: ClassVar[LocMemCache] = LocMemCache("redis-is-away", {"OPTIONS": {"MAX_ENTRIES": 10_000}})
    _is_away: ClassVar[bool] = False
    _servers: list[str]
    _options: dict
    _class: type

    @cached_property
    def _cache(self):
        key = (*self._servers, repr(sorted(self._options.items())))
        return self._shared.setdefault(key, self._class(self._servers, **self._options))

    def _or_remembered(self, name, *args, **kwargs):
        """What Redis answers to the cache's method of that name, or this process's memory in its place."""
        try:
            value = getattr(super(), name)(*args, **kwargs)
        except RedisError as error:
            if not type(self)._is_away:
                log.warning("The cache is away, this process remembers for itself: %s", error)
                type(self)._is_away = True
            return getattr(self._memory, name)(*args, **kwargs)
        if type(self)._is_away:
            type(self)._is_away = False
            self._memory.clear()
        return value

    def get(self, *args, **kwargs):
        return self._or_remembered("get", *args, **kwargs)

    def set(self, *args, **kwargs):
        return self._or_remembered("set", *args, **kwargs)

    def add(self, *args, **kwargs):
        return self._or_remembered("add", *args, **kwargs)

    def delete(self, *args, **kwargs):
        return self._or_remembered("delete", *args, **kwargs)

    def get_many(self, *args, **kwargs):
        return self._or_remembered("get_many", *args, **kwargs)

    def set_many(self, *args, **kwargs):
        return self._or_remembered("set_many", *args, **kwargs)

    def has_key(self, *args, **kwargs):
        return self._or_remembered("has_key", *args, **kwargs)

    def touch(self, *args, **kwargs):
        return self._or_remembered("touch", *args, **kwargs)
