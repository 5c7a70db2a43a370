"""Admission: which queued jobs join the step loop, loading their models, and which of their images get slots."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor

from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import Cancelled, EngineStopped, InvalidRequest, OutOfMemory, TimedOut
from generation.engine.job_queue import JobQueue, ProgressReporter, fail
from generation.engine.networks.loader import LoadedModel, ModelManager, NoRoom
from generation.engine.protocol import Job
from generation.engine.request.fields import ImageRequest

from .job_state import Bucket, RunningJob, WaitingJob, first_bucket, row_bucket
from .out_of_memory import fits_in_memory
from .running_jobs import RunningJobs
from .serial_jobs import SerialJobs
from .unet_config import input_channels, latent_channels, takes_mask


class Admission:
    """Lets jobs in, between any two steps. Used by the engine's thread alone.

    `find_spec`: the model of that key, or an EngineError. `executor` loads and resizes pictures. `max_rows`: slots of a
    bucket, where an image with guidance takes two; a single image is always let in. `preview_interval`: seconds.
    """

    def __init__(
        self,
        find_spec: Callable[[str], ModelSpec],
        models: ModelManager,
        queue: JobQueue,
        stopping: threading.Event,
        running: RunningJobs,
        serial: SerialJobs,
        executor: Executor,
        *,
        max_rows: int,
        preview_interval: float,
    ):
        self._find_spec = find_spec
        self._models = models
        self._queue = queue
        self._stopping = stopping
        self._running = running
        self._serial = serial
        self._executor = executor
        self._max_rows = max_rows
        self._preview_interval = preview_interval
        self.waiting: WaitingJob | None = None
        """The job whose model did not fit beside those in use. Nobody passes it, or it might wait for ever."""
        self._no_room_beside: set[str] | None = None
        """The models in use when that was tried."""

    def admit(self) -> None:
        """Let in what has room, waiting for a job if there is nothing else to do."""
        if self.waiting is not None:
            self._find_model(self.waiting)
        busy = self.waiting or self._running or self._serial.job
        job = self._queue.take_first(self._has_room) if busy else self._queue.take(self._models.next_idle())
        while job is not None:
            self._accept(job)
            job = self._queue.take_first(self._has_room)

    def start_rows(self) -> None:
        """Put images in flight, first come, first served within each bucket. Those that come from a first pass have
        waited longest."""
        full: set[Bucket] = set()
        for running in self._running:
            while running.awaiting_second_pass and self._may_start(running, 1, full):
                self._start(running, running.start_second_pass)
            while running.unstarted and self._may_start(running, 0, full):
                self._start(running, running.start_image)

    def end_cancelled(self) -> None:
        """End jobs that have not begun and were cancelled or whose deadline has passed."""
        if self.waiting is not None and (self.waiting.job.cancelled or self.waiting.job.late):
            self.end_waiting((Cancelled if self.waiting.job.cancelled else TimedOut)())
        while job := self._queue.take_first(lambda job: job.late):
            fail(job, TimedOut())

    def end_waiting(self, error: Exception) -> None:
        """The job that waits for its model fails, if there is one."""
        if self.waiting is not None:
            job, self.waiting = self.waiting.job, None
            fail(job, error)

    # Jobs

    def _has_room(self, job: Job) -> bool:
        if self._serial.waits_for_room or self.waiting is not None:
            return False
        if self._serial.takes(job):
            return self._serial.job is None
        return self._slots_taken(first_bucket(job.request), with_unstarted=True) < self._max_rows

    def _accept(self, job: Job) -> None:
        if self._serial.takes(job):
            self._serial.accept(job)
            return
        self.waiting = WaitingJob(job, ProgressReporter(job, self._preview_interval), self._executor)
        self._no_room_beside = None
        self._find_model(self.waiting)

    def _find_model(self, waiting: WaitingJob) -> None:
        """Run the job with its model, loading it if it is not there. Tried again later if there is no room yet."""
        in_use = self._running.models_in_use()
        if in_use and in_use == self._no_room_beside:
            return
        try:
            if not fits_in_memory(lambda: self._run(waiting, in_use)):
                self._models.unload(keep=in_use)
                if in_use:
                    raise NoRoom
                if not fits_in_memory(lambda: self._run(waiting, in_use)):
                    self._models.unload()
                    raise OutOfMemory()
        except NoRoom:
            self._no_room_beside = in_use
        except Exception as error:
            self.end_waiting(error)

    def _run(self, waiting: WaitingJob, in_use: set[str]) -> None:
        running = RunningJob(waiting, self._load(waiting, in_use))
        self.waiting = None
        self._running.add(running)

    def _load(self, waiting: WaitingJob, in_use: set[str]) -> LoadedModel:
        job = waiting.job

        def on_phase(phase: str, fraction: float | None) -> None:
            if job.cancelled:
                raise Cancelled()
            if self._stopping.is_set():
                raise EngineStopped()
            waiting.reporter.phase(phase, fraction)

        spec = self._find_spec(job.request.model)
        model = self._models.get(spec, on_phase, in_use=in_use)
        _refuse_unfit(model, job.request)
        return model

    # Images

    def _start(self, running: RunningJob, start: Callable[[], None]) -> None:
        self._running.run_alone(running, start)
        self._running.end_if_finished(running)

    def _may_start(self, running: RunningJob, number: int, full: set[Bucket]) -> bool:
        """Whether an image of the job may begin that pass now. Buckets without a free slot are added to `full`."""
        if running not in self._running or running.job.cancelled or not running.inputs.is_ready(number):
            return False
        bucket = running.bucket_of_pass(number)
        if bucket in full:
            return False
        taken = self._slots_taken(bucket)
        if taken and taken + running.slots_per_image > self._max_rows:
            full.add(bucket)
            return False
        return True

    def _slots_taken(self, bucket: Bucket, *, with_unstarted: bool = False) -> int:
        taken = 0
        for running in self._running:
            images = sum(row_bucket(row) == bucket for row in running.rows)
            if with_unstarted and first_bucket(running.job.request) == bucket:
                images += len(running.unstarted)
            taken += running.slots_per_image * images
        return taken


def _refuse_unfit(model: LoadedModel, request: ImageRequest) -> None:
    """Raise InvalidRequest for what only the loaded model can tell: sizes that its latents cannot have, and UNets that
    need inputs which there are none of here."""
    for side, param in ((request.width, "width"), (request.height, "height")):
        if side % model.vae_scale:
            raise InvalidRequest(f"This must be a multiple of {model.vae_scale} for {model.spec.title}.", param)
    if input_channels(model) != latent_channels(model) and not takes_mask(model):
        raise InvalidRequest(f"{model.spec.title} needs more to draw from than there is here.", "model")
