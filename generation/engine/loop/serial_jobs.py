"""Jobs outside the step loop, one at a time: upscaling by tiles, and models that run through a diffusers pipeline.

They run on the engine's thread like everything else. After each tile and each step of theirs the loop takes its rows
one step further, so nobody waits for a whole picture of somebody else's.
"""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from PIL import Image

from generation.engine.catalog.families import FAMILIES
from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import Cancelled, EngineStopped, OutOfMemory, TimedOut
from generation.engine.job_queue import ProgressReporter, fail, succeed
from generation.engine.networks.loader import ModelManager, NoRoom
from generation.engine.pictures.upscale import enlarge, forget_upscalers
from generation.engine.protocol import EngineImage, Job
from generation.engine.request.fields import Upscale

from .out_of_memory import fits_in_memory
from .recipe import pipeline_recipe

if TYPE_CHECKING:  # a heavy import that most workers never need
    from generation.engine.networks.pipelines import LoadedPipeline


class SerialJobs:
    """Draws the one job of this kind that was accepted. Used by the engine's thread alone.

    `find_spec`: the model of that key, or an EngineError. `preview_interval`: seconds.
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
        """The one that was accepted and has not ended."""
        self.models_in_use: set[str] = set()
        """Keys of models that must not leave."""
        self.waits_for_room = False
        """Then nobody new may join the loop, or the room would never come."""

    def takes(self, job: Job) -> bool:
        """Whether the job is of this kind. One with an unknown model is not: the loop refuses it."""
        if job.request.upscale:
            return True
        try:
            return not FAMILIES[self._find_spec(job.request.model).family].step_loop
        except Exception:
            return False

    def accept(self, job: Job) -> None:
        """The job to draw next. There must be none at present."""
        self.job = job

    def draw(self, go_round: Callable[[], None], models_in_use: Callable[[], set[str]]) -> None:
        """Draw the job that was accepted, to its end, if there is one.

        `go_round` lets the step loop go round once. `models_in_use`: keys of all models that must not leave.
        """
        job = self.job
        if job is None:
            return
        drawing = _Drawing(self, job, self._models, self._stopping, self._preview_interval, go_round, models_in_use)
        try:
            drawing.pause()
            drawing.run()
            succeed(job)
        except Exception as error:
            fail(job, error)
        finally:
            self.job = None
            self.models_in_use = set()
            self.waits_for_room = False

    def abandon(self, error: Exception) -> None:
        """End the job that was accepted and has not begun."""
        if self.job is not None:
            fail(self.job, error)
            self.job = None

    def find_spec(self, job: Job) -> ModelSpec:
        return self._find_spec(job.request.model)


class _Drawing:
    """One job being drawn."""

    def __init__(
        self,
        serial: SerialJobs,
        job: Job,
        models: ModelManager,
        stopping: threading.Event,
        preview_interval: float,
        go_round: Callable[[], None],
        models_in_use: Callable[[], set[str]],
    ):
        self._serial = serial
        self._job = job
        self._models = models
        self._stopping = stopping
        self._reporter = ProgressReporter(job, preview_interval)
        self._go_round = go_round
        self._models_in_use = models_in_use

    def pause(self) -> None:
        """A step border: the loop goes round, then cancel, stop and deadline act."""
        self._go_round()
        self._stop_if_ended()
        if self._job.late:
            raise TimedOut(list(self._job.images))

    def run(self) -> None:
        """Draw all images; once more in low-memory mode if the memory runs out. Finished images are kept."""
        upscale = self._job.request.upscale
        for low_memory in (False, True):
            if fits_in_memory(lambda: self._enlarge(upscale) if upscale else self._draw(low_memory)):  # noqa: B023
                return
            self._models.unload(keep=self._models_in_use())
            forget_upscalers()
        raise OutOfMemory()

    def _stop_if_ended(self) -> None:
        if self._job.cancelled:
            raise Cancelled(list(self._job.images))
        if self._stopping.is_set():
            raise EngineStopped()

    # By a diffusers pipeline

    def _draw(self, low_memory: bool) -> None:
        pipeline = self._load()
        pipeline.save_memory(low_memory)
        self._reporter.phase("generating")
        for index in range(len(self._job.images), self._job.request.num_images):
            self._draw_image(pipeline, index)
            self.pause()

    def _draw_image(self, pipeline: "LoadedPipeline", index: int) -> None:
        request, began = self._job.request, time.perf_counter()

        def on_step(steps_done: int, picture: Callable[[], Image.Image | None]) -> None:
            self._reporter.step(index * request.steps_each + min(steps_done, request.steps_each), picture)
            self.pause()

        pixels = pipeline.draw(request, index, on_step)
        recipe = pipeline_recipe(pipeline, request)
        seconds = time.perf_counter() - began
        self._job.images.append(EngineImage(index, request.seed_of(index), pixels, recipe, seconds))

    def _load(self) -> "LoadedPipeline":
        """The job's pipeline, as soon as there is room for it."""
        spec = self._serial.find_spec(self._job)

        def on_phase(phase: str, fraction: float | None) -> None:
            self._stop_if_ended()
            self._reporter.phase(phase, fraction)

        while True:
            try:
                pipeline = self._models.get(spec, on_phase, in_use=self._models_in_use())
                self._serial.models_in_use, self._serial.waits_for_room = {spec.key}, False
                return cast("LoadedPipeline", pipeline)
            except NoRoom:
                self._serial.waits_for_room = True
                self.pause()

    # Upscaling

    def _enlarge(self, upscale: Upscale) -> None:
        request, began = self._job.request, time.perf_counter()
        self._reporter.phase("generating")

        def after_tile(tiles_done: int, tiles: int) -> None:
            self._reporter.phase("generating", tiles_done / tiles)
            self.pause()

        pixels = enlarge(
            upscale.image.load(),
            (upscale.image.width * upscale.factor, upscale.image.height * upscale.factor),
            upscale.upscaler,
            models_dir=self._models.models_dir,
            device=self._models.device,
            between=after_tile,
        )
        self._reporter.step(1, lambda: pixels)
        recipe = {
            "engine": "upscale",
            "model": request.model,
            "upscaler": upscale.upscaler,
            "factor": upscale.factor,
            "device": self._models.device.type,
        }
        self._job.images.append(EngineImage(0, request.seed_of(0), pixels, recipe, time.perf_counter() - began))
