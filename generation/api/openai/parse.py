"""From OpenAI's fields to the words of `create_generation`.

Their own fields are translated; every other field of the native API means what it means there.
"""

import re
from dataclasses import dataclass, field

from django.conf import settings
from django.core.files.base import File

from generation.api.native.fields import flag, names_as_given, number, read_request, text
from generation.catalog import model_named
from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import InvalidRequest, UnknownModel
from generation.engine.request.fields import MAX_PROMPT_CHARACTERS
from generation.engine.request.metadata import FORMATS, read_png
from generation.engine.request.request import size_for
from generation.storage.uploads import read_picture

MAX_PROMPT = 32_000
PUBLIC_MODELS = re.compile(r"(dall-e-\d|gpt-image-[\w.-]{1,40}|chatgpt-image-[\w.-]{1,40})")
ALWAYS_BASE64 = ("gpt-image-", "chatgpt-image-")
SHAPES = {
    "256x256": "1:1",
    "512x512": "1:1",
    "1024x1024": "1:1",
    "1536x1024": "3:2",
    "1024x1536": "2:3",
    "1792x1024": "16:9",
    "1024x1792": "9:16",
}
"""Sizes that clients send without being asked to. A model that cannot draw them draws their shape."""
QUALITIES = ("auto", "standard", "hd", "low", "medium", "high", "xhigh", "max")
STYLES = ("vivid", "natural")
OWN = ("model", "prompt", "n", "num_images", "size", "quality", "style", "upscale")
"""Fields that are not handed on as they are."""
NO_WORDS = "a picture"
"""What a variation shows, where neither the caller nor the picture says."""


@dataclass
class Asked:
    """One call, understood. `words` are for `create_generation`, `headers` tell what was changed."""

    spec: ModelSpec
    words: dict
    base64: bool
    format: str
    compression: int
    stream: bool
    partial_images: int
    quality: str
    headers: dict[str, str] = field(default_factory=dict)


def read(data: dict, user, kind: str) -> Asked:
    """`kind`: `generations`, `edits` or `variations`. Pictures are kept as uploads of `user`.

    Raises InvalidRequest, naming the caller's field, or a refusal of `uploads`.
    """
    asked = _answer_wanted(data)
    native = {name: value for name, value in data.items() if name not in OWN}
    native |= {"model": asked.spec.key, "n": _first(data, "n", "num_images")} | _size(data, asked)
    native |= _quality_and_style(data)
    given = _first(data, "image[]", "images", "image") if kind != "generations" else None
    if kind != "generations":
        # The mask is read afterwards: theirs is the other way round.
        native |= _start(data, _one(given), kind) | {"mask": None}
    native["prompt"] = _prompt(data, asked, kind, native.get("image"))
    with names_as_given(data):
        asked.words = read_request(native, user)
        if kind == "edits":
            _read_mask(data, asked, user, native["image"])
    return asked


def _answer_wanted(data) -> Asked:
    name = "" if data.get("model") is None else text(data["model"], "model")
    spec = model_for(name)
    base64 = _one_of(data, "response_format", ("url", "b64_json"), "url") == "b64_json"
    stream = flag(data.get("stream"), "stream")
    if _one_of(data, "background", ("auto", "opaque", "transparent"), "auto") == "transparent":
        raise InvalidRequest("Pictures of this site are opaque.", "background")
    _one_of(data, "moderation", ("auto", "low"), "auto")
    if data.get("user") is not None:
        text(data["user"], "user", limit=1000)
    return Asked(
        spec=spec,
        words={},
        base64=base64 or stream or name.startswith(ALWAYS_BASE64),
        format=_one_of(data, "output_format", FORMATS, "png"),
        compression=max(1, _whole(data, "output_compression", 0, 100, 90)),
        stream=stream,
        partial_images=_whole(data, "partial_images", 0, 3, 0),
        quality=data.get("quality") if data.get("quality") in ("low", "medium", "high") else "auto",
        headers={"x-dreamsketch-model": spec.key},
    )


def model_for(name: str) -> ModelSpec:
    """The model of that key, alias or public name. Raises UnknownModel."""
    try:
        return model_named(name)
    except UnknownModel:
        if PUBLIC_MODELS.fullmatch(name):
            return model_named(settings.OPENAI_MODEL or None)
        raise


def _size(data, asked) -> dict:
    size = data.get("size")
    if size is None or size == "auto" or data.get("width") is not None or data.get("height") is not None:
        return {}
    size = text(size, "size")
    if size in SHAPES:
        spec, sides = asked.spec, [int(side) for side in size.split("x")]
        if any(not spec.min_side <= side <= spec.max_side or side % spec.size_multiple for side in sides):
            width, height = size_for(spec, SHAPES[size])
            asked.headers["x-dreamsketch-size"] = f"{width}x{height}"
            return {"width": width, "height": height}
    return {"size": size}


def _quality_and_style(data) -> dict:
    words = {}
    if (quality := data.get("quality")) is not None and text(quality, "quality") not in QUALITIES:
        words["quality"] = quality
    if (style := data.get("style")) is not None and text(style, "style") not in STYLES:
        words["style"] = style
    return words


def _prompt(data, asked, kind, picture) -> str | None:
    prompt = data.get("prompt")
    if prompt is None and kind == "variations":
        return _words_of(picture)
    if prompt is None:
        return None
    prompt = text(prompt, "prompt", limit=MAX_PROMPT).strip()
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        asked.headers["x-dreamsketch-prompt-cut"] = str(MAX_PROMPT_CHARACTERS)
        prompt = prompt[:MAX_PROMPT_CHARACTERS].rstrip()
    return prompt


def _words_of(picture) -> str:
    """The prompt that one of our pictures carries, or A1111's."""
    if not isinstance(picture, File):
        return NO_WORDS
    said = read_png(picture.read())
    picture.seek(0)
    prompt = said["recipe"].get("prompt") or said["parameters"].get("Prompt")
    return prompt[:MAX_PROMPT_CHARACTERS] if isinstance(prompt, str) and prompt.strip() else NO_WORDS


# --- pictures -----------------------------------------------------------------------------------------------


def _one(value):
    """The picture itself: it may be the only one of a list, or named within an object as their JSON has it."""
    if isinstance(value, list):
        if len(value) > 1:
            raise InvalidRequest("One picture at a time can be worked on here.", "image")
        value = value[0] if value else None
    if isinstance(value, dict):
        value = _first(value, "image_url", "b64_json")
        if isinstance(value, dict):
            value = value.get("url")
    if value is None:
        raise InvalidRequest("This needs a picture to work on.", "image")
    return value


def _start(data, picture, kind) -> dict:
    words = {"image": picture}
    if data.get("strength") is None:
        # What is masked is replaced as a whole; a variation resembles.
        words["strength"] = 1.0 if data.get("mask") is not None else 0.65 if kind == "variations" else None
    return words


def _read_mask(data, asked, user, picture) -> None:
    """Transparent = change. Without a mask the picture's own transparent part is one, if it has any."""
    mask = data.get("mask")
    if mask is not None:
        asked.words["mask"] = read_picture(user, _one(mask), "mask", mask="alpha")
        return
    if str(data.get("model") or "").startswith(ALWAYS_BASE64):
        return  # these models edit all of it
    if isinstance(picture, File):
        picture.seek(0)
    try:
        asked.words["mask"] = read_picture(user, picture, "image", mask="alpha")
    except InvalidRequest:
        return
    asked.words.setdefault("strength", 1.0)


# --- values -------------------------------------------------------------------------------------------------


def _first(data, *names):
    return next((data[name] for name in names if data.get(name) is not None), None)


def _one_of(data, name, known, default) -> str:
    value = data.get(name)
    if value is None:
        return default
    if not isinstance(value, str) or value not in known:
        raise InvalidRequest(f"This must be one of {', '.join(known)}.", name)
    return value


def _whole(data, name, low, high, default) -> int:
    if data.get(name) is None:
        return default
    value = number(data[name], name)
    if not low <= value <= high or value != int(value):
        raise InvalidRequest(f"This must be a whole number between {low} and {high}.", name)
    return int(value)
