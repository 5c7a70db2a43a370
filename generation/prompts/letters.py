"""Letters as they are meant: look-alikes, digits for letters and hidden separators undone, for the prompt rule."""

import re
import unicodedata

# Letters of other alphabets, and of forms that NFKC leaves, beside the Latin ones they pass for.
_LOOKALIKES = str.maketrans(
    {
        other: latin
        for latin, others in {
            "a": "аɑαᴀӓ",
            "b": "вьƅʙƀᖯ",
            "c": "сϲᴄⅽƈ",
            "d": "ԁɗđᴅժⅾ",
            "e": "еєҽεᴇǝ℮ɛ",
            "f": "ғƒꜰ",
            "g": "ɡցɢǥ",
            "h": "һհʜħн",
            "i": "іıιɪɩ",
            "j": "јʝᴊ",
            "k": "кκᴋƙ",
            "l": "ⅼʟłӏɭ",
            "m": "мᴍⅿ",
            "n": "пոռɴηռи",
            "o": "оοօᴏøσɵ",
            "p": "рρᴘ",
            "q": "ԛգ",
            "r": "гʀɾᴦ",
            "s": "ѕꜱʂƽ",
            "t": "тτᴛŧ",
            "u": "սυᴜʋц",
            "v": "ѵνᴠⅴ",
            "w": "ԝωᴡшɯ",
            "x": "хχⅹ×",
            "y": "уγүʏყ",
            "z": "ᴢʐżƶ",
            "oe": "œ",
            "ae": "æ",
            "ss": "ß",
        }.items()
        for other in others
    }
    # Letters in filled circles and squares, and flags.
    # Pictures that stand for words.
    | {"👶": " baby ", "🧒": " child ", "👦": " boy ", "👧": " little girl ", "🔞": " nsfw "}
    | {chr(first + place): chr(97 + place) for first in (0x1F150, 0x1F170, 0x1F1E6) for place in range(26)}
)
_DIGITS = str.maketrans("01345789@$!|", "oieastbgasii")
_DIGITS_L = str.maketrans("01345789@$!|", "oleastbgasll")
_MIXED = re.compile(r"(?<![a-zñ0-9@$])(?=[\w@$]*[a-z])(?=[a-zñ]*[0-9@$!|])[a-zñ0-9@$]+(?:[!|]+[a-zñ0-9@$]+)*")
# Single letters with something between them: a dot, one character, up to three.
_SINGLES = [
    re.compile(rf"(?<![^\W_])(?:[^\W_]{between}){{2,}}[^\W_](?![^\W_])")
    for between in (r"[-‐‑–._*~·]+", r"[\W_]", r"[\W_]{1,3}")
]
_HYPHEN = re.compile(r"(?<=[^\W\d_])[-‐‑–._*~·]+(?=[^\W\d_])")
_UMLAUT = re.compile(r"(?<=[aou])e(?!i)")
_RUN = re.compile(r"([^\W\d_])\1{2,}")
_STUTTER = re.compile(r"(?<![^\W_])(?:([^\W\d_])\1){3,}(?![^\W_])")
_SEPARATORS = re.compile(r"[\W_]")
_LONG = re.compile(r"[^\W_]{6,}")


def fold(text: str) -> str:
    """Lower case, one form for each letter, accents (but the tilde of ñ) and invisible characters dropped."""
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
    kept, before = [], ""
    for character in text:
        category = unicodedata.category(character)
        if category in ("Mn", "Me") and not (character == "\u0303" and before == "n"):
            continue
        if category in ("Cf", "Cc") and character not in "\n\t":
            continue
        kept.append(character)
        before = character
    return unicodedata.normalize("NFC", "".join(kept)).translate(_LOOKALIKES)


def readings(text: str) -> list[str]:
    """Ways in which `text` may be meant, without repetition: as it stands (folded) first."""
    plain = fold(text)
    forms = [plain, _UMLAUT.sub("", plain)]
    for form in (plain, _RUN.sub(r"\1", plain), _STUTTER.sub(lambda match: match[0][::2], plain)):
        for joined in (form, _HYPHEN.sub("", form), *_without_gaps(form)):
            forms += _without_digits(joined)
    return list(dict.fromkeys(forms))


def glued_words(text: str) -> set[str]:
    """Long words that may be several in one: those that stand so, and those whose letters stand apart."""
    plain = fold(text)
    return {
        word
        for joined in (plain, *_without_gaps(plain))
        for form in _without_digits(joined)
        for word in _LONG.findall(form)
    }


def _without_gaps(text: str) -> list[str]:
    """With letters that stand apart as words."""
    return [letters.sub(lambda match: _SEPARATORS.sub("", match[0]), text) for letters in _SINGLES]


def _without_digits(text: str) -> list[str]:
    """As it stands, and with digits as the letters that they pass for."""
    return [
        text,
        *(_MIXED.sub(lambda match, table=table: match[0].translate(table), text) for table in (_DIGITS, _DIGITS_L)),
    ]
