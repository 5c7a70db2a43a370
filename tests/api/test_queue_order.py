"""The place in line that callers are told is the order in which a worker takes what waits."""

import datetime as dt
import random

import pytest
from django.utils import timezone

from generation.models import Generation
from generation.queue import jobs
from generation.queue.order import queue_positions, with_places
from generation.queue.status import describe_all

pytestmark = pytest.mark.django_db
PRIORITIES = (10, 20)


@pytest.fixture
def make_line(make_user, make_generation):
    """A random line: of several accounts and plans, some rows older than a plan's advantage, some put off."""

    def make(dice):
        owners = [make_user(f"u{number}@example.com") for number in range(3)]
        now, rows = timezone.now(), []
        for _ in range(dice.randint(2, 15)):
            # Not at the border of a minute: what has a test's time to pass it.
            age = dt.timedelta(minutes=dice.randint(0, 14), seconds=dice.randint(1, 45))
            row = make_generation(
                dice.choice(owners),
                priority=dice.choice(PRIORITIES),
                owner_slots=1,
                not_before=now + dt.timedelta(minutes=dice.random() < 0.1),
                deadline_at=now + dt.timedelta(minutes=60 if dice.random() < 0.9 else -1),
            )
            Generation.objects.filter(pk=row.pk).update(created_at=now - age)
            rows.append(row)
        return rows

    return make


@pytest.mark.parametrize("seed", range(20))
def test_places_are_the_order_of_claims(seed, make_line, api_client):
    line = make_line(random.Random(seed))
    rows = list(Generation.objects.all())
    places = queue_positions(rows)
    along = {row.pk: row.place for row in with_places(Generation.objects.all())}
    assert places == along and places.keys() == {row.pk for row in line}
    assert [status["queue_position"] for status in describe_all(rows)] == [places[row.pk] for row in rows]
    client = api_client(rows[0].owner)
    assert client.get(f"/api/status/{rows[0].pk}").json()["queue_position"] == places[rows[0].pk]

    taken = []
    while (claimed := jobs.claim("w")) is not None:
        taken.append(claimed.pk)
        jobs.fail(claimed, code="bad_output", message="x", transient=False)
    now = timezone.now()
    ready = [row.pk for row in rows if row.not_before <= now < row.deadline_at]
    assert sorted(taken, key=str) == sorted(ready, key=str)
    assert [places[pk] for pk in taken] == list(range(1, len(taken) + 1))


def test_only_what_waits_has_a_place(free_user, make_generation):
    states = [state for state in Generation.Status.values if state != "queued"]
    rows = [make_generation(free_user, status=state) for state in states]
    assert queue_positions(rows) == {}
    assert not with_places(Generation.objects.all()).filter(place__isnull=False).exists()


def test_a_row_that_was_read_before_it_was_put_back_is_asked_for_again(free_user, make_generation):
    make_generation(free_user)
    running = make_generation(free_user, status="processing", epoch=1)
    (row,) = with_places(Generation.objects.filter(pk=running.pk))
    assert row.place is None
    Generation.objects.filter(pk=running.pk).update(status="queued")
    row.refresh_from_db()
    assert queue_positions([row]) == {row.pk: 2}
