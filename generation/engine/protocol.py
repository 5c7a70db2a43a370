"""What every engine is: `Engine`, the `Job` that it hands out, and the `Progress` and `EngineImage`s that it reports.

engine = make_engine("torch", catalog)
engine.start()
job = engine.submit(request, on_progress=print)
images = job.result()
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image

from .request.fields import ImageRequest


@dataclass(frozen=True, slots=True)
class Progress:
    """A live report on one job.

    `phase` is one of queued, downloading, loading, generating, saving; `step` of `steps` counts denoising
    steps over all images of the request; `preview` is a small WebP of what the latents look like now,
    present only when it is new.
    """

    phase: str
    step: int = 0
    steps: int = 0
    preview: bytes | None = None
    fraction: float | None = None
    """How much of the files has arrived, 0 to 1; only while downloading."""


@dataclass(frozen=True, slots=True)
class EngineImage:
    """One finished image: RGB pixels of the request's `final_size` and what made them."""

    index: int
    seed: int
    pixels: Image.Image
    recipe: dict[str, Any]
    """Model key and weight hash, library versions, dtype and device: enough to draw it again."""
    seconds: float
    flagged: bool = False


@dataclass(eq=False)
class Job:
    """A submitted request. `result()` waits and returns the images or raises an EngineError.

    `ticket` is the caller's name for it, which an engine elsewhere is told too. Past its `deadline`
    (by `time.monotonic()`) it ends with TimedOut.
    """

    request: ImageRequest
    on_progress: Callable[[Progress], None]
    wants_preview: Callable[[], bool]
    future: Future = field(default_factory=Future)
    images: list[EngineImage] = field(default_factory=list)
    cancelled: bool = False
    ticket: str = ""
    deadline: float | None = None

    @property
    def late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def result(self, timeout: float | None = None) -> list[EngineImage]:
        return self.future.result(timeout)

    def done(self) -> bool:
        return self.future.done()


def no_report(progress: Progress) -> None:
    """For who does not care how it goes."""


def no_preview() -> bool:
    """For who does not watch."""
    return False


class Engine(Protocol):
    """Turns requests into images. One engine owns one device; many threads may wait on it."""

    def start(self) -> None:
        """Make ready to accept work. Models load on first use."""

    def submit(
        self,
        request: ImageRequest,
        *,
        on_progress: Callable[[Progress], None] = no_report,
        wants_preview: Callable[[], bool] = no_preview,
        ticket: str = "",
        deadline: float | None = None,
    ) -> Job:
        """Accept the request and return at once. Callbacks run on the engine's thread and must not block.

        `deadline`: by `time.monotonic()`; those that would miss theirs are drawn first, and then given up.
        """

    def cancel(self, job: Job) -> None:
        """Stop at the next step border; `job.result()` raises Cancelled with the images finished so far."""

    def stop(self) -> None:
        """Stop now: jobs in flight end with EngineStopped."""

    def status(self) -> dict[str, Any]:
        """`device`, `device_name`, `dtype`, `memory` (bytes: used, total or None), `models` (loaded keys)."""
