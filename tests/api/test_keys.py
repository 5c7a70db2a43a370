"""What an API key may do: scopes, expiry, its own limits, when it was used, and that a revoked one stops."""

import datetime as dt
import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone

from accounts.authentication import scope_of
from accounts.keys import issue_key
from accounts.models import ApiKey, QuotaHold, Scope
from generation.models import Generation
from generation.services import generations
from generation.webhooks import events

pytestmark = pytest.mark.django_db

JSON = "application/json"
OPEN = {"/api", "/api/health", "/api/status", "/api/schema", "/api/generate/webhook"}
"""Answer anybody, whatever their key may do."""


@pytest.fixture
def with_key(free_user):
    """A client with a key of the free user that is made with these fields."""

    def make(**fields):
        key, token = issue_key(user=free_user, name="test", **fields)
        client = Client(headers={"Authorization": f"Bearer {token}"})
        client.key = key
        return client

    return make


def api_routes():
    """Every address of the APIs for programs, with made-up ids: method, address, the scope that it needs."""

    def walk(patterns, before):
        for pattern in patterns:
            route = before + str(pattern.pattern)
            if hasattr(pattern, "url_patterns"):
                yield from walk(pattern.url_patterns, route)
            elif hasattr(pattern.callback, "cls"):
                address = re.sub(r"<uuid:[^>]*>", str(uuid.uuid4()), "/" + route)
                yield re.sub(r"<[^>]*>", "7", address), pattern.callback.cls

    for address, view in walk(get_resolver().url_patterns, ""):
        if address.rstrip("/") not in OPEN:
            for method in ("get", "post", "patch", "put", "delete"):
                if hasattr(view, method):
                    yield method, address, scope_of(view, method.upper())


def test_no_key_does_what_it_has_no_scope_for(with_key, refused):
    """Every address × every method, by a key that has all scopes but the one that is needed."""
    without = {scope: with_key(scopes=[other for other in Scope.values if other != scope]) for scope in Scope.values}
    calls = 0
    for method, address, scope in api_routes():
        response = getattr(without[scope], method)(address, data="{}" if method != "get" else None, content_type=JSON)
        assert response.status_code == 403, (method, address, response.status_code, response.content[:200])
        if address.startswith("/api/"):  # the dialects have shapes of errors of their own
            refused(response, 403, "insufficient_scope")
        calls += 1
    assert calls > 60


def test_what_changes_something_needs_more_than_reading():
    """Posts that only look something up. A new one must be thought about before it is named here."""
    harmless = {"/api/parse-prompt", "/sdapi/v1/png-info", "/internal/progress", "/sdapi/v1/interrogate"}
    addresses = {address.rstrip("/") for method, address, scope in api_routes() if method != "get" and scope == "read"}
    assert addresses <= harmless


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (["read"], {"usage"}),
        (["generate"], {"generate"}),
        (["manage"], {"keys", "webhooks"}),
        (["read", "generate"], {"usage", "generate"}),
        (None, {"usage", "generate", "keys", "webhooks"}),
    ],
)
def test_scopes_open_what_they_name(scopes, allowed, with_key, refused):
    client = with_key(scopes=scopes)
    calls = {
        "usage": lambda: client.get("/api/usage"),
        "generate": lambda: client.post("/api/generate", {"prompt": "a boat", "dry_run": True}, JSON),
        "keys": lambda: client.get("/api/keys"),
        "webhooks": lambda: client.get("/api/webhooks"),
    }
    for name, call in calls.items():
        if name in allowed:
            assert call().status_code == 200, name
        else:
            assert "scope" in refused(call(), 403, "insufficient_scope")["message"]


def test_pictures_need_the_scope_to_read(with_key, free_user, make_image):
    address = f"/media/images/{make_image(free_user).id}.png"
    assert with_key(scopes=["read"]).get(address).status_code == 200
    assert with_key(scopes=["generate", "manage"]).get(address).status_code == 404


def test_managing_keys_revoke_but_never_make(with_key, free_user, refused):
    spare, _ = ApiKey.issue(user=free_user, name="spare")
    client = with_key(scopes=["manage"])
    refused(client.post("/api/keys", {"name": "child"}, JSON), 403, "forbidden")
    assert client.delete(f"/api/keys/{spare.pk}").status_code == 204
    spare.refresh_from_db()
    assert spare.revoked_at


def test_a_key_with_everything(free_user, page_client, documented):
    body = {
        "name": " robot ",
        "scopes": ["generate", "read"],
        "expires_in_days": 30,
        "daily_images": 3,
        "requests_per_minute": 10,
    }
    response = page_client(free_user).post("/api/keys", body, JSON)
    made = documented(response, "post", "/api/keys")
    assert "no-store" in response["Cache-Control"]
    assert (made["name"], made["scopes"]) == ("robot", ["read", "generate"])
    assert (made["dailyImages"], made["requestsPerMinute"], made["lastUsedAt"]) == (3, 10, None)
    expires = dt.datetime.fromisoformat(made["expiresAt"])
    assert abs(expires - timezone.now() - dt.timedelta(days=30)) < dt.timedelta(minutes=2)
    key = ApiKey.find(made["key"])
    assert key.user == free_user and made["key"] not in str(ApiKey.objects.values().get())
    again = {"name": "x", "expiresInDays": "1", "dailyImages": 2.0, "requestsPerMinute": 600, "scopes": "read"}
    made = page_client(free_user).post("/api/keys", again, JSON).json()
    assert (made["dailyImages"], made["requestsPerMinute"], made["scopes"]) == (2, 600, ["read"])


NOT_COUNTS = ["many", 0, -1, 1.5, True, [], {}, float("nan"), 10**30, "1" * 50]
HOSTILE = {
    "name": [None, "", "  ", 7, [], {}, True, "x" * 61, "a\x00b", "\ud800"],
    "scopes": [[], "", ["admin"], "read,admin", 7, {}, True, [7], [None], [["read"]], ["read"] * 101],
    "expires_in_days": [*NOT_COUNTS, 3651],
    "expiresInDays": NOT_COUNTS,
    "daily_images": [*NOT_COUNTS, 1_000_001],
    "dailyImages": NOT_COUNTS,
    "requests_per_minute": [*NOT_COUNTS, 601],
    "requestsPerMinute": NOT_COUNTS,
}


@pytest.mark.parametrize("field", HOSTILE)
def test_hostile_values(field, free_user, page_client, refused):
    import json

    signed_in = page_client(free_user)
    for value in HOSTILE[field]:
        body = json.dumps({"name": "x"} | {field: value})
        refused(signed_in.post("/api/keys", body, JSON), 400, "invalid_request", field)
    assert not ApiKey.objects.exists()


def test_keys_have_an_end(free_user, page_client, refused):
    for number in range(20):
        ApiKey.issue(user=free_user, name=str(number))
    refused(page_client(free_user).post("/api/keys", {"name": "x"}, JSON), 409, "conflict")
    ApiKey.objects.first().revoke()
    assert page_client(free_user).post("/api/keys", {"name": "x"}, JSON).status_code == 201


def test_the_time_of_use_is_noted_once_a_minute(with_key, django_assert_num_queries):
    client = with_key()
    client.get("/api/usage")
    client.key.refresh_from_db()
    first = client.key.last_used_at
    assert abs(timezone.now() - first) < dt.timedelta(minutes=1)
    client.get("/api/usage")
    client.key.refresh_from_db()
    assert client.key.last_used_at == first
    ApiKey.objects.update(last_used_at=first - dt.timedelta(minutes=2))
    client.get("/api/usage")
    client.key.refresh_from_db()
    assert client.key.last_used_at >= first


def test_an_expired_key_and_a_revoked_one_stop_at_once(with_key, refused):
    client = with_key(expires_at=timezone.now() + dt.timedelta(days=1))
    assert client.get("/api/usage").status_code == 200
    ApiKey.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    refused(client.get("/api/usage"), 401, "invalid_api_key")
    ApiKey.objects.update(expires_at=None)
    assert client.get("/api/usage").status_code == 200
    client.key.revoke()
    refused(client.get("/api/usage"), 401, "invalid_api_key")
    refused(client.post("/api/generate", {"prompt": "a boat"}, JSON), 401, "invalid_api_key")


# --- a key's own images a day -----------------------------------------------------------------------------


def test_a_keys_own_images_a_day(with_key, pro_user, page_client, refused, free_user):
    client, other = with_key(daily_images=3), with_key()

    def generate(caller, count):
        return caller.post("/api/generate", {"prompt": "a boat", "n": count}, JSON)

    job = generate(client, 2)
    assert job.status_code == 202
    error = refused(generate(client, 2), 429, "quota_exceeded")
    assert "3 images a day" in error["message"] and "1 are left" in error["message"]
    assert generate(client, 1).status_code == 202
    assert generate(other, 1).status_code == 202, "the account has more"
    refused(generate(client, 1), 429, "quota_exceeded")
    client.post(f"/api/generate/{job.json()['id']}/cancel")
    assert generate(client, 2).status_code == 202, "what was given back counts no more"


def test_yesterdays_images_of_a_key_do_not_count(with_key):
    client = with_key(daily_images=1)
    assert client.post("/api/generate", {"prompt": "a boat"}, JSON).status_code == 202
    QuotaHold.objects.update(day=dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1))
    assert client.post("/api/generate", {"prompt": "a boat"}, JSON).status_code == 202


@pytest.mark.django_db(transaction=True)
def test_a_keys_images_are_exact_under_simultaneous_requests(make_user):
    user = make_user("robot@example.com", is_staff=True)  # without any other limit
    key, _ = issue_key(user=user, name="x", daily_images=10)
    barrier = threading.Barrier(16)

    def generate(number):
        from accounts.refusals import QuotaExceeded

        try:
            barrier.wait()
            generations.create_generation(user=user, prompt="a boat", num_images=3, api_key=key)
            return 3
        except QuotaExceeded:
            return 0
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(generate, range(16))) == 9
    assert Generation.objects.filter(api_key=key).count() == 3


def test_webhooks_of_a_user_outlive_the_key_that_made_them(with_key, free_user):
    client = with_key()
    client.post("/api/webhooks", {"url": "https://hooks.example.com/"}, JSON)
    client.key.revoke()
    assert [endpoint.owner for endpoint in events.WebhookEndpoint.objects.all()] == [free_user]
