"""Why a request was turned down. Raised by services; mapped to HTTP once, in `generation/api/http/errors.py`."""


class Refusal(Exception):
    """A rule said no, and nothing was changed.

    `code` is stable and machine-readable, `str(refusal)` a sentence for the person, `param` the field at
    fault if there is one, `retry_after` whole seconds until it is worth asking again.
    """

    code = "refused"

    def __init__(self, message: str, *, param: str = "", retry_after: int | None = None):
        super().__init__(message)
        self.param = param
        self.retry_after = retry_after


class QuotaExceeded(Refusal):
    """The day's images are used up."""

    code = "quota_exceeded"


class InsufficientScope(Refusal):
    """The API key may not be used for this."""

    code = "insufficient_scope"


class Conflict(Refusal):
    """The request is well-formed, but things stand in its way as they are now."""

    code = "conflict"
