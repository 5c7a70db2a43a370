"""Values of query strings and headers, checked. They raise InvalidRequest."""

import re

from django.http import HttpRequest

from generation.engine.errors import InvalidRequest


def whole(value: str | None, param: str, low: int, high: int, default: int) -> int:
    """A whole number of a query string within [low, high]."""
    if value is None:
        return default
    if re.fullmatch(r"[0-9]{1,18}", value) and low <= int(value) <= high:
        return int(value)
    raise InvalidRequest(f"This must be a whole number between {low} and {high}.", param)


def idempotency_key(request: HttpRequest) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise InvalidRequest("The Idempotency-Key may have printable ASCII characters only.", "Idempotency-Key")
    return key
