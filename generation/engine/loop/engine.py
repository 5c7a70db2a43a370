"""DiffusionEngine: the engine on PyTorch and diffusers. One thread owns the device and runs the step loop."""

import platform
from collections.abc import Callable
from typing import Any

import torch

from generation.engine.catalog.models import Catalog, ModelSpec
from generation.engine.job_queue import EngineBase
from generation.engine.networks.loader import ModelManager, dtype_name

from .step_loop import StepLoop


class DiffusionEngine(EngineBase):
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
        **model_options: Any,
    ):
        super().__init__()
        self.catalog = catalog or Catalog()
        self.models = ModelManager(**model_options)
        self._cpu_threads = threads
        self._max_rows = max_rows
        self._preview_interval = preview_interval

    def _thread_targets(self) -> dict[str, Callable[[], None]]:
        return {"engine": self._run}

    def stop(self) -> None:
        """Returns when the thread has ended: after the step, decode or load that it is in."""
        if self._join():
            self.models.close()

    def status(self) -> dict[str, Any]:
        """As `request.Engine` says; memory is that of a CUDA device, None elsewhere."""
        device = self.models.device
        name, memory = platform.processor() or platform.machine(), None
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            name, memory = torch.cuda.get_device_name(device), {"used": total - free, "total": total}
        dtypes = sorted({dtype_name(self.models.dtype_for(spec)) for spec in self.catalog})
        return {
            "device": str(device),
            "device_name": name,
            "dtype": "/".join(dtypes),
            "memory": memory,
            "models": self.models.resident(),
        }

    def _run(self) -> None:
        if self._cpu_threads:
            torch.set_num_threads(self._cpu_threads)
        StepLoop(
            self._find_spec,
            self.models,
            self._queue,
            self._stopping,
            max_rows=self._max_rows,
            preview_interval=self._preview_interval,
        ).run()

    def _find_spec(self, key: str) -> ModelSpec:
        return self.catalog.get(key)  # looked up every time: the catalogue may be exchanged
