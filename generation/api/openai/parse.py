"""Parsing of OpenAI image requests into keyword arguments of `create_generation`.

Their own fields are translated; every other field of the native API means what it means there.
"""

import re
from dataclasses import dataclass, field

from django.conf import settings
from django.core.files.base import File

from accounts.models import User
from generation.catalog import model_named
from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import InvalidRequest, UnknownModel
from generation.engine.request.fields import MAX_PROMPT_CHARACTERS
from generation.engine.request.metadata import FORMATS, read_png
from generation.engine.request.request import size_for
from generation.services.parse import flag, names_as_given, number, read_request, text
from generation.storage.uploads import read_picture

MAX_PROMPT = 32_000
PUBLIC_MODELS = re.compile(r"(dall-e-\d|gpt-image-[\w.-]{1,40}|chatgpt-image-[\w.-]{1,40})")
ALWAYS_BASE64 = ("gpt-image-", "chatgpt-image-")
PUBLIC_SIZES = {
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
TRANSLATED = ("model", "prompt", "n", "num_images", "size", "quality", "style", "upscale")
"""Fields that are not handed on as they are."""
NO_PROMPT = "a picture"
"""What a variation shows, where neither the caller nor the picture says."""


@dataclass
class ParsedRequest:
    """One call, understood: `kwargs` for `create_generation`, how to answer, and headers that tell what was changed.

    `format` is one of `metadata.FORMATS`; `compression` (1 to 100) is for jpeg and webp.
    """

    spec: ModelSpec
    kwargs: dict
    base64: bool
    format: str
    compression: int
    stream: bool
    partial_images: int
    quality: str
    headers: dict[str, str] = field(default_factory=dict)


def parse(data: dict, user: User, kind: str) -> ParsedRequest:
    """The request in `data`. `kind`: `generations`, `edits` or `variations`. Pictures are kept as uploads of `user`.

    Raises InvalidRequest, naming the caller's field, or a refusal of `uploads`.
    """
    parsed = _parse_answer(data)
    native = {name: value for name, value in data.items() if name not in TRANSLATED}
    native |= {"model": parsed.spec.key, "n": _first(data, "n", "num_images")} | _size(data, parsed)
    native |= _quality_and_style(data)
    if kind != "generations":
        # The mask is read afterwards: theirs is the other way round.
        picture = _only_picture(_first(data, "image[]", "images", "image"))
        native |= _start(data, picture, kind) | {"mask": None}
    native["prompt"] = _prompt(data, parsed, kind, native.get("image"))
    with names_as_given(data):
        parsed.kwargs = read_request(native, user)
        if kind == "edits":
            _read_mask(data, parsed, user, native["image"])
    return parsed


def _parse_answer(data: dict) -> ParsedRequest:
    """The model, and how the caller wants to be answered."""
    name = "" if data.get("model") is None else text(data["model"], "model")
    spec = model_for(name)
    base64 = _choice(data, "response_format", ("url", "b64_json"), "url") == "b64_json"
    stream = flag(data.get("stream"), "stream")
    if _choice(data, "background", ("auto", "opaque", "transparent"), "auto") == "transparent":
        raise InvalidRequest("Pictures of this site are opaque.", "background")
    _choice(data, "moderation", ("auto", "low"), "auto")
    if data.get("user") is not None:
        text(data["user"], "user", limit=1000)
    return ParsedRequest(
        spec=spec,
        kwargs={},
        base64=base64 or stream or name.startswith(ALWAYS_BASE64),
        format=_choice(data, "output_format", FORMATS, "png"),
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


def _size(data: dict, parsed: ParsedRequest) -> dict:
    size = data.get("size")
    if size is None or size == "auto" or data.get("width") is not None or data.get("height") is not None:
        return {}
    size = text(size, "size")
    if size in PUBLIC_SIZES:
        spec, sides = parsed.spec, [int(side) for side in size.split("x")]
        if any(not spec.min_side <= side <= spec.max_side or side % spec.size_multiple for side in sides):
            width, height = size_for(spec, PUBLIC_SIZES[size])
            parsed.headers["x-dreamsketch-size"] = f"{width}x{height}"
            return {"width": width, "height": height}
    return {"size": size}


def _quality_and_style(data: dict) -> dict:
    fields = {}
    if (quality := data.get("quality")) is not None and text(quality, "quality") not in QUALITIES:
        fields["quality"] = quality
    if (style := data.get("style")) is not None and text(style, "style") not in STYLES:
        fields["style"] = style
    return fields


def _prompt(data: dict, parsed: ParsedRequest, kind: str, picture: object) -> str | None:
    prompt = data.get("prompt")
    if prompt is None and kind == "variations":
        return _prompt_within(picture)
    if prompt is None:
        return None
    prompt = text(prompt, "prompt", limit=MAX_PROMPT).strip()
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        parsed.headers["x-dreamsketch-prompt-cut"] = str(MAX_PROMPT_CHARACTERS)
        prompt = prompt[:MAX_PROMPT_CHARACTERS].rstrip()
    return prompt


def _prompt_within(picture: object) -> str:
    """The prompt that one of our pictures carries, or A1111's."""
    if not isinstance(picture, File):
        return NO_PROMPT
    metadata = read_png(picture.read())
    picture.seek(0)
    prompt = metadata["recipe"].get("prompt") or metadata["parameters"].get("Prompt")
    return prompt[:MAX_PROMPT_CHARACTERS] if isinstance(prompt, str) and prompt.strip() else NO_PROMPT


# --- pictures -----------------------------------------------------------------------------------------------


def _only_picture(value: object) -> object:
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


def _start(data: dict, picture: object, kind: str) -> dict:
    fields = {"image": picture}
    if data.get("strength") is None:
        # What is masked is replaced as a whole; a variation resembles.
        fields["strength"] = 1.0 if data.get("mask") is not None else 0.65 if kind == "variations" else None
    return fields


def _read_mask(data: dict, parsed: ParsedRequest, user: User, picture: object) -> None:
    """Transparent = change. Without a mask the picture's own transparent part is one, if it has any."""
    mask = data.get("mask")
    if mask is not None:
        parsed.kwargs["mask"] = read_picture(user, _only_picture(mask), "mask", mask="alpha")
        return
    if str(data.get("model") or "").startswith(ALWAYS_BASE64):
        return  # these models edit all of it
    if isinstance(picture, File):
        picture.seek(0)
    try:
        parsed.kwargs["mask"] = read_picture(user, picture, "image", mask="alpha")
    except InvalidRequest:
        return
    parsed.kwargs.setdefault("strength", 1.0)


# --- values -------------------------------------------------------------------------------------------------


def _first(data: dict, *names: str) -> object:
    """The first of these fields that is given, or None."""
    return next((data[name] for name in names if data.get(name) is not None), None)


def _choice(data: dict, name: str, choices: tuple[str, ...], default: str) -> str:
    value = data.get(name)
    if value is None:
        return default
    if not isinstance(value, str) or value not in choices:
        raise InvalidRequest(f"This must be one of {', '.join(choices)}.", name)
    return value


def _whole(data: dict, name: str, low: int, high: int, default: int) -> int:
    if data.get(name) is None:
        return default
    value = number(data[name], name)
    if not low <= value <= high or value != int(value):
        raise InvalidRequest(f"This must be a whole number between {low} and {high}.", name)
    return int(value)
