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
NEAR_ANIMAL_WORDS = 4
"""The same between an animal and an act."""

_REFUSAL = "This prompt asks for something that is not drawn here: sexual content with minors or animals."


def _spaced(word: str) -> re.Pattern[str]:
    """A word whose letters are repeated or have up to two separators between them."""
    letters = (f"(?:{letter}|[*#])+" if letter in "aeiou" else f"{letter}+" for letter in word)
    return words.whole_words(r"[\W_]{0,2}".join(letters))


def _glued(some: list[str], others: list[str]) -> re.Pattern[str]:
    """One of each, with nothing between them."""
    first, second = "|".join(some), "|".join(others)
    return words.whole_words(f"(?:{first})(?:{second})|(?:{second})(?:{first})")


_ALWAYS = words.word_list("always")
_HARMLESS = words.word_list("harmless")
_MINORS = [words.word_list("minors"), words.word_list("ages")]
_EXPLICIT = words.word_list("explicit")
_BARE = words.word_list("bare")
_ANIMALS, _ACTS, _CLOTHES = (words.word_class(name) for name in ("animal", "act", "clothes"))
_HIDDEN_MINORS, _HIDDEN_BARE = words.hidden_words("minors"), words.hidden_words("bare")
_HIDDEN = [(_spaced(word), word) for word in (*_HIDDEN_MINORS, *_HIDDEN_BARE) if len(word) > 3]
_GLUED = _glued(_HIDDEN_MINORS, _HIDDEN_BARE)


def check_prompt(text: str, *, param: str) -> None:
    """Raise PromptRejected when `text` breaks a rule. `param` names the field."""
    forms = readings(text)
    if any(_is_forbidden(form) for form in forms):
        raise PromptRejected(_REFUSAL, param=param)
    for word in settings.PROMPT_BLOCKLIST:
        pattern = words.whole_words(re.escape(fold(word)).replace(r"\ ", r"\W"))
        if any(pattern.search(form) for form in forms):
            raise PromptRejected("This prompt contains a word that this site does not allow.", param=param)


def check_left_out(prompt: str, negative_prompt: str) -> None:
    """Raise PromptRejected when a minor is to be drawn and clothes are to be left out."""
    clothes = any(_CLOTHES.search(form) for form in readings(negative_prompt))
    if clothes and any(_minors(_HARMLESS.sub(" , ", form)) for form in readings(prompt)):
        raise PromptRejected(_REFUSAL, param="negative_prompt")


def _is_forbidden(form: str) -> bool:
    if _ALWAYS.search(form) or _GLUED.search(form):
        return True
    form = _HARMLESS.sub(" , ", form)
    for pattern, word in _HIDDEN:
        form = pattern.sub(word, form)
    minors = _minors(form)
    if minors and (_EXPLICIT.search(form) or _are_near(form, minors, _spans(_BARE, form), NEAR_WORDS)):
        return True
    return _are_near(form, _spans(_ANIMALS, form), _spans(_ACTS, form), NEAR_ANIMAL_WORDS)


def _minors(form: str) -> list[tuple[int, int]]:
    return [span for pattern in _MINORS for span in _spans(pattern, form)]


def _spans(pattern: re.Pattern[str], text: str) -> list[tuple[int, int]]:
    return [match.span() for match in pattern.finditer(text)]


def _are_near(text: str, some: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]], most: int) -> bool:
    # The two that are nearest to each other follow one another among all of both.
    spans = sorted([(*span, True) for span in some] + [(*span, False) for span in others])
    for (_, end, is_some), (start, _, is_next_some) in itertools.pairwise(spans):
        if is_some != is_next_some and len(re.findall(r"\w+", text[end:start])) <= most:
            return True
    return False
