"""Celery tasks: doorbells and chores, each a call of the module that does the work."""

from celery import shared_task

from .operations import pruning
from .queue import worker
from .webhooks import delivery


@shared_task(name="generation.work")
def work() -> None:
    worker.bell()


@shared_task(name="generation.prune")
def prune() -> None:
    pruning.prune()


@shared_task(name="generation.deliver")
def deliver() -> None:
    delivery.bell()
