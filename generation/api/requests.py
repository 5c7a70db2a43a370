"""The fields of a generation request under all their accepted names, as the words of `create_generation`.

Only shape is looked at here: what kind of value it is and under which name it came. What a model allows is
`build_request`'s to say; its refusal is given back under the name that the caller used.
"""

import contextlib
import re

from accounts.refusals import Refusal
from generation.engine.errors import InvalidRequest
from generation.engine.request import MAX_PROMPT_CHARACTERS

# Our word: the names it is accepted under. The first that is given counts.
TEXTS = {
    "prompt": ("prompt",),
    "negative_prompt": ("negative_prompt", "negativePrompt"),
    "model": ("model", "model_id"),
    "style": ("style",),
    "aspect_ratio": ("aspect_ratio", "aspectRatio"),
    "sampler": ("sampler", "sampler_name"),
    "visibility": ("visibility",),
}
NUMBERS = {
    "width": ("width",),
    "height": ("height",),
    "steps": ("steps", "num_inference_steps"),
    "guidance_scale": ("guidance_scale", "cfg_scale", "cfgScale"),
    "seed": ("seed",),
    "num_images": ("num_images", "n"),
}
NOT_YET = ("image", "mask", "expand", "loras", "control", "hires_fix", "hiresFix")
"""Names that change what is drawn, which this server cannot do: better refused than silently left out."""

MAX_TEXT = 200
NUMBER_LIMIT = 2**53
"""Above this JSON numbers mean different things to different programs; no field comes near it."""
SIZE = re.compile(r"\s*(\d{1,5})\s*[xX×*]\s*(\d{1,5})\s*")
TRUE, FALSE = ("true", "1", "on", "yes"), ("false", "0", "off", "no")


def read_request(data: dict) -> dict:
    """Keyword arguments for `create_generation`. Raises InvalidRequest, naming the field as the caller did."""
    refuse_unavailable(data)
    asked = {}
    for word, names in TEXTS.items():
        name, value = _given(data, names)
        if value is not None:
            asked[word] = text(value, name, limit=None if word in ("prompt", "negative_prompt") else MAX_TEXT)
    for word, names in NUMBERS.items():
        name, value = _given(data, names)
        if value is not None:
            asked[word] = number(value, name)
    if "width" not in asked and "height" not in asked:
        asked |= _size(data)
    if "prompt" not in asked:
        raise InvalidRequest("Describe your image in a few words.", "prompt")
    return asked


def refuse_unavailable(data: dict) -> None:
    for name in NOT_YET:
        if data.get(name) and data[name] not in FALSE:
            raise InvalidRequest("This is not available on this server.", name)
    if data.get("quality") not in (None, "", "exact"):
        raise InvalidRequest("This server draws in “exact” quality only.", "quality")


@contextlib.contextmanager
def names_as_given(data: dict):
    """Refusals that name one of our words leave with the name that `data` uses for it."""
    try:
        yield
    except (InvalidRequest, Refusal) as error:
        error.param = _name_used(data, error.param)
        raise


def _name_used(data, word) -> str:
    if word in ("width", "height") and data.get(word) is None and data.get("size") is not None:
        return "size"
    name, value = _given(data, (TEXTS | NUMBERS).get(word, (word,)))
    return word if value is None else name


def _given(data, names):
    """The first of `names` that has a value in `data`, and that value."""
    for name in names:
        if data.get(name) is not None:
            return name, data[name]
    return names[0], None


def text(value, param: str, *, limit: int | None = MAX_TEXT) -> str:
    """`value` if it is text that can be stored. `limit` None: prompts, whose own limit is checked later."""
    if not isinstance(value, str):
        raise InvalidRequest("This must be text.", param)
    if len(value) > (limit or 10 * MAX_PROMPT_CHARACTERS):
        most = limit or MAX_PROMPT_CHARACTERS
        raise InvalidRequest(f"This may have at most {most} characters; it has {len(value)}.", param)
    if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise InvalidRequest("This text contains characters that cannot be stored.", param)
    return value


def number(value, param: str) -> int | float:
    """`value` as a number; text that spells one counts, because forms know nothing else."""
    if isinstance(value, str) and len(value) <= 40:
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                value = kind(value)
                break
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise InvalidRequest("This must be a number.", param)
    if abs(value) > NUMBER_LIMIT:
        raise InvalidRequest("This number is too large.", param)
    return value


def flag(value, param: str) -> bool:
    """`value` as true or false; None is false."""
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in TRUE + FALSE:
        return value.strip().lower() in TRUE
    raise InvalidRequest("This must be true or false.", param)


def whole(value, param: str, low: int, high: int, default: int) -> int:
    """A whole number of a query string within [low, high]."""
    if value is None:
        return default
    if re.fullmatch(r"[0-9]{1,18}", value) and low <= int(value) <= high:
        return int(value)
    raise InvalidRequest(f"This must be a whole number between {low} and {high}.", param)


def idempotency_key(request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise InvalidRequest("The Idempotency-Key may have printable ASCII characters only.", "Idempotency-Key")
    return key


def _size(data) -> dict:
    value = data.get("size")
    if value is None or value == "auto":
        return {}
    found = SIZE.fullmatch(text(value, "size"))
    if not found:
        raise InvalidRequest("This must look like 512x512.", "size")
    return {"width": int(found[1]), "height": int(found[2])}
