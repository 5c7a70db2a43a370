"""JSON text from strangers: bounded in depth, values and size by a scan of its bytes, before it is parsed.

Parsed, an empty list takes thirty times the three bytes that stand for it. What is not a picture may therefore fill
PLAIN_BYTES only; base64 text, which stays as long as it is, may fill the rest of a body.
"""

import json
import re
import string

from generation.engine.errors import InvalidRequest
from generation.refusals import TooMuchJSON

PLAIN_BYTES = 64 * 1024
"""Of everything but base64 text: the largest request has prompts of a few thousand characters."""
MAX_DEPTH = 32
MAX_VALUES = 5000
LONG_STRING = 1024
"""From this length on a string may be a picture."""

# All possessive: a string without an end fails at once instead of being tried again from each of its characters.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_MARK = re.compile(rb"[][{},]")
_BASE64 = string.ascii_letters.encode() + string.digits.encode() + b"+/=_- \\"
"""With the backslash of escaped line breaks and slashes."""
_PIECE = 2**16


class TooDeep(ValueError):
    """The text is nested deeper than any request is."""


def read_json(data: bytes) -> object:
    """What JSON text in UTF-8 stands for. Raises TooMuchJSON, TooDeep or another ValueError, and InvalidRequest where
    a member comes twice.

    NaN and Infinity are read as numbers, so that the field that has one can be named in the refusal.
    """
    check_json(data)
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=unique_members)
    except RecursionError:
        raise TooDeep from None


def check_json(data: bytes) -> None:
    """Refuse JSON text that would take much more to parse than it says. Raises TooMuchJSON, TooDeep or ValueError.

    Whether the text is JSON is not looked at, but for strings without an end.
    """
    plain = depth = values = position = 0
    while True:
        start = data.find(b'"', position)
        end = len(data) if start < 0 else start
        for mark in _MARK.finditer(data, position, min(end, position + PLAIN_BYTES)):
            match mark[0]:
                case b"[" | b"{":
                    depth += 1
                case b"]" | b"}":
                    depth -= 1
                case _:
                    values += 1
            if depth > MAX_DEPTH:
                raise TooDeep
        plain += end - position
        if start >= 0:
            position = _end_of_string(data, start)
            plain += _plain_bytes(data, start, position)
        if plain > PLAIN_BYTES or values > MAX_VALUES:
            raise TooMuchJSON(
                f"This JSON is too large: beside pictures as base64 it may have {PLAIN_BYTES // 1024} KiB and"
                f" {MAX_VALUES} values."
            )
        if start < 0:
            return


def _end_of_string(data: bytes, start: int) -> int:
    end = data.find(b'"', start + 1)
    if end > 0 and data.find(b"\\", start, end) < 0:
        return end + 1
    match = _STRING.match(data, start)
    if match is None:
        raise ValueError(f"a string that begins at byte {start} has no end")
    return match.end()


def _plain_bytes(data: bytes, start: int, end: int) -> int:
    """How many bytes of a string count: all, or those of a long one that cannot belong to base64."""
    if end - start < LONG_STRING:
        return end - start
    pieces = (data[at : min(at + _PIECE, end)] for at in range(start, end, _PIECE))
    return sum(len(piece.translate(None, _BASE64)) for piece in pieces)


def unique_members(pairs: list[tuple[str, object]]) -> dict:
    """For `json.loads`: the members of an object. Raises InvalidRequest where one comes twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        duplicate = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise InvalidRequest("This field is given twice.", duplicate[:60])
    return content
