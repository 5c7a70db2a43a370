"""One job on the engine's thread: which of its images wait, which are being drawn, which are finished."""

import time
from bisect import insort
from collections import deque
from importlib.metadata import version
from pathlib import Path

from .batch import Row, foresee, is_guided, start_row
from .images import decode
from .inbox import Report
from .loader import LoadedModel, dtype_name
from .request import EngineImage, Job
from .samplers import find_sampler


class Task:
    """A job between its admission and its end. Used by the engine's thread alone."""

    def __init__(self, job: Job, report: Report):
        self.job = job
        self.report = report
        self.model: LoadedModel | None = None
        self.low_memory = False
        self.waiting = deque(range(job.request.num_images))
        """Indexes of images that have not begun."""
        self.rows: list[Row] = []
        """Images in flight."""
        self.drawn: deque[Row] = deque()
        """Images whose latents are finished and wait to be decoded."""
        self._began: dict[int, float] = {}
        self._steps_done: dict[int, int] = {}

    @property
    def finished(self) -> bool:
        return len(self.job.images) == self.job.request.num_images

    @property
    def lane(self) -> tuple[str, int, int]:
        return lane_of(self.job)

    @property
    def evaluations(self) -> int:
        """What one image of this job adds to a UNet batch."""
        return 2 if is_guided(self.model, self.job.request) else 1

    def start_next(self) -> None:
        """Put the next image in flight."""
        if not self._began:
            self.report.phase("generating")
        began = time.perf_counter()
        row = start_row(self.model, self.job.request, self.waiting[0])
        self._began[row.index] = began
        self.rows.append(row)
        self.waiting.popleft()

    def moved(self, row: Row) -> None:
        """The row has gone one evaluation further: tell the user. Steps count over all images."""
        self._steps_done[row.index] = row.steps_done
        self.report.step(sum(self._steps_done.values()), self._preview)
        if row.finished:
            self.rows.remove(row)
            self.drawn.append(row)

    def _preview(self):
        """What the image looks like that is furthest along; a finished one only if there is no other."""
        row = max(self.rows, key=lambda row: (not row.finished, row.position / len(row.table), -row.index))
        return self.model.colours.picture(foresee(row))

    def decode_next(self) -> None:
        """Turn the image that was finished first into a picture, and add it to the job's, in order of index."""
        row = self.drawn[0]
        picture = decode(self.model, row.latents)
        image = EngineImage(
            index=row.index,
            seed=self.job.request.seed_of(row.index),
            pixels=picture,
            recipe=_recipe(self.model, row),
            seconds=time.perf_counter() - self._began[row.index],
        )
        insort(self.job.images, image, key=lambda image: image.index)
        self.drawn.popleft()


def lane_of(job: Job) -> tuple[str, int, int]:
    """Jobs of one lane compete for the same places: model and size in pixels."""
    return job.request.model, job.request.width, job.request.height


def _recipe(model: LoadedModel, row: Row) -> dict:
    source = model.source.name
    recipe = {
        "engine": "diffusers",
        "model": model.spec.key,
        "weights": model.weights_hash,
        "source": Path(source).name if Path(source).is_absolute() else source,  # no paths of ours go out
        "scheduler": find_sampler(row.request.sampler).scheduler,
        "dtype": dtype_name(model.dtype),
        "device": model.device.type,
        "low_memory": model.low_memory,
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
    }
    return recipe | ({"prompt_tokens_dropped": row.dropped} if row.dropped else {})
