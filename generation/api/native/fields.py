"""The fields of a generation request under all their accepted names, as the words of `create_generation`.

Only shape is looked at here: what kind of value it is and under which name it came. What a model allows is
`build_request`'s to say; its refusal is given back under the name that the caller used.
"""

import contextlib
import json
import re

from accounts.refusals import Refusal
from generation.api.http.parsers import unique_members
from generation.engine.errors import InvalidRequest
from generation.engine.request.request import MAX_PROMPT_CHARACTERS
from generation.storage.uploads import read_picture

# Our word: the names it is accepted under. The first that is given counts.
TEXTS = {
    "prompt": ("prompt",),
    "negative_prompt": ("negative_prompt", "negativePrompt"),
    "model": ("model", "model_id"),
    "style": ("style",),
    "aspect_ratio": ("aspect_ratio", "aspectRatio"),
    "sampler": ("sampler", "sampler_name"),
    "visibility": ("visibility",),
    "fill": ("fill",),
    "fit": ("fit",),
    "quality": ("quality",),
}
NUMBERS = {
    "width": ("width",),
    "height": ("height",),
    "steps": ("steps", "num_inference_steps"),
    "guidance_scale": ("guidance_scale", "cfg_scale", "cfgScale"),
    "seed": ("seed",),
    "num_images": ("num_images", "n"),
    "strength": ("strength", "denoising_strength"),
    "mask_blur": ("mask_blur", "maskBlur"),
    "padding": ("padding",),
    "clip_skip": ("clip_skip", "clipSkip"),
}
HIRES = {
    "scale": ("hires_scale", "hiresScale"),
    "strength": ("hires_strength", "hiresStrength"),
    "steps": ("hires_steps", "hiresSteps"),
    "upscaler": ("hires_upscaler", "hiresUpscaler"),
}
OTHERS = {"hires_fix": ("hires_fix", "hiresFix")}
NAMES = TEXTS | NUMBERS | OTHERS | {f"hires_{word}": names for word, names in HIRES.items()}
PROMPTS = ("prompt", "negative_prompt")

MAX_TEXT = 200
NUMBER_LIMIT = 2**53
"""Above this JSON numbers mean different things to different programs; no field comes near it."""
SIZE = re.compile(r"\s*(\d{1,5})\s*[xX×*]\s*(\d{1,5})\s*")
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?|[+-]?\.[0-9]+")
TRUE, FALSE = ("true", "1", "on", "yes"), ("false", "0", "off", "no")


def read_request(data: dict, user) -> dict:
    """Keyword arguments for `create_generation`. Pictures are kept as uploads of `user`.

    Raises InvalidRequest, or a refusal of `uploads`, naming the field as the caller did.
    """
    asked = _words(data)
    if (value := _content(data, "expand")) is not None:
        asked["expand"] = _number_or(dict, value, "expand")
    if (hires := _hires(data)) is not None:
        asked["hires"] = hires
    for name, kind in (("variation", dict), ("loras", list)):
        if (value := _content(data, name)) is not None:
            asked[name] = _of_kind(kind, value, name)
    if data.get("tiling") is not None:
        asked["tiling"] = flag(data["tiling"], "tiling")
    asked |= _pictures(data, user)
    if "prompt" not in asked and "upscale" not in asked:
        raise InvalidRequest("Describe your image in a few words.", "prompt")
    return asked


def _words(data) -> dict:
    asked = {}
    for word, names in TEXTS.items():
        name, value = _given(data, names)
        if value is not None:
            asked[word] = text(value, name, limit=None if word in PROMPTS else MAX_TEXT)
    for word, names in NUMBERS.items():
        name, value = _given(data, names)
        if value is not None:
            asked[word] = number(value, name)
    if "width" not in asked and "height" not in asked:
        asked |= _size(data)
    return asked


def _hires(data) -> dict | bool | None:
    """On where `hires_fix` says so, or where it is left out and something is said about the second pass."""
    name, value = _given(data, OTHERS["hires_fix"])
    value = _from_text(value, name)
    flat = {}
    for word, names in HIRES.items():
        field, given = _given(data, names)
        if given is not None:
            flat[word] = text(given, field) if word == "upscaler" else number(given, field)
    if isinstance(value, dict):
        return flat | value
    if value is None:
        return flat or None
    return (flat or True) if flag(value, name) else None


def _pictures(data, user) -> dict:
    """Last of all: they take time to read, and what else is wrong should be said before."""
    asked = {}
    upscale = _content(data, "upscale")
    if upscale is not None:
        upscale = _number_or(dict, upscale, "upscale")
        if not isinstance(upscale, dict):
            upscale = {"factor": upscale}
        return {"upscale": _with_picture(user, upscale, "upscale", data.get("image"))}
    for name in ("control", "reference"):
        value = _content(data, name)
        if name == "reference" and value is not None and not isinstance(value, dict):
            value = {"image": value}  # its picture alone
        if value is not None:
            asked[name] = _with_picture(user, _of_kind(dict, value, name), name, data.get(f"{name}_image"))
    for name, mask in (("image", False), ("mask", True)):
        if data.get(name) is not None:
            asked[name] = read_picture(user, data[name], name, mask=mask)
    return asked


def _with_picture(user, given: dict, param: str, beside) -> dict:
    """`given` with its `image` read; a form sends that in a field `beside`."""
    value = given.get("image") if given.get("image") is not None else beside
    if value is None:
        raise InvalidRequest("This needs a picture: give it as “image” within.", param)
    return given | {"image": read_picture(user, value, param)}


def _content(data, name):
    return _from_text(data.get(name), name)


def _from_text(value, param):
    """What JSON text stands for, because forms know nothing but text; other values stay as they are."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return json.loads(value, object_pairs_hook=unique_members)
    except (ValueError, RecursionError):
        raise InvalidRequest("This is not JSON.", param) from None


def _of_kind(kind, value, param):
    if not isinstance(value, kind):
        raise InvalidRequest("This must be a list." if kind is list else "This must be an object.", param)
    return value


def _number_or(kind, value, param):
    return value if isinstance(value, kind) else number(value, param)


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
    if word.startswith("hires_") and _given(data, NAMES.get(word, ()))[1] is None:
        word = "hires_fix"  # as a field of that object, then
    if word == "upscaler":
        word = "upscale"
    name, value = _given(data, NAMES.get(word, (word,)))
    return word if value is None else name


def _given(data, names):
    """The first of `names` that has a value in `data`, and that value."""
    for name in names:
        if data.get(name) is not None:
            return name, data[name]
    return names[0] if names else "", None


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
    """`value` as a number; text that spells one as JSON would counts, because forms know nothing else."""
    if isinstance(value, str) and len(value) <= 40 and NUMBER.fullmatch(value.strip()):
        value = float(value) if set(value) & set(".eE") else int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise InvalidRequest("This must be a number.", param)
    if abs(value) > NUMBER_LIMIT:
        raise InvalidRequest("This number is too large.", param)
    return value or 0  # not -0.0, which would be written as such


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
