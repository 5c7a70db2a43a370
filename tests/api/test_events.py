"""Event streams of a running site, read as a program reads them."""

import contextlib
import json
import uuid

import httpx
import psycopg
import pytest

from dreamsketch import embedded
from tests.site import wait_for

SLOW = {"prompt": "a boat", "steps": 100, "n": 4}


def submit(client, **fields) -> dict:
    response = client.post("/api/generate", json={"prompt": "a red boat at sea"} | fields)
    assert response.status_code == 202, response.text
    return response.json()


def messages(response):
    """The messages of a stream, as (name, id, data)."""
    name = number = data = None
    for line in response.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "id":
            number = int(value)
        elif field == "data":
            data = json.loads(value)
        elif not line and name:
            yield name, number, data
            name = number = data = None


def read_stream(client, job, **headers):
    with client.stream("GET", job["events_url"], headers=headers) as response:
        assert response.status_code == 200, response.read()
        return list(messages(response)), response


@pytest.fixture(scope="module")
def people(fault_site):
    """Two accounts of a site whose engine takes a tenth of a second for a step."""
    first = fault_site.user()
    second = fault_site.user()
    yield first, second
    first.close()
    second.close()


def test_generate_watch_fetch(site):
    """The main job by HTTP, on the real engine: submit, watch to the end, poll, fetch the bytes."""
    client = site.user()
    job = submit(client, steps=8, seed=7, n=2)
    seen, response = read_stream(client, job)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store" and response.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in response.headers

    names = [name for name, _, _ in seen]
    assert (names[0], names[-1]) == ("status", "status") and "progress" in names
    steps = [data["step"] for name, _, data in seen if name == "progress"]
    assert steps == sorted(steps) and 0 < steps[-1] <= 16
    numbers = [number for _, number, _ in seen if number is not None]
    assert numbers == sorted(set(numbers))
    assert seen[0][2]["status"] in ("queued", "processing")
    last = seen[-1][2]
    assert (last["status"], last["progress"], len(last["images"])) == ("completed", 1, 2)

    assert client.get(job["status_url"]).json() == last
    for image in last["images"]:
        stored = client.get(image["imageUrl"])
        assert (stored.headers["content-type"], stored.content[:4]) == ("image/png", b"\x89PNG")
    assert client.get("/api/images/history").json()["images"][0]["id"] == last["images"][1]["id"]

    stranger = site.user()
    for url in (
        *(job[name] for name in ("status_url", "events_url")),
        *(image[name] for image in last["images"] for name in ("imageUrl", "thumbnailUrl", "pageUrl")),
    ):
        assert stranger.get(url).status_code == 404
        assert httpx.get(url).status_code in (401, 404)


def test_a_reader_that_comes_back_misses_nothing(people):
    client, _ = people
    job = submit(client, steps=20)
    first = []
    with client.stream("GET", job["events_url"]) as response:
        for message in messages(response):
            first.append(message)
            if len([number for _, number, _ in first if number]) == 3:
                break
    whole, _ = read_stream(client, job, **{"Last-Event-ID": "0"})
    last_seen = [number for _, number, _ in first if number][-1]
    rest, _ = read_stream(client, job, **{"Last-Event-ID": str(last_seen)})
    numbered = {number: (name, data) for name, number, data in whole if number}
    assert list(numbered) == list(range(1, max(numbered) + 1)), "replay from the start has every event"
    for name, number, data in first + rest:
        if number:
            assert numbered[number] == (name, data)
    assert [number for _, number, _ in rest if number] == list(range(last_seen + 1, max(numbered) + 1))
    assert rest[0][0] == rest[-1][0] == "status" and rest[-1][2]["status"] == "completed"


@pytest.mark.parametrize("last", ["", "x", "-1", "1.5", "9" * 40, "٣", "999999"])
def test_an_odd_last_event_id_is_no_harm(people, last):
    client, _ = people
    job = submit(client, steps=1)
    seen, _ = read_stream(client, job, **{"Last-Event-ID": last.encode()})
    assert seen[-1][2]["status"] == "completed"


def test_cancel_ends_the_stream(people):
    client, _ = people
    job = submit(client, **SLOW)
    with client.stream("GET", job["events_url"]) as response:
        for name, _, data in messages(response):
            if name == "progress" and data["step"] > 1:
                break
        else:
            pytest.fail("it never ran")
    assert client.post(job["cancel_url"]).json()["status"] == "cancelling"
    seen, _ = read_stream(client, job)
    assert (seen[-1][2]["status"], seen[-1][2]["images"]) == ("cancelled", [])
    assert client.post(job["cancel_url"]).json()["status"] == "cancelled"


def test_who_may_watch(people):
    client, stranger = people
    job = submit(client, steps=1)
    missing = job["events_url"].replace(job["id"], str(uuid.uuid4()))
    theirs, nobodys = stranger.get(job["events_url"]), stranger.get(missing)
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.json()["error"] | {"request_id": ""} == nobodys.json()["error"] | {"request_id": ""}
    anonymous = httpx.get(job["events_url"])
    assert (anonymous.status_code, anonymous.headers["www-authenticate"]) == (401, "Bearer")
    assert client.head(job["events_url"]).status_code == 200
    read_stream(client, job)


def test_a_signed_in_browser_may_watch(fault_site):
    address = f"{uuid.uuid4().hex}@example.com"
    job = submit(fault_site.user(address), steps=1)
    with httpx.Client(base_url=fault_site.url, follow_redirects=True) as browser:
        browser.get("/accounts/login/")
        sent = {
            "login": address,
            "password": "correct horse battery",
            "csrfmiddlewaretoken": browser.cookies["csrftoken"],
        }
        assert browser.post("/accounts/login/", data=sent).status_code == 200
        seen, _ = read_stream(browser, job, Accept="text/event-stream")
    assert seen[-1][2]["status"] == "completed"


def database_connections(site) -> int:
    with psycopg.connect(embedded.postgres_url(site.var), autocommit=True) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = %s"
        return connection.execute(query, [embedded.DATABASE_NAME]).fetchone()[0]


def test_open_streams_hold_no_database_connection_and_are_limited(people, fault_site):
    client, stranger = people
    job = submit(client, **SLOW)
    before = wait_for(lambda: database_connections(fault_site))
    with contextlib.ExitStack() as opened:
        streams = []
        for _ in range(8):
            response = opened.enter_context(client.stream("GET", job["events_url"]))
            stream = messages(response)
            assert next(stream)[0] == "status"
            streams.append(stream)
        wait_for(lambda: database_connections(fault_site) <= before + 2, what="streams that hold no connection")
        for stream in streams:
            assert next(stream)[0] in ("progress", "state", "status"), "all of them are alive"
        with client.stream("GET", job["events_url"]) as ninth:
            error = json.loads(ninth.read())["error"]
            assert (ninth.status_code, error["code"]) == (429, "too_many_streams")
            assert int(ninth.headers["retry-after"]) > 0
        theirs = submit(stranger)
        with stranger.stream("GET", theirs["events_url"]) as response:
            assert next(messages(response))[0] == "status", "the limit is each account's own"
        assert stranger.post(theirs["cancel_url"]).json()["status"] in ("cancelled", "cancelling")

    def place_is_free():
        with client.stream("GET", job["events_url"]) as response:
            return response.status_code == 200

    wait_for(place_is_free, what="places of closed streams")
    client.post(job["cancel_url"])
    read_stream(client, job)
