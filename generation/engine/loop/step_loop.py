"""Step loop (continuous batching of denoising steps): between any two steps rows join and leave, and each step takes
one group of rows one UNet evaluation further.

A step is one forward pass of one model over rows of any number of jobs that agree in latent size and text
length. Whatever goes wrong in a job ends that job and no other.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import NamedTuple

from generation.engine.catalog.models import ModelSpec
from generation.engine.errors import EngineStopped, OutOfMemory
from generation.engine.job_queue import JobQueue
from generation.engine.networks.deepcache import relative_cost
from generation.engine.networks.loader import ModelManager

from .admission import Admission
from .decoder import Decoder
from .denoise import advance
from .encoder import Encoder
from .fair_share import FairShare
from .job_state import RunningJob
from .out_of_memory import fits_in_memory
from .rows import GroupShape, Row
from .running_jobs import RunningJobs
from .serial_jobs import SerialJobs
from .step_timer import StepTimer, clock_for
from .unet_config import unet_of

log = logging.getLogger(__name__)

JobRows = list[tuple[RunningJob, Row]]

IDLE_WAIT = 0.05
"""Seconds to wait at most for pictures to be loaded before the queue is looked at again."""


class Group(NamedTuple):
    """Rows that can share a forward pass agree in these."""

    model: str
    low_memory: bool
    shape: GroupShape

    @property
    def at_any_depth(self) -> tuple[object, ...]:
        """The same without what changes from step to step (see `deepcache`)."""
        return self.model, self.low_memory, self.shape[:-1]


class StepLoop:
    """Draws what comes to the queue until `stopping` is set and the queue closed.

    `find_spec`: the model of that key, or an EngineError.
    `max_rows`: the most pictures that the UNet sees at once, where a row with guidance counts as two. It
    bounds the rows in flight of one model and size; a single row is always let in.
    `preview_interval`: least seconds between two previews of a job.
    """

    def __init__(
        self,
        find_spec: Callable[[str], ModelSpec],
        models: ModelManager,
        queue: JobQueue,
        stopping: threading.Event,
        *,
        max_rows: int,
        preview_interval: float,
    ):
        self._models = models
        self._stopping = stopping
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="engine-pictures")
        """Loads and resizes pictures, which would hold up the steps."""
        self._serial = SerialJobs(find_spec, models, stopping, preview_interval=preview_interval)
        self._running = RunningJobs(models, self._serial)
        self._admission = Admission(
            find_spec,
            models,
            queue,
            stopping,
            self._running,
            self._serial,
            self._executor,
            max_rows=max_rows,
            preview_interval=preview_interval,
        )
        self._encoder = Encoder(models, stopping, self._running)
        self._decoder = Decoder(stopping, self._running)
        self._fair_share = FairShare()
        self._timer = StepTimer()
        self._clock = clock_for(models.device)
        self._turn = 0
        self._row_limits: dict[Group, int] = {}
        """Rows that a group may have at once since the memory ran out for more."""

    def run(self) -> None:
        while not self._stopping.is_set():
            self._guarded_round()
            self._serial.draw(self._guarded_round, self._running.models_in_use)
        self._end_all(EngineStopped())
        self._serial.abandon(EngineStopped())
        self._executor.shutdown(cancel_futures=True)

    def _guarded_round(self) -> None:
        try:
            self._go_round()
        except Exception as error:  # no job's doing, but the engine must outlive it
            log.exception("The step loop failed and gives up the jobs in flight")
            self._end_all(error)

    def _go_round(self) -> None:
        self._models.unload_idle(self._running.models_in_use())
        self._admission.admit()
        self._admission.start_rows()
        self._step()
        self._encoder.encode_some(self._step)
        self._decoder.decode_some()
        self._running.end_cancelled()
        self._admission.end_cancelled()
        self._rest()

    def _rest(self) -> None:
        """Where everybody waits for pictures to be loaded or resized, wait too."""
        if self._serial.job or self._admission.waiting or any(map(_is_busy, self._running)):
            return
        pending = [future for running in self._running for future in running.pending]
        if pending:
            wait(pending, timeout=IDLE_WAIT, return_when=FIRST_COMPLETED)

    def _end_all(self, error: Exception) -> None:
        self._running.end_all(error)
        self._admission.end_waiting(error)

    # Whose turn it is

    def _step(self) -> None:
        """Take the group whose turn it is one evaluation further."""
        if self._stopping.is_set():
            return
        groups = self._groups()
        present = {group.at_any_depth for group in groups}
        self._row_limits = {group: limit for group, limit in self._row_limits.items() if group.at_any_depth in present}
        if not groups:
            return
        # What one row's share of a turn costs, so that rows and not groups are treated alike.
        charges = {group: _step_cost(rows) / len(rows) for group, rows in groups.items()}
        group = self._fair_share.pick(charges, self._most_urgent(groups))
        self._advance(group, self._rows_for_turn(group, groups[group]))

    def _groups(self) -> dict[Group, JobRows]:
        """Rows that can share a forward pass, the oldest job's first."""
        groups: dict[Group, JobRows] = {}
        for running in self._running:
            for row in running.rows:
                group = Group(running.model.spec.key, running.low_memory, row.shape)
                groups.setdefault(group, []).append((running, row))
        return groups

    def _most_urgent(self, groups: dict[Group, JobRows]) -> Group | None:
        """The group of the row that would miss its deadline if its turn came later, and may meet it now."""
        step_seconds = {group: self._timer.expected_seconds(group, _slots(rows)) for group, rows in groups.items()}
        round_seconds, now = sum(step_seconds.values()), time.monotonic()
        slack: dict[Group, float] = {}
        for group, rows in groups.items():
            for running, row in rows:
                if running.job.deadline is not None:
                    left = running.job.deadline - now - row.evaluations_left * step_seconds[group]
                    slack[group] = min(slack.get(group, math.inf), left if left >= 0 else math.inf)
        group = min(slack, key=slack.__getitem__, default=None)
        if group is not None and slack[group] < 2 * (round_seconds - step_seconds[group]):
            return group
        return None

    def _rows_for_turn(self, group: Group, rows: JobRows) -> JobRows:
        """As many rows as fit into memory and make good use of the device, those first that wait longest."""
        slots = _slots(rows)
        row_limit = self._row_limits.get(group, len(rows))
        slot_limit = self._timer.best_batch_size(group, slots)
        if row_limit >= len(rows) and slot_limit >= slots:
            return rows
        chosen: JobRows = []
        taken = 0
        for running, row in sorted(rows, key=lambda pair: pair[1].last_turn)[:row_limit]:
            if not chosen or taken + row.slots <= slot_limit:
                chosen.append((running, row))
                taken += row.slots
        return chosen

    # One step

    def _advance(self, group: Group, rows: JobRows) -> None:
        running = rows[0][0]
        try:
            running.model.save_memory(running.low_memory)
            stop_clock = self._clock.start()
            fitted = fits_in_memory(lambda: advance(running.model, [row for _, row in rows]))
        except Exception as error:
            if len(rows) == 1:
                self._running.end(running, error)
                return
            log.warning("A step of %d rows failed, each alone now: %s", len(rows), str(error))
        else:
            if not fitted:
                self._need_less_memory(group, rows)
                return
            if step := stop_clock(group, _slots(rows)):
                self._timer.record(step.group, step.slots, step.seconds)
            self._report(rows)
            return
        for pair in rows:  # only who is to blame shall fail
            if pair[0] in self._running:
                self._advance(group, [pair])

    def _report(self, rows: JobRows) -> None:
        self._turn += 1
        for running, row in rows:
            row.last_turn = self._turn
            if not running.job.cancelled and not self._stopping.is_set():
                running.step_done(row)

    def _need_less_memory(self, group: Group, rows: JobRows) -> None:
        """Fewer rows at once, then low-memory mode for the one that is left, then its job must fail."""
        self._running.free_memory()
        running = rows[0][0]
        if len(rows) > 1:
            self._row_limits[group] = len(rows) // 2
        elif not running.low_memory:
            running.low_memory = True
        else:
            self._running.end(running, OutOfMemory())


def _is_busy(running: RunningJob) -> bool:
    return bool(running.rows) or running.has_work


def _slots(rows: JobRows) -> int:
    """Pictures that the UNet sees in a step of these rows."""
    return sum(row.slots for _, row in rows)


def _step_cost(rows: JobRows) -> float:
    """What a step of these rows costs, in units that compare models and sizes: pictures x pixels x weights, and of that
    what is computed where not all layers are."""
    running, row = rows[0]
    height, width = row.latent_size
    return _slots(rows) * height * width * running.model.nbytes * relative_cost(unet_of(running.model), row)
