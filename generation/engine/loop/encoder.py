"""VAE encoding and upscaling between steps: pictures that passes begin with, one at a time so that steps go on."""

import threading
from collections.abc import Callable

from generation.engine.errors import Cancelled, EngineStopped
from generation.engine.networks.loader import ModelManager

from .job_state import RunningJob
from .running_jobs import RunningJobs


class Encoder:
    """Makes ready what the passes of running jobs begin with. Used by the engine's thread alone."""

    def __init__(self, models: ModelManager, stopping: threading.Event, running: RunningJobs):
        self._models = models
        self._stopping = stopping
        self._running = running

    def encode_some(self, step: Callable[[], None]) -> None:
        """Encode or enlarge one picture for the first job that waits for that. `step` takes the rows one step
        further; it is called after each tile where a model enlarges."""
        for running in self._running:
            if not running.job.cancelled and self._encode_next(running, step):
                return

    def _encode_next(self, running: RunningJob, step: Callable[[], None]) -> bool:
        """Whether there was something to do."""
        number = running.inputs.next_to_encode
        if number is not None:
            self._running.run_alone(running, lambda: running.inputs.encode(number))
        elif running.has_enlarged:
            self._running.run_alone(running, running.encode_enlarged)
        elif running.to_enlarge:
            self._enlarge(running, step)
        else:
            return False
        return True

    def _enlarge(self, running: RunningJob, step: Callable[[], None]) -> None:
        def after_tile() -> None:
            if running.job.cancelled:
                raise Cancelled(list(running.job.images))
            if self._stopping.is_set():
                raise EngineStopped()
            step()

        models_dir, device = self._models.models_dir, self._models.device
        self._running.run_alone(running, lambda: running.enlarge_next(after_tile, models_dir=models_dir, device=device))
