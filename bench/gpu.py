"""All benchmarks of a GPU in one go, in under ten minutes: B1, B2, B3, B6, B7 and B11.

    python bench/gpu.py --out results.jsonl [--budget 560] [--blocks limits sd15_users ...]
    python bench/gpu.py --tiny --device cpu --out /tmp/tiny.jsonl        (tries the script out; its numbers say nothing)

Needs this checkout, torch with CUDA and the packages of requirements.txt that the engine imports; no network, no
weights: models of true size are made from random numbers on the GPU and saved to a temporary folder, from where all
sides load them. Writes a JSON line after each block, so that a time-out costs one block, and begins no block when
the budget is used up. It was written and tried at tiny size on a machine WITHOUT a GPU: what it says about one is
unproven until somebody runs it there.

In order of value:

    limits       TFLOP/s of 8192 x 8192 products in bf16 and fp8, TB/s of a copy, clock and power as seen
    sd15_users   SD 1.5, 512 x 512, requests of 20, 30 and 50 steps with mixed guidance: 1 to 32 in flight, then
                 Poisson arrivals at 80 % and 120 % of what was reached; diffusers' pipelines one at a time beside it
    sd15_single  one picture, 30 steps: pipeline, pipeline compiled, ours, ours compiled, raw loop, floor
    sdxl_users   SDXL 1024, 20 steps: 1, 4 and 8 in flight
    sdxl_single  one picture of SDXL 1024, 30 steps
    qwen         a transformer of Qwen-Image's size, 1024 x 1024: seconds of a guided step in bf16 and with 8-bit
                 weights, and the bytes of both
    changes      three SD 1.5 in turns: resident, brought back from the host's memory, loaded by diffusers
    saving       pictures per second with PNG and thumbnail made of each, against without
"""

import argparse
import gc
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from compare import (
    arrive_at_random,
    conditions,
    device_speed,
    difference,
    finish,
    median,
    ratio,
    running_engine,
    seconds_of,
    take_turns,
)
from diffusers import QwenImageTransformer2DModel
from families import FAMILIES, save_family, spec_of, tiny
from single_image import by_engine, by_pipeline, by_raw_loop, load_pipeline, work

from generation.engine.networks.int8 import quantize_int8
from generation.engine.networks.loader import free_memory
from generation.engine.request.metadata import encode_png
from generation.engine.request.request import build_request

PLENTY = 2**40
STEPS = (20, 30, 50)
SAMPLERS = ("Euler", "DPM++ 2M", "DDIM", "Euler a")


class Bench:
    """What the blocks share: the device, sizes, and the models' folders, made when first asked for."""

    def __init__(self, device: str, small: bool, folder: Path):
        self.device, self.small, self.folder = device, small, folder
        self.dtype = torch.bfloat16
        self.rounds = 2 if small else 5
        self.speed = 0.0
        """GFLOP/s of the fastest kernel, once measured."""

    def family(self, name: str):
        return tiny(FAMILIES[name]) if self.small else FAMILIES[name]

    def model(self, name: str, seed: int = 0) -> Path:
        return save_family(
            self.family(name), self.folder / f"{name}-{seed}", seed=seed, dtype=self.dtype, device=self.device
        )

    def spec(self, name: str, seed: int = 0):
        return spec_of(f"{name}-{seed}", self.family(name), self.model(name, seed))

    def side(self, name: str) -> int:
        return 64 if self.small else FAMILIES[name].side

    def steps(self, steps: int) -> int:
        return max(2, steps // 10) if self.small else steps

    def engine(self, specs, **options):
        return running_engine(
            specs, **{"device": self.device, "dtype": "bf16", "memory_budget": PLENTY, "max_rows": 64} | options
        )

    def floor(self, name: str, steps: int) -> float:
        """Seconds that the counted work of a guided picture takes at the speed of the fastest kernel."""
        if not self.speed:
            self.speed = max(device_speed(self.dtype, self.device, tiny=self.small).values())
        return sum(work(self.family(name), self.side(name), steps).values()) / self.speed


# Limits


def limits(bench: Bench) -> dict:
    speeds = device_speed(bench.dtype, bench.device, tiny=bench.small)
    bench.speed = max(speeds.values())
    size = 2**20 if bench.small else 2**32
    source = torch.empty(size, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    copy = min(seconds_of(lambda: target.copy_(source), bench.device) for _ in range(6))
    return {
        "gigaflop_per_second": speeds,
        "fp8_gigaflop_per_second": _fp8_speed(bench),
        "copy_terabytes_per_second": round(2 * size / copy / 1e12, 3),
        "device_state": _device_state(bench),
    }


def _fp8_speed(bench: Bench) -> float | None:
    if bench.device == "cpu":
        return None
    side = 8192
    a = torch.randn(side, side, device=bench.device).to(torch.float8_e4m3fn)
    b = torch.randn(side, side, device=bench.device).to(torch.float8_e4m3fn).t()
    scale = torch.ones((), device=bench.device)
    multiply = lambda: torch._scaled_mm(a, b, scale, scale, out_dtype=bench.dtype)  # noqa: E731 -- timed twice
    multiply()
    return round(2 * side**3 / min(seconds_of(multiply, bench.device) for _ in range(6)) / 1e9, 1)


def _device_state(bench: Bench) -> str:
    if bench.device == "cpu":
        return ""
    fields = "clocks.sm,clocks.max.sm,power.draw,temperature.gpu"
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


# One picture


def single(bench: Bench, name: str, steps: int) -> dict:
    """One picture at a time: both pipelines, ours plain and compiled, the raw loop."""
    spec, folder, side, steps = bench.spec(name), bench.model(name), bench.side(name), bench.steps(steps)
    plain = load_pipeline(folder, torch.float32, bench.device)
    tuned = load_pipeline(folder, bench.dtype, bench.device, tuned=True)
    compiled = load_pipeline(folder, bench.dtype, bench.device, tuned=True)
    backend = "aot_eager" if bench.small else "inductor"  # which translates for minutes, however small the network
    compiled.unet.compile(backend=backend)
    with bench.engine([spec]) as ours, bench.engine([spec], compile=backend) as ours_compiled:
        draws = {
            "diffusers": (by_pipeline, plain),
            "tuned": (by_pipeline, tuned),
            "tuned_compiled": (by_pipeline, compiled),
            "ours": (by_engine, ours, spec),
            "ours_compiled": (by_engine, ours_compiled, spec),
            "raw_loop": (by_raw_loop, tuned),
        }
        sides = {
            side_name: lambda number, do=do, first=first: seconds_of(
                lambda: do(*first, f"a boat number {number}", number, side, steps), bench.device
            )
            for side_name, (do, *first) in draws.items()
        }
        first = {side_name: round(do(0), 2) for side_name, do in sides.items()}
        raw = by_raw_loop(tuned, "equal", 1, side, steps)
        equality = {
            f"{side_name}_to_raw_loop": difference(do(*arguments, "equal", 1, side, steps), raw)
            for side_name, (do, *arguments) in draws.items()
        }
        times = take_turns(sides, bench.rounds, 60)
    floor = bench.floor(name, steps)
    best = min(("tuned", "tuned_compiled"), key=lambda each: statistics.median(times[each]))
    fastest = min(("ours", "ours_compiled"), key=lambda each: statistics.median(times[each]))
    return {
        "model": name,
        "size": f"{side}x{side}",
        "steps": steps,
        "equality": equality,
        "first_with_load_or_compilation": first,
        "seconds": {each: median(values, 4) for each, values in times.items()} | {"floor": round(floor, 4)},
        "diffusers/ours": ratio(times["diffusers"], times[fastest]),
        "best_of_ours": fastest,
        f"{best}/ours": ratio(times[best], times[fastest]),
        "ours/raw_loop": ratio(times["ours"], times["raw_loop"]),
        "ours/floor": ratio(times[fastest], [floor] * len(times[fastest])),
    }


# Many users


def requests_for(bench: Bench, spec, count: int, steps: tuple[int, ...]) -> list:
    side = spec.native_width
    return [
        build_request(
            spec,
            prompt=f"a boat number {seed}",
            width=side,
            height=side,
            seed=seed,
            sampler=sampler,
            steps=bench.steps(many),
            guidance_scale=4 + seed % 5,
        )
        for seed, many, sampler in zip(range(count), cycle(steps), cycle(SAMPLERS), strict=False)
    ]


def differences_to_alone(engine, requests) -> dict:
    """How far pictures are at most from the same ones drawn alone."""
    alone = [engine.submit(request).result()[0].pixels for request in requests]
    jobs = [engine.submit(request) for request in requests]
    differences = [difference(job.result()[0].pixels, picture) for job, picture in zip(jobs, alone, strict=True)]
    return {
        "largest": max(figures["largest"] for figures in differences),
        "psnr": min(figures["psnr"] for figures in differences),
    }


def closed_loop(engine, requests, in_flight: int) -> float:
    """Pictures per second with so many always in flight."""
    with ThreadPoolExecutor(in_flight) as waiting:
        began = time.perf_counter()
        list(waiting.map(lambda request: engine.submit(request).result(), requests))
        return len(requests) / (time.perf_counter() - began)


def users(bench: Bench, name: str, in_flight: tuple[int, ...], steps: tuple[int, ...], arrivals: int) -> dict:
    spec = bench.spec(name)
    each = 1 if bench.small else 2
    results = {"model": name, "size": f"{bench.side(name)}x{bench.side(name)}", "steps": [*map(bench.steps, steps)]}
    with bench.engine([spec]) as engine:
        closed_loop(
            engine, requests_for(bench, spec, max(in_flight), tuple(min(4, many) for many in steps)), max(in_flight)
        )  # kernels are chosen for each size of batch
        alone = seconds_of(lambda: engine.submit(requests_for(bench, spec, 2, steps)[1]).result(), bench.device)
        differences = differences_to_alone(engine, requests_for(bench, spec, 4, steps))
        reached = {}
        for count in in_flight:
            requests = requests_for(bench, spec, max(3, each * count), steps)
            reached[count] = round(closed_loop(engine, requests, count), 3)
        results |= {"equality": differences, "seconds_alone": round(alone, 3), "images_per_second": reached}
        for load in (0.8, 1.2) if arrivals else ():
            rate = load * max(reached.values())
            results[f"poisson_{load}"] = arrive_at_random(
                lambda request: engine.submit(request).future, requests_for(bench, spec, arrivals, steps), rate
            )
    serial = {
        "diffusers": _one_at_a_time(bench, name, steps, torch.float32),
        "tuned": _one_at_a_time(bench, name, steps, bench.dtype),
    }
    best = max(results["images_per_second"].values())
    return results | {
        "one_at_a_time": serial,
        "ours/diffusers": round(best / serial["diffusers"], 3),
        "ours/tuned": round(best / serial["tuned"], 3),
    }


def _one_at_a_time(bench: Bench, name: str, steps: tuple[int, ...], dtype: torch.dtype) -> float:
    """Pictures per second of diffusers' pipeline."""
    pipeline = load_pipeline(bench.model(name), dtype, bench.device, tuned=dtype != torch.float32)
    by_pipeline(pipeline, "warm", 0, bench.side(name), 2)
    took = seconds_of(
        lambda: [by_pipeline(pipeline, "a boat", many, bench.side(name), bench.steps(many)) for many in steps],
        bench.device,
    )
    return round(len(steps) / took, 3)


# Models


def changes(bench: Bench) -> dict:
    """Three of SD 1.5's size: resident, from the host's memory, and as diffusers loads them."""
    specs = [bench.spec("sd15", seed) for seed in range(3)]
    side = bench.side("sd15")

    def draw(engine, spec, number):
        return by_engine(engine, spec, "a boat", number, side, 2)

    with bench.engine(specs) as engine:
        for spec in specs:
            draw(engine, spec, 0)
            engine.models.get(spec).weights_hash  # noqa: B018 -- computed beside the pictures, waited for
        times = take_turns(
            {
                "changing": lambda n: seconds_of(lambda: [draw(engine, spec, n) for spec in specs], bench.device),
                "staying": lambda n: seconds_of(lambda: [draw(engine, specs[n % 3], n) for _ in specs], bench.device),
            },
            bench.rounds,
        )
    resident = {"extra_milliseconds": round(1000 * (median(times["changing"], 6) - median(times["staying"], 6)) / 3, 2)}
    room = int(1.5 * sum(file.stat().st_size for file in bench.model("sd15").rglob("*.safetensors")))
    with bench.engine(specs, memory_budget=room, host_memory=PLENTY) as engine:
        for spec in specs * 2:
            draw(engine, spec, 0)

        def timed(number):
            return seconds_of(lambda: draw(engine, specs[number % 3], number), bench.device)

        back = [timed(number) - timed(number) for number in range(2 * bench.rounds)]  # the second time it is there
    load = [
        seconds_of(
            lambda: load_pipeline(bench.model("sd15", n % 3), bench.dtype, bench.device),  # noqa: B023
            bench.device,
        )
        for n in range(3)
    ]
    return {
        "resident": resident,
        "from_host_milliseconds": round(1000 * statistics.median(back), 1),
        "from_pretrained_milliseconds": round(1000 * statistics.median(load), 1),
    }


def saving(bench: Bench) -> dict:
    """Eight and more in flight, each picture made a PNG and a thumbnail of, against none."""
    spec = bench.spec("sd15")
    requests = requests_for(bench, spec, 4 if bench.small else 32, (20,))

    def save(image, request):
        encode_png(image.pixels, request=request, seed=image.seed, recipe=image.recipe)
        small = image.pixels.copy()
        small.thumbnail((384, 384))
        small.save(io.BytesIO(), "WEBP", quality=85)

    with bench.engine([spec]) as engine, ThreadPoolExecutor(16) as waiting:

        def run(also_save):
            def draw_and_save(request):
                image = engine.submit(request).result()[0]
                if also_save:
                    save(image, request)

            return seconds_of(lambda: list(waiting.map(draw_and_save, requests)), bench.device)

        run(True)
        times = take_turns({"plain": lambda _: run(False), "saving": lambda _: run(True)}, bench.rounds, 40)
    pipeline = load_pipeline(bench.model("sd15"), bench.dtype, bench.device, tuned=True)

    def peer(also_save):
        def draw_and_save(seed):
            picture = by_pipeline(pipeline, "a boat", seed, bench.side("sd15"), bench.steps(20))
            if also_save:
                picture.save(io.BytesIO(), "PNG")
                picture.thumbnail((384, 384))
                picture.save(io.BytesIO(), "WEBP")

        return seconds_of(lambda: [draw_and_save(seed) for seed in range(3)], bench.device)

    peer(True)
    theirs = take_turns({"plain": lambda _: peer(False), "saving": lambda _: peer(True)}, bench.rounds, 30)
    return {
        "in_flight": 16,
        "images_per_second": round(len(requests) / median(times["saving"], 6), 3),
        "ours_saving": ratio(times["plain"], times["saving"]),
        "tuned_saving": ratio(theirs["plain"], theirs["saving"]),
    }


def qwen(bench: Bench) -> dict:
    """A guided step of a transformer of Qwen-Image's size, in bf16 and with its weights in 8 bits.

    The engine runs this family through diffusers' pipeline, so that a step of ours is a step of it."""
    config = {"num_layers": 1, "num_attention_heads": 2, "joint_attention_dim": 32} if bench.small else {}
    with torch.device("meta"):
        network = QwenImageTransformer2DModel(**config)
    buffers = QwenImageTransformer2DModel(**config | {"num_layers": 0}).pos_embed
    network.to(bench.dtype).to_empty(device=bench.device).requires_grad_(False).eval()
    network.pos_embed = buffers.to(bench.device)  # tables that are computed, not learned
    for weight in network.parameters():
        weight.normal_(std=weight[0].numel() ** -0.5) if weight.ndim > 1 else weight.fill_(0.02)
    edge, token_count = (4, 8) if bench.small else (64, 64)
    options = {"dtype": bench.dtype, "device": bench.device}
    inputs = {
        "hidden_states": torch.randn(1, edge**2, 64, **options),
        "encoder_hidden_states": torch.randn(1, token_count, network.config.joint_attention_dim, **options),
        "encoder_hidden_states_mask": torch.ones(1, token_count, dtype=torch.long, device=bench.device),
        "timestep": torch.tensor([0.5], **options),
        "img_shapes": [[(1, edge, edge)]],
    }

    def step():
        with torch.inference_mode():
            for _ in range(2):
                network(**inputs, return_dict=False)

    results = {}
    for tier in ("bf16", "int8"):
        if tier == "int8":
            quantize_int8(network, 2 if bench.small else 2**16)
            free_memory(torch.device(bench.device))
        step()
        took = [seconds_of(step, bench.device) for _ in range(2 if bench.small else 10)]
        tensors = [*network.parameters(), *network.buffers()]
        results[tier] = {
            "seconds_a_guided_step": median(took, 4),
            "bytes": sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        }
    return results | {"size": f"{16 * edge}x{16 * edge}", "a_guided_step": "two passes of one row"}


BLOCKS = {
    "limits": limits,
    "sd15_users": lambda bench: users(
        bench, "sd15", (1, 4) if bench.small else (1, 4, 8, 16, 32), STEPS, 4 if bench.small else 60
    ),
    "sd15_single": lambda bench: single(bench, "sd15", 30),
    "sdxl_users": lambda bench: users(bench, "sdxl", (1, 2) if bench.small else (1, 4, 8), (20,), 0),
    "sdxl_single": lambda bench: single(bench, "sdxl", 30),
    "qwen": qwen,
    "changes": changes,
    "saving": saving,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON lines are added to it")
    parser.add_argument("--budget", type=float, default=560, help="seconds; no block begins after that")
    parser.add_argument("--blocks", nargs="*", choices=BLOCKS, default=[*BLOCKS])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.device, options.tiny, Path(folder))
        for name in options.blocks:
            passed = time.monotonic() - began
            line = {"bench": f"gpu_{name}", "tiny": options.tiny} | conditions(options.device)
            if passed > options.budget:
                line["left_out"] = f"{passed:.0f} s had passed"
            else:
                try:
                    line |= BLOCKS[name](bench)
                except Exception as error:  # the next block may do better
                    traceback.print_exc()
                    line["error"] = f"{type(error).__name__}: {error}"
                gc.collect()
                free_memory(torch.device(options.device))
                finish(options.device)
                line["seconds_of_block"] = round(time.monotonic() - began - passed, 1)
            with options.out.open("a") as out:
                out.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
