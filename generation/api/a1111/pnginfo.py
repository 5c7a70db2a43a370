"""png-info: generation parameters in a picture's metadata. Pixels are not decoded, nothing is kept."""

import io
import re

from PIL import Image

from generation.api.http.errors import encodable
from generation.engine.errors import InvalidRequest
from generation.engine.request.metadata import parse_parameters
from generation.storage.sanitize import Refused, refuse_many_parts
from generation.storage.uploads import decode_base64

from .fields import PNG_INFO, read_fields

FORMATS = ("PNG", "JPEG", "WEBP")
EXIF_IFD, USER_COMMENT = 0x8769, 0x9286
SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
MAX_TEXT = 100_000
MAX_ITEMS = 50


def read_info(data: dict) -> dict:
    """The body of png-info: `info` the text, `items` what else it says, `parameters` the text taken apart."""
    fields = read_fields(data, PNG_INFO)
    texts = _texts(decode_base64(fields.get("image", ""), "image"))
    text = texts.pop("parameters", "")
    return {"info": text, "items": texts, "parameters": _with_sides(parse_parameters(text))}


def _with_sides(parameters: dict) -> dict:
    """Sizes also as two numbers, `Size-1` and `Size-2`, which is how the web UI gives them."""
    sides = {}
    for name, value in parameters.items():
        if isinstance(value, str) and (size := SIZE.fullmatch(value)):
            sides |= {f"{name}-1": size[1], f"{name}-2": size[2]}
    return parameters | sides


def _texts(data: bytes) -> dict[str, str]:
    """Texts in the file by name; the web UI's under `parameters` in any format. A stranger's words."""
    try:
        refuse_many_parts(data)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            texts = {
                name: value for name, value in image.info.items() if isinstance(name, str) and isinstance(value, str)
            }
            if "parameters" not in texts and (comment := _comment(image)):
                texts["parameters"] = comment
    except Refused as refusal:
        raise InvalidRequest(str(refusal), "image") from None
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, Image.DecompressionBombError):
        raise InvalidRequest("This picture could not be read.", "image") from None
    return {name[:200]: encodable(value[:MAX_TEXT]) for name, value in list(texts.items())[:MAX_ITEMS]}


def _comment(image: Image.Image) -> str:
    """The EXIF user comment, where JPEG and WebP keep the text."""
    comment = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT)
    if not isinstance(comment, bytes) or not comment.startswith(b"UNICODE\0"):
        return ""
    return comment[8:].decode("utf-16-be", "replace")
