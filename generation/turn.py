"""The turn of the web request that runs here (`dreamsketch.turns`), so that what only waits can give it back early."""

from collections.abc import Callable
from contextvars import ContextVar

_give_back: ContextVar[Callable[[], None] | None] = ContextVar("give_back", default=None)


def begin(give_back: Callable[[], None]) -> None:
    """Note how this request's turn is given back; it may be called from any thread, and again."""
    _give_back.set(give_back)


def step_aside() -> None:
    """Let others have this request's turn, because it is about to wait. Nothing happens outside of a web request."""
    if (give_back := _give_back.get()) is not None:
        give_back()
