"""Prompt moderation: what is refused here never reaches a queue, a GPU or a quota.

A short list of what no installation may draw; `PROMPT_BLOCKLIST` adds words of the operator's own.
Text is folded first, so that spacing, look-alike letters and digits for letters do not get around it.
"""

import re
import unicodedata

from django.conf import settings

from generation.refusals import PromptRejected

_MINORS = (
    r"child|children|kid|kids|toddler|baby|babies|infant|minor|underage|preteen|schoolgirl|schoolboy|loli|shota|"
    r"(?:[1-9]|1[0-7])\s*(?:years?|yrs?|yo)\s*old"
)
_SEXUAL = r"nude|naked|nsfw|porn\w*|sex|sexual\w*|sexy|erotic\w*|genital\w*|topless|undress\w*|lingerie|hentai"
_ALWAYS = r"child\s*porn\w*|csam|lolicon|shotacon|bestiality|zoophilia"

_LOOKALIKES = str.maketrans("013457@$!|аеорсхуіѕοαε", "oieastasiiaeopcxyisoae")


def _whole_words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{pattern})(?!\w)")


def fold(text: str) -> str:
    """Lower case, compatibility forms joined, accents and invisible characters dropped."""
    text = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in text if unicodedata.category(c) not in ("Mn", "Cf", "Cc") or c in "\n\t ")


def check_prompt(text: str, *, param: str) -> None:
    """Raise PromptRejected when `text` breaks a rule. `param` names the field."""
    plain = fold(text)
    letters = plain.translate(_LOOKALIKES)
    # "n u d e" and "n.u.d.e": single letters with one separator between them, joined.
    joined = re.sub(r"(?<!\w)(?:\w[\W_]){2,}\w(?!\w)", lambda match: re.sub(r"[\W_]", "", match[0]), letters)
    for form in (plain, letters, joined):
        if _whole_words(_ALWAYS).search(form) or (
            _whole_words(_MINORS).search(form) and _whole_words(_SEXUAL).search(form)
        ):
            raise PromptRejected(
                "This prompt asks for something that is not drawn here: sexual content with minors or animals.",
                param=param,
            )
        for word in settings.PROMPT_BLOCKLIST:
            if _whole_words(re.escape(fold(word))).search(form):
                raise PromptRejected("This prompt contains a word that this site does not allow.", param=param)
