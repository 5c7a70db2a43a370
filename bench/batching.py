"""Many users (B3): requests in flight through each step together, against one at a time.

    .venv/bin/python bench/batching.py [--models built-in unet-32-64 sd15] [--pairs 5] [--seconds 200] [--keep FOLDER]
                                       >> bench/results.jsonl

Requests of mixed steps, guidance, seeds and samplers. All sides take turns in one process, with as many in flight:

    diffusers      the pipeline with its defaults (fp32), one request after another
    tuned          the same in the precision that the engine chose, and channels_last
    threads        a thread with a pipeline of its own for each request, over shared weights, as diffusers' example of a
                   server does it
    one_at_a_time  our engine, one request in a step
    ours           our engine, all requests in each step
    raw_loop       a loop written by hand: as many rows through the same networks, nothing around it
    floor          counted GFLOP / measured GFLOP per second of the fastest kernel in that precision

Then requests arrive at random (Poisson) at 80 % and 120 % of what ours reached: seconds from arrival to picture, ours
and the tuned pipeline's behind a queue. First the pictures are compared: in fp32 the engine's may differ from
diffusers' by 1 of 255, alone and in company; in the precision that it chose, 50 dB from the same picture alone.

Models: a UNet of (32, 64) channels at 32 x 32 latents (attention at half of that), where much of the time is dispatch,
as on a GPU; the built-in model; and, if asked for, Stable Diffusion 1.5's architecture at true size with random weights
(256 x 256). One JSON line for each.
"""

import argparse
import copy
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import diffusers
import torch
from compare import (
    arrive_at_random,
    device_speed,
    difference,
    gigaflop,
    print_result,
    ratio,
    running_engine,
    take_turns,
)
from diffusers import StableDiffusionPipeline
from families import FAMILIES, save_family, spec_of
from single_image import load_pipeline

from generation.engine.catalog.models import WEIGHTS, Catalog
from generation.engine.catalog.samplers import find_sampler
from generation.engine.networks.loader import dtype_name
from generation.engine.request.request import build_request
from tests.engine.models import save_sd, tiny_spec

SAMPLERS = ("Euler", "DPM++ 2M", "DDIM", "Euler a")
PROMPTS = ("a red boat at sea", "a blue house in the forest", "a green cat")
DECODED_TOGETHER = 4


def requests_for(spec, count: int, steps: tuple[int, ...]) -> list:
    return [
        build_request(
            spec,
            prompt=prompt,
            steps=many,
            seed=seed,
            sampler=sampler,
            guidance_scale=4 + seed % 8 / 2,
            width=spec.native_width,
            height=spec.native_height,
        )
        for seed, many, prompt, sampler in zip(
            range(count), cycle(steps), cycle(PROMPTS), cycle(SAMPLERS), strict=False
        )
    ]


def by_pipeline(pipeline, request, tokenizer=None):
    """A picture by a pipeline of its own over the given one's weights. Threads need tokenizers of their own too: one
    would forget for the one what the other told it."""
    sampler = find_sampler(request.sampler)
    cls = getattr(diffusers, sampler.scheduler)
    # Said here, or the pipeline warns each time that it mends it: the other schedulers do not know the word.
    mended = {"clip_sample": False} if cls is diffusers.DDIMScheduler else {}
    scheduler = cls.from_config(pipeline.scheduler.config, **dict(sampler.options), **mended)
    own = StableDiffusionPipeline(
        **pipeline.components | {"scheduler": scheduler, "tokenizer": tokenizer or pipeline.tokenizer},
        requires_safety_checker=False,
    )
    own.set_progress_bar_config(disable=True)
    return own(
        request.prompt,
        negative_prompt=request.negative_prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator().manual_seed(request.seed),
    ).images[0]


def by_engine(engine, requests) -> list:
    jobs = [engine.submit(request) for request in requests]
    return [job.result(600)[0].pixels for job in jobs]


@torch.inference_mode()
def by_raw_loop(pipeline, requests) -> None:
    """What must be computed for these pictures, in as few passes as can be, with Euler's arithmetic for all."""
    unet, vae = pipeline.unet, pipeline.vae
    texts = ["", *dict.fromkeys(request.prompt for request in requests)]
    ids = pipeline.tokenizer(
        texts,
        padding="max_length",
        max_length=pipeline.tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    states = pipeline.text_encoder(ids)[0]
    rows = sorted(requests, key=lambda request: -request.steps)
    prompts = states[[texts.index(request.prompt) for request in rows]]
    guidance = torch.tensor([request.guidance_scale for request in rows])[:, None, None, None]
    edge = 2 ** (len(vae.config.block_out_channels) - 1)
    shape = len(rows), vae.config.latent_channels, rows[0].height // edge, rows[0].width // edge
    latents = torch.randn(shape)
    for step in range(rows[0].steps):
        left = sum(request.steps > step for request in rows)
        times = torch.tensor([999 - 999 * step // request.steps for request in rows[:left]])
        seen = latents[:left].to(unet.dtype).repeat(2, 1, 1, 1)
        conditioning = torch.cat([states[:1].expand(left, -1, -1), prompts[:left]])
        negative, positive = unet(seen, times.repeat(2), conditioning, return_dict=False)[0].float().chunk(2)
        latents[:left] -= 0.01 * (negative + guidance[:left] * (positive - negative))
    for some in latents.split(DECODED_TOGETHER):
        rgb = vae.decode((some / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0]
        pipeline.numpy_to_pil(((rgb.float().movedim(1, -1) * 0.5 + 0.5).clamp(0, 1)).numpy())


def work(pipeline, requests) -> float:
    """GFLOP of these pictures: both halves of each step, and the decoding."""
    unet, vae = pipeline.unet, pipeline.vae
    edge = 2 ** (len(vae.config.block_out_channels) - 1)
    latents = torch.randn(
        2, vae.config.latent_channels, requests[0].height // edge, requests[0].width // edge, dtype=unet.dtype
    )
    embeddings = torch.randn(2, pipeline.tokenizer.model_max_length, unet.config.cross_attention_dim, dtype=unet.dtype)
    step = gigaflop(lambda: unet(latents, 500, embeddings))
    return sum(request.steps for request in requests) * step + len(requests) * gigaflop(lambda: vae.decode(latents[:1]))


def check_pictures(spec, folder: Path, engine, requests) -> dict:
    """The equality gate; returns what was found."""
    plain = load_pipeline(folder)
    theirs = [by_pipeline(plain, request) for request in requests]
    with running_engine([spec], dtype="fp32") as exact:
        alone = [by_engine(exact, [request])[0] for request in requests]
        together = by_engine(exact, requests)
    differences = {
        "fp32_alone_to_diffusers": worst(alone, theirs),
        "fp32_together_to_alone": worst(together, alone),
        "together_to_alone": worst(by_engine(engine, requests), [by_engine(engine, [r])[0] for r in requests]),
    }
    assert differences["fp32_alone_to_diffusers"]["largest"] <= 1, differences
    assert differences["fp32_together_to_alone"]["largest"] <= 1, differences
    assert differences["together_to_alone"]["psnr"] >= 50, differences
    return differences


def worst(pictures, others) -> dict:
    differences = [difference(picture, other) for picture, other in zip(pictures, others, strict=True)]
    return {
        "largest": max(figures["largest"] for figures in differences),
        "psnr": min(figures["psnr"] for figures in differences),
    }


def measure(spec, folder: Path, steps: tuple[int, ...], in_flight: tuple[int, ...], pairs: int, seconds: float) -> dict:
    most = max(in_flight)
    everything = requests_for(spec, most, steps)
    with running_engine([spec], max_rows=2 * most) as engine, running_engine([spec], max_rows=1) as single:
        dtype = engine.models.dtype_for(spec)
        equality = check_pictures(spec, folder, engine, everything[:4])
        plain, tuned = load_pipeline(folder), load_pipeline(folder, dtype, tuned=True)
        results = {
            "model": spec.key,
            "size": f"{spec.native_width}x{spec.native_height}",
            "steps": steps,
            "dtype": dtype_name(dtype),
            "equality": equality,
            "in_flight": {},
        }
        speed = max(device_speed(dtype).values())
        for count in in_flight:
            requests = everything[:count]
            tokenizers = [copy.deepcopy(tuned.tokenizer) for _ in requests]
            sides = {
                "diffusers": lambda: [by_pipeline(plain, request) for request in requests],  # noqa: B023
                "tuned": lambda: [by_pipeline(tuned, request) for request in requests],  # noqa: B023
                "threads": lambda: in_threads(tuned, requests, tokenizers),  # noqa: B023
                "one_at_a_time": lambda: by_engine(single, requests),  # noqa: B023
                "ours": lambda: by_engine(engine, requests),  # noqa: B023
                "raw_loop": lambda: by_raw_loop(tuned, requests),  # noqa: B023
            }
            if count == 1:
                del sides["threads"]
            for warm in sides.values():
                warm()
            times = take_turns({name: timed(do) for name, do in sides.items()}, pairs, seconds / len(in_flight) / 2)
            floor = work(plain, requests) / speed
            results["in_flight"][count] = compared(times, count, floor)
        reached = results["in_flight"][most]["images_per_second"]["ours"]
        with ThreadPoolExecutor(1) as queue:
            arriving = requests_for(spec, 3 * most, steps)
            for load in (0.8, 1.2):
                results[f"poisson_{load}"] = {
                    "ours": arrive_at_random(lambda request: engine.submit(request).future, arriving, load * reached),
                    "tuned": arrive_at_random(
                        lambda request: queue.submit(by_pipeline, tuned, request), arriving, load * reached
                    ),
                }
    return results


def in_threads(pipeline, requests, tokenizers) -> None:
    with ThreadPoolExecutor(len(requests)) as threads:
        list(threads.map(lambda request, tokenizer: by_pipeline(pipeline, request, tokenizer), requests, tokenizers))


def timed(do):
    def seconds(_):
        began = time.perf_counter()
        do()
        return time.perf_counter() - began

    return seconds


def compared(times, count: int, floor: float) -> dict:
    rates = {name: round(count / sorted(values)[len(values) // 2], 3) for name, values in times.items()}
    peers = [name for name in ("diffusers", "tuned", "threads", "one_at_a_time") if name in times]
    return {
        "images_per_second": rates | {"floor": round(count / floor, 3)},
        "gains": {f"{name}/ours": ratio(times[name], times["ours"]) for name in peers},
        "ours/raw_loop": ratio(times["ours"], times["raw_loop"]),
        "ours/floor": ratio(times["ours"], [floor] * len(times["ours"])),
        "of_cpu_seconds": {f"{name}/ours": ratio(times.cpu[name], times.cpu["ours"]) for name in peers}
        | {"ours/raw_loop": ratio(times.cpu["ours"], times.cpu["raw_loop"])},
    }


def model(name: str, folder: Path):
    """(spec, folder, steps, in flight) of a model by its name here."""
    if name == "built-in":
        return Catalog().get("dreamsketch-tiny"), WEIGHTS, (10, 20, 30), (1, 4, 8)
    if name == "sd15":
        made = save_family(FAMILIES["sd15"], folder / "sd15-0")
        return spec_of("sd15", FAMILIES["sd15"], made, native=256), made, (2, 4, 6), (4,)
    made = save_sd(
        folder / "unet-32-64",
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    return tiny_spec(name, made, native_width=64, native_height=64), made, (10, 20, 30), (1, 4, 8)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--models", nargs="+", choices=("built-in", "unet-32-64", "sd15"), default=["unet-32-64", "built-in"]
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=300, help="for each model, about")
    parser.add_argument("--keep", type=Path, help="where the true-size model is made, or lies already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.models:
            spec, folder, steps, in_flight = model(name, options.keep or Path(scratch))
            print_result("batching", measure(spec, folder, steps, in_flight, options.pairs, options.seconds))


if __name__ == "__main__":
    main()
