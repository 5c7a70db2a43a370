"""Domain errors of the site: what a rule refuses, with its code, its HTTP status and the field at fault."""

from typing import ClassVar


class Refusal(Exception):
    """A rule said no, and nothing was changed. Every subclass names its `code` and `http_status`.

    `code` is stable and machine-readable, `str(refusal)` a sentence for the person, `param` the field at fault or
    "", `retry_after` the whole seconds until it is worth trying again or None. `engine.errors.InvalidRequest` has the
    same attributes. `generation/api/http/errors.py` makes one `Problem` of either, which every dialect renders.
    """

    code: ClassVar[str]
    http_status: ClassVar[int]

    def __init__(self, message: str, *, param: str = "", retry_after: int | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.retry_after = retry_after


class QuotaExceeded(Refusal):
    """The day's images are used up."""

    code = "quota_exceeded"
    http_status = 429


class InsufficientScope(Refusal):
    """The API key may not be used for this."""

    code = "insufficient_scope"
    http_status = 403


class Conflict(Refusal):
    """The request is well-formed, but things stand in its way as they are now."""

    code = "conflict"
    http_status = 409
