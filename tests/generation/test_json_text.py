"""JSON from strangers is bounded before it is parsed: by a scan that is quick whatever the bytes are."""

import base64
import json
import os
import time
import tracemalloc

import pytest

from generation.refusals import TooMuchJSON
from generation.services.json_text import MAX_DEPTH, MAX_VALUES, PLAIN_BYTES, TooDeep, read_json

MANY = 10_000_000
PICTURE = base64.b64encode(os.urandom(MANY)).decode()

BOMBS = {
    "empty lists": (b'{"x": [' + b"[]," * MANY + b"1]}", TooMuchJSON),
    "empty objects": (b'{"x": [' + b"{}," * MANY + b"1]}", TooMuchJSON),
    "numbers": (b'{"x": [' + b"1," * MANY + b"1]}", TooMuchJSON),
    "empty strings": (b'{"x": [' + b'"",' * MANY + b'""]}', TooMuchJSON),
    "short strings of letters": (b'{"x": [' + b'"abcdefgh",' * (MANY // 4) + b'""]}', TooMuchJSON),
    "spaces": (b" " * 3 * MANY + b"{}", TooMuchJSON),
    "a long text": (b'{"prompt": "' + b"a boat. " * MANY + b'"}', TooMuchJSON),
    "nested": (b"[" * 3 * MANY, TooDeep),
    "nested behind a string": (b'{"a": "b", "x": ' + b"[" * MANY, TooDeep),
    "a string without an end": (b'{"x": "' + b'\\"' * MANY, ValueError),
    "one value too many": (b"[" + b"1," * (MAX_VALUES + 1) + b"1]", TooMuchJSON),
    "one level too many": (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), TooDeep),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_would_take_much_is_refused_before_it_is_parsed(bomb):
    data, error = BOMBS[bomb]
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(error):
        read_json(data)
    seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{bomb}: {len(data) / 1e6:.0f} MB, {seconds:.2f} s, {peak / 1e6:.1f} MB more")
    assert seconds < 3 and peak < 1_000_000


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"prompt": 'a "boat" \\ \n ☃ ' * 100, "steps": 4, "loras": [{"key": "x", "weight": 0.5}] * 8},
        {"image": PICTURE, "mask": "data:image/png;base64," + PICTURE, "prompt": "a boat"},
        {"image": "\n".join(PICTURE[at : at + 76] for at in range(0, len(PICTURE), 76))},
        {"images": [PICTURE[:2_000_000]] * 5},
        {"brackets in words": "[{,]}" * 2000},
        [[]] * (MAX_VALUES - 1),
        "x" * (PLAIN_BYTES - 2),
    ],
)
def test_what_requests_need_is_read(value):
    assert read_json(json.dumps(value).encode()) == value
    if len(json.dumps(value)) < 10_000:
        assert read_json(json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8-sig")) == value
