"""What the outer layers of the web process need of an ASGI scope: headers, the caller's address, and refusing."""

import json
from functools import cache

from django.conf import settings
from django.http import parse_cookie
from django.template.loader import get_template

from accounts.callers import credential_of
from generation.api.a1111 import endpoint as a1111
from generation.api.http.errors import Problem
from generation.api.openai import endpoint as openai

from .addresses import network_of
from .middleware import request_id_of
from .views import API_PREFIXES


def headers_of(scope) -> dict[str, str]:
    """By lower-case name; of several of one name the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def address_of(scope, headers: dict[str, str]) -> str:
    """Where the caller comes from, as the trusted proxies say; for IPv6 its network."""
    client = scope.get("client")
    address = client[0] if client else ""
    if count := settings.ALLAUTH_TRUSTED_PROXY_COUNT:
        steps = [step.strip() for step in headers.get("x-forwarded-for", "").split(",") if step.strip()]
        address = steps[-count] if len(steps) >= count else address
    return network_of(address)


def shown_credential(headers: dict[str, str]) -> str:
    return credential_of(headers, parse_cookie(headers.get("cookie", "")))


async def refuse(scope, send, problem: Problem) -> None:
    """Answer with a problem, in the shape of the dialect; people get a page where they only have to wait."""
    path = scope["path"]
    request_id = request_id_of(headers_of(scope).get("x-request-id", ""))
    if problem.status in (429, 503) and not path.startswith(API_PREFIXES):
        content_type, body = b"text/html; charset=utf-8", _busy_page(problem.status, problem.message)
    else:
        content_type, body = b"application/json", json.dumps(_error_body(path, problem, request_id)).encode()
    headers = [
        (b"content-type", content_type),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@cache
def _busy_page(status: int, message: str) -> bytes:
    """Made once: it is sent most when there is the least time to make it."""
    return get_template("errors/busy.html").render({"status": status, "message": message}).encode()


def _error_body(path: str, problem: Problem, request_id: str) -> dict:
    if path.startswith("/sdapi/"):
        return a1111.error_body(problem)
    body = {"code": problem.code, "message": problem.message, "request_id": request_id}
    if path.startswith("/v1/"):
        body |= {"type": openai.ERROR_TYPES.get(problem.status, "invalid_request_error"), "param": None}
    return {"error": body}
