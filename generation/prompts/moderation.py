"""Prompt moderation: what is refused here never reaches a queue, a GPU or a quota.

What no installation may draw: sexual pictures of minors, and sex with animals; `PROMPT_BLOCKLIST` adds words of the
operator's own. A minor is a word for one or an age below 18. What is explicit counts wherever it stands in the same
prompt, what is bare or suggestive only near the minor; phrases that mean something else ("minor key", "nude lipstick")
are taken out first. `letters` undoes look-alikes and separators, `moderation_words` reads the lists of words.
tests/generation/prompts measures it.
"""

import functools
import itertools
import re
from collections.abc import Iterable

from django.conf import settings

from generation.refusals import PromptRejected

from . import moderation_words as words
from .letters import fold, glued_words, readings

NEAR_WORDS = 15
"""So many words may stand between a minor and what is bare."""
NEAR_ANIMAL_WORDS = 4
"""The same between an animal and an act."""

_REFUSAL = "This prompt asks for something that is not drawn here: sexual content with minors or animals."

Spans = list[tuple[int, int]]


def check_prompt(text: str, *, param: str) -> None:
    """Raise PromptRejected when `text` breaks a rule. `param` names the field."""
    forms = readings(text)
    rule = _rule()
    if any(rule.forbids(form) for form in forms) or any(rule.forbids_word(word) for word in glued_words(text)):
        raise PromptRejected(_REFUSAL, param=param)
    for word in settings.PROMPT_BLOCKLIST:
        pattern = words.whole_words(re.escape(fold(word)).replace(r"\ ", r"\W"))
        if any(pattern.search(form) for form in forms):
            raise PromptRejected("This prompt contains a word that this site does not allow.", param=param)


def check_left_out(prompt: str, negative_prompt: str) -> None:
    """Raise PromptRejected when a minor is to be drawn and clothes are to be left out."""
    rule = _rule()
    clothes = any(rule.clothes.search(form) for form in readings(negative_prompt))
    if clothes and any(rule.minors_in(rule.without_harmless(form)) for form in readings(prompt)):
        raise PromptRejected(_REFUSAL, param="negative_prompt")


class _Rule:
    """The lists as patterns, and what they say of one reading of a prompt."""

    def __init__(self) -> None:
        self.always = words.word_list("always")
        self.harmless = words.word_list("harmless")
        self.minors = [words.word_list("minors"), words.word_list("ages")]
        self.explicit = words.word_list("explicit")
        self.bare = words.word_list("bare")
        self.animals, self.acts, self.clothes = (words.word_class(name) for name in ("animal", "act", "clothes"))
        self.hidden_minors, self.hidden_bare = words.hidden_words("minors"), words.hidden_words("bare")
        self.hidden = [(_spaced(word), word) for word in (*self.hidden_minors, *self.hidden_bare) if len(word) > 3]

    def forbids(self, form: str) -> bool:
        if self.always.search(form):
            return True
        form = self.without_harmless(form)
        for pattern, word in self.hidden:
            form = pattern.sub(word, form)
        minors = self.minors_in(form)
        if minors and (self.explicit.search(form) or _are_near(form, minors, _spans(self.bare, form), NEAR_WORDS)):
            return True
        return _are_near(form, _spans(self.animals, form), _spans(self.acts, form), NEAR_ANIMAL_WORDS)

    def forbids_word(self, word: str) -> bool:
        """Whether a word is made of one for a minor and one for what is bare."""
        return any(bare in word for bare in self.hidden_bare) and any(minor in word for minor in self.hidden_minors)

    def without_harmless(self, form: str) -> str:
        return self.harmless.sub(" , ", form)

    def minors_in(self, form: str) -> Spans:
        return [span for pattern in self.minors for span in _spans(pattern, form)]


@functools.cache
def _rule() -> _Rule:
    """Made when the first prompt comes: that takes a third of a second, which commands and workers need not spend."""
    return _Rule()


def _spaced(word: str) -> re.Pattern[str]:
    """A word whose letters are repeated or have up to two separators between them."""
    letters = (f"(?:{letter}|[*#])+" if letter in "aeiou" else f"{letter}+" for letter in word)
    return words.whole_words(r"[\W_]{0,2}".join(letters))


def _spans(pattern: re.Pattern[str], text: str) -> Spans:
    return [match.span() for match in pattern.finditer(text)]


def _are_near(text: str, some: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]], most: int) -> bool:
    # The two that are nearest to each other follow one another among all of both.
    spans = sorted([(*span, True) for span in some] + [(*span, False) for span in others])
    for (_, end, is_some), (start, _, is_next_some) in itertools.pairwise(spans):
        if is_some != is_next_some and len(re.findall(r"\w+", text[end:start])) <= most:
            return True
    return False
