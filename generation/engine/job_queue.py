"""Base class of all engines: job queue, ends of jobs, cancellation, threads, throttled progress reports. No torch."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from PIL import Image

from .errors import Cancelled, EngineError, EngineStopped
from .pictures.pixels import encode_preview
from .protocol import Job, Progress, no_preview, no_report
from .request.fields import ImageRequest

log = logging.getLogger(__name__)

PHASE_INTERVAL = 0.5
"""Least seconds between two reports of the same phase."""


class JobQueue:
    """The jobs of one engine that have not begun, first in, first out. Safe to use from any thread."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._open = False

    def open(self) -> None:
        with self._changed:
            self._open = True

    def put(self, job: Job) -> None:
        """Append the job; if the queue is closed the job ends with EngineStopped at once."""
        with self._changed:
            if self._open:
                self._jobs.append(job)
                self._changed.notify()
                return
        fail(job, EngineStopped("The engine is not running."))

    def take(self, timeout: float | None = None) -> Job | None:
        """Wait for the next job, `timeout` seconds at most. None once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or not self._open, timeout)
            return self._jobs.popleft() if self._open and self._jobs else None

    def take_first(self, is_eligible: Callable[[Job], bool]) -> Job | None:
        """The first job that is eligible, without waiting; None if there is none. Others keep their places."""
        with self._changed:
            job = next(filter(is_eligible, self._jobs), None)
            if job is not None:
                self._jobs.remove(job)
            return job

    def withdraw(self, job: Job) -> bool:
        """Take the job back. False if it has begun."""
        with self._changed:
            try:
                self._jobs.remove(job)
            except ValueError:
                return False
            return True

    def close(self) -> None:
        """Accept nothing more; what is queued ends with EngineStopped."""
        with self._changed:
            self._open = False
            queued = list(self._jobs)
            self._jobs.clear()
            self._changed.notify_all()
        for job in queued:
            fail(job, EngineStopped("The engine was stopped."))


class EngineBase:
    """What every engine does alike: it queues and cancels jobs, and runs threads from start to stop.

    A subclass names its threads in `_thread_targets`, and ends them in its own `stop`.
    """

    def __init__(self) -> None:
        self._queue = JobQueue()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def _thread_targets(self) -> dict[str, Callable[[], None]]:
        """Each thread's name and what it runs."""
        raise NotImplementedError

    def start(self) -> None:
        if self._threads:
            return
        self._stopping.clear()
        self._queue.open()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True) for name, target in self._thread_targets().items()
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        request: ImageRequest,
        *,
        on_progress: Callable[[Progress], None] = no_report,
        wants_preview: Callable[[], bool] = no_preview,
        ticket: str = "",
        deadline: float | None = None,
    ) -> Job:
        """Queue the request and return at once; see `request.Engine`."""
        job = Job(request, on_progress, wants_preview, ticket=ticket, deadline=deadline)
        self._queue.put(job)
        return job

    def cancel(self, job: Job) -> None:
        """End the job at once if it has not begun, else the engine ends it at its next step border."""
        job.cancelled = True
        if self._queue.withdraw(job):
            fail(job, Cancelled())

    def _join(self, timeout: float | None = None) -> bool:
        """Accept nothing more and wait for the threads, `timeout` seconds for each. Whether there were any."""
        self._stopping.set()
        self._queue.close()
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.join(timeout)
        return bool(threads)


def succeed(job: Job) -> None:
    """End the job with its images."""
    job.future.set_result(list(job.images))


def fail(job: Job, error: Exception) -> None:
    """End the job with an EngineError; anything else is logged and becomes a plain one.

    The traceback is dropped: a future outlives its job, and the frames would keep the device's tensors.
    """
    if not isinstance(error, EngineError):
        log.error("A job failed unexpectedly", exc_info=error)
        error = EngineError()
    error.__cause__ = error.__context__ = None
    job.future.set_exception(error.with_traceback(None))


class ProgressReporter:
    """Sends one job's progress to its caller.

    Steps never go back, previews are made only when somebody watches and at most every `preview_interval` seconds,
    and an error in a callback never hurts the picture.
    """

    def __init__(self, job: Job, preview_interval: float = 0.25):
        self._job = job
        self._interval = preview_interval
        self._last_preview = float("-inf")
        self._last_phase = ("", float("-inf"))
        self._step = 0
        self._steps = job.request.total_steps

    def phase(self, phase: str, fraction: float | None = None) -> None:
        """Downloading or enlarging (with a fraction 0…1, sent at most every half second), loading, generating."""
        now, (last, sent_at) = time.monotonic(), self._last_phase
        if phase == last and now - sent_at < PHASE_INTERVAL and fraction != 1.0:
            return
        self._last_phase = (phase, now)
        self._send(Progress(phase, self._step, self._steps, fraction=fraction))

    def step(self, step: int, picture: Callable[[], Image.Image | None]) -> None:
        """`step` of all images' steps is done; `picture()` is a preview of any size, or None where there is none."""
        self._step = max(self._step, step)
        self._send(Progress("generating", self._step, self._steps, self._preview(picture)))

    def _preview(self, picture: Callable[[], Image.Image | None]) -> bytes | None:
        now = time.monotonic()
        if now - self._last_preview < self._interval:
            return None
        try:
            if not self._job.wants_preview():
                return None
            self._last_preview = now
            pixels, request = picture(), self._job.request
            return None if pixels is None else encode_preview(pixels, request.width, request.height)
        except Exception:
            log.exception("A preview could not be made")
            return None

    def _send(self, progress: Progress) -> None:
        try:
            self._job.on_progress(progress)
        except Exception:
            log.exception("A progress callback failed")
