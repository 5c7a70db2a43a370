"""Processes are killed, and Redis with them. What was accepted still comes, once, and is charged once."""

import signal

import psutil
import pytest
import redis

from tests.site import wait_for


@pytest.fixture
def person(fault_site):
    """A pro account of its own for each test."""
    with fault_site.user() as client:
        yield client


def submit(person, prompt="a red boat at sea", **fields):
    answer = person.post("/api/generate", json={"prompt": prompt, "steps": 10, "width": 128, "height": 128} | fields)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def status(person, generation):
    return person.get(f"/api/status/{generation}").json()


def wait_until(person, generation, state, seconds=60):
    return wait_for(lambda: (now := status(person, generation))["status"] == state and now, seconds=seconds, what=state)


def drawing(person, generation, step=3):
    return wait_for(lambda: (now := status(person, generation))["step"] >= step and now, seconds=30, what="some steps")


def charged(person):
    return person.get("/api/usage/").json()["used"]


def test_a_worker_killed_while_drawing_is_made_good(fault_site, person):
    generation = submit(person, num_images=2, steps=20)
    drawing(person, generation)
    fault_site.kill("worker", signal.SIGKILL)
    done = wait_until(person, generation, "completed")
    assert len(done["images"]) == 2 and done["attempt"] == 2
    assert charged(person) == 2
    assert fault_site.audit() == {}


def test_a_frozen_worker_cannot_finish_what_another_took_over(fault_site, person):
    generation = submit(person, steps=30)
    drawing(person, generation)
    frozen = fault_site.children("worker")
    fault_site.kill("worker", signal.SIGSTOP)
    wait_until(person, generation, "queued", seconds=20)
    for process in frozen:
        process.send_signal(signal.SIGCONT)
    done = wait_until(person, generation, "completed")
    assert len(done["images"]) == 1 and charged(person) == 1
    assert fault_site.audit() == {}


def test_one_that_kills_its_worker_each_time_is_given_up_and_others_go_on(fault_site, person):
    poison = submit(person, "a boat [fault:exit@2]")
    good = submit(person)
    failed = wait_until(person, poison, "failed", seconds=90)
    assert failed["error"]["code"] == "worker_lost" and failed["attempt"] == 3
    wait_until(person, good, "completed")
    assert charged(person) == 1
    assert fault_site.audit() == {}


def test_one_that_hangs_is_noticed_and_given_up(fault_site, person):
    stuck = submit(person, "a boat [fault:hang@2]")
    assert wait_until(person, stuck, "failed", seconds=90)["error"]["code"] == "worker_lost"
    wait_until(person, submit(person), "completed")
    assert fault_site.audit() == {}


def test_a_worker_that_is_told_to_stop_hands_back_without_burning_an_attempt(fault_site, person):
    generation = submit(person, steps=100)
    drawing(person, generation)
    fault_site.kill("worker", signal.SIGTERM)
    done = wait_until(person, generation, "completed", seconds=60)
    assert done["attempt"] == 1
    assert fault_site.audit() == {}


def test_an_emptied_redis_loses_nothing(fault_site, person):
    waiting = [submit(person, steps=5) for _ in range(8)]
    client = redis.Redis.from_url((fault_site.var / "redis" / "url").read_text())
    client.flushall()
    for generation in waiting:
        wait_until(person, generation, "completed", seconds=60)
    assert charged(person) == 8
    assert fault_site.audit() == {}


def test_while_redis_is_away_requests_are_accepted_and_drawn(fault_site, person):
    url = (fault_site.var / "redis" / "url").read_text()
    pid = redis.Redis.from_url(url).info()["process_id"]
    psutil.Process(pid).kill()
    waiting = [submit(person, steps=5) for _ in range(3)]
    for generation in waiting:
        wait_until(person, generation, "completed", seconds=60)
    wait_for(lambda: fault_site.workers(), seconds=60, what="the worker on the new Redis")
    wait_until(person, submit(person, steps=5), "completed", seconds=10)
    assert fault_site.audit() == {}


@pytest.mark.parametrize("name", ["web", "maintenance", "scheduler"])
def test_every_other_process_is_started_again(fault_site, person, name):
    before = {process.pid for process in fault_site.children(name)}
    fault_site.kill(name, signal.SIGKILL)
    wait_for(lambda: {process.pid for process in fault_site.children(name)} - before, seconds=30, what=name)
    wait_for(lambda: f"{name} ended with signal SIGKILL" in fault_site.output(), seconds=10)
    wait_for(lambda: fault_site.workers(), seconds=30, what="the site")
    wait_until(person, submit(person, steps=5), "completed", seconds=30)
