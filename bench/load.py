"""One caller who means harm, and what others notice: pages, uploads, webhooks, memory, connections, temporary files.

    .venv/bin/python bench/load.py [--only pages,half-sent] [--seconds 10] [--connections 200] >> bench/results.jsonl

A site of real processes with the fake engine. The attacker, a process of its own that takes little of the processor,
comes from 127.0.0.1; the bystander from 127.0.0.2. Prints one JSON line per attack (see `tests/faults/attacks.py`):
seconds, megabytes, and how the attacker's connections ended. To measure another version, copy this file and
`tests/faults/{attacks,flood}.py` there.
"""

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.faults.attacks import ATTACKS
from tests.site import ROOT, Site


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(ATTACKS))
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=200)
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    about = {"bench": "load", "date": str(dt.date.today()), "cores": os.cpu_count(), "commit": commit}
    with (
        tempfile.TemporaryDirectory() as var,
        Site(Path(var), DREAMSKETCH_ENGINE="fake", FAKE_SECONDS_PER_STEP="0.1", WEBHOOK_ALLOW_PRIVATE="1") as site,
    ):
        for name in options.only.split(","):
            figures = ATTACKS[name](site, options.seconds, options.connections)
            print(json.dumps(about | {"attack": name, "connections": options.connections} | figures), flush=True)


if __name__ == "__main__":
    main()
