"""The baseline of type errors can only shrink."""

from tests.type_errors import complaints, read_baseline, strict_globs

STRICT = ["accounts/**"]


def test_as_many_errors_as_counted_are_let_through():
    assert complaints({"gallery/a.py": ["gallery/a.py:1: no"]}, {"gallery/a.py": 1}, STRICT) == []


def test_one_error_more_is_named_with_its_line():
    (text,) = complaints({"gallery/a.py": ["gallery/a.py:1: no", "gallery/a.py:2: nor"]}, {"gallery/a.py": 1}, STRICT)
    assert "gallery/a.py:2: nor" in text and "2 type errors, 1 allowed" in text


def test_a_file_that_nobody_counted_must_be_clean():
    assert "0 allowed" in complaints({"gallery/new.py": ["gallery/new.py:1: no"]}, {}, STRICT)[0]


def test_a_mended_error_lowers_the_count():
    assert "--update" in complaints({}, {"gallery/a.py": 1}, STRICT)[0]


def test_a_room_that_must_be_clean_cannot_be_counted():
    assert "must have no type error" in complaints({}, {"accounts/keys.py": 3}, STRICT)[0]


def test_the_real_baseline_counts_nothing_in_the_clean_rooms():
    assert [text for text in complaints({}, read_baseline(), strict_globs()) if "must have no type error" in text] == []
