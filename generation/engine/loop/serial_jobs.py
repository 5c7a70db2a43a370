"""Jobs that are no rows of the step loop: pictures to enlarge, and models with a pipeline of their own.

They run on the engine's thread like everything else, one at a time. After each tile and each step of theirs
the loop takes its rows one step further, so nobody waits for a whole picture of somebody else's.
"""

import logging
import threading
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from generation.engine.catalog.families import FAMILIES
from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import Cancelled, EngineStopped, OutOfMemory, TimedOut
from generation.engine.job_queue import Report, fail, succeed
from generation.engine.networks.loader import ModelManager, NoRoom, dtype_name, is_out_of_memory
from generation.engine.networks.lora import recipe_entries
from generation.engine.pictures.upscale import enlarge, forget_upscalers
from generation.engine.protocol import EngineImage, Job

log = logging.getLogger(__name__)


class Apart:
    """The one job that is being drawn apart. Used by the engine's thread alone.

    `find_spec`: the model of that key, or an EngineError. `between` is the step loop's round, given later.
    """

    def __init__(
        self,
        find_spec: Callable[[str], ModelSpec],
        models: ModelManager,
        stopping: threading.Event,
        *,
        preview_interval: float,
    ):
        self._find_spec = find_spec
        self._models = models
        self._stopping = stopping
        self._preview_interval = preview_interval
        self.job: Job | None = None
        self.model_key: str | None = None
        """The model that must not leave."""
        self.waits_for_room = False
        """Then nobody new may join the loop, or the room would never come."""

    def takes(self, job: Job) -> bool:
        """Whether the job is for us. One with an unknown model is not: the loop says so."""
        if job.request.upscale:
            return True
        try:
            return not FAMILIES[self._find_spec(job.request.model).family].step_loop
        except Exception:
            return False

    def accept(self, job: Job) -> None:
        """The job to draw next. There must be none at present."""
        self.job = job

    def draw(self, between: Callable[[], None], others_in_use: Callable[[], set[str]]) -> None:
        """Draw the job that was accepted, to its end, if there is one."""
        job = self.job
        if job is None:
            return
        report = Report(job, self._preview_interval)

        def pause():
            between()
            if job.cancelled:
                raise Cancelled(list(job.images))
            if self._stopping.is_set():
                raise EngineStopped()
            if job.late:
                raise TimedOut(list(job.images))

        try:
            pause()
            self._twice(lambda low_memory: self._draw(job, report, pause, others_in_use, low_memory), others_in_use)
            succeed(job)
        except Exception as error:
            fail(job, error)
        finally:
            self.job = self.model_key = None
            self.waits_for_room = False

    def abandon(self, error: Exception) -> None:
        """End the job that was accepted and has not begun."""
        if self.job is not None:
            fail(self.job, error)
            self.job = None

    def _draw(self, job, report, pause, others_in_use, low_memory) -> None:
        if job.request.upscale:
            self._enlarge(job, report, pause)
            return
        model = self._pipeline(job, report, pause, others_in_use)
        model.save_memory(low_memory)
        report.phase("generating")
        for index in range(len(job.images), job.request.num_images):
            self._draw_one(model, job, index, report, pause)
            pause()

    def _draw_one(self, model, job, index, report, pause) -> None:
        request, began = job.request, time.perf_counter()

        def on_step(done, picture):
            report.step(index * request.steps_each + min(done, request.steps_each), picture)
            pause()

        pixels = model.draw(request, index, on_step)
        recipe = {
            "engine": "diffusers",
            "model": model.spec.key,
            "weights": model.weights_hash,
            "source": source_name(model.source),
            "scheduler": type(model.text2img.scheduler).__name__,
            "dtype": "int8" if model.spec.int8 else dtype_name(model.dtype),
            "device": model.device.type,
            "low_memory": model.low_memory,
            "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
        }
        if request.loras:
            recipe["loras"] = recipe_entries(model.loras.activate(request.loras))
        job.images.append(EngineImage(index, request.seed_of(index), pixels, recipe, time.perf_counter() - began))

    def _enlarge(self, job, report, pause) -> None:
        asked = job.request.upscale
        began = time.perf_counter()
        report.phase("generating")

        def after_tile(done, total):
            report.phase("generating", done / total)
            pause()

        size = asked.image.width * asked.factor, asked.image.height * asked.factor
        pixels = enlarge(
            asked.image.load(),
            size,
            asked.upscaler,
            models_dir=self._models.models_dir,
            device=self._models.device,
            between=after_tile,
        )
        report.step(1, lambda: pixels)
        recipe = {
            "engine": "upscale",
            "model": job.request.model,
            "upscaler": asked.upscaler,
            "factor": asked.factor,
            "device": self._models.device.type,
        }
        seconds = time.perf_counter() - began
        job.images.append(EngineImage(0, job.request.seed_of(0), pixels, recipe, seconds))

    def _pipeline(self, job, report, pause, others_in_use):
        spec = self._find_spec(job.request.model)

        def on_phase(phase, fraction):
            if job.cancelled:
                raise Cancelled(list(job.images))
            if self._stopping.is_set():
                raise EngineStopped()
            report.phase(phase, fraction)

        while True:
            try:
                pipeline = self._models.get(spec, on_phase, in_use=others_in_use())
                self.model_key, self.waits_for_room = spec.key, False
                return pipeline
            except NoRoom:
                self.waits_for_room = True
                pause()

    def _twice(self, action, others_in_use) -> None:
        """Once more in low-memory mode if the memory runs out. Pictures that were finished are kept."""
        for low_memory in (False, True):
            try:
                action(low_memory)
                return
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                log.warning("Out of memory: %s", str(error))
                # The frames hold the tensors that filled the memory.
                traceback.clear_frames(error.__traceback__)
            self._models.unload(keep=others_in_use() | ({self.model_key} if self.model_key else set()))
            forget_upscalers()
        raise OutOfMemory()


def source_name(source) -> str:
    """As a recipe tells it: no paths of ours go out."""
    return Path(source.name).name if Path(source.name).is_absolute() else source.name
