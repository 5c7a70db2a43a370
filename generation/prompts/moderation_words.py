"""The words of the prompt rule, in English, German, French and Spanish: the lists under `words/`, as patterns.

The lists are written over folded text (`letters.fold`): lower case without accents, ß as ss, but with ñ. Entries are
separated by commas; lines that begin with # are comments. In an entry

    kid(s)  madel(s/n)      may end so,          niñ[o/a]   must end so,
    nackt*                  any letters,         pre-teen   together or apart,
    little/young girl       either word,         take (her) clothes   a word that may be missing,
    little .. girl          up to two words between,
    <garment>  <number>     a word class of groups.txt, a number below 18,
    only 12 .               then punctuation or the end.
"""

import re
from pathlib import Path

_LISTS = Path(__file__).parent / "words"
_APART = r"(?:[^\w,;:!?()\[\]]|_){1,3}"
_TOKENS = {"(": "(?:", ")": ")?", "[": "(?:", "]": ")", "/": "|", "*": r"[^\W_]*", "-": r"[\W_]{0,3}", " ": _APART}
_DIGITS = r"(?<!\d)(?<!\d[.,])(?:1[0-7]|\d)(?!\d|[.,]\d)"


def _lines(name: str) -> list[str]:
    lines = (_LISTS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _classes(name: str) -> dict[str, str]:
    """Word classes of a file, each as comma-separated entries."""
    classes: dict[str, str] = {}
    for line in _lines(name):
        key, _, entries = line.partition(" = ")
        classes[key] = ", ".join(filter(None, [classes.get(key), entries]))
    return classes


_GROUPS = _classes("groups")


def _word(word: str) -> str:
    parts = re.split(r"(<[^>]+>)", word)
    return "".join(
        _group(part[1:-1]) if part.startswith("<") else "".join(_TOKENS.get(letter, letter) for letter in part)
        for part in parts
    )


def _group(name: str) -> str:
    if name == "number":
        return rf"(?:{_DIGITS}|{_alternatives(', '.join(_lines('numbers')))})"
    return f"(?:{_alternatives(_GROUPS[name])})"


def _entry(entry: str) -> str:
    """The pattern of one entry; a separator stands before every word but the first."""
    pattern, started = "", False
    for word in re.findall(r"\([^)]*\)(?=\s|$)|\S+", entry):
        before = _APART if started else ""
        if word == ".":
            pattern += r"(?=\s*(?:$|[,;!?)\]\n]|\.(?!\d)))"
        elif word == "..":
            pattern += rf"(?:{_APART}[^\W_]+){{0,2}}"
        elif word.startswith("(") and word.endswith(")"):
            optional = f"(?:{_word(word[1:-1])})"
            pattern += f"(?:{before}{optional})?" if started else f"(?:{optional}{_APART})?"
        else:
            pattern += f"{before}(?:{_word(word)})"
            started = True
    return pattern


def _alternatives(entries: str) -> str:
    return "|".join(_entry(entry) for entry in re.split(r",\s*", entries) if entry)


def whole_words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W_])(?:{pattern})(?![^\W_])")


def word_list(name: str) -> re.Pattern[str]:
    """The pattern of one list."""
    return whole_words(_alternatives(", ".join(_lines(name))))


def word_class(name: str) -> re.Pattern[str]:
    """The pattern of one word class."""
    return whole_words(_group(name))


def hidden_words(name: str) -> list[str]:
    """The words of one kind that are looked for letter by letter."""
    return _classes("hidden")[name].split(", ")
