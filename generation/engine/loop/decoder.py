"""VAE decoding between steps: finished latents to images, a few at a time, and the end of jobs that are done."""

import logging
import math
import threading

import torch

from generation.engine.errors import BadOutput
from generation.engine.networks.vae import decode

from .job_state import RunningJob
from .out_of_memory import fits_in_memory
from .rows import Row
from .running_jobs import RunningJobs

log = logging.getLogger(__name__)

DECODE_STEPS = 4
"""Over how many steps the decoding of what is finished is spread."""
DECODE_PIXELS = 2 * 1024**2
"""The most that one pass of the decoder makes, one picture aside: its activations take kilobytes for each pixel."""


class Decoder:
    """Decodes the finished latents of running jobs. Used by the engine's thread alone."""

    def __init__(self, stopping: threading.Event, running: RunningJobs):
        self._stopping = stopping
        self._running = running

    def decode_some(self) -> None:
        """A picture, or a few if many wait: a decode takes as long as some steps do, and the steps wait for it.

        In proportion to those that wait, or jobs of one or two steps would be drawn faster than decoded.
        """
        waiting = [
            (running, row) for running in self._running if not running.job.cancelled for row in running.undecoded
        ]
        if not waiting or self._stopping.is_set():
            return
        first_key = _batch_key(*waiting[0])
        batch = [pair for pair in waiting if _batch_key(*pair) == first_key]
        share = math.ceil(len(waiting) / DECODE_STEPS)
        self._decode(batch[: max(1, min(share, DECODE_PIXELS // _pixels(*batch[0])))])

    def _decode(self, batch: list[tuple[RunningJob, Row]]) -> None:
        """Turn latents into pictures, all in one pass, or each alone if that does not go well."""
        running = batch[0][0]
        if len(batch) == 1:
            self._running.run_alone(running, lambda: self._decode_batch(batch))
            return
        try:
            running.model.save_memory(running.low_memory)
            fitted = fits_in_memory(lambda: self._decode_batch(batch))
        except Exception as error:
            log.warning("The decoding of %d pictures failed, each alone now: %s", len(batch), str(error))
            fitted = False
        if not fitted:
            self._running.free_memory()
            for running, row in batch:
                if running in self._running and row in running.undecoded:
                    self._decode([(running, row)])

    def _decode_batch(self, batch: list[tuple[RunningJob, Row]]) -> None:
        model, rows = batch[0][0].model, [row for _, row in batch]
        pictures = decode(model, torch.cat([row.latents for row in rows]), tiling=rows[0].request.tiling)
        for (running, row), picture in zip(batch, pictures, strict=True):
            if running not in self._running:
                continue
            if isinstance(picture, BadOutput):
                self._running.end(running, picture)
                continue
            running.undecoded.remove(row)
            running.finish_pass(row, picture)
            self._running.end_if_finished(running)


def _batch_key(running: RunningJob, row: Row) -> tuple[str, bool, int, int, bool]:
    """Pictures that are decoded together agree in model, memory mode, latent height and width, and tiling."""
    return running.model.spec.key, running.low_memory, *row.latent_size, row.request.tiling


def _pixels(running: RunningJob, row: Row) -> int:
    return math.prod(row.latent_size) * running.model.vae_scale**2
