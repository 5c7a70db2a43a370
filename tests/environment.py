"""Loaded before Django: gives the test run servers and folders of its own."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

os.environ.setdefault("VAR_DIR", str(ROOT / "var" / "test"))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["DEBUG"] = ""
os.environ["IGNORE_ENV_FILE"] = "1"  # it may name the database of a real site
(Path(os.environ["VAR_DIR"]) / "static").mkdir(parents=True, exist_ok=True)  # whitenoise warns where it is missing
# pytest closes its folder in /tmp to everybody else each time it starts, also to the PostgreSQL of another run, which
# works under a user of its own there.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(Path(os.environ["VAR_DIR"]) / "tmp"))
Path(os.environ["PYTEST_DEBUG_TEMPROOT"]).mkdir(parents=True, exist_ok=True)

from dreamsketch import embedded  # noqa: E402

if not os.environ.get("REDIS_URL") or os.environ.get("TEST_REDIS"):
    # A Redis database for each parallel worker: they have users of the same numbers. TEST_REDIS says that the
    # REDIS_URL which a worker inherits is the one that the process before it made here.
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw") or 0)
    os.environ["TEST_REDIS"] = os.environ.get("TEST_REDIS") or embedded.redis_url(Path(os.environ["VAR_DIR"]))
    os.environ["REDIS_URL"] = os.environ["TEST_REDIS"].removesuffix("0") + str(worker + 1)
