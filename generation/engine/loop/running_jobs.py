"""The jobs that the step loop is at: in order of admission, how they end, and a second try when memory runs out."""

from collections.abc import Callable, Iterator

from generation.engine.errors import Cancelled, OutOfMemory, TimedOut
from generation.engine.job_queue import fail, succeed
from generation.engine.networks.loader import ModelManager

from .job_state import RunningJob
from .out_of_memory import fits_in_memory
from .serial_jobs import SerialJobs


class RunningJobs:
    """Used by the engine's thread alone. Iterating gives those that are running when it begins."""

    def __init__(self, models: ModelManager, serial: SerialJobs):
        self._models = models
        self._serial = serial
        self._jobs: list[RunningJob] = []

    def __iter__(self) -> Iterator[RunningJob]:
        return iter(self._jobs.copy())

    def __contains__(self, running: RunningJob) -> bool:
        return running in self._jobs

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def add(self, running: RunningJob) -> None:
        self._jobs.append(running)

    def models_in_use(self) -> set[str]:
        """Keys of the models that must not leave, the serial job's too."""
        return {running.model.spec.key for running in self._jobs} | self._serial.models_in_use

    def free_memory(self) -> None:
        """Take everything off the device that nobody is drawing with."""
        self._models.unload(keep=self.models_in_use())

    def run_alone(self, running: RunningJob, action: Callable[[], object]) -> None:
        """Do something that concerns this job only: once more in low-memory mode if the memory runs out. An error ends
        the job."""
        try:
            running.model.save_memory(running.low_memory)
            if fits_in_memory(action):
                return
            self.free_memory()
            running.low_memory = True
            running.model.save_memory(True)
            if not fits_in_memory(action):
                self.free_memory()
                raise OutOfMemory()
        except Exception as error:
            self.end(running, error)

    def end_if_finished(self, running: RunningJob) -> None:
        if running.finished and running in self._jobs:
            self._jobs.remove(running)
            succeed(running.job)

    def end(self, running: RunningJob, error: Exception) -> None:
        """The job fails, unless it has ended already."""
        if running in self._jobs:
            self._jobs.remove(running)
            fail(running.job, error)

    def end_cancelled(self) -> None:
        """End those that were cancelled or whose deadline has passed; they keep the images that are finished."""
        for running in self:
            if running.job.cancelled or running.job.late:
                error = Cancelled if running.job.cancelled else TimedOut
                self.end(running, error(list(running.job.images)))

    def end_all(self, error: Exception) -> None:
        for running in self:
            self.end(running, error)
