"""Step timing: seconds per denoising step by batch size, learned from the steps, and the batch size that pays off."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch

WARM_UP_STEPS = 4
"""Steps of a batch size before it is judged; the first of them warms caches up and counts for nothing."""
NEWEST_WEIGHT = 0.2
"""Weight of the newest step in the average."""
WORTHWHILE_COST = 0.95
"""A smaller batch is taken if a picture costs less than this part of what it costs in a larger one."""
RETRY_INTERVAL = 64
"""After so many capped steps a full one is taken, since a machine's other work comes and goes."""


@dataclass(slots=True)
class _Average:
    seconds: float = 0.0
    """Per step."""
    steps: int = 0


class StepTimer:
    """Seconds per step of each group of rows, and the batch size beyond which more pictures make nobody faster.

    Batch sizes are counted in slots: pictures that the UNet sees, two for a row with guidance.
    """

    def __init__(self) -> None:
        self._averages: dict[Hashable, dict[int, _Average]] = {}
        self._capped_steps: dict[Hashable, int] = {}

    def record(self, group: Hashable, slots: int, seconds: float) -> None:
        """A step of that group and batch size took so long."""
        average = self._averages.setdefault(group, {}).setdefault(slots, _Average())
        average.steps += 1
        weight = 1.0 if average.steps <= 2 else NEWEST_WEIGHT
        average.seconds += weight * (seconds - average.seconds)

    def expected_seconds(self, group: Hashable, slots: int) -> float:
        """How long a step of that batch size should take; 0 where nothing is known."""
        averages = self._averages.get(group)
        if not averages:
            return 0.0
        nearest = min(averages, key=lambda size: abs(size - slots))
        return averages[nearest].seconds * max(slots / nearest, 1.0)

    def best_batch_size(self, group: Hashable, slots: int) -> int:
        """How many of `slots` should go through the UNet at once."""
        costs = {
            size: average.seconds / size
            for size, average in self._averages.get(group, {}).items()
            if average.steps >= WARM_UP_STEPS
        }
        smaller = {size: cost for size, cost in costs.items() if size < slots}
        if slots not in costs or not smaller:
            return slots
        best = min(smaller, key=smaller.__getitem__)
        if smaller[best] >= costs[slots] * WORTHWHILE_COST:
            return slots
        self._capped_steps[group] = self._capped_steps.get(group, 0) + 1
        return slots if self._capped_steps[group] % RETRY_INTERVAL == 0 else best


@dataclass(frozen=True, slots=True)
class StepTime:
    """How long a step of that group and batch size took."""

    group: Hashable
    slots: int
    seconds: float


StopClock = Callable[[Hashable, int], StepTime | None]
"""To be called at the end of a step with its group and batch size; returns the step whose time is known by then."""


class HostClock:
    """Times steps on a CPU, which are over when the call returns."""

    def start(self) -> StopClock:
        began = time.perf_counter()
        return lambda group, slots: StepTime(group, slots, time.perf_counter() - began)


class CudaClock:
    """Times steps on a GPU by CUDA events, each one step later.

    A GPU is given work ahead. At the end of a launch we wait for the step before it, or a cancel would not be about
    what the GPU does now.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._launched: _LaunchedStep | None = None

    def start(self) -> StopClock:
        began = self._event()
        return lambda group, slots: self._finish(_LaunchedStep(group, slots, began, self._event()))

    def _finish(self, launched: "_LaunchedStep") -> StepTime | None:
        before, self._launched = self._launched, launched
        return before.wait() if before is not None else None

    def _event(self) -> torch.cuda.Event:
        """A moment that the GPU notes when it has done all that it was given before."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


@dataclass(frozen=True, slots=True)
class _LaunchedStep:
    group: Hashable
    slots: int
    began: torch.cuda.Event
    ended: torch.cuda.Event

    def wait(self) -> StepTime:
        self.ended.synchronize()
        return StepTime(self.group, self.slots, self.began.elapsed_time(self.ended) / 1000)


def clock_for(device: torch.device) -> HostClock | CudaClock:
    return CudaClock(device) if device.type == "cuda" else HostClock()
