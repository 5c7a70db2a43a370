"""Domain errors of the generation services, each with its code and HTTP status. See `accounts.refusals`."""

from accounts.refusals import Refusal
from generation.engine.errors import InvalidRequest

REFUSALS = (Refusal, InvalidRequest)
"""For `except`: what services refuse, whether a rule of the site or the engine's own check of a request said no."""


class PromptRejected(Refusal):
    """The prompt breaks a rule of this site; nothing was held or drawn."""

    code = "prompt_rejected"
    http_status = 422


class TooManyRunning(Refusal):
    """The plan's places for running and waiting generations are taken."""

    code = "too_many_running"
    http_status = 429


class RateLimited(Refusal):
    """Too many requests were accepted in the last hour."""

    code = "rate_limited"
    http_status = 429


class ModelMissing(Refusal):
    """The model is offered, but its files are not here and cannot be fetched now."""

    code = "model_unavailable"
    http_status = 409


class AccountLocked(Refusal):
    """A moderator has to look at this account before it may generate."""

    code = "account_locked"
    http_status = 403


class IdempotencyConflict(Refusal):
    """The Idempotency-Key was used for another request."""

    code = "idempotency_conflict"
    http_status = 409


class TooMuchJSON(Refusal):
    """JSON text with more in it than any request has."""

    code = "too_large"
    http_status = 413


class PictureTooLarge(Refusal):
    """A picture to draw from has more bytes than are read."""

    code = "too_large"
    http_status = 413


class UnsupportedPicture(Refusal):
    """What was given to draw from is not in a format that is taken."""

    code = "unsupported_media_type"
    http_status = 415


class TooManyUploads(Refusal):
    """The account's room for pictures to draw from is full, or was filled too quickly."""

    code = "too_many_uploads"
    http_status = 429


class StorageAway(Refusal):
    """Pictures cannot be stored at the moment."""

    code = "storage_unavailable"
    http_status = 503
