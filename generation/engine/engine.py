"""The engine on PyTorch and diffusers: one thread owns the device and draws what is submitted to it."""

import platform
import threading

import torch

from .catalog import Catalog, ModelSpec
from .inbox import Inbox, cancel
from .loader import ModelManager, dtype_name
from .request import ImageRequest, Job, no_preview, no_report
from .steploop import StepLoop


class DiffusionEngine:
    """Draws with Stable Diffusion models; see `request.Engine` for what each method promises.

    `catalog`: the models on offer. `threads`: CPU threads for PyTorch, or None for its own choice.
    `preview_interval`: least seconds between two previews of a job. `max_rows`: the most pictures that go
    through the UNet together, of one model and size; with guidance a picture counts twice. The other
    options are ModelManager's.
    """

    def __init__(
        self,
        catalog: Catalog | None = None,
        *,
        threads: int | None = None,
        preview_interval: float = 0.25,
        max_rows: int = 8,
        **loading,
    ):
        self.catalog = catalog or Catalog()
        self.models = ModelManager(**loading)
        self._threads = threads
        self._loop_options = {"max_rows": max_rows, "preview_interval": preview_interval}
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

    def submit(
        self, request: ImageRequest, *, on_progress=no_report, wants_preview=no_preview, ticket="", deadline=None
    ) -> Job:
        job = Job(request, on_progress, wants_preview, ticket=ticket, deadline=deadline)
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
            self.models.close()

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
        StepLoop(self._find_spec, self.models, self._inbox, self._stopping, **self._loop_options).run()

    def _find_spec(self, key: str) -> ModelSpec:
        return self.catalog.get(key)  # asked every time: the catalogue may be exchanged
