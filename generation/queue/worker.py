"""The worker: threads that claim generations and wait on one engine, and a reporter that keeps the leases.

Runs inside the Celery worker of the `generation` queue (see dreamsketch/celery.py), which brings the
doorbell and the signals; without a bell the threads look at the queue every IDLE_POLL_SECONDS.
"""

import contextlib
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connections

from generation.catalog import catalog, remote_provider
from generation.engine.errors import Cancelled, EngineError, EngineStopped, TimedOut
from generation.engine.factory import make_engine
from generation.engine.protocol import Engine, EngineImage, Job, Progress
from generation.engine.remote.http import HttpClient
from generation.live import store
from generation.log import log_context
from generation.models import Generation
from generation.storage.files import StorageUnavailable, disk_is_full
from generation.storage.image_requests import request_of

from . import jobs, presence
from .finishing import finish_with_files
from .turns import Turns

log = logging.getLogger(__name__)

REPORT_SECONDS = 0.25
"""How often progress goes to Redis at the most."""
FINISH_PATIENCE_SECONDS = 120
"""How long a finished picture waits for a database that is away."""
STALLED_EXIT_CODE = 70


@dataclass(eq=False)
class Running:
    """One claimed generation in flight."""

    generation: Generation
    job: Job | None = None
    latest: Progress = field(default_factory=lambda: Progress("loading"))
    preview: bytes | None = None
    reported: Progress | None = None
    advanced_at: float = field(default_factory=time.monotonic)
    beat_at: float = 0.0
    watched: bool = False
    lost: bool = False
    handing_back: bool = False

    def advance(self, report: Progress) -> None:
        """Called by the engine's thread at each step: keeps the report, and does nothing slow."""
        if report.preview is not None:
            self.preview = report.preview
        # The fraction moves where there are no steps: downloads, enlarging, engines elsewhere.
        latest = self.latest
        if (report.phase, report.step, report.fraction) != (latest.phase, latest.step, latest.fraction):
            self.advanced_at = time.monotonic()
        self.latest = report

    @property
    def stalled(self) -> bool:
        budget = settings.LOAD_SECONDS if self.latest.phase in ("downloading", "loading") else settings.STALL_SECONDS
        return time.monotonic() - self.advanced_at > budget


class Worker:
    """Claims with `threads` threads, all waiting on `engine`."""

    def __init__(self, engine: Engine, *, name: str, threads: int):
        self.engine, self.name = engine, name
        self._running: set[Running] = set()
        self._lock = threading.Lock()
        self._claiming = threading.Lock()
        self._turns = Turns(settings.LEASE_SECONDS)
        self._bell = threading.Condition()
        self._rings = 0
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._claim_loop, name=f"claim-{n}", daemon=True) for n in range(threads)
        ]
        self._reporter = threading.Thread(target=self._report_loop, name="reporter", daemon=True)

    def start(self) -> None:
        self.engine.start()
        for thread in (*self._threads, self._reporter):
            thread.start()
        log.info("Worker %s is ready with %d threads.", self.name, len(self._threads))

    def ring(self) -> None:
        """There may be work: wake one idle thread."""
        with self._bell:
            self._rings += 1
            self._bell.notify()

    def stop_claiming(self) -> None:
        """Take nothing more from the queue; what runs goes on."""
        self._stopping.set()
        with self._bell:
            self._bell.notify_all()

    def stop(self, patience: float) -> None:
        """Finish what fits in `patience` seconds, hand the rest back unburnt, and end."""
        self.stop_claiming()
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            unfinished = list(self._running)
        for running in unfinished:
            running.handing_back = True
        self.engine.stop()
        for thread in self._threads:
            thread.join(10)
        self._stopped.set()
        self._reporter.join(5)
        with contextlib.suppress(DatabaseError):
            presence.forget(self.name)
        log.info("Worker %s has stopped; %d handed back.", self.name, len(unfinished))

    # --- claiming and running ---------------------------------------------------------------------------

    def _claim_loop(self) -> None:
        try:
            self._claim_until_stopped()
        finally:
            connections.close_all()  # Django keeps one for each thread and closes none when the thread ends

    def _claim_until_stopped(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._claiming:
                    generation = None if disk_is_full() else self._claim()
            except DatabaseError as error:
                log.warning("The queue cannot be read: %s", error)
                generation = None
                self._stopping.wait(1)
            if generation is None:
                self._idle()
            else:
                self.ring()  # one bell may have been lost, or one claim may have made several possible
                self._run(generation)
            close_old_connections()

    def _claim(self) -> Generation | None:
        turns = self._turns
        if turns.is_suspects_turn() and jobs.keep_suspect(self.name):
            turns.drain()
            generation = jobs.claim_suspect(self.name, beside_others=turns.drained_long_enough())
        else:
            turns.stop_draining()
            generation = jobs.claim(self.name, careful=turns.careful)
        if generation is not None:
            turns.began(generation)
        return generation

    def _idle(self) -> None:
        close_old_connections()
        with self._bell:
            if not self._rings and not self._stopping.is_set():
                # When what still runs takes too long, a suspect joins it: that comes without a bell.
                self._bell.wait(
                    min(1.0, settings.IDLE_POLL_SECONDS) if self._turns.draining else settings.IDLE_POLL_SECONDS
                )
            self._rings = max(0, self._rings - 1)

    def _run(self, generation: Generation) -> None:
        running = Running(generation)
        with self._lock:
            self._running.add(running)
        try:
            with log_context(generation=generation.pk):
                self._draw(running)
        except jobs.LeaseLost:
            log.warning("The lease of %s was lost; its result is discarded.", generation.pk)
        except DatabaseError as error:
            # The lease runs out and the sweeper queues it again.
            log.error("%s could not be recorded: %s", generation.pk, error)
        except Exception:
            log.exception("%s failed unexpectedly.", generation.pk)
            with contextlib.suppress(jobs.LeaseLost, DatabaseError):
                jobs.fail(
                    generation,
                    code="internal_error",
                    transient=True,
                    message="The image could not be finished. Your prompt is saved and this one was not counted.",
                )
        finally:
            with self._lock:
                self._running.discard(running)
            self._turns.ended(generation)
            # A place of this user may have become free for another of their generations.
            self.ring()

    def _draw(self, running: Running) -> None:
        generation = running.generation
        log.info("Drawing (attempt %d, %s, %d steps).", generation.attempt, generation.model, generation.total_steps)
        try:
            running.job = self.engine.submit(
                request_of(generation),
                on_progress=running.advance,
                wants_preview=lambda: running.watched,
                ticket=f"{generation.pk}:{generation.epoch}",
                deadline=time.monotonic() + jobs.seconds_left(generation),
            )
            images = running.job.result()
        except Cancelled as error:
            if not running.lost:
                self._finish(running, error.images, cancelled=True)
        except EngineStopped:
            jobs.hand_back(generation)
        except TimedOut:
            # The database's clock decides; if it is a moment behind ours, the next sweep comes to the same.
            jobs.expire()
        except EngineError as error:
            log.warning("Failed: %s", "; ".join((f"{error} ({error.code})", *getattr(error, "details", ()))))
            jobs.fail(generation, code=error.code, message=str(error), transient=error.transient)
        else:
            self._finish(running, images)

    def _finish(self, running: Running, images: Sequence[EngineImage], *, cancelled: bool = False) -> None:
        generation = running.generation
        running.advance(Progress("saving", running.latest.step, generation.total_steps))
        try:
            finish_with_files(generation, images, cancelled=cancelled, patience=FINISH_PATIENCE_SECONDS)
        except StorageUnavailable as error:
            log.error("%s", error)
            jobs.fail(
                generation,
                code="storage_unavailable",
                transient=True,
                message="The picture could not be stored just now. It was not counted.",
            )

    # --- reporting ----------------------------------------------------------------------------------------

    def _report_loop(self) -> None:
        try:
            self._report_until_stopped()
        finally:
            connections.close_all()

    def _report_until_stopped(self) -> None:
        announced = 0.0
        while not self._stopped.wait(REPORT_SECONDS):
            with self._lock:
                current = list(self._running)
            for running in current:
                try:
                    self._report(running)
                except DatabaseError as error:
                    log.warning("No heartbeat for %s: %s", running.generation.pk, error)
                    close_old_connections()
            if time.monotonic() - announced > presence.WORKER_SECONDS / 3:
                announced = time.monotonic()
                self._announce(len(current))
            if not current:
                close_old_connections()

    def _announce(self, running: int) -> None:
        try:
            presence.report(self.name, {**self.engine.status(), "running": running})
        except DatabaseError as error:
            log.warning("Worker %s could not report: %s", self.name, error)
            close_old_connections()

    def _report(self, running: Running) -> None:
        now = time.monotonic()
        if now - running.beat_at >= settings.HEARTBEAT_SECONDS:
            running.beat_at = now
            self._beat(running)
        latest = running.latest
        if latest is not running.reported and not running.lost:
            running.reported = latest
            preview, running.preview = running.preview, None
            generation = running.generation
            store.publish_progress(
                generation.pk,
                generation.owner_id,
                phase=latest.phase,
                step=latest.step,
                steps=generation.total_steps,
                preview=preview,
            )

    def _beat(self, running: Running) -> None:
        generation = running.generation
        if running.stalled:
            # A thread that hangs inside native code cannot be stopped from within, so the process goes. Its
            # leases run out and others take over.
            log.critical("%s has not moved for too long; this worker ends itself.", generation.pk)
            os._exit(STALLED_EXIT_CODE)
        running.watched = store.is_watched(generation.owner_id)
        beat = jobs.heartbeat(generation, phase=running.latest.phase, step=running.latest.step)
        if not beat.alive:
            running.lost = True
        if running.job and (running.lost or beat.cancel_requested) and not running.handing_back:
            self.engine.cancel(running.job)


# --- the one worker of this process ----------------------------------------------------------------------

_worker: Worker | None = None


def start() -> None:
    """Make the engine and start claiming. Called once per worker process."""
    global _worker
    _worker = Worker(configured_engine(), name=worker_name(), threads=settings.MAX_BATCH)
    _worker.start()


def worker_name() -> str:
    """Unique also where a restarted container gets the same host name and process id."""
    return f"{_process_name(os.getpid())}{secrets.token_hex(3)}"


def _process_name(pid: int) -> str:
    return f"{socket.gethostname()}-{pid}-"


def process_ended(pid: int) -> int:
    """For who saw the worker process `pid` of this machine end: its leases need not run out. Returns how many."""
    presence.forget(_process_name(pid))
    return jobs.take_from(_process_name(pid))


def bell() -> None:
    if _worker:
        _worker.ring()


def stop_claiming() -> None:
    if _worker:
        _worker.stop_claiming()


def stop() -> None:
    if _worker:
        _worker.stop(settings.DRAIN_SECONDS)


def configured_engine() -> Engine:
    """The engine that the settings ask for."""
    if provider := remote_provider():
        return make_engine(
            "remote",
            catalog(),
            provider=provider,
            client=HttpClient(seconds=settings.OUTSIDE_SECONDS),
            at_once=settings.MAX_BATCH,
            answer_seconds=settings.OUTSIDE_ANSWER_SECONDS,
        )
    if settings.DREAMSKETCH_ENGINE == "fake":
        return make_engine(
            "fake",
            catalog(),
            seconds_per_step=settings.FAKE_SECONDS_PER_STEP,
            faults_allowed=settings.FAULTS_ALLOWED,
            faults_folder=settings.VAR_DIR / "faults",
        )
    return make_engine(
        "torch",
        catalog(),
        device=settings.DEVICE,
        dtype=settings.DTYPE,
        models_dir=settings.MODELS_DIR,
        allow_download=settings.MODEL_DOWNLOADS,
        hf_token=settings.HF_TOKEN or None,
        idle_unload=None if settings.IDLE_UNLOAD_SECONDS < 0 else settings.IDLE_UNLOAD_SECONDS,
        compile=settings.COMPILE,
        compile_cache=settings.VAR_DIR / "compiled",
        # With guidance a picture takes two places in a forward pass.
        max_rows=2 * settings.MAX_BATCH,
    )
