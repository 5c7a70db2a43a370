"""What previews cost (B5): a picture with a preview after every step for three watchers, against one that nobody sees.

    .venv/bin/python bench/previews.py [--pairs 9] [--seconds 90] >> bench/results.jsonl

    ours            previews as the service makes them: at most one in 250 ms
    ours_each_step  one after every step, whatever that takes
    full_decode     the mechanism of programs that decode the latents with the model's own decoder at each step
    tiny_decoder    the same with a small decoder (TAESD's architecture, random weights); with --model sd15 only

The last two are built here around diffusers' callback, as what they cost is known: a decoding in the way of the next
step, and a picture encoded as JPEG. A watcher is a thread that wraps each preview as the web process does (base64 in an
event). The built-in model, or Stable Diffusion 1.5's architecture at true size with random weights. First the pictures
are compared: watching may change nothing. Prints one JSON line; taxes are percent of the time without previews.
"""

import argparse
import base64
import io
import os
import queue
import sys
import tempfile
import threading
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from compare import difference, median, print_result, ratio, running_engine, seconds_of, take_turns
from diffusers import AutoencoderTiny
from families import FAMILIES, save_family, spec_of
from PIL import Image
from single_image import load_pipeline

from generation.engine.catalog.models import WEIGHTS, Catalog
from generation.engine.request.request import build_request

WATCHERS = 3


class Watchers:
    """Threads that take every preview, and count them."""

    def __init__(self):
        self._inboxes = [queue.SimpleQueue() for _ in range(WATCHERS)]
        self.seen = 0
        for inbox in self._inboxes:
            threading.Thread(target=self._watch, args=(inbox,), daemon=True).start()

    def show(self, progress) -> None:
        if progress.preview:
            self.seen += 1
            for inbox in self._inboxes:
                inbox.put(progress.preview)

    @staticmethod
    def _watch(inbox) -> None:
        while True:
            b"data: " + base64.b64encode(inbox.get()) + b"\n\n"


def inline(vae):
    """A callback for diffusers that decodes the latents at each step, in its way."""

    def decode(pipeline, step, timestep, kwargs):
        with torch.no_grad():
            rgb = vae.decode(kwargs["latents"].to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0][0]
        values = ((rgb.float() * 0.5 + 0.5).clamp(0, 1) * 255).byte().movedim(0, -1).numpy()
        Image.fromarray(values).save(io.BytesIO(), "JPEG")
        return kwargs

    return decode


def measure(spec, folder: Path, side: int, steps: int, pairs: int, seconds: float) -> dict:
    watchers = Watchers()
    with running_engine([spec]) as engine, running_engine([spec], preview_interval=0.0) as eager:
        pipeline = load_pipeline(folder, engine.models.dtype_for(spec), tuned=not spec.built_in)
        guidance = spec.default_guidance

        def draw(by, watched, seed):
            request = build_request(spec, prompt="a red boat at sea", seed=seed, steps=steps, width=side, height=side)
            options = {"on_progress": watchers.show, "wants_preview": lambda: True} if watched else {}
            return by.submit(request, **options).result()[0].pixels

        def theirs(callback, seed):
            return pipeline(
                "a red boat at sea",
                num_inference_steps=steps,
                width=side,
                height=side,
                guidance_scale=guidance,
                generator=torch.Generator().manual_seed(seed),
                callback_on_step_end=callback,
            )

        plain = draw(engine, False, 1)
        for by in (engine, eager):
            assert difference(plain, draw(by, True, 1))["largest"] == 0, "watching changes the picture"
        callbacks = {"diffusers": None, "full_decode": inline(pipeline.vae)}
        if not spec.built_in:  # whose own decoder is smaller than that
            callbacks["tiny_decoder"] = inline(AutoencoderTiny().eval().to(pipeline.unet.dtype))
        for callback in callbacks.values():
            theirs(callback, 0)
        watchers.seen = 0
        draw(eager, True, 1)
        each_step = watchers.seen
        sides = {
            "unwatched": lambda n: seconds_of(lambda: draw(engine, False, n)),
            "ours": lambda n: seconds_of(lambda: draw(engine, True, n)),
            "ours_each_step": lambda n: seconds_of(lambda: draw(eager, True, n)),
        }
        sides |= {
            name: lambda n, callback=callback: seconds_of(lambda: theirs(callback, n))
            for name, callback in callbacks.items()
        }
        times = take_turns(sides, pairs, seconds)
    against = {
        "ours": "unwatched",
        "ours_each_step": "unwatched",
        "full_decode": "diffusers",
        "tiny_decoder": "diffusers",
    }
    ratios = {name: ratio(times[name], times[base]) for name, base in against.items() if name in times}
    return {
        "model": spec.key,
        "size": f"{side}x{side}",
        "steps": steps,
        "watchers": WATCHERS,
        "previews_each_step": each_step,
        "seconds": {name: median(values, 4) for name, values in times.items()},
        "tax_percent": {name: round(100 * (value["median"] - 1), 1) for name, value in ratios.items()},
        "ratios": ratios,
        "of_cpu_seconds": {name: ratio(times.cpu[name], times.cpu[against[name]]) for name in ratios},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--model", choices=("built-in", "sd15"), default="built-in")
    parser.add_argument("--keep", type=Path, help="where the model of SD 1.5's size is made, or lies already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.model == "built-in":
            spec, folder = Catalog().get("dreamsketch-tiny"), WEIGHTS
        else:
            folder = save_family(FAMILIES["sd15"], (options.keep or Path(scratch)) / "sd15-0")
            spec = spec_of("sd15", FAMILIES["sd15"], folder)
        print_result("previews", measure(spec, folder, options.side, options.steps, options.pairs, options.seconds))


if __name__ == "__main__":
    main()
