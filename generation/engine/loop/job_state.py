"""State of one job on the engine's thread: waiting for its model, or running, with each image's place in its passes."""

import time
from bisect import insort
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from generation.engine.catalog.upscalers import LATENT, UPSCALERS
from generation.engine.job_queue import ProgressReporter
from generation.engine.networks.loader import LoadedModel
from generation.engine.networks.vae import Encoded, encode
from generation.engine.pictures.upscale import enlarge
from generation.engine.protocol import EngineImage, Job
from generation.engine.request.fields import ImageRequest
from generation.engine.request.passes import passes_of

from .denoise import predict_x0
from .pass_inputs import InputPreparation, RequestPictures
from .recipe import row_recipe
from .rows import Row, start_next_pass, start_row
from .unet_config import is_guided


class Bucket(NamedTuple):
    """Model and size in pixels: rows of one bucket compete for the same slots."""

    model: str
    width: int
    height: int


def first_bucket(request: ImageRequest) -> Bucket:
    """Where the images of a request begin."""
    return Bucket(request.model, request.width, request.height)


def row_bucket(row: Row) -> Bucket:
    return Bucket(row.request.model, row.schedule.width, row.schedule.height)


class WaitingJob:
    """A job that was admitted and waits for its model. Its pictures are being loaded meanwhile."""

    def __init__(self, job: Job, reporter: ProgressReporter, executor: Executor):
        self.job = job
        self.reporter = reporter
        self.executor = executor
        self.passes = passes_of(job.request)
        self.pictures = RequestPictures(job.request, self.passes, executor)


class SecondPassStart(NamedTuple):
    """An image between two passes: what the second one begins with. Without picture, the row's latents are enlarged."""

    row: Row
    picture: Image.Image | None = None
    encoded: Encoded | None = None


class RunningJob:
    """A job with its model, from its admission to its end. Used by the engine's thread alone.

    An image goes from `unstarted` to `rows`, and when its pass is finished to `undecoded`. From there it is done, or
    enlarged and encoded again (`enlarging`), and goes to `awaiting_second_pass` until there is a slot; latents that are
    enlarged as such come there at once.
    """

    def __init__(self, waiting: WaitingJob, model: LoadedModel):
        self.job = waiting.job
        self.reporter = waiting.reporter
        self.model = model
        self.low_memory = False
        self.passes = waiting.passes
        self.slots_per_image = 2 if is_guided(model, self.job.request) else 1
        """What one image of this job adds to a UNet batch."""
        self.inputs = InputPreparation(model, self.job.request, self.passes, waiting.pictures, waiting.executor)
        self.unstarted = deque(range(self.job.request.num_images))
        """Indexes of images."""
        self.rows: list[Row] = []
        """Images in flight."""
        self.undecoded: deque[Row] = deque()
        """Images whose pass is finished and whose latents wait to be decoded."""
        self.to_enlarge: deque[tuple[Row, Image.Image]] = deque()
        """Those that wait for a model to enlarge them."""
        self.enlarging: deque[tuple[Row, Future[Image.Image]]] = deque()
        """Those that are being enlarged, or are and wait to be encoded."""
        self.awaiting_second_pass: deque[SecondPassStart] = deque()
        self._pictures = waiting.pictures
        self._executor = waiting.executor
        self._began: dict[int, float] = {}
        self._steps_done: dict[int, int] = {}

    @property
    def finished(self) -> bool:
        return len(self.job.images) == self.job.request.num_images

    def bucket_of_pass(self, number: int) -> Bucket:
        schedule = self.passes[number]
        return Bucket(self.job.request.model, schedule.width, schedule.height)

    @property
    def has_work(self) -> bool:
        """Whether there is something to do for it before the next step."""
        return bool(self.undecoded or self.to_enlarge or self.has_enlarged) or self.inputs.next_to_encode is not None

    @property
    def pending(self) -> list[Future]:
        """What the executor has yet to do for it."""
        return self.inputs.pending + [future for _, future in self.enlarging if not future.done()]

    # In flight

    def start_image(self) -> None:
        """Put the next image in flight."""
        if not self._began:
            self.reporter.phase("generating")
        began = time.perf_counter()
        row = start_row(self.model, self.job.request, self.unstarted[0], self.inputs.of_pass(0))
        self._began[row.index] = began
        self.unstarted.popleft()
        canvas = self._pictures.canvas(0)
        self._put_in_flight(row, canvas.picture if canvas else None)

    def start_second_pass(self) -> None:
        """Put the image that has waited longest for its second pass in flight again."""
        row, picture, encoded = self.awaiting_second_pass[0]
        number = self._pass_number(row) + 1
        next_row = start_next_pass(self.model, row, self.passes[number], self.inputs.of_pass(number), encoded)
        self.awaiting_second_pass.popleft()
        self._put_in_flight(next_row, picture)

    def _put_in_flight(self, row: Row, picture: Image.Image | None) -> None:
        """`picture`: what the pass begins with, where that is known in pixels."""
        if row.finished:  # nothing is to be drawn in this pass
            self._report_step(row, lambda: picture or self._latent_preview(row.latents))
            self._leave_pass(row, picture)
        else:
            self.rows.append(row)

    def step_done(self, row: Row) -> None:
        """The row has gone one evaluation further: report it. Steps count over all images."""
        self._report_step(row, self._preview)
        if row.finished:
            self.rows.remove(row)
            self._leave_pass(row, None)

    def _report_step(self, row: Row, picture: Callable[[], Image.Image | None]) -> None:
        self._steps_done[row.index] = row.steps_done
        self.reporter.step(sum(self._steps_done.values()), picture)

    def _leave_pass(self, row: Row, picture: Image.Image | None) -> None:
        if self._has_next_pass(row) and self._upscaler == LATENT:
            self.awaiting_second_pass.append(SecondPassStart(row))
        elif picture is not None:
            self.finish_pass(row, picture)
        else:
            self.undecoded.append(row)

    def _pass_number(self, row: Row) -> int:
        return len(self.passes) - 1 if row.steps_before else 0

    def _has_next_pass(self, row: Row) -> bool:
        return self._pass_number(row) < len(self.passes) - 1

    def _preview(self) -> Image.Image:
        """What the image looks like that is furthest along; a finished one only if there is no other."""
        rows = [row for row in self.rows if row.last_evaluation is not None]
        furthest = max(rows, key=lambda row: (not row.finished, row.steps_done, -row.index))
        return self._latent_preview(predict_x0(furthest))

    def _latent_preview(self, latents: torch.Tensor) -> Image.Image:
        return self.model.colours.picture(latents)

    # Between passes and at the end

    def finish_pass(self, row: Row, picture: Image.Image) -> None:
        """The row's latents have become that picture: add it to the job's, or enlarge it for the next pass."""
        if self._has_next_pass(row):
            self._enlarge(row, picture)
            return
        canvas = self._pictures.canvas(self._pass_number(row))
        image = EngineImage(
            index=row.index,
            seed=self.job.request.seed_of(row.index),
            pixels=picture if canvas is None else canvas.put_back(picture),
            recipe=row_recipe(self.model, row),
            seconds=time.perf_counter() - self._began[row.index],
        )
        insort(self.job.images, image, key=lambda image: image.index)

    def _enlarge(self, row: Row, picture: Image.Image) -> None:
        if self._upscaler in UPSCALERS:
            enlarged = self._executor.submit(enlarge, picture, self._next_size(row), self._upscaler)
            self.enlarging.append((row, enlarged))
        else:
            self.to_enlarge.append((row, picture))

    def enlarge_next(
        self, after_tile: Callable[[], None], *, models_dir: str | Path | None, device: torch.device
    ) -> None:
        """Enlarge by a model, which is the device's work. `after_tile` is called after each tile and may raise."""
        row, picture = self.to_enlarge[0]
        enlarged: Future[Image.Image] = Future()
        enlarged.set_result(
            enlarge(
                picture,
                self._next_size(row),
                self._upscaler,
                models_dir=models_dir,
                device=device,
                between=lambda done, total: after_tile(),
            )
        )
        self.to_enlarge.popleft()
        self.enlarging.append((row, enlarged))

    @property
    def has_enlarged(self) -> bool:
        return bool(self.enlarging) and self.enlarging[0][1].done()

    def encode_enlarged(self) -> None:
        """Encode the picture that was enlarged first."""
        row, enlarged = self.enlarging[0]
        picture = enlarged.result()
        encoded = encode(self.model, picture, tiling=self.job.request.tiling)
        self.enlarging.popleft()
        self.awaiting_second_pass.append(SecondPassStart(row, picture, encoded))

    def _next_size(self, row: Row) -> tuple[int, int]:
        schedule = self.passes[self._pass_number(row) + 1]
        return schedule.width, schedule.height

    @property
    def _upscaler(self) -> str:
        hires = self.job.request.hires
        return hires.upscaler if hires else LATENT
