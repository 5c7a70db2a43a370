"""The doorbell: Celery messages that say "there is work". A lost one costs seconds, a second one an empty query."""

import logging

from celery import current_app
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

EXPIRES_SECONDS = 600


def ring() -> bool:
    """Tell the workers to look at the queue. Never raises: the row is the job, and idle workers look anyway."""
    return _send("generation.work")


def ring_webhooks() -> bool:
    """Tell the maintenance worker that there are webhook deliveries. Never raises: the schedule rings again."""
    return _send("generation.deliver")


def _send(task: str) -> bool:
    try:
        current_app.send_task(task, expires=EXPIRES_SECONDS, ignore_result=True, retry=False)
        return True
    except (OperationalError, RedisError, OSError) as error:
        log.warning("The doorbell could not ring: %s", error)
        return False
