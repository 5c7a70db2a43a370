"""Three refusals with three codes, exact under many hands at once; calls a minute; how long repeats are known."""

import dataclasses
import datetime as dt
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from django.db import connection
from django.db.models import F
from django.test import Client

from accounts import plans
from accounts.keys import issue_key
from accounts.models import ApiKey, DailyUsage, QuotaHold
from generation.api.http import throttling
from generation.live import store
from generation.models import Generation

JSON = "application/json"
THREADS = 20


@pytest.fixture
def plan(monkeypatch):
    """Changes the pro plan for one test."""

    def change(**limits):
        monkeypatch.setitem(plans.PLANS, "pro", dataclasses.replace(plans.PRO, **limits))

    return change


def at_once(clients, count, body):
    """`count` requests by threads that start at the same moment, through the clients in turn; their answers."""
    barrier = threading.Barrier(THREADS)

    def post_share(first):
        try:
            barrier.wait()
            return [post(clients[number % len(clients)], body) for number in range(first, count, THREADS)]
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        return [answer for answers in pool.map(post_share, range(THREADS)) for answer in answers]


def post(client, body):
    """Ask, and again after a 503: on a machine with too much to do, waiting for the account's lock may time out."""
    while True:
        answer = client.post("/api/generate", body, JSON)
        if answer.status_code != 503:
            return answer


def codes(answers) -> Counter:
    for answer in answers:
        assert answer.status_code == 202 or int(answer["Retry-After"]) > 0
    return Counter("accepted" if answer.status_code == 202 else answer.json()["error"]["code"] for answer in answers)


@pytest.fixture
def clients(pro_user, api_client, page_client):
    """Two keys and a session of one account: limits are the account's."""
    return [api_client(pro_user), api_client(pro_user), page_client(pro_user)]


@pytest.mark.django_db(transaction=True)
def test_fifty_of_sixty_requests_are_accepted_in_an_hour(clients, plan):
    plan(running=None, queued=0)
    answers = at_once(clients, 60, {"prompt": "a boat"})
    assert codes(answers) == {"accepted": 50, "rate_limited": 10}
    assert Generation.objects.count() == QuotaHold.objects.count() == 50
    QuotaHold.objects.update(created_at=F("created_at") - dt.timedelta(minutes=61))
    assert clients[0].post("/api/generate", {"prompt": "a boat"}, JSON).status_code == 202


@pytest.mark.django_db(transaction=True)
def test_running_and_waiting_ones_are_limited_exactly(clients, plan):
    plan(running=2, queued=5)
    assert codes(at_once(clients, 20, {"prompt": "a boat"})) == {"accepted": 7, "too_many_running": 13}
    Generation.objects.filter(pk__in=Generation.objects.values("pk")[:3]).update(status="cancelled")
    assert codes(at_once(clients, 20, {"prompt": "a boat"})) == {"accepted": 3, "too_many_running": 17}


@pytest.mark.django_db(transaction=True)
def test_images_of_the_day_are_limited_exactly(clients, plan):
    plan(running=None, queued=0, hourly_requests=None, daily_images=10)
    assert codes(at_once(clients, 20, {"prompt": "a boat", "n": 3})) == {"accepted": 3, "quota_exceeded": 17}
    usage = DailyUsage.objects.get()
    assert (usage.held, usage.used) == (9, 0)


@pytest.mark.django_db(transaction=True)
def test_all_three_together_admit_what_the_tightest_does(clients, plan):
    plan(running=1, queued=29, hourly_requests=12, daily_images=20)
    answers = codes(at_once(clients, 30, {"prompt": "a boat", "n": 2}))
    assert answers["accepted"] == 10 and answers.total() == 30
    assert answers["quota_exceeded"] == 20


@pytest.mark.django_db
def test_refused_requests_do_not_count(pro_user, api_client, plan, settings):
    plan(hourly_requests=2)
    settings.PROMPT_BLOCKLIST = ["gorgon"]
    client = api_client(pro_user)
    for body in ({"prompt": ""}, {"prompt": "a gorgon"}, {"prompt": "x", "steps": 9999}, {"prompt": "x", "dry_run": 1}):
        client.post("/api/generate", body, JSON)
    assert [client.post("/api/generate", {"prompt": "a boat"}, JSON).status_code for _ in range(3)] == [202, 202, 429]


@pytest.mark.django_db
def test_the_hourly_refusal_says_when_to_come_back(pro_user, api_client, plan):
    plan(hourly_requests=2)
    client = api_client(pro_user)
    for _ in range(2):
        client.post("/api/generate", {"prompt": "a boat"}, JSON)
    oldest = QuotaHold.objects.order_by("created_at").first()
    QuotaHold.objects.filter(pk=oldest.pk).update(created_at=F("created_at") - dt.timedelta(minutes=50))
    answer = client.post("/api/generate", {"prompt": "a boat"}, JSON)
    assert answer.json()["error"]["code"] == "rate_limited" and 500 < int(answer["Retry-After"]) <= 601


# --- calls a minute ---------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_calls_a_minute(refused, settings, free_user, pro_user, api_client):
    settings.API_CALLS_PER_MINUTE = 3
    client = api_client(free_user)
    assert [client.get("/api/usage").status_code for _ in range(3)] == [200] * 3
    for _ in range(5):
        answer = client.get("/api/usage")
        refused(answer, 429, "too_many_calls")
        assert int(answer["Retry-After"]) <= 60
    assert api_client(free_user).get("/api/usage").status_code == 200, "each key has its own count"
    assert api_client(pro_user).get("/api/usage").status_code == 200


@pytest.mark.django_db
def test_a_keys_own_calls_a_minute(refused, free_user, settings):
    key, token = issue_key(user=free_user, name="x", requests_per_minute=2)
    client = Client(headers={"Authorization": f"Bearer {token}"})
    assert [client.get("/api/usage").status_code for _ in range(3)] == [200, 200, 429]
    ApiKey.objects.filter(pk=key.pk).update(requests_per_minute=1000)
    settings.API_CALLS_PER_MINUTE = 4
    assert [client.get("/api/usage").status_code for _ in range(3)] == [200, 200, 429], "never more than the site's"


def test_a_window_that_slides(empty_redis):
    """The calls of the last 60 seconds count, not those of a minute of the clock; refused ones do not."""
    assert [throttling.seconds_to_wait("w", 3) for _ in range(3)] == [0, 0, 0]
    first = int(store._client.lindex("w", 0))
    store._client.lset("w", 0, first - 59_000_000)
    wait = throttling.seconds_to_wait("w", 3)
    assert 0 < wait <= 1
    assert store._client.llen("w") == 3
    store._client.lset("w", 0, first - 61_000_000)
    assert throttling.seconds_to_wait("w", 3) == 0
    assert throttling.seconds_to_wait("w", 3) > 50
    assert throttling.seconds_to_wait("w", 1) > 50, "also when the limit is lowered"
    assert 0 < store._client.ttl("w") <= 60


def test_calls_at_the_same_moment_are_counted_exactly(empty_redis):
    barrier = threading.Barrier(24)

    def call(number):
        barrier.wait()
        return sum(throttling.seconds_to_wait("w", 100) == 0 for _ in range(10))

    with ThreadPoolExecutor(24) as pool:
        assert sum(pool.map(call, range(24))) == 100


@pytest.mark.django_db
def test_calls_are_not_counted_while_redis_is_away(settings, free_user, api_client, monkeypatch):
    settings.API_CALLS_PER_MINUTE = 1
    monkeypatch.setattr(store, "_client", redis.Redis(port=1, socket_connect_timeout=0.2))
    client = api_client(free_user)
    assert [client.get("/api/usage").status_code for _ in range(3)] == [200] * 3


# --- repeats ----------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_idempotency_key_is_known_for_a_day(pro_user, api_client):
    client = api_client(pro_user)

    def generate(prompt):
        return client.post("/api/generate", {"prompt": prompt}, JSON, headers={"Idempotency-Key": "k"})

    first = generate("a boat").json()["id"]
    Generation.objects.update(created_at=F("created_at") - dt.timedelta(hours=23, minutes=59))
    assert generate("a boat").json()["id"] == first
    assert generate("a ship").status_code == 409
    Generation.objects.update(status="cancelled", created_at=F("created_at") - dt.timedelta(minutes=2))
    second = generate("a ship")
    assert second.status_code == 202 and second.json()["id"] != first
    assert generate("a ship").json()["id"] == second.json()["id"]
    assert Generation.objects.get(pk=first).status == "cancelled"


@pytest.mark.django_db(transaction=True)
def test_many_repeats_at_once_make_one_job(clients):
    barrier = threading.Barrier(20)

    def generate(number):
        try:
            barrier.wait()
            return (
                clients[number % 3]
                .post("/api/generate", {"prompt": "a boat"}, JSON, headers={"Idempotency-Key": "k"})
                .json()["id"]
            )
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(generate, range(20)))) == 1
    assert Generation.objects.count() == QuotaHold.objects.count() == 1
