"""Workers are killed and poisoned while others keep submitting: their victims come back soon, and good work goes on.

POISON_JOBS=10 RUN_SECONDS=… bin/test tests/faults/test_crashes.py -k poison -n 0 -s       ten among a hundred good ones
"""

import contextlib
import itertools
import os
import signal
import threading
import time

import httpx
import psycopg
import pytest

from tests.site import Site, wait_for

LEASE_SECONDS = 6
POISON = int(os.environ.get("POISON_JOBS", "2"))
GOOD = 10 * POISON


@pytest.fixture(scope="module")
def crash_site(tmp_path_factory):
    with Site(
        tmp_path_factory.mktemp("crashes"),
        DREAMSKETCH_ENGINE="fake",
        FAULTS_ALLOWED="1",
        FAKE_SECONDS_PER_STEP="0.05",
        LEASE_SECONDS=str(LEASE_SECONDS),
        HEARTBEAT_SECONDS="0.5",
        SWEEP_SECONDS="1",
        IDLE_POLL_SECONDS="2",
        RETRY_BACKOFF_FIRST="0.5",
        RETRY_BACKOFF_SECOND="1",
        PRO_DAILY_IMAGES="10000",
        DRAIN_SECONDS="2",
    ) as running:
        yield running


def submit(person, prompt="a red boat", steps=8):
    request = {"prompt": prompt, "steps": steps, "width": 128, "height": 128}
    answer = person.post("/api/generate", json=request)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def rows(site, query, *parameters):
    with psycopg.connect(f"postgresql://postgres:@/dreamsketch?host={site.var / 'postgres'}") as connection:
        return connection.execute(query, parameters).fetchall()


def test_victims_of_a_killed_worker_come_back_while_others_submit_without_a_pause(crash_site):
    people = [crash_site.user() for _ in range(6)]
    stopping = threading.Event()

    def keep_submitting(person):
        while not stopping.is_set():
            with contextlib.suppress(httpx.HTTPError):
                person.post("/api/generate", json={"prompt": "a tree", "steps": 10, "width": 128, "height": 128})
            stopping.wait(0.5)

    victims = [submit(people[0], steps=30), submit(people[1], steps=30)]
    query = "SELECT count(*) FROM generation_generation WHERE id = ANY(%s::uuid[]) AND status = %s AND attempt = %s"
    wait_for(lambda: rows(crash_site, query, victims, "processing", 1) == [(2,)], seconds=20, what="two at work")
    feeders = [threading.Thread(target=keep_submitting, args=(person,)) for person in people[2:]]
    for feeder in feeders:
        feeder.start()
    waiting = "SELECT count(*) FROM generation_generation WHERE status = 'queued'"
    try:
        wait_for(lambda: rows(crash_site, waiting) != [(0,)], seconds=20, what="others that wait")
        began = time.monotonic()
        crash_site.kill("worker", signal.SIGKILL)
        again = "SELECT count(*) FROM generation_generation WHERE id = ANY(%s::uuid[]) AND attempt = 2"
        took = []
        for count in (1, 2):
            wait_for(lambda count=count: rows(crash_site, again, victims)[0][0] >= count, seconds=60, what="again")
            took.append(time.monotonic() - began)
        wait_for(lambda: rows(crash_site, query, victims, "completed", 2) == [(2,)], seconds=30, what="completed")
    finally:
        stopping.set()
        for feeder in feeders:
            feeder.join()
    ((others,),) = rows(crash_site, waiting)
    print(f"lease {LEASE_SECONDS} s: victims ran again after {took[0]:.1f} and {took[1]:.1f} s; {others} others waited")
    assert max(took) <= 2 * LEASE_SECONDS
    assert others > 0, "there was no stream of fresh work"
    wait_for(
        lambda: rows(crash_site, "SELECT 1 FROM generation_generation WHERE status IN ('queued', 'processing')") == [],
        seconds=120,
        what="an empty queue",
    )
    assert crash_site.audit() == {}


def test_poison_ends_and_good_work_goes_on_beside_it(crash_site):
    people = itertools.cycle([crash_site.user() for _ in range(6)])
    poison, good = [], []
    for number in range(POISON + GOOD):
        if number % (1 + GOOD // POISON) == 1:
            poison.append(submit(next(people), f"a boat {number} [fault:exit@4]"))
        else:
            good.append(submit(next(people), f"a tree {number}"))
    began = rows(crash_site, "SELECT clock_timestamp()")[0][0]
    unfinished = "SELECT 1 FROM generation_generation WHERE id = ANY(%s::uuid[]) AND status IN ('queued','processing')"
    wait_for(lambda: rows(crash_site, unfinished, poison + good) == [], seconds=40 + 40 * POISON, every=0.5, what="all")
    ends = rows(
        crash_site,
        "SELECT status, attempt, finished_at FROM generation_generation WHERE id = ANY(%s::uuid[]) ORDER BY 3",
        good,
    )
    moments = [began, *(finished for *_, finished in ends)]
    gap = max((later - earlier).total_seconds() for earlier, later in itertools.pairwise(moments))
    whole = (moments[-1] - began).total_seconds()
    attempts = [attempt for _, attempt, _ in ends]
    print(
        f"{POISON} poison among {GOOD} good: longest gap {gap:.1f} s of {whole:.0f} s;"
        f" {sum(attempt > 1 for attempt in attempts)} neighbours lost an attempt, at most {max(attempts) - 1} each"
    )
    assert {status for status, *_ in ends} == {"completed"}
    assert max(attempts) <= 2
    assert gap <= 30
    failed = "SELECT count(*) FROM generation_generation WHERE id = ANY(%s::uuid[]) AND error_code = 'worker_lost'"
    assert rows(crash_site, failed, poison) == [(POISON,)]
    assert crash_site.audit() == {}
