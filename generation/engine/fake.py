"""Fake engine for tests: no PyTorch, same protocol, progress reports and errors as the real one, faults on purpose.

With it promises about queues, leases and quotas can be tested quickly, and workers be killed at a chosen step.

    [fault:KIND]  [fault:KIND@STEP]  [fault:KIND@STEP:once]        in a prompt, only while `faults_allowed`

| kind  | what happens once STEP (1 by default) steps of all images are done                     |
|-------|----------------------------------------------------------------------------------------|
| exit  | the process ends with status 70, no clean-up                                           |
| kill  | the process gets SIGKILL                                                               |
| segv  | the process gets SIGSEGV                                                               |
| hang  | the thread sleeps for ever and ignores cancellation                                    |
| spin  | the thread computes for ever and ignores cancellation                                  |
| slow  | every following step takes ten times as long                                           |
| oom   | OutOfMemory                                                                            |
| error | an exception that is no EngineError                                                    |
| black | the picture comes out black, so BadOutput                                              |
| short | one image fewer than requested, as a broken engine might return                        |

With `once` a fault strikes one time only, also if the process dies of it: `faults_folder` keeps a file for each
request that it struck.
"""

import hashlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from PIL import Image

from .catalog.models import Catalog
from .errors import Cancelled, EngineStopped, OutOfMemory, TimedOut
from .job_queue import EngineBase, ProgressReporter, fail, succeed
from .pictures.pixels import refuse_black
from .protocol import EngineImage, Job
from .request.fields import ImageRequest

_FAULT = re.compile(r"\[fault:(exit|kill|segv|hang|spin|slow|oom|error|black|short)(?:@(\d{1,5}))?(:once)?\]")


class FakeEngine(EngineBase):
    """Draws colour fields that depend on seed, prompt and size alone; see `request.Engine`.

    `seconds_per_step`: how long a step takes. `load_seconds`: how long the first use of a model takes.
    `preview_interval`: least seconds between two previews of a job.
    """

    def __init__(
        self,
        catalog: Catalog | None = None,
        *,
        seconds_per_step: float = 0.02,
        load_seconds: float = 0.0,
        preview_interval: float = 0.25,
        faults_allowed: bool = False,
        faults_folder: str | os.PathLike[str] | None = None,
    ):
        super().__init__()
        self.catalog = catalog or Catalog()
        self._seconds_per_step = seconds_per_step
        self._load_seconds = load_seconds
        self._preview_interval = preview_interval
        self._faults_allowed = faults_allowed
        self._faults_folder = Path(faults_folder) if faults_folder else None
        self._loaded: list[str] = []

    def _thread_targets(self) -> dict[str, Callable[[], None]]:
        return {"engine": self._run}

    def stop(self) -> None:
        """Waits for the thread, but not for one that hangs on purpose."""
        self._join(timeout=5)

    def status(self) -> dict:
        return {
            "device": "fake",
            "device_name": "no device",
            "dtype": "fp32",
            "memory": None,
            "models": list(self._loaded),
        }

    def _run(self) -> None:
        while job := self._queue.take():
            try:
                self._serve(job)
            except Exception as error:
                fail(job, error)
            else:
                succeed(job)

    def _serve(self, job: Job) -> None:
        request, reporter = job.request, ProgressReporter(job, self._preview_interval)
        spec = self.catalog.get(request.model)
        if spec.key not in self._loaded:
            reporter.phase("loading")
            self._wait(job, self._load_seconds)
            self._loaded.append(spec.key)
        fault, fault_step = self._fault(request)
        seconds_per_step, steps_done = self._seconds_per_step, 0
        for index in range(request.num_images):
            began, seed = time.perf_counter(), request.seed_of(index)
            reporter.phase("generating")
            picture = draw(request, seed)
            for step in range(1, request.steps_each + 1):
                self._wait(job, seconds_per_step)
                steps_done += 1
                reporter.step(steps_done, partial(_preview, picture, step, request))
                if steps_done == fault_step:
                    if fault == "slow":
                        seconds_per_step *= 10
                    _strike(fault)
                self._wait(job, 0)
            if fault == "black":
                picture = Image.new("RGB", picture.size)
            refuse_black(picture)
            if fault == "short" and index == request.num_images - 1:
                return
            recipe = {"engine": "fake", "model": spec.key, "weights": "", "dtype": "fp32", "device": "fake"}
            job.images.append(EngineImage(index, seed, picture, recipe, time.perf_counter() - began))

    def _wait(self, job: Job, seconds: float) -> None:
        """Sleep until the step border; raise there if the job was cancelled, is late, or the engine stops."""
        self._stopping.wait(seconds)
        if job.cancelled:
            raise Cancelled(list(job.images))
        if job.late:
            raise TimedOut(list(job.images))
        if self._stopping.is_set():
            raise EngineStopped()

    def _fault(self, request: ImageRequest) -> tuple[str | None, int]:
        """Kind and step of the fault in the prompt; (None, 0) without one."""
        match = _FAULT.search(request.prompt) if self._faults_allowed else None
        if match is None or (match[3] and not self._first_time(request)):
            return None, 0
        return match[1], int(match[2] or 1)

    def _first_time(self, request: ImageRequest) -> bool:
        if self._faults_folder is None:
            raise ValueError("faults_folder must be given for a fault that strikes once")
        self._faults_folder.mkdir(parents=True, exist_ok=True)
        try:
            (self._faults_folder / hashlib.sha256(repr(request).encode()).hexdigest()).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def draw(request: ImageRequest, seed: int) -> Image.Image:
    """Soft colour fields from a 4 x 4 grid of hashed colours, over the starting picture as far as it is to change."""
    if request.upscale:
        return request.upscale.image.load().convert("RGB").resize((request.width, request.height))
    size = request.final_size
    key = repr((seed, request.prompt, request.negative_prompt, request.width, request.height)).encode()
    fields = Image.frombytes("RGB", (4, 4), hashlib.shake_256(key).digest(48))
    fields = fields.resize(size, Image.Resampling.BICUBIC)
    if request.start is None:
        return fields
    original = request.start.image.load().convert("RGB").resize(size)
    changed = Image.blend(original, fields, request.start.strength)
    if request.start.mask is None:
        return changed
    return Image.composite(changed, original, request.start.mask.load().convert("L").resize(size))


def _preview(picture: Image.Image, step: int, request: ImageRequest) -> Image.Image:
    speckles = hashlib.shake_256(f"{request.seed} {step}".encode()).digest(32 * 32 * 3)
    noise = Image.frombytes("RGB", (32, 32), speckles)
    return Image.blend(noise, picture.resize((32, 32)), step / request.steps_each)


def _strike(fault: str | None) -> None:
    """Do what the kind of fault says, if it strikes at a step."""
    match fault:
        case "exit":
            os._exit(70)
        case "kill":
            signal.raise_signal(signal.SIGKILL)
        case "segv":
            signal.raise_signal(signal.SIGSEGV)  # in this thread, so at this very step
        case "hang":
            threading.Event().wait()
        case "spin":
            while True:
                pass
        case "oom":
            raise OutOfMemory()
        case "error":
            raise RuntimeError("a fault on purpose")
