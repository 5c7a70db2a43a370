"""The loop that draws: between any two steps rows join and leave, and each step takes one group on.

A step is one forward pass of one model over rows of any number of jobs that agree in latent size and text
length. Whatever goes wrong in a job ends that job and no other.
"""

import logging
import math
import threading
import traceback
from collections.abc import Callable

from .batch import Row, advance
from .catalog import ModelSpec
from .errors import Cancelled, EngineStopped, InvalidRequest, OutOfMemory
from .inbox import Inbox, Report, fail, succeed
from .loader import ModelManager, NoRoom, is_out_of_memory
from .request import Job
from .sharing import FairShare
from .task import Task, lane_of

log = logging.getLogger(__name__)

DECODES_SPREAD = 4
"""Over how many steps the decoding of what is drawn is spread."""


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
        self._find_spec = find_spec
        self._models = models
        self._inbox = inbox
        self._stopping = stopping
        self._max_rows = max_rows
        self._preview_interval = preview_interval
        self._tasks: list[Task] = []
        """In order of admission."""
        self._share = FairShare()
        self._limits: dict[tuple, int] = {}
        """Rows that a group may have at once since the memory ran out for more."""
        self._no_room_beside: set[str] | None = None
        """The models in use when the last admitted job's model did not fit beside them."""

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._go_round()
            except Exception as error:  # no job's doing, but the engine must outlive it
                log.exception("The step loop failed and gives up the jobs in flight")
                self._end_all(error)
        self._end_all(EngineStopped())

    def _go_round(self) -> None:
        self._admit()
        self._start_rows()
        self._step()
        self._decode_some()
        self._end_cancelled()

    # Admission

    def _admit(self) -> None:
        """Let in what has room, waiting if there is nothing else to do."""
        for task in [task for task in self._tasks if task.model is None]:
            self._find_model(task)
        job = self._inbox.take_first(self._has_room) if self._tasks else self._inbox.take()
        while job is not None:
            self._begin(job)
            job = self._inbox.take_first(self._has_room)

    def _has_room(self, job: Job) -> bool:
        """Nobody passes a job that waits for its model to fit, or it might wait for ever."""
        loaded = all(task.model for task in self._tasks)
        return loaded and self._seats_taken(lane_of(job), with_waiting=True) < self._max_rows

    def _seats_taken(self, lane, *, with_waiting=False) -> int:
        return sum(
            task.evaluations * (len(task.rows) + (len(task.waiting) if with_waiting else 0))
            for task in self._tasks
            if task.lane == lane and task.model
        )

    def _begin(self, job: Job) -> None:
        task = Task(job, Report(job, self._preview_interval))
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
        task.model = model

    def _start_rows(self) -> None:
        """Put images in flight, first come, first served within each lane."""
        full = set()
        for task in [task for task in self._tasks if task.model]:
            while task.waiting and task.lane not in full and task in self._tasks and not task.job.cancelled:
                taken = self._seats_taken(task.lane)
                if taken and taken + task.evaluations > self._max_rows:
                    full.add(task.lane)
                else:
                    self._try_alone(task, task.start_next)

    # Steps

    def _step(self) -> None:
        """Take the group whose turn it is one evaluation further."""
        if self._stopping.is_set():
            return
        groups = self._groups()
        self._limits = {key: limit for key, limit in self._limits.items() if key in groups}
        if not groups:
            return
        # What one row's share of a turn costs, so that rows and not groups are treated alike.
        charges = {key: _work(rows) / len(rows) for key, rows in groups.items()}
        key = self._share.pick(charges)
        self._advance(key, groups[key][: self._limits.get(key)])

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
            fitted = self._attempt(advance, task.model, [row for _, row in pairs])
        except Exception as error:
            if len(pairs) == 1:
                self._end(task, error)
                return
            log.warning("A step of %d rows failed, each alone now: %s", len(pairs), str(error))
        else:
            if fitted:
                self._tell(pairs)
            else:
                self._need_less_memory(key, pairs)
            return
        for pair in pairs:  # only who is to blame shall fail
            if pair[0] in self._tasks:
                self._advance(key, [pair])

    def _tell(self, pairs) -> None:
        for task, row in pairs:
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

    # Ends

    def _decode_some(self) -> None:
        """A picture, or a few if many wait: a decode takes as long as some steps do, and the steps wait for it.

        In proportion to those that wait, or jobs of one or two steps would be drawn faster than decoded.
        """
        drawn = sum(len(task.drawn) for task in self._tasks)
        for _ in range(math.ceil(drawn / DECODES_SPREAD)):
            task = next((task for task in self._tasks if task.drawn and not task.job.cancelled), None)
            if task is None or self._stopping.is_set():
                return
            self._try_alone(task, task.decode_next)
            if task.finished:
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
        for task in [task for task in self._tasks if task.job.cancelled]:
            self._end(task, Cancelled(list(task.job.images)))

    def _end(self, task: Task, error: Exception) -> None:
        self._tasks.remove(task)
        fail(task.job, error)

    def _end_all(self, error: Exception) -> None:
        for task in list(self._tasks):
            self._end(task, error)

    def _models_in_use(self) -> set[str]:
        return {task.model.spec.key for task in self._tasks if task.model}


def _work(pairs) -> float:
    """What a step of these rows costs, in units that compare models and sizes: pictures x pixels x weights."""
    task, row = pairs[0]
    height, width, _ = row.shape
    return sum(row.evaluations for _, row in pairs) * height * width * task.model.nbytes
