"""The doorbell: Celery messages that say "there is work". A lost one costs seconds, a second one an empty query.

A thread sends them, so that nobody waits for a Redis that is away, frozen or full; bells rung meanwhile are one.
"""

import logging
import threading

from celery import current_app

log = logging.getLogger(__name__)

EXPIRES_SECONDS = 600


def ring() -> None:
    """Tell the workers to look at the queue. Never raises or waits: the row is the job, and idle workers look too."""
    _ringer.send("generation.work")


def ring_webhooks() -> None:
    """Tell the maintenance worker that there are webhook deliveries. Never raises or waits: it looks by itself too."""
    _ringer.send("generation.deliver")


class _Ringer:
    """The thread that sends bells, started at the first one and again in a forked child."""

    def __init__(self) -> None:
        self._due: set[str] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def send(self, task: str) -> None:
        with self._changed:
            self._due.add(task)
            self._changed.notify()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due)
                task = self._due.pop()
            try:
                current_app.send_task(task, expires=EXPIRES_SECONDS, ignore_result=True, retry=False)
            except Exception as error:  # whatever a broker in trouble answers: the next bell finds the thread alive
                log.warning("The doorbell could not ring: %s", error)


_ringer = _Ringer()
