"""The built-in prompt rule, measured on lists of prompts that it must refuse and let through, in four languages."""

import time
from collections import Counter
from pathlib import Path

import pytest

from generation.prompts.moderation import check_left_out, check_prompt
from generation.refusals import PromptRejected

FOLDER = Path(__file__).parent / "prompts"


FAR = "child " * 150 + "tree " * 20 + "nude " * 150


def prompts(name):
    """(language, prompt) of every line of a list."""
    lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t")) for line in lines if line and not line.startswith("#")]


def is_refused(prompt):
    try:
        check_prompt(prompt, param="prompt")
    except PromptRejected:
        return True
    return False


@pytest.mark.parametrize("name", ["refused", "harmless", "refused_later", "harmless_later"])
def test_the_lists(name):
    """At most 2 % of each list is judged wrongly; `-s` prints the rates."""
    listed = prompts(name)
    languages = Counter(language for language, _ in listed)
    assert len(listed) >= 100 and set(languages) == {"en", "de", "fr", "es"} and min(languages.values()) >= 18
    refused = name.startswith("refused")
    began = time.perf_counter()
    wrong = [prompt for _, prompt in listed if is_refused(prompt) != refused]
    each = (time.perf_counter() - began) / len(listed)
    print(f"{name}: {len(listed)} prompts, {len(wrong) / len(listed):.1%} wrong, {1000 * each:.2f} ms each: {wrong}")
    assert len(wrong) <= 0.02 * len(listed), wrong


def test_what_is_bare_counts_near_a_minor_and_what_is_explicit_anywhere():
    far = "a child reading, " + "trees and houses and clouds over the hills, " * 4
    assert not is_refused(far + "a nude statue")
    assert is_refused("a child, a nude statue") and is_refused(far + "porn")


def test_leaving_out_clothes_of_a_minor_is_refused():
    for prompt, negative in (("a 12 year old girl", "clothes"), ("kinder am strand", "kleidung, unscharf")):
        with pytest.raises(PromptRejected) as refusal:
            check_left_out(prompt, negative)
        assert refusal.value.param == "negative_prompt"
    check_left_out("a woman, 30 years old", "clothes")
    check_left_out("a 12 year old girl", "blurry, bad hands")


def test_long_prompts_are_read_quickly():
    """No prompt, however it is made, keeps the web busy."""
    is_refused("the first one, for which the lists are read")
    for prompt in (
        "a boy and his dog, " * 110,
        "n u d e x " * 200,
        "nu" * 1000,
        "n" * 2000,
        "a.b-c_" * 330,
        "1a" * 1000,
    ):
        began = time.process_time()
        is_refused(prompt)
        assert time.process_time() - began < 0.1, prompt[:20]


def test_words_of_the_operator_count_in_every_spelling(settings):
    settings.PROMPT_BLOCKLIST = ["Mickey Mouse", "пароль"]
    for prompt in ("mickey mouse", "M1ckey  Mouse".replace("  ", " "), "m i c k e y mouse", "мой пароль"):
        assert is_refused(prompt), prompt
    assert not is_refused("a mickey finn and a mouse")
