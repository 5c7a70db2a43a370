"""Webhooks while the process that delivers them is killed again and again, and while a receiver takes its time."""

import datetime as dt
import multiprocessing
import random
import threading
import uuid
from collections import Counter

import pytest
from django.db import connection
from django.utils import timezone
from standardwebhooks import Webhook

from generation.models import WebhookDelivery, WebhookEndpoint
from generation.webhooks import delivery, endpoints, events
from tests.receiver import Receiver
from tests.site import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
KILLS, ENDPOINTS, EACH = 10, 3, 60


@pytest.fixture(autouse=True)
def private_network(settings):
    settings.WEBHOOK_ALLOW_PRIVATE = True


def queue(endpoint, count):
    body = events.message_body(events.TEST, {"webhook": str(endpoint.pk)})
    return WebhookDelivery.objects.bulk_create(
        [
            WebhookDelivery(endpoint=endpoint, event=events.TEST, subject=uuid.uuid4().hex, body=body)
            for _ in range(count)
        ]
    )


def deliver():
    """What a maintenance process does at a bell, until nothing is left."""
    delivery.bell()
    while threads := list(delivery._threads.values()):
        for thread in threads:
            thread.join()


def leases_run_out():
    """As if the killed process's leases were over, which takes half a minute."""
    past = timezone.now() - dt.timedelta(seconds=1)
    WebhookEndpoint.objects.filter(busy_until__isnull=False).update(busy_until=past)
    WebhookDelivery.objects.filter(state="pending").update(next_at=past)


def test_ten_kills_lose_nothing_and_repeat_what_was_in_flight(pro_user):
    """Each endpoint has one message in flight at most, so a kill repeats at most one for each."""
    dice, processes = random.Random(5), multiprocessing.get_context("fork")
    on_its_way = threading.Event()
    with Receiver() as receiver:

        def answer(connection):
            on_its_way.wait(0.01)  # long enough to be killed meanwhile
            connection.sendall(receiver.answer)

        receiver.behave = answer
        hooks = [endpoints.create_endpoint(user=pro_user, url=receiver.url) for _ in range(ENDPOINTS)]
        expected = {queued.message_id for hook in hooks for queued in queue(hook, EACH)}
        for _ in range(KILLS):
            enough = len(receiver.messages) + dice.randint(1, 6)
            connection.close()  # no process may find the other's
            process = processes.Process(target=deliver)
            process.start()
            wait_for(lambda enough=enough: len(receiver.messages) >= enough, seconds=20, every=0.002, what="messages")
            process.kill()
            process.join()
            assert process.exitcode == -9, "it was killed at work"
            leases_run_out()
        deliver()

        received = Counter(message.headers["webhook-id"] for message in receiver.messages)
        assert received.keys() == expected
        assert received.total() - len(expected) <= KILLS * ENDPOINTS
        secrets = {str(hook.pk): hook.secret for hook in hooks}
        for message in receiver.messages:
            Webhook(secrets[next(pk for pk in secrets if pk in message.body.decode())]).verify(
                message.body, message.headers
            )
        for queued in WebhookDelivery.objects.all():
            assert queued.state == "delivered"
            assert received[queued.message_id] <= queued.attempts, "each attempt was counted before it was made"
    assert not WebhookEndpoint.objects.filter(busy_until__isnull=False).exists()


def test_a_receiver_that_takes_half_a_minute_holds_up_nobody(pro_user, other_user):
    """Nobody's first message either: none of these endpoints has ever been heard of as quick."""
    released = threading.Event()
    with Receiver(behave=lambda connection: released.wait(30)) as slow, Receiver() as receiver:
        queue(endpoints.create_endpoint(user=pro_user, url=slow.url), 20)
        try:
            delivery.bell()
            wait_for(lambda: slow.messages, seconds=20, what="the slow one")
            expected = {
                queued.message_id
                for user in (pro_user, other_user)
                for _ in range(2)
                for queued in queue(endpoints.create_endpoint(user=user, url=receiver.url), 5)
            }
            delivery.bell()
            wait_for(lambda: len(receiver.messages) >= len(expected), seconds=20, what="the others")
            assert {message.headers["webhook-id"] for message in receiver.messages} == expected
            assert len(slow.messages) == 1, "one at a time, and that one still waits"
        finally:
            released.set()
            slow.behave = None
            wait_for(lambda: not delivery._threads, seconds=30, what="the threads' end")
