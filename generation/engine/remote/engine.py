"""An engine that draws nothing itself: it asks others over HTTP (see `dialects`), several at a time. No torch.

The protocol and the ends are those of `request.Engine`. What is different: nobody tells of steps, so `Progress`
has a `fraction` that is guessed from how long earlier pictures took; and a job that is cancelled ends at once,
while its answer, if it still comes, is thrown away.
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
from generation.engine.pictures.pixels import refuse_black
from generation.engine.request.request import EngineImage, ImageRequest, Job

from .http import RemoteTimedOut, Wire

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""How often jobs in flight are looked at for a cancel, a deadline or a stop."""
TELL_SECONDS = 1.0
USUAL_SECONDS = 20.0
"""What a picture is thought to take before there is any experience."""
RESAMPLING = {"lanczos": Image.Resampling.LANCZOS, "nearest": Image.Resampling.NEAREST}


class RemoteEngine(EngineBase):
    """Asks through `dialect`, at most `at_once` jobs at a time.

    `wire`: how patiently. `answer_seconds`: how long to wait for pictures that come to a webhook.
    """

    def __init__(
        self,
        catalog: Catalog | None = None,
        *,
        dialect,
        wire: Wire | None = None,
        at_once: int = 4,
        answer_seconds: float = 600,
    ):
        super().__init__()
        self.catalog = catalog or Catalog()
        self._dialect = dialect
        self._wire = wire or Wire()
        self._answer_seconds = answer_seconds
        self._places = threading.Semaphore(at_once)
        self._running: dict[Job, Errand] = {}
        self._lock = threading.Lock()
        self._usual_seconds = USUAL_SECONDS

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
        name = type(self._dialect).__name__.removesuffix("Dialect")
        return {"device": "remote", "device_name": name, "dtype": "", "memory": None, "models": []}

    # Threads

    def _dispatch(self) -> None:
        """Give each job a thread of its own while there are places."""
        while not self._stopping.is_set():
            if not self._places.acquire(timeout=LOOK_SECONDS):
                continue
            job = self._queue.take()
            if job is None:
                self._places.release()
                return
            errand = Errand(job)
            with self._lock:
                self._running[job] = errand
            threading.Thread(target=self._run, args=(errand,), name="engine-errand", daemon=True).start()

    def _watch(self) -> None:
        told = 0.0
        while not self._stopping.wait(LOOK_SECONDS):
            telling = time.monotonic() - told > TELL_SECONDS
            if telling:
                told = time.monotonic()
            for job, errand in list(self._running.items()):
                if job.cancelled:
                    self._end(job, Cancelled(list(job.images)))
                elif job.late:
                    self._end(job, TimedOut(list(job.images)))
                elif telling:
                    errand.report.phase("generating", errand.guess(self._usual_seconds))

    def _run(self, errand: "Errand") -> None:
        job = errand.job
        try:
            errand.report.phase("generating", 0.0)
            self._serve(errand)
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

    def _serve(self, errand: "Errand") -> None:
        job, request = errand.job, errand.job.request
        spec = self.catalog.get(request.model)
        if request.upscale and request.upscale.upscaler in UPSCALERS:
            self._add(errand, 0, _enlarge(request), {"engine": "upscale", "upscaler": request.upscale.upscaler})
            return
        if request.upscale and "hires" not in spec.features:
            raise InvalidRequest("Only “lanczos” and “nearest” enlarge pictures here.", "upscaler")
        for index in range(request.num_images):
            errand.index_began = time.monotonic()
            picture = self._dialect.draw(self._wire, request, index, spec, job.ticket, lambda s: self._sleep(job, s))
            if picture is None:
                return self._wait_for_webhook(job)
            took = time.monotonic() - errand.index_began
            self._usual_seconds += 0.2 * (took - self._usual_seconds)
            self._add(errand, index, picture, {"engine": "remote", "via": self.status()["device_name"]})

    def _add(self, errand, index: int, picture: Image.Image, recipe: dict) -> None:
        job, request = errand.job, errand.job.request
        refuse_black(picture)
        wanted = request.final_size
        if picture.size != wanted:
            recipe["size_there"] = f"{picture.width}x{picture.height}"
            picture = ImageOps.fit(picture, wanted, Image.Resampling.LANCZOS)
        seconds = time.monotonic() - errand.index_began
        image = EngineImage(index, request.seed_of(index), picture, {"model": request.model} | recipe, seconds)
        with self._lock:
            if job not in self._running:
                return
            job.images.append(image)
        errand.report.step(request.steps_each * (index + 1), lambda: picture)

    def _wait_for_webhook(self, job: Job) -> None:
        """Whoever takes the result ends the generation, and then this job is cancelled."""
        self._sleep(job, self._answer_seconds)
        raise RemoteTimedOut()

    def _sleep(self, job: Job, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._stopping.wait(min(left, LOOK_SECONDS)):
                raise EngineStopped()
            if job.future.done():
                raise Cancelled()


class Errand:
    """One job in flight."""

    def __init__(self, job: Job):
        self.job = job
        self.report = ProgressReporter(job, preview_interval=0)
        self.index_began = time.monotonic()

    def guess(self, usual_seconds: float) -> float:
        """How far it may be, 0 to 1; it slows down and never quite arrives."""
        elapsed = time.monotonic() - self.index_began
        done = len(self.job.images) + 1 - math.exp(-elapsed / usual_seconds)
        return min(done / self.job.request.num_images, 1.0)


def _enlarge(request: ImageRequest) -> Image.Image:
    pixels = request.upscale.image.load().convert("RGB")
    return pixels.resize((request.width, request.height), RESAMPLING[request.upscale.upscaler])
