"""The same is tried again by many at once, over HTTP: it is drawn once, and charged once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from tests.site import wait_for

STORM = 12


@pytest.fixture
def person(fault_site):
    with fault_site.user() as client:
        yield client


@pytest.fixture
def failed(person):
    request = {"prompt": "a red boat [fault:oom@2:once]", "steps": 5, "width": 128, "height": 128}
    submitted = person.post("/api/generate", json=request).json()
    wait_for(lambda: status(person, submitted["id"]) == "failed", seconds=30, what="failed")
    return submitted["id"]


def status(person, generation):
    return person.get(f"/api/status/{generation}").json()["status"]


def retry_at_once(person, failed, headers=None):
    """The answers to a storm of retries, each sent by a thread and a connection of its own at the same moment."""
    together = Barrier(STORM)

    def send(number):
        together.wait()
        return person.post(f"/api/generate/{failed}/retry", headers=headers or {})

    with ThreadPoolExecutor(STORM) as threads:
        return list(threads.map(send, range(STORM)))


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "once more"}])
def test_a_storm_of_retries_is_one_job(fault_site, person, failed, headers):
    answers = retry_at_once(person, failed, headers)
    jobs = {answer.json()["id"] for answer in answers}
    print(f"{STORM} retries at once: {len(jobs)} job, answers {sorted({answer.status_code for answer in answers})}")
    assert {answer.status_code for answer in answers} <= {200, 202} and len(jobs) == 1
    (again,) = jobs
    wait_for(lambda: status(person, again) == "completed", seconds=30, what="completed")
    assert person.get("/api/usage/").json()["used"] == 1
    assert fault_site.audit() == {}


def test_after_the_end_the_same_key_is_the_same_job_and_another_key_a_new_one(person, failed):
    def retry(key):
        return person.post(f"/api/generate/{failed}/retry", headers={"Idempotency-Key": key}).json()["id"]

    first = retry("one")
    wait_for(lambda: status(person, first) == "completed", seconds=30, what="completed")
    assert retry("one") == first
    assert retry("two") != first
