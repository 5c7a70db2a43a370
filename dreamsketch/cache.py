"""Redis cache backend that makes do with this process's memory while Redis is away."""

from functools import cached_property
from typing import Any, ClassVar

from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache

from generation.live import store

AWAY = object()
"""What `store.unless_silent` gives in place of an answer."""


class ForgivingRedisCache(RedisCache):
    """While Redis is away each process remembers for itself, so that pages do not wait for it and limits hold.

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
        return self._shared.setdefault(key, self._class(self._servers, **store.QUICK | self._options))

    def _or_remembered(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """What Redis answers to the cache's method of that name, or this process's memory in its place."""
        method = getattr(super(), name)
        value = store.unless_silent(lambda: method(*args, **kwargs), AWAY)
        if value is AWAY:
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
