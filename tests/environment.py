"""Loaded before Django: gives the test run servers and folders of its own."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

os.environ.setdefault("VAR_DIR", str(ROOT / "var" / "test"))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["DEBUG"] = ""
(Path(os.environ["VAR_DIR"]) / "static").mkdir(parents=True, exist_ok=True)  # whitenoise warns where it is missing

from dreamsketch import embedded  # noqa: E402

if not os.environ.get("REDIS_URL"):
    # A Redis database for each parallel worker: they have users of the same numbers.
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw") or 0)
    os.environ["REDIS_URL"] = embedded.redis_url(Path(os.environ["VAR_DIR"])).removesuffix("0") + str(worker + 1)
