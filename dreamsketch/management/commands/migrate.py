"""manage.py migrate: Django's, one at a time, so that several first starts at once all work."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from django.core.management.commands import migrate
from django.db import connections

LOCK = "SELECT pg_try_advisory_lock(hashtextextended('migrations', 0))"
UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('migrations', 0))"


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        with one_at_a_time(options["database"]):
            super().handle(*args, **options)


@contextlib.contextmanager
def one_at_a_time(database: str) -> Iterator[None]:
    """Hold the lock of migrations in that database. Asked for again and again: a waiting query would time out."""
    with connections[database].cursor() as cursor:
        cursor.execute(LOCK)
        while not cursor.fetchone()[0]:
            time.sleep(0.2)
            cursor.execute(LOCK)
    try:
        yield
    finally:
        with connections[database].cursor() as cursor:
            cursor.execute(UNLOCK)
