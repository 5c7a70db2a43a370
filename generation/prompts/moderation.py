"""Prompt moderation: what is refused here never reaches a queue, a GPU or a quota.

What no installation may draw: sexual pictures of minors, and sex with animals; `PROMPT_BLOCKLIST` adds words of the
operator's own. A minor is a word for one or an age below 18. What is explicit counts wherever it stands in the same
prompt, what is bare or suggestive only near the minor; phrases that mean something else ("minor key", "nude lipstick")
are taken out first. `letters` undoes look-alikes and separators. tests/generation/prompts measures it.
"""

import itertools
import re
from collections.abc import Iterable

from django.conf import settings

from generation.refusals import PromptRejected

from . import moderation_words as words
from .letters import fold, readings

NEAR_WORDS = 15
"""So many words may stand between a minor and what is bare."""

_REFUSAL = "This prompt asks for something that is not drawn here: sexual content with minors or animals."


def _whole_words(patterns: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(patterns.split())})(?![^\W_])")


def _spaced(word: str) -> re.Pattern[str]:
    """A word whose letters are repeated or have up to two separators between them."""
    letters = (f"(?:{letter}|[*#])+" if letter in "aeiou" else f"{letter}+" for letter in word)
    return _whole_words(r"[\W_]{0,2}".join(letters))


_ALWAYS = _whole_words(words.ALWAYS)
_MINORS = _whole_words(words.MINORS + words.AGES)
_EXPLICIT = _whole_words(words.EXPLICIT)
_BARE = _whole_words(words.BARE)
_HARMLESS = _whole_words(words.HARMLESS)
_CLOTHES = _whole_words(words.CLOTHES)
_HIDDEN = [(_spaced(word), word) for word in words.HIDDEN.split()]
_AMBIGUOUS = [(_whole_words(minor), _whole_words(bare)) for minor, bare in words.AMBIGUOUS]


def check_prompt(text: str, *, param: str) -> None:
    """Raise PromptRejected when `text` breaks a rule. `param` names the field."""
    forms = readings(text)
    if any(_is_forbidden(form) for form in forms):
        raise PromptRejected(_REFUSAL, param=param)
    for word in settings.PROMPT_BLOCKLIST:
        pattern = _whole_words(re.escape(fold(word)).replace(r"\ ", r"\W"))
        if any(pattern.search(form) for form in forms):
            raise PromptRejected("This prompt contains a word that this site does not allow.", param=param)


def check_left_out(prompt: str, negative_prompt: str) -> None:
    """Raise PromptRejected when a minor is to be drawn and clothes are to be left out."""
    clothes = any(_CLOTHES.search(form) for form in readings(negative_prompt))
    if clothes and any(_MINORS.search(_HARMLESS.sub(" , ", form)) for form in readings(prompt)):
        raise PromptRejected(_REFUSAL, param="negative_prompt")


def _is_forbidden(form: str) -> bool:
    if _ALWAYS.search(form):
        return True
    form = _HARMLESS.sub(" , ", form)
    for pattern, word in _HIDDEN:
        form = pattern.sub(word, form)
    minors = _spans(_MINORS, form)
    if minors and (_EXPLICIT.search(form) or _are_near(form, minors, _spans(_BARE, form))):
        return True
    return any(_are_near(form, _spans(minor, form), _spans(bare, form)) for minor, bare in _AMBIGUOUS)


def _spans(pattern: re.Pattern[str], text: str) -> list[tuple[int, int]]:
    return [match.span() for match in pattern.finditer(text)]


def _are_near(text: str, some: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]]) -> bool:
    # The two that are nearest to each other follow one another among all of both.
    spans = sorted([(*span, True) for span in some] + [(*span, False) for span in others])
    for (_, end, is_some), (start, _, is_next_some) in itertools.pairwise(spans):
        if is_some != is_next_some and len(re.findall(r"\w+", text[end:start])) <= NEAR_WORDS:
            return True
    return False
