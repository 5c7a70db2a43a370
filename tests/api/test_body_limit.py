"""Bodies that are too large are refused before they are kept anywhere, whether or not they tell their length."""

import asyncio

import httpx
import pytest

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
