"""Bodies that are too large are refused before they are kept anywhere, whether or not they tell their length."""

import asyncio

import httpx
import pytest

from accounts.keys import issue_key
from dreamsketch import limits
from dreamsketch.asgi import application
from dreamsketch.limits import MARGIN


def post(path, content, headers):
    async def call():
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await client.post(path, content=content, headers={"Content-Type": "application/json"} | headers)

    return asyncio.run(call())


async def in_pieces(size):
    for _ in range(0, size, 2**16):
        yield b"x" * 2**16


@pytest.mark.parametrize("path", ["/api/generate", "/api/generate/webhook", "/v1/images/generations", "/gallery/bulk/"])
@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.parametrize("request_id", ["my-own-id-1", "<short>", None])
def test_it_is_refused_in_the_one_shape(path, has_length, request_id, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    size = MARGIN + 2**17
    headers = {"X-Request-Id": request_id} if request_id else {}
    answer = post(path, b"x" * size if has_length else in_pieces(size), headers)
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/json")
    error = answer.json()["error"]
    assert error["code"] == "too_large" and error["message"]
    assert error["request_id"] == answer.headers["x-request-id"] and len(error["request_id"]) >= 8
    assert (error["request_id"] == request_id) == (request_id == "my-own-id-1")


async def slowly(pause):
    for _ in range(100):
        yield b"x"
        await asyncio.sleep(pause)


@pytest.mark.parametrize(("quiet", "slow"), [(0.1, 10), (10, 0.3)])
def test_one_that_comes_too_slowly_is_given_up(quiet, slow, monkeypatch):
    """No byte for a while, or byte after byte for a long time."""
    monkeypatch.setattr(limits, "QUIET_SECONDS", quiet)
    monkeypatch.setattr(limits, "SLOW_SECONDS", slow)
    answer = post("/api/generate", slowly(0.2), {})
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "too_slow")


@pytest.mark.django_db(transaction=True)
def test_one_in_chunks_is_read(free_user):
    _, token = issue_key(user=free_user, name="x")

    async def pieces():
        for piece in (b'{"prompt": "a boat", ', b'"steps": 3, "dry_run": true}'):
            yield piece

    answer = post("/api/generate", pieces(), {"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200 and answer.json()["request"]["steps"] == 3


@pytest.mark.parametrize("headers", [{}, {"Cookie": "other=1"}])
def test_a_strangers_large_body_is_not_read(headers):
    async def unread():
        raise AssertionError("somebody read the body")
        yield

    size = {"Content-Length": "30000000"}
    answer = post("/api/generate", unread(), headers | size)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "not_authenticated")
