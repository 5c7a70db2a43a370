"""What goes on by itself ends when its caller is turned away: event streams, blocking calls and running work."""

import contextlib
import re
import threading
import time
import uuid

import httpx
import psycopg
import pytest

from tests.site import wait_for

SLOW = {"prompt": "a red boat at sea", "steps": 100, "n": 4, "width": 128, "height": 128}
"""Forty seconds on the engine of this site."""
PASSWORD = "correct horse battery"
PROMISE = 5.0


@pytest.fixture
def database(fault_site):
    """A connection of an operator who changes rows, past all code of ours."""
    url = fault_site.children("web")[0].environ()["DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


class Follower(threading.Thread):
    """Reads a response to its end, beside the test; `ended_at` is when that was."""

    def __init__(self, client, method, address, **options):
        super().__init__(daemon=True)
        self.client, self.call, self.options = client, (method, address), options
        self.pieces, self.ended_at = 0, None
        self.start()

    def run(self):
        # A test that is done closes the client of a stream that goes on.
        with contextlib.suppress(httpx.HTTPError, OSError), self.client.stream(*self.call, **self.options) as response:
            for _ in response.iter_raw():
                self.pieces += 1
        self.ended_at = time.monotonic()


def begin(client):
    answer = client.post("/api/generate", json=SLOW)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    wait_for(lambda: client.get(job["status_url"]).json()["step"] >= 3, seconds=60, what="some steps")
    return job


def seconds_until_ended(followers, since):
    wait_for(lambda: all(follower.ended_at for follower in followers), seconds=30, what="the ends of the streams")
    return max(follower.ended_at for follower in followers) - since


def status_of(database, job_id):
    return database.execute("SELECT status FROM generation_generation WHERE id = %s", [job_id]).fetchone()[0]


WITHDRAWALS = {
    "the key is revoked": "UPDATE accounts_apikey SET revoked_at = now() WHERE user_id = %s",
    "the account is suspended": "UPDATE accounts_user SET is_active = false WHERE id = %s",
    "the account is locked": "UPDATE accounts_user SET locked_reason = 'Ask us.' WHERE id = %s",
}


@pytest.mark.parametrize("what", WITHDRAWALS)
def test_streams_and_work_of_who_is_turned_away_end(fault_site, database, what):
    with fault_site.user() as person, fault_site.user() as bystander, httpx.Client() as other:
        other.base_url, other.headers, other.timeout = person.base_url, person.headers, 60
        job, theirs = begin(person), bystander.post("/api/generate", json=SLOW | {"n": 1}).json()
        owner = database.execute("SELECT owner_id FROM generation_generation WHERE id = %s", [job["id"]]).fetchone()[0]
        waiting = person.post("/api/generate", json=SLOW).json()
        partial = {"prompt": "a boat", "stream": True, "partial_images": 1}
        streams = [
            Follower(person, "GET", job["events_url"]),
            Follower(person, "GET", waiting["events_url"]),
            Follower(other, "POST", "/v1/images/generations", json=partial),
            Follower(other, "POST", "/v1/images/generations", json={"prompt": "a boat"}),
        ]
        untouched = Follower(bystander, "GET", theirs["events_url"])
        wait_for(lambda: all(stream.pieces for stream in streams[:2]), seconds=20, what="open streams")
        database.execute(WITHDRAWALS[what], [owner])
        began = time.monotonic()
        wait_for(lambda: status_of(database, job["id"]) == "cancelled", seconds=30, what="the running work to end")
        work = time.monotonic() - began
        wait_for(lambda: status_of(database, waiting["id"]) == "cancelled", seconds=30, what="what waits to end")
        streaming = seconds_until_ended(streams, began)
        print(f"{what}: running work ended after {work:.1f} s, streams and blocking calls after {streaming:.1f} s")
        assert work < PROMISE and streaming < PROMISE
        assert untouched.ended_at is None or status_of(database, theirs["id"]) == "completed"
        images = database.execute("SELECT count(*) FROM generation_generatedimage WHERE owner_id = %s", [owner])
        assert images.fetchone()[0] == 0
        held = database.execute("SELECT sum(held) FROM accounts_dailyusage WHERE user_id = %s", [owner]).fetchone()[0]
        assert held == 0
        bystander.post(theirs["cancel_url"])
    assert fault_site.audit() == {}


@pytest.fixture
def browser(fault_site):
    """A member's HTTP client with cookies, and the account's address."""
    email = f"{uuid.uuid4().hex}@example.com"
    fault_site.user(email, password=PASSWORD).close()
    with httpx.Client(base_url=fault_site.url, follow_redirects=True, timeout=60) as client:
        client.get("/accounts/login/")
        send(client, "/accounts/login/", login=email, password=PASSWORD)
        assert client.get("/create/").status_code == 200
        yield client, email


def send(client, path, **fields):
    sent = fields | {"csrfmiddlewaretoken": client.cookies["csrftoken"]}
    return client.post(path, data=sent, headers={"Referer": str(client.base_url)})


ENDINGS = {
    "signed out": lambda client, email, database: send(client, "/accounts/logout/"),
    "a new password elsewhere": lambda client, email, database: database.execute(
        "UPDATE accounts_user SET password = 'pbkdf2_sha256$1$other$other' WHERE email = %s", [email]
    ),
    "suspended": lambda client, email, database: database.execute(
        "UPDATE accounts_user SET is_active = false WHERE email = %s", [email]
    ),
}


@pytest.mark.parametrize("what", ENDINGS)
def test_the_stream_of_a_page_ends_with_its_session(fault_site, database, browser, what):
    client, email = browser
    page = send(client, "/create/", prompt="a red boat at sea", steps="100", num_images="4").text
    assert re.search(r"[0-9a-f-]{36}", page)
    stream = Follower(client, "GET", "/events/?panes=dock,panel")
    wait_for(lambda: stream.pieces >= 2, seconds=20, what="an open stream")
    ENDINGS[what](client, email, database)
    began = time.monotonic()
    after = seconds_until_ended([stream], began)
    print(f"{what}: the page's stream ended after {after:.1f} s")
    assert after < PROMISE
    assert client.get("/events/").status_code == 401
    database.execute("UPDATE accounts_user SET is_active = false WHERE email = %s", [email])
