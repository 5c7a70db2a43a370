"""Fields that every log line inside a block carries. `dreamsketch.logging` prints them."""

import contextlib
import contextvars

_fields: contextvars.ContextVar[dict | None] = contextvars.ContextVar("log_fields", default=None)


@contextlib.contextmanager
def log_context(**fields):
    """Add fields (such as `request` or `generation`) to every line logged inside."""
    token = _fields.set(current_fields() | {name: str(value) for name, value in fields.items()})
    try:
        yield
    finally:
        _fields.reset(token)


def current_fields() -> dict:
    return dict(_fields.get() or {})
