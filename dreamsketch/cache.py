"""Redis cache backend that forgets instead of failing while Redis is away."""

from functools import cached_property
from typing import ClassVar

from django.core.cache.backends.redis import RedisCache

from generation.live import store


class ForgivingRedisCache(RedisCache):
    """Reads miss and writes are lost while Redis is away, so that pages and sign-in go on without waiting for it.

    Django makes a cache object for each request; all of a process share one pool of connections here, or each
    request would open a connection of its own and a stream would keep it.
    """

    _shared: ClassVar[dict] = {}
    _servers: list[str]
    _options: dict
    _class: type

    @cached_property
    def _cache(self):
        key = (*self._servers, repr(sorted(self._options.items())))
        return self._shared.setdefault(key, self._class(self._servers, **store.QUICK | self._options))

    def _quietly(self, method, default, *args, **kwargs):
        return store.unless_silent(lambda: method(*args, **kwargs), default)

    def get(self, key, default=None, version=None):
        return self._quietly(super().get, default, key, default, version)

    def set(self, *args, **kwargs):
        return self._quietly(super().set, None, *args, **kwargs)

    def add(self, *args, **kwargs):
        return self._quietly(super().add, True, *args, **kwargs)

    def delete(self, *args, **kwargs):
        return self._quietly(super().delete, False, *args, **kwargs)

    def get_many(self, *args, **kwargs):
        return self._quietly(super().get_many, {}, *args, **kwargs)

    def set_many(self, *args, **kwargs):
        return self._quietly(super().set_many, [], *args, **kwargs)

    def has_key(self, *args, **kwargs):
        return self._quietly(super().has_key, False, *args, **kwargs)

    def touch(self, *args, **kwargs):
        return self._quietly(super().touch, False, *args, **kwargs)
