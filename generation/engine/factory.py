"""Engine factory: `make_engine("torch" | "fake" | "remote")`. Importing this loads no torch; a `torch` engine does."""

import os
from typing import Any

from .catalog.models import Catalog
from .protocol import Engine

KINDS = ("torch", "fake", "remote")


def make_engine(kind: str, catalog: Catalog | None = None, **options: Any) -> Engine:
    """An engine that has not been started.

    torch: `device` (auto, cuda, mps, cpu), `dtype` (auto, fp32, bf16, fp16), `models_dir`, `cache_dir`,
    `allow_download`, `hf_token`, `memory_budget` (bytes), `threads`, `preview_interval` (seconds),
    `max_rows` (pictures through the UNet at once; with guidance each counts twice), `idle_unload` (seconds),
    `host_memory` (bytes), `compile`, `compile_cache` (a folder).
    fake: `seconds_per_step`, `load_seconds`, `preview_interval`, `faults_allowed`, `faults_folder`.
    remote: `provider` (see `providers`), `client`, `at_once` (jobs in flight), `answer_seconds`.
    Raises ValueError for another kind.
    """
    if kind == "torch":
        # OpenMP's threads otherwise spin while they wait for each other, and on a machine that is busy
        # elsewhere each waits for one that does not run: measured 55 s instead of 2.2 s for two pictures
        # on two cores under load. It is read once, when torch is first imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        if folder := options.pop("compile_cache", None):
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
        from .loop.engine import DiffusionEngine

        return DiffusionEngine(catalog, **options)
    if kind == "fake":
        from .fake import FakeEngine

        return FakeEngine(catalog, **options)
    if kind == "remote":
        from .remote.engine import RemoteEngine

        return RemoteEngine(catalog, **options)
    raise ValueError(f"There is no engine called {kind!r}. There is: {', '.join(KINDS)}.")
