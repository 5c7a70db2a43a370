"""Request body parsers (JSON, forms, multipart): strict, size-limited, and never able to break the server."""

from urllib.parse import unquote_to_bytes

from django.conf import settings
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.parsers import MultiPartParser as FrameworkMultiPartParser

from generation.engine.errors import InvalidRequest
from generation.services.json_text import TooDeep, read_json

from .errors import TooLarge

NOT_UTF8 = "This form is not in UTF-8."
REPLACEMENT_CHARACTER = "\ufffd"
"""What Django puts where a part of a form is not UTF-8."""


def read_body(stream) -> bytes:
    """The whole body. Raises TooLarge: DRF reads the stream itself, past Django's own limit."""
    data = stream.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
    if len(data) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        raise TooLarge()
    return data


class JSONParser(BaseParser):
    """One JSON object in UTF-8 (RFC 8259), whatever charset the header claims, within the bounds of `json_text`."""

    media_type = "application/json"

    def parse(self, stream, media_type=None, parser_context=None) -> dict:
        data = read_body(stream)
        try:
            content = read_json(data) if data.strip() else {}
        except TooDeep:
            raise ParseError("This JSON is nested too deeply.") from None
        except ValueError as error:
            raise ParseError(f"This is not JSON: {error}") from None
        if not isinstance(content, dict):
            raise ParseError("The body must be a JSON object.")
        return content


class FormParser(BaseParser):
    """HTML form data in UTF-8, as a dict of text. Empty fields are left out, as a form cannot omit them."""

    media_type = "application/x-www-form-urlencoded"

    def parse(self, stream, media_type=None, parser_context=None) -> dict:
        data = read_body(stream)
        try:
            # Django takes what is not UTF-8 for something else, and nobody would see the mistake.
            unquote_to_bytes(data.replace(b"+", b" ")).decode()
        except UnicodeDecodeError:
            raise ParseError(NOT_UTF8) from None
        return as_dict(QueryDict(data, encoding="utf-8"))


class MultiPartParser(FrameworkMultiPartParser):
    """Multipart form data in UTF-8, as a dict of text and uploaded files."""

    def parse(self, stream, media_type=None, parser_context=None) -> dict:
        parsed = super().parse(stream, media_type, parser_context | {"encoding": "utf-8"})
        fields, files = as_dict(parsed.data), as_dict(parsed.files)
        if any(REPLACEMENT_CHARACTER in f"{name}{value}" for name, value in fields.items()):
            raise ParseError(NOT_UTF8)
        if duplicates := fields.keys() & files.keys():
            raise InvalidRequest("This field is given twice.", min(duplicates)[:60])
        return fields | files


def as_dict(form: MultiValueDict) -> dict:
    """One value for each name; a list for those that end in `[]`."""
    content = {}
    for name, values in form.lists():
        if name.endswith("[]"):
            content[name] = values
        elif len(values) > 1:
            raise InvalidRequest("This field is given twice.", name[:60])
        elif values != [""]:
            content[name] = values[0]
    return content
