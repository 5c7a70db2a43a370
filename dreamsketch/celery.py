"""The Celery application: doorbells to the generation worker, chores for the maintenance worker, the schedule.

A process that consumes the `generation` queue also runs `generation.queue.worker`, whose threads do the work; any
other runs `generation.operations.upkeep`, whose thread repairs. Celery only carries the bell to them: both begin before
it looks for its broker and go on while that is away, frozen or full. This module is imported before Django's apps are
ready, so that its receivers import what they start.
"""

import os

from celery import Celery
from celery.signals import celeryd_after_setup, setup_logging, worker_shutdown, worker_shutting_down

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dreamsketch.settings")

app = Celery("dreamsketch")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

GENERATION_QUEUE = "generation"
_draws = False


@setup_logging.connect
def keep_our_logging(**kwargs):
    """Django's LOGGING counts; a connected receiver keeps Celery from installing its own."""


@celeryd_after_setup.connect
def start_working(sender, instance, **kwargs):
    """Sent when everything is set up and before the first connection to the broker."""
    global _draws
    _draws = GENERATION_QUEUE in instance.app.amqp.queues.consume_from
    if _draws:
        from generation.queue import worker

        worker.start()
    else:
        from generation.operations import upkeep

        upkeep.start()


@worker_shutting_down.connect
def stop_claiming(**kwargs):
    if _draws:
        from generation.queue import worker

        worker.stop_claiming()


@worker_shutdown.connect
def stop_working(**kwargs):
    if _draws:
        from generation.queue import worker

        worker.stop()
    else:
        from generation.operations import upkeep
        from generation.webhooks import delivery

        upkeep.stop()
        delivery.stop()
