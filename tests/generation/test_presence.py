"""Which workers there are: known without Redis, and true a moment after one has ended."""

import datetime as dt

import pytest
import redis
from django.utils import timezone

from generation.live import store
from generation.models import WorkerReport
from generation.queue import presence, worker

pytestmark = pytest.mark.django_db


def names():
    return [report["name"] for report in presence.workers()]


def test_a_report_replaces_the_last_one():
    presence.report("host-1", {"device": "cpu", "running": 0})
    presence.report("host-1", {"device": "cpu", "running": 2, "dtype": object})
    (report,) = presence.workers()
    assert (report["name"], report["running"]) == ("host-1", 2)


def test_one_that_says_nothing_is_not_counted_and_later_forgotten():
    presence.report("host-1", {})
    presence.report("host-2", {})
    WorkerReport.objects.filter(name="host-1").update(seen_at=timezone.now() - dt.timedelta(seconds=40))
    assert names() == ["host-2"]
    WorkerReport.objects.filter(name="host-1").update(seen_at=timezone.now() - dt.timedelta(hours=2))
    presence.report("host-2", {})
    assert [report.name for report in WorkerReport.objects.all()] == ["host-2"]


def test_one_whose_process_was_seen_to_end_is_not_there():
    mine, other = worker._process_name(7), worker._process_name(77)
    for name in (f"{mine}abc", f"{other}abc"):
        presence.report(name, {})
    worker.process_ended(7)
    assert names() == [f"{other}abc"]


@pytest.mark.parametrize(
    ("trouble", "state"),
    [(redis.ConnectionError("refused"), "away"), (redis.exceptions.OutOfMemoryError("maxmemory"), "full")],
)
def test_health_counts_workers_and_says_how_redis_is(client, monkeypatch, trouble, state):
    def refuse(*args, **kwargs):
        raise trouble

    presence.report("host-1", {})
    monkeypatch.setattr(store._client, "set", refuse)
    answers = [client.get("/api/health/").json() for _ in range(2)]  # the second one is not asked of Redis
    assert [(answer["redis"], answer["workers"]) for answer in answers] == [(state, 1)] * 2
