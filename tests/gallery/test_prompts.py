"""Prompt ideas and improvements by rule."""

import random

from generation.engine.request.fields import MAX_PROMPT_CHARACTERS
from generation.prompts.ideas import SUGGESTIONS, improve, suggestions, surprise


def test_there_are_ideas_for_every_mood_and_none_twice():
    everything = [prompt for prompts in SUGGESTIONS.values() for prompt in prompts]
    assert len(everything) == len(set(everything)) >= 24
    assert len(SUGGESTIONS) >= 4 and all(3 <= len(prompt) <= 200 for prompt in everything)


def test_suggestions_are_different_ones():
    assert len(set(suggestions(6))) == 6
    assert suggestions(3, random.Random(1)) == suggestions(3, random.Random(1))


def test_a_surprise_reads_well():
    for seed in range(300):
        prompt = surprise(random.Random(seed))
        assert " a a" not in prompt and " a e" not in prompt and " a o" not in prompt and "{" not in prompt


def test_improving_adds_what_is_missing_once():
    once = improve("a red boat")
    assert once.startswith("a red boat, ") and len(once) > 30
    assert improve(once) == once


def test_improving_repeats_nothing_that_is_said():
    better = improve("a boat, soft natural light, fine detail")
    assert better.count("light") == 1 and better.count("detail") == 1
    assert "light" not in improve("a boat at sunset")


def test_improving_tidies_and_keeps_within_the_limit():
    assert improve("  a   red boat ,, ").startswith("a red boat, ")
    full = "x" * MAX_PROMPT_CHARACTERS
    assert improve(full) == full
    assert len(improve("x" * (MAX_PROMPT_CHARACTERS - 10))) <= MAX_PROMPT_CHARACTERS
    assert improve("   ")
