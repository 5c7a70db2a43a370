"""Exceptions of the engine. Each has a stable machine-readable `code` and a message that may be shown to the user."""

from typing import Any


class EngineError(Exception):
    """Base of all engine failures.

    `code` is stable and machine-readable; `str(error)` is a sentence that may be shown to the user;
    `transient` says whether the same request may succeed on another attempt.
    """

    code = "engine_error"
    transient = True

    def __init__(self, message: str = "The image could not be finished."):
        super().__init__(message)


class InvalidRequest(EngineError):
    """The request is outside what the model can do. `param` names the field.

    Has the attributes of the site's own refusals (`accounts.refusals.Refusal`), so that one handler serves both.
    """

    code = "invalid_request"
    transient = False
    http_status = 400
    retry_after: int | None = None

    def __init__(self, message: str, param: str = ""):
        super().__init__(message)
        self.param = param


class UnknownModel(InvalidRequest):
    """No model of that name is offered here."""

    code = "unknown_model"

    def __init__(self, name: str):
        super().__init__(f"There is no model called “{name[:80]}”.", "model")


class ModelUnavailable(EngineError):
    """The model is known but its files cannot be had (not downloaded and no source reachable).

    `details` has a line for each source that was tried, with paths: for operators, not for users.
    """

    code = "model_unavailable"
    transient = False

    def __init__(self, message: str, details: list[str] | None = None):
        super().__init__(message)
        self.details = details or []


class OutOfMemory(EngineError):
    """The device ran out of memory, also in low-memory mode."""

    code = "out_of_memory"
    transient = False

    def __init__(self, message: str = "There is not enough memory for this picture. Try a smaller size."):
        super().__init__(message)


class BadOutput(EngineError):
    """The model produced no picture: numbers that are not finite, or black everywhere."""

    code = "bad_output"
    transient = False

    def __init__(self, message: str = "The model produced no picture. Try another seed, sampler or size."):
        super().__init__(message)


class Cancelled(EngineError):
    """The job was cancelled. `images` holds those that were finished before."""

    code = "cancelled"
    transient = False

    def __init__(self, images: list[Any] | None = None):
        super().__init__("Cancelled.")
        self.images = images or []


class TimedOut(EngineError):
    """The job's deadline passed. `images` holds those that were finished before."""

    code = "timed_out"
    transient = False

    def __init__(self, images: list[Any] | None = None):
        super().__init__("The image could not be finished in time.")
        self.images = images or []


class EngineStopped(EngineError):
    """The engine is shutting down; the request was not finished and may be handed to another worker."""

    code = "engine_stopped"

    def __init__(self, message: str = "The engine was stopped before the picture was finished."):
        super().__init__(message)
