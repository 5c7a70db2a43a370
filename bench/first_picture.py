"""From a bare clone to the first picture: seconds until the site answers, until the first picture, per picture.

    .venv/bin/python bench/first_picture.py [--pictures 5] >> bench/results.jsonl

Clones the repository's HEAD into an empty folder and runs `bin/serve` there as a newcomer would, then asks
for pictures through the API with the built-in model's defaults. Prints one JSON line. The time of the
installation depends on the network; it is reported apart.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def call(url, key, payload=None):
    data = None if payload is None else json.dumps(payload).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
        return json.load(answer)


def picture(site, key, seed):
    """Seconds from asking to the finished picture, and what the worker took of them."""
    began = time.monotonic()
    job = call(f"{site}/api/generate", key, {"prompt": "a red boat at sea", "seed": seed})
    while True:
        status = call(job["status_url"], key)
        if status["status"] not in ("queued", "processing"):
            assert status["status"] == "completed", status
            return time.monotonic() - began, status["processing_time_ms"] / 1000
        time.sleep(0.05)


def measure(folder: Path, port: int, pictures: int) -> dict:
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DATABASE_URL", "REDIS_URL", "VAR_DIR", "VIRTUAL_ENV")
    }
    began = time.monotonic()
    server = subprocess.Popen(
        ["bin/serve", "--port", str(port)],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    marks = {}
    try:
        for line in server.stdout:
            print(line, end="", file=sys.stderr)
            if "preparing the database" in line:
                marks["installed"] = time.monotonic() - began
            if "ready at" in line:
                marks["ready"] = time.monotonic() - began
                break
        key = subprocess.run(
            [
                ".venv/bin/python",
                "manage.py",
                "create_user",
                "bench@example.com",
                "--plan",
                "pro",
                "--password",
                "correct horse battery",
                "--api-key",
            ],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        site = f"http://127.0.0.1:{port}"
        took = [picture(site, key, seed) for seed in range(pictures)]
        marks["first_picture"] = marks["ready"] + took[0][0]
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    later = [whole for whole, _ in took[1:]]
    return {
        "bench": "first_picture",
        "seconds_installing": round(marks["installed"], 1),
        "seconds_until_ready": round(marks["ready"], 1),
        "seconds_until_first_picture": round(marks["first_picture"], 1),
        "seconds_first_request": round(took[0][0], 2),
        "seconds_per_picture": round(statistics.median(later), 2) if later else None,
        "seconds_drawing": round(statistics.median(drawing for _, drawing in took), 2),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=5)
    parser.add_argument("--port", type=int, default=8765)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder) / "dreamsketch", options.port, options.pictures)))


if __name__ == "__main__":
    main()
