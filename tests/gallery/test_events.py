"""The event stream of the pages, from a real web process and a real worker."""

import contextlib
import json
import re
import uuid

import httpx
import psycopg
import pytest

from tests.site import wait_for

PASSWORD = "correct horse battery"


@pytest.fixture
def browser_like(site):
    """A new member's HTTP client with cookies, as a browser has them."""
    email = f"{uuid.uuid4().hex[:12]}@example.com"
    site.manage("create_user", email, "--plan", "pro", "--password", PASSWORD)
    with httpx.Client(base_url=site.url, follow_redirects=True, timeout=60) as client:
        client.get("/accounts/login/")
        send(client, "/accounts/login/", login=email, password=PASSWORD)
        assert client.get("/create/").status_code == 200
        yield client


def send(client, path, **fields) -> httpx.Response:
    return client.post(
        path,
        data=fields | {"csrfmiddlewaretoken": client.cookies["csrftoken"]},
        headers={"Referer": str(client.base_url)},
    )


def create(client, **fields) -> str:
    """The id of a new job."""
    page = send(client, "/create/", **({"prompt": "a red boat at sea", "steps": "20"} | fields))
    return str(page.url).rstrip("/").rpartition("/")[2]


def messages(response):
    """(event, data) of each message until the stream ends; comments and numbers are checked on the way."""
    number, event, data = 0, "", []
    for line in response.iter_lines():
        if line.startswith("id: "):
            assert int(line[4:]) == number + 1
            number += 1
        elif line.startswith("event: "):
            event = line[7:]
        elif line.startswith("data: "):
            data.append(line[6:])
        elif not line and data:
            yield event, "\n".join(data) if not event else json.loads("\n".join(data))
            event, data = "", []


def test_it_tells_everything_from_snapshot_to_picture(browser_like):
    # The built-in model takes 50 steps in a second or two, and progress is told four times a second at most.
    job = create(browser_like, prompt="a <b>red</b> boat", steps="50")
    with browser_like.stream("GET", "/events/?panes=dock,panel") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        events = list(messages(response))
    assert f'hx-target="#job-{job}"' in events[0][1] and 'hx-target="#quota"' in events[0][1], "a snapshot first"
    assert all("<b>red</b>" not in data for event, data in events if not event), "prompts are text"
    named = [event for event, _ in events if event]
    assert named[-1] == "stream-end" and named.count("job-done") == 1 and "gallery-changed" in named
    done = next(data for event, data in events if event == "job-done")
    assert done["id"] == job and done["say"] == "Done. 1 image ready." and len(done["images"]) == 1
    shares = [int(share) for event, data in events if not event for share in re.findall(r'aria-valuenow="(\d+)"', data)]
    assert shares == sorted(shares) and len(set(shares)) > 2 and max(shares) < 100
    assert next(data for event, data in events if event == "quota")["used"] == 1


def test_with_nothing_at_work_it_ends_at_once(browser_like):
    with browser_like.stream("GET", "/events/") as response:
        assert [event for event, _ in messages(response)] == ["", "stream-end"]


def test_it_is_for_members_only(site):
    assert httpx.get(f"{site.url}/events/").status_code == 401


def test_it_tells_nothing_of_others(browser_like, site):
    with site.user(f"{uuid.uuid4().hex[:12]}@example.com") as other:
        other.post("/api/generate", json={"prompt": "somebody else's secret", "steps": 20}).raise_for_status()
        create(browser_like, steps="4")
        with browser_like.stream("GET", "/events/") as response:
            assert not any("secret" in str(data) for _, data in messages(response))


def test_open_streams_hold_no_database_connection(browser_like, site):
    for _ in range(2):
        create(browser_like, steps="100", num_images="4")
    url = site.children("web")[0].environ()["DATABASE_URL"]
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(url, autocommit=True) as database, contextlib.ExitStack() as streams:
        before = database.execute(count).fetchone()[0]
        for _ in range(20):
            response = streams.enter_context(browser_like.stream("GET", "/events/"))
            assert next(response.iter_lines()) == "id: 1", "it is open"
        wait_for(
            lambda: database.execute(count).fetchone()[0] <= before + 2,
            seconds=10,
            what="streams give their connections back",
        )
