"""Refusals of the generation service. See `accounts.refusals`."""

from accounts.refusals import Refusal


class PromptRejected(Refusal):
    """The prompt breaks a rule of this site; nothing was held or drawn."""

    code = "prompt_rejected"


class TooManyRunning(Refusal):
    """The plan's places for running and waiting generations are taken."""

    code = "too_many_running"


class RateLimited(Refusal):
    """Too many requests were accepted in the last hour."""

    code = "rate_limited"


class AccountLocked(Refusal):
    """A moderator has to look at this account before it may generate."""

    code = "account_locked"


class IdempotencyConflict(Refusal):
    """The Idempotency-Key was used for another request."""

    code = "idempotency_conflict"


class PictureTooLarge(Refusal):
    """A picture to draw from has more bytes than are read."""

    code = "too_large"


class UnsupportedPicture(Refusal):
    """What was given to draw from is not in a format that is taken."""

    code = "unsupported_media_type"


class TooManyUploads(Refusal):
    """The account's room for pictures to draw from is full, or was filled too quickly."""

    code = "too_many_uploads"


class StorageAway(Refusal):
    """Pictures cannot be stored at the moment."""

    code = "storage_unavailable"
