"""RemoteEngine: draws by requests to a provider of inference over HTTP, several jobs at a time. No torch.

It implements `request.Engine`. What is different: nobody reports steps, so `Progress` has a `fraction` that is
estimated from how long earlier pictures took; and a job that is cancelled ends at once, while its response, if it
still comes, is thrown away.
"""

import logging
import math
import threading
import time

from PIL import Image, ImageOps

from generation.engine.catalog.models import Catalog
from generation.engine.catalog.upscalers import UPSCALERS
from generation.engine.errors import Cancelled, EngineError, EngineStopped, InvalidRequest, TimedOut
from generation.engine.job_queue import EngineBase, ProgressReporter
from generation.engine.pictures.pixels import RESAMPLING, refuse_black
from generation.engine.protocol import EngineImage, Job
from generation.engine.request.fields import ImageRequest

from .http import HttpClient, RemoteTimedOut
from .providers import Provider

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""How often jobs in flight are looked at for a cancel, a deadline or a stop."""
REPORT_SECONDS = 1.0
FIRST_ESTIMATE_SECONDS = 20.0
"""What a picture is thought to take before any has been drawn."""


class RemoteEngine(EngineBase):
    """Draws by `provider`, at most `at_once` jobs at a time.

    `client`: sends the requests. `answer_seconds`: how long to wait for pictures that come to a webhook.
    """

    def __init__(
        self,
        catalog: Catalog | None = None,
        *,
        provider: Provider,
        client: HttpClient | None = None,
        at_once: int = 4,
        answer_seconds: float = 600,
    ):
        super().__init__()
        self.catalog = catalog or Catalog()
        self._provider = provider
        self._client = client or HttpClient()
        self._answer_seconds = answer_seconds
        self._places = threading.Semaphore(at_once)
        self._running: dict[Job, RemoteJob] = {}
        self._lock = threading.Lock()
        self._seconds_per_image = FIRST_ESTIMATE_SECONDS

    def _thread_targets(self):
        return {"engine-dispatch": self._dispatch, "engine-watch": self._watch}

    def stop(self) -> None:
        """Does not wait for answers."""
        self._stopping.set()
        self._queue.close()
        for job in list(self._running):
            self._end(job, EngineStopped())
        self._join()

    def status(self) -> dict:
        name = type(self._provider).__name__.removesuffix("Provider")
        return {"device": "remote", "device_name": name, "dtype": "", "memory": None, "models": []}

    # Threads

    def _dispatch(self) -> None:
        """Give each job a thread of its own while there are places."""
        while not self._stopping.is_set():
            if not self._places.acquire(timeout=POLL_SECONDS):
                continue
            job = self._queue.take()
            if job is None:
                self._places.release()
                return
            remote_job = RemoteJob(job)
            with self._lock:
                self._running[job] = remote_job
            threading.Thread(target=self._run, args=(remote_job,), name="engine-remote-job", daemon=True).start()

    def _watch(self) -> None:
        reported = 0.0
        while not self._stopping.wait(POLL_SECONDS):
            report_due = time.monotonic() - reported > REPORT_SECONDS
            if report_due:
                reported = time.monotonic()
            for job, remote_job in list(self._running.items()):
                if job.cancelled:
                    self._end(job, Cancelled(list(job.images)))
                elif job.late:
                    self._end(job, TimedOut(list(job.images)))
                elif report_due:
                    remote_job.report.phase("generating", remote_job.fraction(self._seconds_per_image))

    def _run(self, remote_job: "RemoteJob") -> None:
        job = remote_job.job
        try:
            remote_job.report.phase("generating", 0.0)
            self._draw_images(remote_job)
        except EngineError as error:
            self._end(job, error)
        except Exception as error:
            log.error("A job failed unexpectedly", exc_info=error)
            self._end(job, EngineError())
        else:
            self._end(job, None)

    def _end(self, job: Job, error: EngineError | None) -> None:
        """End the job once, whoever comes first; its place becomes free although a call may still be open."""
        with self._lock:
            if self._running.pop(job, None) is None:
                return
        self._places.release()
        if error is None:
            job.future.set_result(list(job.images))
        else:
            error.__cause__ = error.__context__ = None
            job.future.set_exception(error.with_traceback(None))

    # One job

    def _draw_images(self, remote_job: "RemoteJob") -> None:
        job, request = remote_job.job, remote_job.job.request
        spec = self.catalog.get(request.model)
        if request.upscale and request.upscale.upscaler in UPSCALERS:
            self._add(remote_job, 0, _enlarge(request), {"engine": "upscale", "upscaler": request.upscale.upscaler})
            return
        if request.upscale and "hires" not in spec.features:
            raise InvalidRequest("Only “lanczos” and “nearest” enlarge pictures here.", "upscaler")
        for index in range(request.num_images):
            remote_job.index_began = time.monotonic()
            picture = self._provider.draw(
                self._client, request, index, spec, job.ticket, lambda seconds: self._sleep(job, seconds)
            )
            if picture is None:
                return self._wait_for_webhook(job)
            seconds = time.monotonic() - remote_job.index_began
            self._seconds_per_image += 0.2 * (seconds - self._seconds_per_image)
            self._add(remote_job, index, picture, {"engine": "remote", "via": self.status()["device_name"]})

    def _add(self, remote_job: "RemoteJob", index: int, picture: Image.Image, recipe: dict) -> None:
        job, request = remote_job.job, remote_job.job.request
        refuse_black(picture)
        size = request.final_size
        if picture.size != size:
            recipe["size_there"] = f"{picture.width}x{picture.height}"
            picture = ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
        seconds = time.monotonic() - remote_job.index_began
        image = EngineImage(index, request.seed_of(index), picture, {"model": request.model} | recipe, seconds)
        with self._lock:
            if job not in self._running:
                return
            job.images.append(image)
        remote_job.report.step(request.steps_each * (index + 1), lambda: picture)

    def _wait_for_webhook(self, job: Job) -> None:
        """Whoever takes the result ends the generation, and then this job is cancelled."""
        self._sleep(job, self._answer_seconds)
        raise RemoteTimedOut()

    def _sleep(self, job: Job, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._stopping.wait(min(left, POLL_SECONDS)):
                raise EngineStopped()
            if job.future.done():
                raise Cancelled()


class RemoteJob:
    """One job in flight."""

    def __init__(self, job: Job):
        self.job = job
        self.report = ProgressReporter(job, preview_interval=0)
        self.index_began = time.monotonic()

    def fraction(self, seconds_per_image: float) -> float:
        """Estimated progress, 0 to 1; it slows down and never quite arrives."""
        elapsed = time.monotonic() - self.index_began
        done = len(self.job.images) + 1 - math.exp(-elapsed / seconds_per_image)
        return min(done / self.job.request.num_images, 1.0)


def _enlarge(request: ImageRequest) -> Image.Image:
    pixels = request.upscale.image.load().convert("RGB")
    return pixels.resize((request.width, request.height), RESAMPLING[request.upscale.upscaler])
