"""The engine on PyTorch and diffusers: one thread owns the device and draws what is submitted to it."""

import logging
import platform
import threading
import time
import traceback
from importlib.metadata import version
from pathlib import Path

import torch

from .batch import Row, advance, foresee, start_row
from .catalog import Catalog
from .errors import Cancelled, EngineStopped, InvalidRequest, OutOfMemory
from .images import decode
from .inbox import Inbox, Report, cancel, fail, succeed
from .loader import LoadedModel, ModelManager, dtype_name, is_out_of_memory
from .request import EngineImage, ImageRequest, Job, no_preview, no_report

log = logging.getLogger(__name__)


class DiffusionEngine:
    """Draws with Stable Diffusion models; see `request.Engine` for what each method promises.

    `catalog`: the models on offer. `threads`: CPU threads for PyTorch, or None for its own choice.
    `preview_interval`: least seconds between two previews. The other options are ModelManager's.
    """

    def __init__(
        self,
        catalog: Catalog | None = None,
        *,
        threads: int | None = None,
        preview_interval: float = 0.25,
        **loading,
    ):
        self.catalog = catalog or Catalog()
        self.models = ModelManager(**loading)
        self._threads = threads
        self._preview_interval = preview_interval
        self._inbox = Inbox()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is not None:
            return
        self._stopping.clear()
        self._inbox.open()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, request: ImageRequest, *, on_progress=no_report, wants_preview=no_preview) -> Job:
        job = Job(request, on_progress, wants_preview)
        self._inbox.put(job)
        return job

    def cancel(self, job: Job) -> None:
        cancel(self._inbox, job)

    def stop(self) -> None:
        """Returns when the thread has ended: after the step, decode or load that it is in."""
        self._stopping.set()
        self._inbox.close()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self.models.unload()

    def status(self) -> dict:
        device = self.models.device
        name, memory = platform.processor() or platform.machine(), None
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            name, memory = torch.cuda.get_device_name(device), {"used": total - free, "total": total}
        dtypes = sorted({dtype_name(self.models.dtype_for(spec)) for spec in self.catalog})
        return {"device": str(device), "device_name": name, "dtype": "/".join(dtypes), "memory": memory,
                "models": self.models.resident()}

    def _run(self) -> None:
        if self._threads:
            torch.set_num_threads(self._threads)
        while job := self._inbox.take():
            self._serve(job)
            del job  # not to be held while waiting for the next

    def _serve(self, job: Job) -> None:
        report = Report(job, self._preview_interval)
        try:
            if not self._try(job, report):
                # Here, outside the handler, nothing refers to the failed attempt any more.
                self._recover_memory(job)
                if not self._try(job, report, low_memory=True):
                    self._recover_memory(job)
                    raise OutOfMemory()
        except Exception as error:
            fail(job, error)
        else:
            succeed(job)

    def _try(self, job: Job, report: Report, low_memory: bool = False) -> bool:
        """Draw what the job still lacks. False when memory ran out."""
        try:
            model = self._model(job, report)
            model.save_memory(low_memory)
            while len(job.images) < job.request.num_images:
                self._draw_next(model, job, report)
            return True
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("Out of memory%s: %s", " in low-memory mode" if low_memory else "", job.request.model)
            # The frames hold the tensors that filled the memory.
            traceback.clear_frames(error.__traceback__)
            return False

    def _recover_memory(self, job: Job) -> None:
        self.models.unload(keep=self.catalog.get(job.request.model))

    def _model(self, job: Job, report: Report) -> LoadedModel:
        def on_phase(phase, fraction):
            self._check_border(job)
            report.phase(phase, fraction)

        spec = self.catalog.get(job.request.model)
        model = self.models.get(spec, on_phase)
        for side, param in ((job.request.width, "width"), (job.request.height, "height")):
            if side % model.vae_scale:
                raise InvalidRequest(f"This must be a multiple of {model.vae_scale} for {spec.title}.", param)
        return model

    @torch.inference_mode()
    def _draw_next(self, model: LoadedModel, job: Job, report: Report) -> None:
        """Draw the next image of the job and add it to `job.images`."""
        self._check_border(job)
        began, index = time.perf_counter(), len(job.images)
        report.phase("generating")
        row = start_row(model, job.request, index)
        before = index * job.request.steps
        while not row.finished:
            advance(model, row)
            report.step(before + row.steps_done, lambda: model.colours.picture(foresee(row)))
            self._check_border(job)
        picture = decode(model, row.latents)
        job.images.append(
            EngineImage(
                index=index,
                seed=job.request.seed_of(index),
                pixels=picture,
                recipe=_recipe(model, row),
                seconds=time.perf_counter() - began,
            )
        )

    def _check_border(self, job: Job) -> None:
        if job.cancelled:
            raise Cancelled(list(job.images))
        if self._stopping.is_set():
            raise EngineStopped()


def _recipe(model: LoadedModel, row: Row) -> dict:
    source = model.source.name
    recipe = {
        "engine": "diffusers",
        "model": model.spec.key,
        "weights": model.weights_hash,
        "source": Path(source).name if Path(source).is_absolute() else source,  # no paths of ours go out
        "scheduler": type(row.scheduler).__name__,
        "dtype": dtype_name(model.dtype),
        "device": model.device.type,
        "low_memory": model.low_memory,
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
    }
    return recipe | ({"prompt_tokens_dropped": row.dropped} if row.dropped else {})
