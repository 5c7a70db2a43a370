"""What the benchmarks share: sides that take turns, ratios with their uncertainty, work counted and speed measured."""

import json
import math
import os
import platform
import random
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from generation.engine.catalog.models import Catalog, ModelSpec
from generation.engine.loop.engine import DiffusionEngine

MOST_STEAL = 0.01
"""Rounds in which the machine's host took more than this part of the time away do not count."""


def seconds_of(do: Callable, device: str = "cpu") -> float:
    """How long the call takes, the device's work included."""
    finish(device)
    began = time.perf_counter()
    do()
    finish(device)
    return time.perf_counter() - began


def finish(device: str) -> None:
    """Wait until the device has done what was asked of it."""
    if device != "cpu":
        torch.cuda.synchronize()


class Turns(dict):
    """Seconds by side, one for each round. `cpu`: likewise, what this process took of the processor meanwhile, over all
    threads; that says more than the clock on a machine that others use, and nothing where a GPU does the work."""

    def __init__(self, rounds: list[dict]):
        names = rounds[0]
        super().__init__({name: [took[name][0] for took in rounds] for name in names})
        self.cpu = {name: [took[name][1] for took in rounds] for name in names}


def take_turns(sides: dict[str, Callable[[int], float]], rounds: int, seconds: float = math.inf) -> Turns:
    """Seconds of each side in each round, in the order A B ... and then ... B A, so that a drift hits all alike.

    A side is given the round's number and returns how long it took. Ends after `rounds`, or with the round in which
    `seconds` have passed. Rounds with much steal are left out if there are others.
    """
    quiet, noisy = [], []
    deadline = time.monotonic() + seconds
    for number in range(rounds):
        before = _ticks()
        names = list(sides) if number % 2 == 0 else list(reversed(sides))
        took = {}
        for name in names:
            began = time.process_time()
            took[name] = sides[name](number), time.process_time() - began
        (noisy if _steal(before, _ticks()) > MOST_STEAL else quiet).append(took)
        if time.monotonic() > deadline:
            break
    return Turns(quiet or noisy)


def _ticks() -> list[int]:
    try:
        return [int(number) for number in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    except OSError:
        return [0] * 10


def _steal(before: list[int], after: list[int]) -> float:
    passed = [b - a for a, b in zip(before, after, strict=True)]
    return passed[7] / max(sum(passed[:8]), 1)


def ratio(over: list[float], under: list[float]) -> dict:
    """The median of the pairs' quotients with its 95 % interval, by 4000 bootstrap samples (Efron 1979)."""
    quotients = [a / b for a, b in zip(over, under, strict=True)]
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(quotients, k=len(quotients))) for _ in range(4000))
    return {
        "median": round(statistics.median(quotients), 4),
        "low": round(medians[100], 4),
        "high": round(medians[-101], 4),
        "pairs": len(quotients),
    }


def arrive_at_random(submit: Callable, requests: list, per_second: float) -> dict:
    """Seconds from arrival to the end, when requests come as a Poisson process of that rate.

    `submit` takes a request and returns a Future.
    """
    draw, futures, took, ended = random.Random(1), [], [], threading.Semaphore(0)
    began = due = time.perf_counter()

    def note(arrived):
        def call(_):
            took.append(time.perf_counter() - arrived)
            ended.release()

        return call

    for request in requests:
        due += draw.expovariate(per_second)
        time.sleep(max(0.0, due - time.perf_counter()))
        future = submit(request)
        future.add_done_callback(note(due))
        futures.append(future)
    for _ in futures:
        ended.acquire()  # callbacks may come after the result
    for future in futures:
        future.result()
    passed = time.perf_counter() - began
    ordered = sorted(took)
    return {"offered_per_second": round(per_second, 3), "images_per_second": round(len(futures) / passed, 3)} | {
        f"p{part}": round(ordered[min(len(ordered) - 1, len(ordered) * part // 100)], 3) for part in (50, 95, 99)
    }


def median(values: list[float], digits: int = 3) -> float:
    return round(statistics.median(values), digits)


def gigaflop(call: Callable) -> float:
    """GFLOP that the call takes in matrix products, convolutions and attention; a multiply-add is two.

    Give it modules and tensors on the `meta` device, where it costs nothing.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9


def device_speed(dtype: torch.dtype, device: str = "cpu", *, tiny: bool = False) -> dict:
    """GFLOP/s of one large matrix product and one 3 x 3 convolution of 320 channels, the best of a few: no kernel that
    a model is made of was seen to be faster, so that the higher one makes a floor."""
    side, channels, edge = (256, 32, 16) if tiny else (8192, 320, 64) if device != "cpu" else (2048, 320, 64)
    batch = 1 if device == "cpu" else 16
    a = torch.randn(side, side, dtype=dtype, device=device)
    picture = torch.randn(batch, channels, edge, edge, dtype=dtype, device=device)
    picture = picture.to(memory_format=torch.channels_last)
    kernel = torch.randn(channels, channels, 3, 3, dtype=dtype, device=device).to(memory_format=torch.channels_last)
    works = {
        "matmul": (lambda: a @ a, 2 * side**3),
        "convolution": (
            lambda: torch.nn.functional.conv2d(picture, kernel, padding=1),
            2 * batch * channels**2 * 9 * edge**2,
        ),
    }
    speeds = {}
    with torch.inference_mode():
        for name, (do, flop) in works.items():
            do()
            speeds[name] = round(flop / min(_undisturbed_seconds(do, device) for _ in range(6)) / 1e9, 1)
    return speeds


def _undisturbed_seconds(do: Callable, device: str) -> float:
    """What the call would take if nobody else used the processor; all threads must be busy all the time."""
    if device != "cpu":
        return seconds_of(do, device)
    began = time.process_time()
    do()
    return (time.process_time() - began) / torch.get_num_threads()


def difference(ours: Image.Image, theirs: Image.Image) -> dict:
    """The largest difference of a pixel (of 255) and the peak signal-to-noise ratio in dB (99 for equal ones)."""
    a, b = (np.asarray(picture, float) for picture in (ours, theirs))
    squared = float(((a - b) ** 2).mean())
    psnr = 99.0 if squared == 0 else 10 * math.log10(255**2 / squared)
    return {"largest": int(np.abs(a - b).max()), "psnr": round(psnr, 1)}


@contextmanager
def running_engine(specs: list[ModelSpec], **options):
    """A started engine with those models, stopped in the end."""
    engine = DiffusionEngine(Catalog(specs), **{"device": "cpu", "allow_download": False} | options)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


def conditions(device: str = "cpu") -> dict:
    """What a number means nothing without."""
    name = platform.processor() or platform.machine()
    if device == "cpu" and Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), name)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
        "device": torch.cuda.get_device_name() if device != "cpu" else name,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
    }


def print_result(bench: str, results: dict, device: str = "cpu") -> None:
    """Print the one JSON line."""
    print(json.dumps({"bench": bench} | conditions(device) | results), flush=True)
