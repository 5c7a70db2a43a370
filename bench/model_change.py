"""Changing models (B6): three of Stable Diffusion 1.5's size, asked for in turns, against diffusers' loading.

    .venv/bin/python bench/model_change.py [--pairs 5] [--seconds 180] [--keep FOLDER] >> bench/results.jsonl

    resident    milliseconds in which the engine finds a model that it holds, and how much longer a picture takes when
                each asks for another model than the one before (64 x 64, 1 step)
    reload      a model that had to leave is loaded again, with its files in the machine's cache: seconds of ours, of
                from_pretrained in its default precision (fp32), and of from_pretrained in the precision that ours chose
    first       a new engine from the request to the first picture, against from_pretrained and a picture by diffusers

True size with random weights; 6 GB of disk, 15 GB of memory. First, pictures of alternating models are compared with
those of each model drawn alone: a change may leave nothing behind. Prints one JSON line.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from compare import difference, median, print_result, ratio, running_engine, seconds_of, take_turns
from families import FAMILIES, save_family, spec_of, tiny
from single_image import by_engine, by_pipeline, load_pipeline

from generation.engine.networks.loader import ModelManager, dtype_name

SIDE = 64
PLENTY = 2**40


def resident(specs, rounds: int, seconds: float) -> dict:
    """Alternating models against staying with one, all of them loaded."""
    with running_engine(specs, memory_budget=PLENTY) as engine:

        def draw(spec, number):
            return by_engine(engine, spec, "a red boat", number, SIDE, 1)

        alone = [draw(spec, 1) for _ in range(2) for spec in specs[:1]][0], *(draw(spec, 1) for spec in specs[1:])
        for spec in specs:
            engine.models.get(spec).weights_hash  # noqa: B018 -- computed beside the pictures, waited for
        largest = max(difference(draw(spec, 1), picture)["largest"] for spec, picture in zip(specs, alone, strict=True))
        assert largest == 0, f"a change of models changes pictures by {largest}"
        times = take_turns(
            {
                "changing": lambda number: seconds_of(lambda: [draw(spec, number) for spec in specs]) / len(specs),
                "staying": lambda number: seconds_of(lambda: [draw(specs[number % 3], number) for _ in specs]) / 3,
            },
            rounds,
            seconds,
        )
        looks = [seconds_of(lambda: engine.models.get(spec)) for _ in range(200) for spec in specs]  # noqa: B023
    return {
        "milliseconds_to_find": round(1000 * median(looks, 7), 4),
        "milliseconds_changing": round(1000 * median(times["changing"], 5), 2),
        "milliseconds_staying": round(1000 * median(times["staying"], 5), 2),
        "changing/staying": ratio(times["changing"], times["staying"]),
        "of_cpu_seconds": ratio(times.cpu["changing"], times.cpu["staying"]),
    }


def reload(specs, rounds: int, seconds: float) -> dict:
    """Loading what was there before, as one model's room makes necessary."""
    manager = ModelManager(device="cpu", allow_download=False, memory_budget=1)

    def ours(number):
        spec = specs[number % len(specs)]
        manager.unload()
        took = seconds_of(lambda: manager.get(spec))
        manager.get(spec).weights_hash  # noqa: B018 -- known from the first time on
        return took

    def theirs(dtype):
        return lambda number: seconds_of(lambda: load_pipeline(Path(specs[number % len(specs)].sources[0]), dtype))

    for number in range(len(specs)):
        ours(number)  # brings the files into the cache, and computes their hashes
    dtype = manager.dtype_for(specs[0])
    times = take_turns({"ours": ours, "diffusers": theirs(torch.float32), "tuned": theirs(dtype)}, rounds, seconds)
    manager.close()
    return {
        "dtype": dtype_name(dtype),
        "seconds": {name: median(values) for name, values in times.items()},
        "diffusers/ours": ratio(times["diffusers"], times["ours"]),
        "tuned/ours": ratio(times["tuned"], times["ours"]),
        "of_cpu_seconds": {name: ratio(times.cpu[name], times.cpu["ours"]) for name in ("diffusers", "tuned")},
    }


def first(spec, dtype, rounds: int, seconds: float) -> dict:
    """From nothing loaded to a picture."""

    def ours(number):
        began = time.perf_counter()
        with running_engine([spec]) as engine:
            by_engine(engine, spec, "a red boat", number, SIDE, 4)
            return time.perf_counter() - began

    def theirs(number):
        return seconds_of(
            lambda: by_pipeline(load_pipeline(Path(spec.sources[0]), dtype, tuned=True), "a red boat", number, SIDE, 4)
        )

    times = take_turns({"ours": ours, "tuned": theirs}, rounds, seconds)
    return {
        "seconds": {name: median(values) for name, values in times.items()},
        "ours/tuned": ratio(times["ours"], times["tuned"]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--keep", type=Path, help="where the models are made, or lie already")
    parser.add_argument("--tiny", action="store_true", help="few channels, to try the benchmark out")
    options = parser.parse_args()
    family = tiny(FAMILIES["sd15"]) if options.tiny else FAMILIES["sd15"]
    with tempfile.TemporaryDirectory() as scratch:
        kept = options.keep or Path(scratch)
        specs = [
            spec_of(f"sd15-{seed}", family, save_family(family, kept / f"sd15-{seed}", seed=seed)) for seed in range(3)
        ]
        share = options.seconds / 3
        results = {"resident": resident(specs, options.pairs, share), "reload": reload(specs, options.pairs, share)}
        manager = ModelManager(device="cpu")
        results["first"] = first(specs[0], manager.dtype_for(specs[0]), options.pairs, share)
        print_result("model_change", {"model": "sd15"} | results)


if __name__ == "__main__":
    main()
