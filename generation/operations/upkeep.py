"""Upkeep: a thread of the maintenance process that sweeps and looks for webhook deliveries, without Celery or Redis."""

import logging
import threading

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections

from generation.queue import jobs
from generation.webhooks import delivery

log = logging.getLogger(__name__)

_stopping = threading.Event()
_thread: threading.Thread | None = None


def start() -> None:
    """Sweep now and every SWEEP_SECONDS. Called once per maintenance process."""
    global _thread
    _thread = threading.Thread(target=_run, name="upkeep", daemon=True)
    _thread.start()


def stop() -> None:
    """Begin no other round, and wait a little for the one in hand. A sweep may be cut off anywhere."""
    _stopping.set()
    if _thread:
        _thread.join(5)


def _run() -> None:
    while True:
        try:
            jobs.sweep()
        except DatabaseError as error:
            log.warning("The sweep waits for the database: %s", error)
        except Exception:
            log.exception("The sweep failed.")
        finally:
            connections.close_all()
        delivery.bell()
        if _stopping.wait(settings.SWEEP_SECONDS):
            return
