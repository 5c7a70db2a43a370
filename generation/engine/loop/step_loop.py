"""The loop that draws: between any two steps rows join and leave, and each step takes one group on.

A step is one forward pass of one model over rows of any number of jobs that agree in latent size and text
length. Whatever goes wrong in a job ends that job and no other.
"""

import logging
import math
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass

import torch

from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import BadOutput, Cancelled, EngineStopped, InvalidRequest, OutOfMemory, TimedOut
from generation.engine.job_queue import Inbox, Report, fail, succeed
from generation.engine.networks.deepcache import relative_cost
from generation.engine.networks.loader import ModelManager, NoRoom, is_out_of_memory
from generation.engine.networks.vae import decode
from generation.engine.protocol import Job

from .fair_share import FairShare
from .job_state import Lane, Task, lane_of, lane_of_row
from .rows import Row, advance, sees_mask
from .serial_jobs import Apart
from .step_timer import Pace

log = logging.getLogger(__name__)

DECODES_SPREAD = 4
"""Over how many steps the decoding of what is drawn is spread."""


DECODED_PIXELS = 2 * 1024**2
"""The most that one pass of the decoder makes, one picture aside: its activations take kilobytes for each pixel."""


class StepLoop:
    """Draws what comes to the inbox until `stopping` is set and the inbox closed.

    `find_spec`: the model of that key, or an EngineError.
    `max_rows`: the most pictures that the UNet sees at once, where a row with guidance counts as two. It
    bounds the rows in flight of one model and size; a single row is always let in.
    """

    def __init__(
        self,
        find_spec: Callable[[str], ModelSpec],
        models: ModelManager,
        inbox: Inbox,
        stopping: threading.Event,
        *,
        max_rows: int,
        preview_interval: float,
    ):
        self._apart = Apart(find_spec, models, stopping, preview_interval=preview_interval)
        self._find_spec = find_spec
        self._models = models
        self._inbox = inbox
        self._stopping = stopping
        self._max_rows = max_rows
        self._preview_interval = preview_interval
        self._hands = ThreadPoolExecutor(2, thread_name_prefix="engine-hands")
        """They load and resize pictures, which would hold up the steps."""
        self._tasks: list[Task] = []
        """In order of admission."""
        self._share = FairShare()
        self._pace = Pace()
        self._turn = 0
        self._launched: _Launched | None = None
        self._enlarging = False
        self._limits: dict[tuple, int] = {}
        """Rows that a group may have at once since the memory ran out for more."""
        self._no_room_beside: set[str] | None = None
        """The models in use when the last admitted job's model did not fit beside them."""

    def run(self) -> None:
        while not self._stopping.is_set():
            self._guarded_round()
            self._apart.draw(self._guarded_round, self._models_in_use)
        self._end_all(EngineStopped())
        self._apart.abandon(EngineStopped())
        self._hands.shutdown(cancel_futures=True)

    def _guarded_round(self) -> None:
        try:
            self._go_round()
        except Exception as error:  # no job's doing, but the engine must outlive it
            log.exception("The step loop failed and gives up the jobs in flight")
            self._end_all(error)

    def _go_round(self) -> None:
        self._models.unload_idle(self._models_in_use())
        self._admit()
        self._start_rows()
        self._step()
        self._prepare_some()
        self._decode_some()
        self._end_cancelled()
        self._rest()

    # Admission

    def _admit(self) -> None:
        """Let in what has room, waiting if there is nothing else to do."""
        for task in [task for task in self._tasks if task.model is None]:
            self._find_model(task)
        busy = self._tasks or self._apart.job
        job = self._inbox.take_first(self._has_room) if busy else self._inbox.take(self._models.next_idle())
        while job is not None:
            self._begin(job)
            job = self._inbox.take_first(self._has_room)

    def _has_room(self, job: Job) -> bool:
        """Nobody passes a job that waits for its model to fit, or it might wait for ever."""
        if self._apart.waits_for_room or not all(task.model for task in self._tasks):
            return False
        if self._apart.takes(job):
            return self._apart.job is None
        return self._seats_taken(lane_of(job.request), with_waiting=True) < self._max_rows

    def _seats_taken(self, lane: Lane, *, with_waiting=False) -> int:
        taken = 0
        for task in [task for task in self._tasks if task.model]:
            images = sum(lane_of_row(row) == lane for row in task.rows)
            if with_waiting and task.lane == lane:
                images += len(task.waiting)
            taken += task.evaluations * images
        return taken

    def _begin(self, job: Job) -> None:
        if self._apart.takes(job):
            self._apart.accept(job)
            return
        task = Task(job, Report(job, self._preview_interval), self._hands)
        self._tasks.append(task)
        self._no_room_beside = None
        self._find_model(task)

    def _find_model(self, task: Task) -> None:
        """Give the task its model, loading it if it is not there. Tried again later if there is no room yet."""
        in_use = self._models_in_use()
        if in_use and in_use == self._no_room_beside:
            return
        try:
            if not self._attempt(self._load, task, in_use):
                self._models.unload(keep=in_use)
                if in_use:
                    raise NoRoom
                if not self._attempt(self._load, task, in_use):
                    self._models.unload()
                    raise OutOfMemory()
        except NoRoom:
            self._no_room_beside = in_use
        except Exception as error:
            self._end(task, error)

    def _load(self, task: Task, in_use: set[str]) -> None:
        def on_phase(phase, fraction):
            if task.job.cancelled:
                raise Cancelled(list(task.job.images))
            if self._stopping.is_set():
                raise EngineStopped()
            task.report.phase(phase, fraction)

        request = task.job.request
        spec = self._find_spec(request.model)
        model = self._models.get(spec, on_phase, in_use=in_use)
        for side, param in ((request.width, "width"), (request.height, "height")):
            if side % model.vae_scale:
                raise InvalidRequest(f"This must be a multiple of {model.vae_scale} for {spec.title}.", param)
        channels, width = model.vae.config.latent_channels, model.unet.config.in_channels
        if width != channels and not sees_mask(model):
            raise InvalidRequest(f"{spec.title} needs more to draw from than there is here.", "model")
        task.model = model

    def _start_rows(self) -> None:
        """Put images in flight, first come, first served within each lane. Those that come from a first pass have
        waited longest."""
        full: set[Lane] = set()
        for task in [task for task in self._tasks if task.model]:
            while task.risen and task.is_grounded(1) and self._has_seat(task, task.lane_of_pass(1), full):
                self._try_alone(task, task.raise_next)
                self._end_finished(task)
            while task.waiting and task.is_grounded(0) and self._has_seat(task, task.lane, full):
                self._try_alone(task, task.start_next)
                self._end_finished(task)

    def _has_seat(self, task: Task, lane: Lane, full: set[Lane]) -> bool:
        if lane in full or task not in self._tasks or task.job.cancelled:
            return False
        taken = self._seats_taken(lane)
        if taken and taken + task.evaluations > self._max_rows:
            full.add(lane)
            return False
        return True

    # Steps

    def _step(self) -> None:
        """Take the group whose turn it is one evaluation further."""
        if self._stopping.is_set():
            return
        groups = self._groups()
        alike = {key[:-1] for key in groups}  # all but the depth, which changes from step to step
        self._limits = {key: limit for key, limit in self._limits.items() if key[:-1] in alike}
        if not groups:
            return
        # What one row's share of a turn costs, so that rows and not groups are treated alike.
        charges = {key: _work(rows) / len(rows) for key, rows in groups.items()}
        key = self._share.pick(charges, self._most_urgent(groups))
        self._advance(key, self._for_this_turn(key, groups[key]))

    def _most_urgent(self, groups):
        """The group of the row that would miss its deadline if its turn came later, and may meet it now."""
        paces = {key: self._pace.seconds(key, _pictures(pairs)) for key, pairs in groups.items()}
        rest, now = sum(paces.values()), time.monotonic()
        spare = {}
        for key, pairs in groups.items():
            for task, row in pairs:
                if task.job.deadline is not None:
                    left = task.job.deadline - now - row.evaluations_left * paces[key]
                    spare[key] = min(spare.get(key, math.inf), left if left >= 0 else math.inf)
        key = min(spare, key=spare.get, default=None)
        return key if key is not None and spare[key] < 2 * (rest - paces[key]) else None

    def _for_this_turn(self, key, pairs) -> list[tuple[Task, Row]]:
        """As many rows as fit into memory and make good use of the device, those first that wait longest."""
        pictures = _pictures(pairs)
        limit, most = self._limits.get(key, len(pairs)), self._pace.most(key, pictures)
        if limit >= len(pairs) and most >= pictures:
            return pairs
        chosen, seats = [], 0
        for pair in sorted(pairs, key=lambda pair: pair[1].turn)[:limit]:
            if not chosen or seats + pair[1].evaluations <= most:
                chosen.append(pair)
                seats += pair[1].evaluations
        return chosen

    def _groups(self) -> dict[tuple, list[tuple[Task, Row]]]:
        """Rows that can share a forward pass, the oldest job's first."""
        groups = {}
        for task in self._tasks:
            for row in task.rows:
                groups.setdefault((task.model.spec.key, task.low_memory, *row.shape), []).append((task, row))
        return groups

    def _advance(self, key, pairs: list[tuple[Task, Row]]) -> None:
        task = pairs[0][0]
        try:
            task.model.save_memory(task.low_memory)
            began = self._now()
            fitted = self._attempt(advance, task.model, [row for _, row in pairs])
        except Exception as error:
            if len(pairs) == 1:
                self._end(task, error)
                return
            log.warning("A step of %d rows failed, each alone now: %s", len(pairs), str(error))
        else:
            if fitted:
                self._keep_up(_Launched(key, _pictures(pairs), began, self._now()))
                self._tell(pairs)
            else:
                self._need_less_memory(key, pairs)
            return
        for pair in pairs:  # only who is to blame shall fail
            if pair[0] in self._tasks:
                self._advance(key, [pair])

    def _now(self):
        """A moment by the device's clock, which a GPU notes when it has done all that it was given before."""
        if self._models.device.type != "cuda":
            return time.perf_counter()
        moment = torch.cuda.Event(enable_timing=True)
        moment.record(torch.cuda.current_stream(self._models.device))
        return moment

    def _keep_up(self, launched: "_Launched") -> None:
        """Note how long a step took: on a GPU the one before this one, for whose end we wait while it is at this one.

        A GPU is given work ahead, and without that wait a cancel would not be about what it does now.
        """
        if self._models.device.type == "cuda":
            launched, self._launched = self._launched, launched
            if launched is None:
                return
            launched.ended.synchronize()
        self._pace.note(launched.key, launched.pictures, launched.seconds)

    def _tell(self, pairs) -> None:
        self._turn += 1
        for task, row in pairs:
            row.turn = self._turn
            if not task.job.cancelled and not self._stopping.is_set():
                task.moved(row)

    def _need_less_memory(self, key, pairs) -> None:
        """Fewer rows at once, then low-memory mode for the one that is left, then its job must fail."""
        self._models.unload(keep=self._models_in_use())
        task = pairs[0][0]
        if len(pairs) > 1:
            self._limits[key] = len(pairs) // 2
        elif not task.low_memory:
            task.low_memory = True
        else:
            self._end(task, OutOfMemory())

    # Between passes

    def _prepare_some(self) -> None:
        """Encode or enlarge one picture for somebody who waits for it, after which the steps go on."""
        for task in [task for task in self._tasks if task.model and not task.job.cancelled]:
            if (number := task.ungrounded) is not None:
                self._try_alone(task, lambda: task.ground(number))  # noqa: B023 -- called here
            elif task.has_enlarged:
                self._try_alone(task, task.encode_next)
            elif task.to_enlarge and not self._enlarging:
                self._enlarge(task)
            else:
                continue
            return

    def _enlarge(self, task: Task) -> None:
        """By a model, tile by tile; the rows take a step in between."""

        def between():
            if task.job.cancelled:
                raise Cancelled(list(task.job.images))
            if self._stopping.is_set():
                raise EngineStopped()
            self._step()

        self._enlarging = True
        try:
            self._try_alone(
                task, lambda: task.enlarge_next(between, models_dir=self._models.models_dir, device=self._models.device)
            )
        finally:
            self._enlarging = False

    def _rest(self) -> None:
        """Where everybody waits for pictures to be loaded or resized, wait too."""
        if self._apart.job or any(task.model is None or task.rows or task.has_work for task in self._tasks):
            return
        awaited = [future for task in self._tasks for future in task.awaits_hands]
        if awaited:
            wait(awaited, timeout=0.05, return_when=FIRST_COMPLETED)

    # Ends

    def _decode_some(self) -> None:
        """A picture, or a few if many wait: a decode takes as long as some steps do, and the steps wait for it.

        In proportion to those that wait, or jobs of one or two steps would be drawn faster than decoded.
        """
        waiting = [(task, row) for task in self._tasks if not task.job.cancelled for row in task.drawn]
        if not waiting or self._stopping.is_set():
            return
        first = _decoding_key(*waiting[0])
        pairs = [pair for pair in waiting if _decoding_key(*pair) == first]
        fitting = DECODED_PIXELS // math.prod(pairs[0][1].latents.shape[-2:]) // pairs[0][0].model.vae_scale ** 2
        self._decode(pairs[: max(1, min(math.ceil(len(waiting) / DECODES_SPREAD), fitting))])

    def _decode(self, pairs: list[tuple[Task, Row]]) -> None:
        """Turn what is drawn into pictures, all in one pass, or each alone if that does not go well."""
        task, row = pairs[0]
        if len(pairs) == 1:
            self._try_alone(task, lambda: self._decode_all(pairs))
            return
        try:
            task.model.save_memory(task.low_memory)
            fitted = self._attempt(self._decode_all, pairs)
        except Exception as error:
            log.warning("The decoding of %d pictures failed, each alone now: %s", len(pairs), str(error))
            fitted = False
        if not fitted:
            self._models.unload(keep=self._models_in_use())
            for pair in pairs:
                if pair[0] in self._tasks and pair[1] in pair[0].drawn:
                    self._decode([pair])

    def _decode_all(self, pairs) -> None:
        model, rows = pairs[0][0].model, [row for _, row in pairs]
        pictures = decode(model, torch.cat([row.latents for row in rows]), tiling=rows[0].request.tiling)
        for (task, row), picture in zip(pairs, pictures, strict=True):
            if task not in self._tasks:
                continue
            if isinstance(picture, BadOutput):
                self._end(task, picture)
                continue
            task.drawn.remove(row)
            task.decoded(row, picture)
            self._end_finished(task)

    def _end_finished(self, task: Task) -> None:
        if task.finished and task in self._tasks:
            self._tasks.remove(task)
            succeed(task.job)

    def _try_alone(self, task: Task, action) -> None:
        """Do something that concerns this task only: once more in low-memory mode if the memory runs out."""
        try:
            task.model.save_memory(task.low_memory)
            if self._attempt(action):
                return
            self._models.unload(keep=self._models_in_use())
            task.low_memory = True
            task.model.save_memory(True)
            if not self._attempt(action):
                self._models.unload(keep=self._models_in_use())
                raise OutOfMemory()
        except Exception as error:
            self._end(task, error)

    def _attempt(self, action, *args) -> bool:
        """Do it. False when memory ran out; then nothing refers to the failed attempt any more."""
        try:
            action(*args)
            return True
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("Out of memory: %s", str(error))
            # The frames hold the tensors that filled the memory.
            traceback.clear_frames(error.__traceback__)
            return False

    def _end_cancelled(self) -> None:
        for task in [task for task in self._tasks if task.job.cancelled or task.job.late]:
            self._end(task, (Cancelled if task.job.cancelled else TimedOut)(list(task.job.images)))
        while job := self._inbox.take_first(lambda job: job.late):
            fail(job, TimedOut())

    def _end(self, task: Task, error: Exception) -> None:
        if task in self._tasks:
            self._tasks.remove(task)
            fail(task.job, error)

    def _end_all(self, error: Exception) -> None:
        for task in list(self._tasks):
            self._end(task, error)

    def _models_in_use(self) -> set[str]:
        apart = {self._apart.model_key} if self._apart.model_key else set()
        return {task.model.spec.key for task in self._tasks if task.model} | apart


@dataclass(frozen=True, slots=True)
class _Launched:
    """A step that was given to the device, between two moments by the device's clock."""

    key: tuple
    pictures: int
    began: float | torch.cuda.Event
    ended: float | torch.cuda.Event

    @property
    def seconds(self) -> float:
        if isinstance(self.ended, float):
            return self.ended - self.began
        return self.began.elapsed_time(self.ended) / 1000


def _decoding_key(task: Task, row: Row) -> tuple:
    """What pictures that are decoded together agree in."""
    return task.model.spec.key, task.low_memory, *row.slots.shape[-2:], row.request.tiling


def _pictures(pairs) -> int:
    """What the UNet sees in a step of these rows."""
    return sum(row.evaluations for _, row in pairs)


def _work(pairs) -> float:
    """What a step of these rows costs, in units that compare models and sizes: pictures x pixels x weights, and of that
    what is computed where not all layers are."""
    task, row = pairs[0]
    height, width = row.slots.shape[-2:]
    return _pictures(pairs) * height * width * task.model.nbytes * relative_cost(task.model.unet, row)
