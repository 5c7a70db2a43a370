"""png-info: what a picture's file says about how it was made. Pixels are not decoded, nothing is kept."""

import io
import re

from PIL import Image

from generation.engine.errors import InvalidRequest
from generation.engine.request.metadata import parse_parameters
from generation.storage.uploads import decode_base64

from .fields import PNG_INFO, read_fields

FORMATS = ("PNG", "JPEG", "WEBP")
EXIF_IFD, USER_COMMENT = 0x8769, 0x9286
SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
MAX_TEXT = 100_000
MAX_ITEMS = 50


def read_info(data: dict) -> dict:
    """The body of png-info: `info` the text, `items` what else it says, `parameters` the text taken apart."""
    given = read_fields(data, PNG_INFO)
    said = _said(decode_base64(given.get("image", ""), "image"))
    text = said.pop("parameters", "")
    return {"info": text, "items": said, "parameters": _with_sides(parse_parameters(text))}


def _with_sides(parameters: dict) -> dict:
    """Sizes also as two numbers, `Size-1` and `Size-2`, which is how the web UI gives them."""
    sides = {}
    for name, value in parameters.items():
        if isinstance(value, str) and (size := SIZE.fullmatch(value)):
            sides |= {f"{name}-1": size[1], f"{name}-2": size[2]}
    return parameters | sides


def _said(data: bytes) -> dict[str, str]:
    """Texts in the file by name; the web UI's under `parameters` in any format. A stranger's words."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            found = {name: value for name, value in image.info.items() if isinstance(value, str)}
            if "parameters" not in found and (comment := _comment(image)):
                found["parameters"] = comment
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, Image.DecompressionBombError):
        raise InvalidRequest("This picture could not be read.", "image") from None
    return {name[:200]: _storable(value[:MAX_TEXT]) for name, value in list(found.items())[:MAX_ITEMS]}


def _comment(image: Image.Image) -> str:
    """The EXIF user comment, where JPEG and WebP keep the text."""
    comment = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT)
    if not isinstance(comment, bytes) or not comment.startswith(b"UNICODE\0"):
        return ""
    return comment[8:].decode("utf-16-be", "replace")


def _storable(text: str) -> str:
    """Without halves of surrogate pairs, which no JSON can carry."""
    return text.encode("utf-8", "replace").decode()
