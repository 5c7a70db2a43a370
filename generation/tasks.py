"""Celery entry points. They decide nothing."""

from celery import shared_task


@shared_task(name="generation.work")
def work():
    from .queue.worker import bell

    bell()


@shared_task(name="generation.sweep")
def sweep():
    from .queue import jobs

    jobs.sweep()


@shared_task(name="generation.prune")
def prune():
    from .operations import pruning

    pruning.prune()


@shared_task(name="generation.deliver")
def deliver():
    from .webhooks import delivery

    delivery.bell()
