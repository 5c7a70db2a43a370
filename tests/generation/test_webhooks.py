"""Webhooks: written with the change, delivered at least once, signed so that the reference library believes it."""

import datetime as dt
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone
from standardwebhooks import Webhook, WebhookVerificationError

from accounts.models import DailyUsage, QuotaHold
from generation.engine.protocol import EngineImage
from generation.models import WebhookDelivery, WebhookEndpoint
from generation.operations import pruning
from generation.queue import jobs
from generation.services import generations as services
from generation.services import images as images_service
from generation.storage.files import store_image
from generation.storage.image_requests import request_of
from generation.webhooks import delivery, egress, endpoints, events, signatures
from tests.receiver import Receiver
from tests.site import wait_for

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def private_network(settings):
    settings.WEBHOOK_ALLOW_PRIVATE = True


@pytest.fixture
def receiver():
    with Receiver() as running:
        yield running


@pytest.fixture
def endpoint(pro_user, receiver):
    return endpoints.create_endpoint(user=pro_user, url=receiver.url)


@pytest.fixture
def running(make_generation):
    """A generation that a worker draws, with its hold."""
    from accounts import quotas

    def make(owner, **fields):
        generation = make_generation(
            owner,
            status="processing",
            epoch=1,
            attempt=3,
            prompt="a quagga",
            composed_prompt="a quagga",
            lease_until=timezone.now() + dt.timedelta(minutes=1),
            **fields,
        )
        quotas.hold(user=owner, generation_id=generation.pk, images=generation.num_images)
        return generation

    return make


def drawn(generation, count=1):
    from PIL import Image

    size = (generation.width, generation.height)
    images = [EngineImage(n, generation.seed + n, Image.new("RGB", size, (9, 99, 9)), {}, 1.0) for n in range(count)]
    return [store_image(image, request_of(generation)) for image in images]


def recorded_events() -> list[tuple[str, dict]]:
    """Every event that is written down, oldest first."""
    return [
        (entry.event, json.loads(entry.body)["data"]) for entry in WebhookDelivery.objects.order_by("created_at", "pk")
    ]


def make_due():
    """As if the pause before the next attempt were over."""
    WebhookDelivery.objects.update(next_at=timezone.now() - dt.timedelta(seconds=1))


# --- what is written down ---------------------------------------------------------------------------------


ENDS = {
    "completed": ("generation.completed", lambda generation: jobs.finish(generation, drawn(generation))),
    "failed": (
        "generation.failed",
        lambda generation: jobs.fail(generation, code="bad_output", message="No.", transient=False),
    ),
    "blocked": ("generation.blocked", jobs.block),
    "cancelled": ("generation.cancelled", lambda generation: jobs.finish_cancelled(generation, [])),
    "expired": ("generation.failed", lambda generation: expire(generation)),
    "lost": ("generation.failed", lambda generation: lose(generation)),
}


def expire(generation):
    type(generation).objects.filter(pk=generation.pk).update(deadline_at=timezone.now() - dt.timedelta(seconds=1))
    jobs.sweep()


def lose(generation):
    type(generation).objects.filter(pk=generation.pk).update(
        lease_until=timezone.now() - dt.timedelta(seconds=1), losses=settings.MAX_ATTEMPTS - 1
    )
    jobs.sweep()


@pytest.mark.parametrize("end", ENDS)
def test_each_end_is_told_once(end, pro_user, endpoint, running):
    event, act = ENDS[end]
    generation = running(pro_user)
    act(generation)
    jobs.sweep()
    ((recorded_event, data),) = recorded_events()
    generation.refresh_from_db()
    assert recorded_event == event
    assert (data["id"], data["status"]) == (str(generation.pk), generation.status)
    assert len(data["images"]) == (1 if end == "completed" else 0)
    assert (data["error"] or {}).get("code", "") == generation.error_code
    body = WebhookDelivery.objects.get().body
    assert "quagga" not in body and pro_user.email not in body


def test_a_waiting_one_that_is_cancelled_is_told_once(pro_user, endpoint):
    generation, _ = services.create_generation(user=pro_user, prompt="a boat")
    assert services.cancel_generation(generation) == "cancelled"
    assert services.cancel_generation(generation) == "cancelled"
    assert [event for event, _ in recorded_events()] == ["generation.cancelled"]


def test_one_that_is_tried_again_is_not_told_of(pro_user, endpoint, running):
    generation = running(pro_user)
    generation.attempt = 1
    jobs.fail(generation, code="storage_unavailable", message="Later.", transient=True)
    assert recorded_events() == []


def test_what_is_rolled_back_is_not_told(pro_user, endpoint, running):
    generation = running(pro_user)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        jobs.fail(generation, code="bad_output", message="No.", transient=False)
        1 / 0  # noqa: B018
    assert recorded_events() == []


def test_a_worker_that_lost_its_lease_tells_nothing(pro_user, endpoint, running):
    generation = running(pro_user)
    generation.epoch = 0
    with pytest.raises(jobs.LeaseLost):
        jobs.finish(generation, [])
    assert recorded_events() == []


def test_addresses_are_complete_where_the_site_knows_its_own(pro_user, endpoint, running, settings):
    settings.SITE_URL = "https://dreamsketch.example"
    generation = running(pro_user)
    jobs.finish(generation, drawn(generation))
    ((_, data),) = recorded_events()
    assert data["status_url"] == f"https://dreamsketch.example/api/status/{generation.pk}"
    assert data["images"][0]["imageUrl"].startswith("https://dreamsketch.example/media/images/")


def test_deleted_images_are_told_of_and_trashed_ones_are_not(pro_user, endpoint, make_image):
    images = [make_image(pro_user) for _ in range(3)]
    images_service.trash_images(pro_user, images[:2])
    assert recorded_events() == []
    images_service.delete_images(pro_user, images[:2])
    assert {data["id"] for event, data in recorded_events() if event == "image.removed"} == {
        str(image.id) for image in images[:2]
    }


def test_the_last_image_of_the_day_is_told_of_once(free_user, receiver):
    endpoints.create_endpoint(user=free_user, url=receiver.url)
    DailyUsage.objects.create(user=free_user, day=dt.datetime.now(dt.UTC).date(), used=8)
    services.quote_generation(user=free_user, prompt="a boat", num_images=2)
    first, _ = services.create_generation(user=free_user, prompt="a boat", num_images=1)
    assert recorded_events() == []
    services.create_generation(user=free_user, prompt="a boat", num_images=1)
    services.cancel_generation(first)
    services.create_generation(user=free_user, prompt="a boat", num_images=1)
    ((_, data),) = [recorded for recorded in recorded_events() if recorded[0] == "quota.exhausted"]
    assert (data["plan"], data["limit"], data["used"], data["held"]) == ("free", 10, 8, 2)


def test_only_the_owners_endpoints_that_listen_are_told(pro_user, other_user, receiver, running):
    mine = endpoints.create_endpoint(user=pro_user, url=receiver.url, events=["generation.failed"])
    deaf = endpoints.create_endpoint(user=pro_user, url=receiver.url, events=["generation.completed"])
    off = endpoints.create_endpoint(user=pro_user, url=receiver.url)
    endpoints.change_endpoint(off, enabled=False)
    theirs = endpoints.create_endpoint(user=other_user, url=receiver.url)
    jobs.fail(running(pro_user), code="bad_output", message="No.", transient=False)
    assert WebhookDelivery.objects.get().endpoint == mine
    assert not deaf.deliveries.exists() and not off.deliveries.exists() and not theirs.deliveries.exists()


@pytest.mark.django_db(transaction=True)
def test_an_endpoint_that_is_deleted_meanwhile_spoils_nothing(pro_user, endpoint, running):
    """Ends of generations and the deletion at the same moment: neither fails, nothing dangles."""
    generations = [running(pro_user) for _ in range(8)]
    barrier = threading.Barrier(len(generations) + 1)

    def act(work):
        try:
            barrier.wait()
            work()
        finally:
            connection.close()

    works = [
        lambda generation=generation: jobs.fail(generation, code="x", message="x", transient=False)
        for generation in generations
    ]
    with ThreadPoolExecutor(len(works) + 1) as pool:
        futures = [pool.submit(act, work) for work in [*works, lambda: endpoints.delete_endpoint(endpoint)]]
    for future in futures:
        future.result()
    assert not WebhookDelivery.objects.exists()
    assert QuotaHold.objects.filter(state="held").count() == 0


# --- signatures and rotation ------------------------------------------------------------------------------


def test_the_reference_library_believes_it(pro_user, endpoint, receiver, running):
    jobs.fail(running(pro_user), code="bad_output", message="Nö.", transient=False)
    assert delivery.deliver_due() == 1
    (message,) = receiver.messages
    event = Webhook(endpoint.secret).verify(message.body, message.headers)
    assert event["type"] == "generation.failed" and event["data"]["error"]["message"] == "Nö."
    assert message.headers["content-type"] == "application/json"
    queued = WebhookDelivery.objects.get()
    assert message.headers["webhook-id"] == queued.message_id
    assert (queued.state, queued.attempts, queued.answer_status, queued.problem) == ("delivered", 1, 204, "")
    with pytest.raises(WebhookVerificationError):
        Webhook(endpoint.secret).verify(message.body.replace(b"failed", b"loaded"), message.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(signatures.new_secret()).verify(message.body, message.headers)


def test_both_secrets_are_valid_while_rotating_and_one_after(endpoint, receiver):
    old = endpoint.secret
    new = endpoints.rotate_secret(endpoint)
    events.send_test(endpoint)
    delivery.deliver_due()
    for secret in (old, new):
        Webhook(secret).verify(receiver.messages[0].body, receiver.messages[0].headers)
    WebhookEndpoint.objects.update(previous_until=timezone.now() - dt.timedelta(seconds=1))
    events.send_test(endpoint)
    delivery.deliver_due()
    Webhook(new).verify(receiver.messages[1].body, receiver.messages[1].headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(receiver.messages[1].body, receiver.messages[1].headers)


def test_what_the_reference_library_signs_is_believed_and_nothing_else():
    secret, body, now = signatures.new_secret(), b'{"a": 1}', dt.datetime.now(dt.UTC)

    def headers(at=now, signature=None):
        signature = signature or Webhook(secret).sign("msg_1", at, body.decode())
        return {"webhook-id": "msg_1", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}

    signatures.verify(secret, headers(), body)
    right = headers()["webhook-signature"]
    signatures.verify(secret, headers(signature=f"v1,bm90IGl0 v2,x {right}"), body)
    wrong = [
        {},
        headers() | {"webhook-id": ""},
        headers() | {"webhook-id": "msg_2"},
        headers(signature="v1,"),
        headers(signature="v1,é"),
        headers(signature=right.removeprefix("v1,")),
        headers(signature="v2," + right[3:]),
        headers() | {"webhook-timestamp": "now"},
        headers() | {"webhook-timestamp": "9" * 400},
        headers() | {"webhook-timestamp": "²"},
        headers() | {"webhook-signature": ""},
        headers(now - dt.timedelta(seconds=310)),
        headers(now + dt.timedelta(seconds=310)),
    ]
    for wrong_headers in wrong:
        with pytest.raises(signatures.BadSignature):
            signatures.verify(secret, wrong_headers, body)
    with pytest.raises(signatures.BadSignature):
        signatures.verify(secret, headers(), body + b" ")


# --- attempts ---------------------------------------------------------------------------------------------


def test_the_schedule(endpoint, receiver):
    receiver.status(500)
    queued = events.send_test(endpoint)
    pauses, stamps = [], set()
    while True:
        assert delivery.deliver_due() == 1
        queued.refresh_from_db()
        if queued.state != "pending":
            break
        pauses.append(round((queued.next_at - timezone.now()).total_seconds() / 5) * 5)
        assert delivery.deliver_due() == 0, "not before its time"
        make_due()
    assert pauses == [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
    assert (queued.state, queued.attempts, queued.answer_status) == ("failed", 10, 500)
    assert {message.headers["webhook-id"] for message in receiver.messages} == {queued.message_id}
    for message in receiver.messages:
        Webhook(endpoint.secret).verify(message.body, message.headers)
        stamps.add(message.headers["webhook-timestamp"])
    assert all(abs(int(stamp) - timezone.now().timestamp()) < 60 for stamp in stamps)


def test_a_receiver_that_comes_back_gets_it(endpoint, receiver):
    receiver.status(503)
    queued = events.send_test(endpoint)
    delivery.deliver_due()
    endpoint.refresh_from_db()
    assert endpoint.failing_since and not endpoint.quick
    receiver.status(200)
    make_due()
    delivery.deliver_due()
    queued.refresh_from_db()
    endpoint.refresh_from_db()
    assert (queued.state, queued.attempts, endpoint.failing_since) == ("delivered", 2, None)
    assert endpoint.quick


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_failures_and_not_followed(status, endpoint, receiver):
    with Receiver() as elsewhere:
        receiver.status(status, f"Location: {elsewhere.url}")
        queued = events.send_test(endpoint)
        delivery.deliver_due()
        queued.refresh_from_db()
        assert (queued.state, queued.answer_status) == ("pending", status)
        assert "edirect" in queued.problem
        assert elsewhere.connections == 0


def test_gone_switches_the_webhook_off(endpoint, receiver):
    receiver.status(410)
    first, second = events.send_test(endpoint), events.send_test(endpoint)
    delivery.deliver_due()
    endpoint.refresh_from_db()
    assert not endpoint.enabled and "410" in endpoint.disabled_reason
    states = {entry.state for entry in WebhookDelivery.objects.filter(pk__in=[first.pk, second.pk])}
    assert (states, len(receiver.messages)) == ({"failed"}, 1)


def test_five_days_of_failure_switch_it_off_and_its_owner_switches_it_on(endpoint, receiver):
    receiver.status(500)
    for days, enabled in ((4, True), (6, False)):
        WebhookEndpoint.objects.update(failing_since=timezone.now() - dt.timedelta(days=days))
        events.send_test(endpoint)
        delivery.deliver_due()
        endpoint.refresh_from_db()
        assert endpoint.enabled is enabled
    assert endpoint.disabled_reason and not endpoint.deliveries.filter(state="pending").exists()
    endpoints.change_endpoint(endpoint, enabled=True)
    receiver.status(200)
    delivery.resend(endpoint.deliveries.order_by("created_at").first())
    events.send_test(endpoint)
    assert delivery.deliver_due() == 2
    endpoint.refresh_from_db()
    assert endpoint.enabled and endpoint.failing_since is None


def test_sending_again_keeps_the_id(endpoint, receiver):
    queued = events.send_test(endpoint)
    delivery.deliver_due()
    delivery.resend(queued)
    delivery.deliver_due()
    first, second = receiver.messages
    assert first.headers["webhook-id"] == second.headers["webhook-id"] and first.body == second.body


def test_an_address_that_turned_private_is_not_called(endpoint, receiver, settings):
    queued = events.send_test(endpoint)
    settings.WEBHOOK_ALLOW_PRIVATE = False
    delivery.deliver_due()
    queued.refresh_from_db()
    assert (queued.state, queued.attempts, receiver.connections) == ("pending", 1, 0)
    assert queued.problem and "127.0.0.1" not in queued.problem


def test_an_attempt_whose_process_died_is_made_again_with_the_same_id(endpoint, receiver, monkeypatch):
    queued = events.send_test(endpoint)

    class Died(BaseException):
        pass

    def die(*arguments, **options):
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(delivery, "_record", die)
        with pytest.raises(Died):
            delivery.deliver_due()
    assert len(receiver.messages) == 1
    assert delivery.deliver_due() == 0, "its lease is still running"
    make_due()
    WebhookEndpoint.objects.update(busy_until=timezone.now() - dt.timedelta(seconds=1))
    delivery.deliver_due()
    assert [message.headers["webhook-id"] for message in receiver.messages] == [queued.message_id] * 2
    queued.refresh_from_db()
    assert (queued.state, queued.attempts) == ("delivered", 2)


@pytest.mark.django_db(transaction=True)
def test_many_deliverers_at_once_deliver_each_message_once(pro_user, other_user, receiver):
    hooks = [
        endpoints.create_endpoint(user=user, url=receiver.url) for user in (pro_user, other_user) for _ in range(3)
    ]
    expected = {events.send_test(hook).message_id for hook in hooks for _ in range(5)}
    barrier = threading.Barrier(6)

    def run():
        try:
            barrier.wait()
            return delivery.deliver_due()
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        counts = [future.result() for future in [pool.submit(run) for _ in range(6)]]
    ids = [message.headers["webhook-id"] for message in receiver.messages]
    assert sorted(ids) == sorted(expected)
    assert sum(counts) == len(expected)
    assert not WebhookDelivery.objects.exclude(state="delivered", attempts=1).exists()
    assert not WebhookEndpoint.objects.filter(busy_until__isnull=False).exists()


def seconds_until_told(endpoint, receiver) -> float:
    """From the event to the message at the receiver."""
    before, began = len(receiver.messages), time.monotonic()
    events.send_test(endpoint)
    delivery.bell()
    wait_for(lambda: len(receiver.messages) > before, seconds=20, every=0.01, what="the honest one's message")
    return time.monotonic() - began


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("owners", [1, 10])
@pytest.mark.parametrize("kind", ["fresh", "quick", "failing"])
def test_ten_receivers_that_hang_delay_nobody_else(owners, kind, make_user, pro_user, receiver):
    """Whoever they belong to and whatever they were before, an endpoint that nobody knows yet is served at once."""
    hanging = threading.Event()
    before = {"fresh": {}, "quick": {"quick": True}, "failing": {"failing_since": timezone.now()}}[kind]
    with Receiver(behave=lambda connection: hanging.wait(30)) as bad:
        people = [make_user(f"hostile{number}@example.com", plan="pro") for number in range(owners)]
        for number in range(10):
            events.send_test(endpoints.create_endpoint(user=people[number % owners], url=bad.url))
        WebhookEndpoint.objects.update(**before)
        good = endpoints.create_endpoint(user=pro_user, url=receiver.url)
        try:
            delivery.bell()
            share = delivery.HOST_SHARE if kind == "failing" else 10
            most = min(share, owners * delivery.SHARES[kind])
            wait_for(lambda: len(bad.messages) == most, seconds=20, what=f"{most} that hang")
            late = seconds_until_told(good, receiver)
            print(f"{kind}, {owners} owners: {most} hang, the honest one waited {late:.2f} s")
            assert late < 1
            assert len(bad.messages) == most, "one attempt for each endpoint in its share, and all still wait"
        finally:
            hanging.set()
            wait_for(lambda: not delivery._threads, seconds=30, what="the threads' end")


def test_a_bell_that_cannot_ring_loses_nothing(
    pro_user, endpoint, receiver, running, monkeypatch, django_capture_on_commit_callbacks
):
    from redis.exceptions import ConnectionError as RedisAway

    def away(*arguments, **options):
        raise RedisAway("away")

    monkeypatch.setattr("celery.current_app.send_task", away)
    with django_capture_on_commit_callbacks(execute=True):
        jobs.fail(running(pro_user), code="bad_output", message="No.", transient=False)
    assert delivery.deliver_due() == 1 and receiver.messages


def test_a_fault_of_ours_is_an_outcome_too(endpoint, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("a bug")

    monkeypatch.setattr(egress, "post", broken)
    queued = events.send_test(endpoint)
    delivery.deliver_due()
    queued.refresh_from_db()
    assert (queued.state, queued.problem) == ("pending", "The message could not be sent.")


def test_old_records_are_pruned(endpoint, receiver):
    for _ in range(3):
        events.send_test(endpoint)
    delivery.deliver_due()
    kept = events.send_test(endpoint)
    old = WebhookDelivery.objects.filter(state="delivered")[:2]
    WebhookDelivery.objects.filter(pk__in=[kept.pk, *(entry.pk for entry in old)]).update(
        created_at=F("created_at") - dt.timedelta(days=31)
    )
    assert pruning.prune(dry_run=True)["old webhook deliveries"] == 2
    assert pruning.prune()["old webhook deliveries"] == 2
    assert WebhookDelivery.objects.filter(pk=kept.pk).exists(), "it is still on its way"
    assert WebhookDelivery.objects.count() == 2
