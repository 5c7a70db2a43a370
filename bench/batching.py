"""Step-level batching: images per second with 1, 4 and 8 requests in flight, against one at a time.

    .venv/bin/python bench/batching.py [--seconds 50] [--steps 20] >> bench/results.jsonl

Both sides are the same engine with the same model and requests of different seed, guidance and sampler;
one lets a single row into a forward pass, the other all of them. They take turns (A B B A ...), and the
ratio is the median over pairs. First each request's pictures are compared: batching may change no pixel by
more than 1 of 255. Models: a UNet of (32, 64) channels at 16 x 16 latents, where dispatch dominates as on a
GPU, and the built-in model at its native size if it is there. Prints one JSON line.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from generation.engine.catalog import Catalog
from generation.engine.engine import DiffusionEngine
from generation.engine.request import build_request
from generation.engine.sources import is_ready
from tests.engine.models import save_sd, tiny_spec

IN_FLIGHT = (1, 4, 8)
SAMPLERS = ("Euler", "DPM++ 2M", "DDIM", "Euler a")


def requests_for(spec, count, steps):
    return [
        build_request(spec, prompt=f"{colour} boat at sea", steps=steps, seed=seed, sampler=sampler,
                      guidance_scale=4 + seed / 2)
        for seed, colour, sampler in zip(range(count), cycle(("red", "blue", "green")), cycle(SAMPLERS), strict=False)
    ]


def draw(engine, requests):
    """(seconds, pictures as arrays) of the requests, all submitted at once."""
    began = time.perf_counter()
    jobs = [engine.submit(request) for request in requests]
    pictures = [job.result(600)[0].pixels for job in jobs]
    return time.perf_counter() - began, [np.asarray(picture, int) for picture in pictures]


def compare(spec, steps, threads, seconds):
    """Images per second by requests in flight, one at a time and batched, within about `seconds`."""
    engines = [DiffusionEngine(Catalog([spec]), device="cpu", allow_download=False, threads=threads, max_rows=rows)
               for rows in (1, 2 * max(IN_FLIGHT))]
    for engine in engines:
        engine.start()
    everything = requests_for(spec, max(IN_FLIGHT), steps)
    (_, alone), (_, batched) = (draw(engine, everything) for engine in engines)
    difference = max(int(np.abs(a - b).max()) for a, b in zip(alone, batched, strict=True))
    assert difference <= 1, f"batching changes pixels by {difference}"

    times = {count: ([], []) for count in IN_FLIGHT}
    deadline = time.monotonic() + seconds
    for order in cycle(((0, 1), (1, 0))):
        for count in IN_FLIGHT:
            if times[count][0] and time.monotonic() > deadline:
                break
            for side in order:
                times[count][side].append(draw(engines[side], everything[:count])[0])
        if time.monotonic() > deadline:
            break
    for engine in engines:
        engine.stop()
    return {"largest_difference": difference, "steps": steps, "size": f"{spec.native_width}x{spec.native_height}"} | {
        str(count): {
            "one_at_a_time": round(count / statistics.median(single), 3),
            "batched": round(count / statistics.median(many), 3),
            "ratio": round(statistics.median(a / b for a, b in zip(single, many, strict=True)), 3),
            "pairs": len(single),
        }
        for count, (single, many) in times.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=50, help="for all models together")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        specs = {"unet-32-64": tiny_spec("unet-32-64", save_sd(Path(folder) / "tiny"), native_width=32,
                                         native_height=32)}
        built_in = Catalog().get("dreamsketch-tiny")
        if is_ready(built_in):
            specs[built_in.key] = built_in
        results = {name: compare(spec, options.steps, options.threads, options.seconds / len(specs))
                   for name, spec in specs.items()}
    print(json.dumps({"bench": "batching", "date": time.strftime("%Y-%m-%d"), "torch": torch.__version__,
                      "cpu": platform.processor() or platform.machine(), "threads": options.threads,
                      "load": os.getloadavg()[0], "images_per_second": results}))


if __name__ == "__main__":
    main()
