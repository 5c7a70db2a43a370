"""Checks of single values, with words for the person who sent them. They raise InvalidRequest."""

from generation.engine.errors import InvalidRequest


def text(value, param: str, limit: int) -> str:
    """Text that can be stored, of at most `limit` characters after trimming."""
    if not isinstance(value, str):
        raise InvalidRequest("This must be text.", param)
    if "\x00" in value or any(0xD800 <= ord(c) <= 0xDFFF for c in value):
        raise InvalidRequest("This text contains characters that cannot be stored.", param)
    if len(value.strip()) > limit:
        raise InvalidRequest(f"This may have at most {limit} characters; it has {len(value.strip())}.", param)
    return value


def number(value, param: str, low: float, high: float, default, *, whole: bool = False):
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


def flag(value, param: str) -> bool:
    """True or false; None is false."""
    if value is None or isinstance(value, bool):
        return bool(value)
    raise InvalidRequest("This must be true or false.", param)


def one_of(value, param: str, known, default: str) -> str:
    """One of the `known` words; `default` for None and ""."""
    if value is None or value == "":
        return default
    if not isinstance(value, str) or value not in known:
        raise InvalidRequest(f"This must be one of {', '.join(known)}.", param)
    return value


def fields(value, param: str, known) -> dict:
    """A JSON object without fields that nobody knows: a misspelt one would silently change nothing."""
    if not isinstance(value, dict):
        raise InvalidRequest("This must be an object.", param)
    if strange := sorted(str(key) for key in value.keys() - set(known)):
        raise InvalidRequest(f"This has no field “{strange[0][:40]}”. It has: {', '.join(known)}.", param)
    return value
