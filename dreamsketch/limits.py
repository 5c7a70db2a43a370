"""ASGI middleware that limits request bodies before they are received: Django's handler would write them to disk."""

import json

from django.conf import settings

from .middleware import request_id_of

MARGIN = 1_000_000
"""For the other fields of a form that carries an upload."""


class BodyLimit:
    """413 for bodies above DATA_UPLOAD_MAX_MEMORY_SIZE and a margin.

    A body that does not tell its length is cut off at the limit, which Django sees as a caller who hung up and
    does not answer.
    """

    def __init__(self, application):
        self.application = application

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.application(scope, receive, send)
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE + MARGIN
        if _content_length(scope) > limit:
            return await _refuse(scope, send)
        received, answered = 0, False

        async def count_and_receive():
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message if received <= limit else {"type": "http.disconnect"}

        async def note_and_send(message):
            nonlocal answered
            answered = True
            await send(message)

        await self.application(scope, count_and_receive, note_and_send)
        if received > limit and not answered:
            await _refuse(scope, send)


def _content_length(scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


async def _refuse(scope, send) -> None:
    request_id = request_id_of(dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1"))
    error = {"error": {"code": "too_large", "message": "This request is too large.", "request_id": request_id}}
    body = json.dumps(error).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
