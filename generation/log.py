"""Log context: fields that every log line inside a block carries. `dreamsketch.logging` prints them."""

import contextlib
import contextvars
from collections.abc import Iterator

_fields: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar("log_fields", default=None)


@contextlib.contextmanager
def log_context(**fields: object) -> Iterator[None]:
    """Add fields (such as `request` or `generation`) to every line logged inside."""
    token = _fields.set(current_fields() | {name: str(value) for name, value in fields.items()})
    try:
        yield
    finally:
        _fields.reset(token)


def current_fields() -> dict[str, str]:
    """The fields of all enclosing blocks."""
    return dict(_fields.get() or {})
