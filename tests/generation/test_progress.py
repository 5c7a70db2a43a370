"""Live progress through real Redis, and how a generation is described to those who watch."""

import json

import pytest

from generation.live import store
from generation.queue import jobs
from generation.queue.status import describe
from generation.services.generations import create_generation


@pytest.fixture
def running(free_user):
    create_generation(user=free_user, prompt="a red boat at sea", steps=10, num_images=2)
    return jobs.claim("w1")


def test_a_report_reaches_those_who_read_later(running):
    store.publish_progress(running.pk, running.owner_id, phase="generating", step=5, steps=20, preview=b"webp")
    status = describe(running)
    assert (status["phase"], status["step"], status["steps"], status["preview_step"]) == ("generating", 5, 20, 5)
    assert status["progress"] == pytest.approx(0.24)
    assert store.preview(running.pk) == b"webp"


def test_events_are_numbered_and_replayed(running):
    for step in (1, 2, 3):
        store.publish_progress(running.pk, running.owner_id, phase="generating", step=step, steps=20)
    events = store.events_after(running.pk, 0)
    numbers = [event["number"] for event in events]
    assert numbers == sorted(set(numbers))
    later = store.events_after(running.pk, numbers[-2])
    assert [event["data"]["step"] for event in later] == [3]


def test_events_reach_a_subscriber(running):
    channel = store._client.pubsub(ignore_subscribe_messages=True)
    channel.subscribe(store.CHANNEL)
    channel.get_message(timeout=1)
    store.publish_progress(running.pk, running.owner_id, phase="generating", step=1, steps=20)
    message = None
    for _ in range(10):
        message = message or channel.get_message(timeout=1)
    event = json.loads(message["data"])
    assert (event["id"], event["owner"], event["event"]) == (str(running.pk), running.owner_id, "progress")


def test_without_redis_the_row_tells_enough(running, monkeypatch):
    import redis

    jobs.heartbeat(running, phase="generating", step=4)
    running.refresh_from_db()
    monkeypatch.setattr(store, "_client", redis.Redis(port=1, socket_connect_timeout=0.2))
    monkeypatch.setattr(store, "_silent_until", 0.0)
    status = describe(running)
    assert (status["status"], status["phase"], status["step"]) == ("processing", "generating", 4)
    assert store.preview(running.pk) is None


def test_the_bar_is_full_only_with_the_picture(running):
    store.publish_progress(running.pk, running.owner_id, phase="saving", step=20, steps=20)
    assert describe(running)["progress"] < 1
    jobs.finish(running, [])
    running.refresh_from_db()
    assert describe(running)["progress"] == 1


def test_the_place_in_line_is_told(make_user):
    users = [make_user(f"u{number}@example.com") for number in range(3)]
    waiting = [create_generation(user=user, prompt="a boat")[0] for user in users]
    assert [describe(generation)["queue_position"] for generation in waiting] == [1, 2, 3]


def test_watching_is_noted_for_a_while(free_user):
    assert not store.is_watched(free_user.pk)
    store.watch(free_user.pk)
    assert store.is_watched(free_user.pk)
