"""Checks of single values, with words for the person who sent them. They raise InvalidRequest."""

from collections.abc import Collection
from typing import Any

from generation.engine.errors import InvalidRequest


def text(value: Any, param: str, limit: int) -> str:
    """Text that can be stored, of at most `limit` characters after trimming."""
    if not isinstance(value, str):
        raise InvalidRequest("This must be text.", param)
    if "\x00" in value or any(0xD800 <= ord(c) <= 0xDFFF for c in value):
        raise InvalidRequest("This text contains characters that cannot be stored.", param)
    if len(value.strip()) > limit:
        raise InvalidRequest(f"This may have at most {limit} characters; it has {len(value.strip())}.", param)
    return value


def number(value: Any, param: str, low: float, high: float, default: Any, *, whole: bool = False) -> Any:
    """A number within [low, high]; `default` for None."""
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise InvalidRequest("This must be a number.", param)
    if not low <= value <= high:  # before int(), which an infinite value would break
        raise InvalidRequest(f"This must be between {low:.10g} and {high:.10g}.", param)
    if whole and value != int(value):
        raise InvalidRequest("This must be a whole number.", param)
    return int(value) if whole else float(value)


def flag(value: Any, param: str) -> bool:
    """True or false; None is false."""
    if value is None or isinstance(value, bool):
        return bool(value)
    raise InvalidRequest("This must be true or false.", param)


def one_of(value: Any, param: str, known: Collection[str], default: str) -> str:
    """One of the `known` words; `default` for None and ""."""
    if value is None or value == "":
        return default
    if not isinstance(value, str) or value not in known:
        raise InvalidRequest(f"This must be one of {', '.join(known)}.", param)
    return value


def known_keys(value: Any, param: str, known: Collection[str]) -> dict[str, Any]:
    """A JSON object without keys that nobody knows: a misspelt one would silently change nothing."""
    if not isinstance(value, dict):
        raise InvalidRequest("This must be an object.", param)
    if unknown := sorted(str(key) for key in value.keys() - set(known)):
        raise InvalidRequest(f"This has no field “{unknown[0][:40]}”. It has: {', '.join(known)}.", param)
    return value
