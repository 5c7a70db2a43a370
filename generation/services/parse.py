"""Parsing of requests: from a JSON body or a form to the keyword arguments of `create_generation`, by the table.

Only shape is looked at here: what kind of value it is and under which name it came. What a model allows is
`build_request`'s to say; its refusal is given back under the name that the caller used.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from accounts.models import User
from accounts.refusals import Refusal
from generation.engine.errors import InvalidRequest
from generation.engine.request.fields import MAX_PROMPT_CHARACTERS
from generation.engine.request.parse import spelled_out
from generation.engine.request.schema import Field, Kind
from generation.fields import FIELDS, HIRES_FIELDS, SCALARS
from generation.models import GeneratedImage
from generation.storage.uploads import own_image, read_picture

from .json_text import read_json

PROMPTS = ("prompt", "negative_prompt")
JSON_FIELDS = [FIELDS[name] for name in ("expand", "variation", "loras")]
"""Objects and lists without a picture; `hires_fix` is read on its own."""
PICTURES = [field for field in FIELDS.values() if field.kind is Kind.PICTURE]

MAX_TEXT = 200
NUMBER_LIMIT = 2**53
"""Above this JSON numbers mean different things to different programs; no field comes near it."""
SIZE = re.compile(r"\s*(\d{1,5})\s*[xX×*]\s*(\d{1,5})\s*")
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?|[+-]?\.[0-9]+")
TRUE, FALSE = ("true", "1", "on", "yes"), ("false", "0", "off", "no")


def read_request(data: dict[str, Any], user: User) -> dict[str, Any]:
    """Keyword arguments for `create_generation`. Pictures are kept as uploads of `user`.

    Raises InvalidRequest, or a refusal of `uploads`, naming the field as the caller did.
    """
    keywords = _scalars(data, SCALARS)
    if "width" not in keywords and "height" not in keywords:
        keywords |= _size(data)
    if (hires := _hires(data)) is not None:
        keywords["hires"] = hires
    for field in JSON_FIELDS:
        if (value := _content(data, field.name)) is not None:
            keywords[field.attribute] = _of_kind(field, value)
    keywords |= _pictures(data, user)
    if (parent := _parent(data, user)) is not None:
        keywords["parent"] = parent
    if "prompt" not in keywords and "upscale" not in keywords:
        raise InvalidRequest("Describe your image in a few words.", "prompt")
    return keywords


def _scalars(data: dict[str, Any], fields: dict[str, Field]) -> dict[str, Any]:
    """The values that `data` has for these fields, by attribute."""
    values = {}
    for field in fields.values():
        name, value = _first_value(data, field.names)
        if value is not None:
            values[field.attribute] = read_scalar(field, value, name)
    return values


def read_scalar(field: Field, value: Any, param: str) -> Any:
    """A word, number or truth, out of JSON or out of a form, which knows nothing but text. Its bounds come later."""
    if field.is_number:
        return number(value, param)
    if field.kind is Kind.BOOLEAN:
        return flag(value, param)
    return text(value, param, limit=None if field.name in PROMPTS else MAX_TEXT)


def _hires(data: dict[str, Any]) -> dict[str, Any] | bool | None:
    """On where `hires_fix` says so, or where it is left out and something is said about the second pass."""
    field = FIELDS["hires_fix"]
    name, value = _first_value(data, field.names)
    value = _from_text(value, name)
    flat = _scalars(data, HIRES_FIELDS)
    if isinstance(value, dict):
        return flat | value
    if value is None:
        return flat or None
    return (flat or True) if flag(value, name) else None


def _pictures(data: dict[str, Any], user: User) -> dict[str, Any]:
    """Last of all: they take time to read, and what else is wrong should be said before."""
    upscale = _content(data, "upscale")
    if upscale is not None:
        upscale = spelled_out(FIELDS["upscale"], upscale if isinstance(upscale, dict) else number(upscale, "upscale"))
        return {"upscale": _with_picture(user, upscale, "upscale", data.get("image"))}
    keywords: dict[str, Any] = {}
    for name in ("control", "reference"):
        value = _content(data, name)
        if value is not None:
            value = _of_kind(FIELDS[name], spelled_out(FIELDS[name], value))
            keywords[name] = _with_picture(user, value, name, data.get(f"{name}_image"))
    for field in PICTURES:
        if data.get(field.name) is not None:
            mask = field.name == "mask"
            keywords[field.attribute] = read_picture(user, data[field.name], field.name, mask=mask)
    return keywords


def _parent(data: dict[str, Any], user: User) -> GeneratedImage | None:
    """The image of `user` that is to be changed, where the request names one."""
    upscale = _content(data, "upscale")
    within = upscale.get("image") if isinstance(upscale, dict) else None
    return own_image(user, data.get("image") if within is None else within)


def _with_picture(user: User, part: dict[str, Any], param: str, beside: Any) -> dict[str, Any]:
    """`part` with its `image` read; a form sends that in a field `beside`."""
    value = part.get("image") if part.get("image") is not None else beside
    if value is None:
        raise InvalidRequest("This needs a picture: give it as “image” within.", param)
    return part | {"image": read_picture(user, value, param)}


def _content(data: dict[str, Any], name: str) -> Any:
    return _from_text(data.get(name), name)


def _from_text(value: Any, param: str) -> Any:
    """What JSON text stands for, because forms know nothing but text; other values stay as they are."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return read_json(value.encode())
    except ValueError:
        raise InvalidRequest("This is not JSON.", param) from None


def _of_kind(field: Field, value: Any) -> Any:
    """`value` if it is an object or list as the field wants one, or a number that stands for it."""
    if field.kind is Kind.LIST and not isinstance(value, list):
        raise InvalidRequest("This must be a list.", field.name)
    if field.kind is Kind.OBJECT and not isinstance(value, dict):
        if field.shorthand is Kind.NUMBER:
            return number(value, field.name)
        raise InvalidRequest("This must be an object.", field.name)
    return value


@contextlib.contextmanager
def names_as_given(data: dict[str, Any]) -> Iterator[None]:
    """Refusals that name one of our words leave with the name that `data` uses for it."""
    try:
        yield
    except (InvalidRequest, Refusal) as error:
        error.param = _name_used(data, error.param)
        raise


def _name_used(data: dict[str, Any], param: str) -> str:
    """The name under which `data` gives the field that a refusal calls `param`."""
    if param in ("width", "height") and data.get(param) is None and data.get("size") is not None:
        return "size"
    if param in HIRES_FIELDS and _first_value(data, HIRES_FIELDS[param].names)[1] is None:
        param = "hires_fix"  # as a field of that object, then
    if param == "upscaler":
        param = "upscale"
    field = FIELDS.get(param) or HIRES_FIELDS.get(param)
    name, value = _first_value(data, field.names if field else (param,))
    return param if value is None else name


def _first_value(data: dict[str, Any], names: tuple[str, ...]) -> tuple[str, Any]:
    """The first of `names` that has a value in `data`, and that value."""
    return next(((name, data[name]) for name in names if data.get(name) is not None), (names[0], None))


def text(value: Any, param: str, *, limit: int | None = MAX_TEXT) -> str:
    """`value` if it is text that can be stored. `limit` None: prompts, whose own limit is checked later."""
    if not isinstance(value, str):
        raise InvalidRequest("This must be text.", param)
    if len(value) > (limit or 10 * MAX_PROMPT_CHARACTERS):
        most = limit or MAX_PROMPT_CHARACTERS
        raise InvalidRequest(f"This may have at most {most} characters; it has {len(value)}.", param)
    if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise InvalidRequest("This text contains characters that cannot be stored.", param)
    return value


def number(value: Any, param: str) -> int | float:
    """`value` as a number; text that spells one as JSON would counts, because forms know nothing else."""
    if isinstance(value, str) and len(value) <= 40 and NUMBER.fullmatch(value.strip()):
        value = float(value) if set(value) & set(".eE") else int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise InvalidRequest("This must be a number.", param)
    if abs(value) > NUMBER_LIMIT:
        raise InvalidRequest("This number is too large.", param)
    return value or 0  # not -0.0, which would be written as such


def flag(value: Any, param: str) -> bool:
    """`value` as true or false; None is false."""
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in TRUE + FALSE:
        return value.strip().lower() in TRUE
    raise InvalidRequest("This must be true or false.", param)


def _size(data: dict[str, Any]) -> dict[str, int]:
    value = data.get("size")
    if value is None or value == "auto":
        return {}
    match = SIZE.fullmatch(text(value, "size"))
    if not match:
        raise InvalidRequest("This must look like 512x512.", "size")
    return {"width": int(match[1]), "height": int(match[2])}
