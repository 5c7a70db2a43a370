"""One job on the engine's thread: which of its images wait, which are being drawn, which are finished."""

import time
from bisect import insort
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from generation.engine.catalog.samplers import find_sampler
from generation.engine.catalog.upscalers import LATENT, UPSCALERS
from generation.engine.job_queue import Report
from generation.engine.networks import deepcache
from generation.engine.networks.controlnet import ControlNetCondition, control_map
from generation.engine.networks.ip_adapter import ImagePromptTokens, center_crop
from generation.engine.networks.loader import LoadedModel, dtype_name
from generation.engine.networks.lora import recipe_entries
from generation.engine.networks.vae import Encoded, encode
from generation.engine.pictures.canvas import Canvas, lay_out
from generation.engine.pictures.upscale import enlarge
from generation.engine.protocol import EngineImage, Job
from generation.engine.request.fields import ImageRequest
from generation.engine.request.passes import passes_of

from .rows import Ground, Row, foresee, is_guided, next_pass, sees_mask, start_row

Lane = tuple[str, int, int]
"""Model and size in pixels: rows of one lane compete for the same places."""


class Task:
    """A job between its admission and its end. Used by the engine's thread alone.

    An image goes from `waiting` to `rows`, and when its pass is finished to `drawn`, to be decoded. From there it
    is done, or enlarged and encoded again (`enlarging`), to wait in `risen` for a place in the next pass; latents
    that are enlarged as such come there at once. Pictures are loaded and resized by `hands`.
    """

    def __init__(self, job: Job, report: Report, hands: Executor):
        self.job = job
        self.report = report
        self.hands = hands
        self.model: LoadedModel | None = None
        self.low_memory = False
        self.passes = passes_of(job.request)
        self.waiting = deque(range(job.request.num_images))
        """Indexes of images that have not begun."""
        self.rows: list[Row] = []
        """Images in flight."""
        self.drawn: deque[Row] = deque()
        """Images whose pass is finished and whose latents wait to be decoded."""
        self.to_enlarge: deque[tuple[Row, Image.Image]] = deque()
        """Those that wait for a model to enlarge them."""
        self.enlarging: deque[tuple[Row, Future]] = deque()
        """Those that are being enlarged, or are and wait to be encoded."""
        self.risen: deque[tuple[Row, Image.Image | None, Encoded | None]] = deque()
        """Those that wait for a place in the next pass, with what they begin it with."""
        self._canvases: list[Future | None] = [self._lay_out(number) for number in range(len(self.passes))]
        self._maps: list[Future | None] = [None] * len(self.passes)
        asked = job.request.reference
        self._portrait: Future | None = hands.submit(lambda: center_crop(asked.image.load())) if asked else None
        self._likeness: ImagePromptTokens | None = None
        self._grounds: list[Ground | None] = [None] * len(self.passes)
        self._began: dict[int, float] = {}
        self._steps_done: dict[int, int] = {}

    @property
    def finished(self) -> bool:
        return len(self.job.images) == self.job.request.num_images

    @property
    def lane(self) -> Lane:
        """Where its images begin."""
        return lane_of(self.job.request)

    def lane_of_pass(self, number: int) -> Lane:
        plan = self.passes[number]
        return self.job.request.model, plan.width, plan.height

    @property
    def evaluations(self) -> int:
        """What one image of this job adds to a UNet batch."""
        return 2 if is_guided(self.model, self.job.request) else 1

    # Where a pass begins

    def _lay_out(self, number: int) -> Future | None:
        start, plan = self.job.request.start, self.passes[number]
        if start is None or (number and not start.inpaints):
            return None
        return self.hands.submit(lay_out, start, (plan.width, plan.height))

    @property
    def ungrounded(self) -> int | None:
        """The pass whose ground can be made now, if one is missing."""
        for number, laid_out in enumerate(self._canvases):
            needed = laid_out, self._map(number), self._portrait
            if not self.is_grounded(number) and all(future is None or future.done() for future in needed):
                return number
        return None

    @property
    def has_work(self) -> bool:
        """Whether there is something to do for it before the next step."""
        return bool(self.drawn or self.to_enlarge or self.has_enlarged) or self.ungrounded is not None

    @property
    def awaits_hands(self) -> list[Future]:
        """What is being done for it elsewhere."""
        begun = [future for future in (*self._canvases, *self._maps, self._portrait) if future]
        begun += [future for _, future in self.enlarging]
        return [future for future in begun if not future.done()]

    def is_grounded(self, number: int) -> bool:
        request = self.job.request
        plain = self._canvases[number] is None and not request.control and not request.reference
        if plain and not sees_mask(self.model):
            self._grounds[number] = Ground()  # a pass that begins with nothing but noise or what the last one drew
        return self._grounds[number] is not None

    def ground(self, number: int) -> None:
        """Encode what that pass begins with."""
        canvas = self._canvas(number)
        given = mask = masked = None
        if canvas is not None and not (sees_mask(self.model) and (number or not self.passes[0].begin)):
            given = self._encode(canvas.picture)
        if canvas is not None and canvas.mask is not None:
            mask = _in_latents(canvas.mask, self.model)
        if sees_mask(self.model):
            plan = self.passes[number]
            if mask is None:  # then it may change everything, and has nothing to keep to
                size = plan.height // self.model.vae_scale, plan.width // self.model.vae_scale
                mask = torch.ones(size, device=self.model.device)
                nothing = Image.new("L", (plan.width, plan.height), 255)
                masked = self._encode(nothing, nothing)
            else:
                masked = self._encode(canvas.picture, canvas.mask)
        self._grounds[number] = Ground(given, mask, masked, self._guide(number), self._resemblance())

    def _map(self, number: int) -> Future | None:
        """The control map of that pass, begun when the model is there: only it knows the add-ons."""
        control, plan = self.job.request.control, self.passes[number]
        if control and self.model and self._maps[number] is None:
            self._maps[number] = self.hands.submit(
                control_map, self.model.addons, control, (plan.width, plan.height), self._canvases[number]
            )
        return self._maps[number]

    def _guide(self, number: int) -> ControlNetCondition | None:
        control = self.job.request.control
        return self.model.controlnets.condition(self.model, control, self._map(number).result()) if control else None

    def _resemblance(self) -> ImagePromptTokens | None:
        """What all passes follow, looked at once."""
        if self._portrait and self._likeness is None:
            self._likeness = self.model.ip_adapters.encode(self.job.request.reference, self._portrait.result())
        return self._likeness

    def _canvas(self, number: int) -> Canvas | None:
        future = self._canvases[number]
        return None if future is None else future.result()

    def _encode(self, picture: Image.Image, mask: Image.Image | None = None) -> Encoded:
        return encode(self.model, picture, mask, tiling=self.job.request.tiling)

    # In flight

    def start_next(self) -> None:
        """Put the next image in flight."""
        if not self._began:
            self.report.phase("generating")
        began = time.perf_counter()
        row = start_row(self.model, self.job.request, self.waiting[0], self._grounds[0])
        self._began[row.index] = began
        self.waiting.popleft()
        picture = self._canvas(0).picture if self.job.request.start else None
        self._put_in_flight(row, picture)

    def raise_next(self) -> None:
        """Put the image that has waited longest for its next pass in flight again."""
        row, picture, drawn = self.risen[0]
        number = self._number(row) + 1
        raised = next_pass(self.model, row, self.passes[number], self._grounds[number], drawn)
        self.risen.popleft()
        self._put_in_flight(raised, picture)

    def _put_in_flight(self, row: Row, picture: Image.Image | None) -> None:
        """`picture`: what the pass begins with, where that is known in pixels."""
        if row.finished:  # nothing is to be drawn in this pass
            self._count(row, lambda: picture or self.model.colours.picture(row.latents))
            self._leave_pass(row, picture)
        else:
            self.rows.append(row)

    def moved(self, row: Row) -> None:
        """The row has gone one evaluation further: tell the user. Steps count over all images."""
        self._count(row, self._preview)
        if row.finished:
            self.rows.remove(row)
            self._leave_pass(row, None)

    def _count(self, row: Row, picture) -> None:
        self._steps_done[row.index] = row.steps_done
        self.report.step(sum(self._steps_done.values()), picture)

    def _leave_pass(self, row: Row, picture: Image.Image | None) -> None:
        if self._number(row) < len(self.passes) - 1 and self.job.request.hires.upscaler == LATENT:
            self.risen.append((row, None, None))
        elif picture is not None:
            self.decoded(row, picture)
        else:
            self.drawn.append(row)

    def _number(self, row: Row) -> int:
        return len(self.passes) - 1 if row.steps_before else 0

    def _preview(self):
        """What the image looks like that is furthest along; a finished one only if there is no other."""
        rows = [row for row in self.rows if row.estimate is not None]
        row = max(rows, key=lambda row: (not row.finished, row.steps_done, -row.index))
        return self.model.colours.picture(foresee(row))

    # Finished passes

    def decoded(self, row: Row, picture: Image.Image) -> None:
        """The row's latents have become that picture: add it to the job's, or enlarge it for the next pass."""
        number = self._number(row)
        if number < len(self.passes) - 1:
            self._enlarge(row, picture)
            return
        canvas = self._canvas(number)
        image = EngineImage(
            index=row.index,
            seed=self.job.request.seed_of(row.index),
            pixels=picture if canvas is None else canvas.put_back(picture),
            recipe=_recipe(self.model, row),
            seconds=time.perf_counter() - self._began[row.index],
        )
        insort(self.job.images, image, key=lambda image: image.index)

    def _enlarge(self, row: Row, picture: Image.Image) -> None:
        upscaler = self.job.request.hires.upscaler
        if upscaler in UPSCALERS:
            self.enlarging.append((row, self.hands.submit(enlarge, picture, self._next_size(row), upscaler)))
        else:
            self.to_enlarge.append((row, picture))

    def enlarge_next(self, between: Callable[[], None], **options) -> None:
        """Enlarge by a model, which is the device's work. `between` is called after each tile."""
        row, picture = self.to_enlarge[0]
        upscaler = self.job.request.hires.upscaler
        larger = enlarge(picture, self._next_size(row), upscaler, between=lambda done, total: between(), **options)
        ready: Future = Future()
        ready.set_result(larger)
        self.to_enlarge.popleft()
        self.enlarging.append((row, ready))

    @property
    def has_enlarged(self) -> bool:
        return bool(self.enlarging) and self.enlarging[0][1].done()

    def encode_next(self) -> None:
        """Encode what has been enlarged first."""
        row, larger = self.enlarging[0]
        picture = larger.result()
        drawn = self._encode(picture)
        self.enlarging.popleft()
        self.risen.append((row, picture, drawn))

    def _next_size(self, row: Row) -> tuple[int, int]:
        plan = self.passes[self._number(row) + 1]
        return plan.width, plan.height


def lane_of(request: ImageRequest) -> Lane:
    """Where the images of a request begin."""
    return request.model, request.width, request.height


def lane_of_row(row: Row) -> Lane:
    return row.request.model, row.plan.width, row.plan.height


def _in_latents(mask: Image.Image, model: LoadedModel) -> torch.Tensor:
    """h x w of 0 and 1, as diffusers' pipelines shrink a mask: each latent looks at its first pixel."""
    scale = model.vae_scale
    return torch.from_numpy((np.asarray(mask)[::scale, ::scale] >= 128).astype(np.float32)).to(model.device)


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
    recipe |= addons_of(row)
    return recipe | ({"prompt_tokens_dropped": row.dropped} if row.dropped else {})


def addons_of(row: Row) -> dict:
    """The add-ons that drew with it, by key and SHA-256."""
    found = {"loras": recipe_entries(row.worn)} if row.worn else {}
    if row.guide:
        asked = row.guide.control
        found["control"] = {
            "key": asked.key,
            "scale": asked.scale,
            "begin": asked.begin,
            "end": asked.end,
            "hash": row.guide.controlnet.digest.result(),
        }
    if row.likeness:
        adapter = row.likeness.adapter
        found["reference"] = {"key": adapter.key, "scale": row.likeness.scale, "hash": adapter.digest.result()}
    return found | ({"lossy": deepcache.RECIPE_NOTE} if deepcache.uses_deepcache(row) else {})
