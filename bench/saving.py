"""What saving costs (B7): pictures per second with everything saved, against the same without saving.

    .venv/bin/python bench/saving.py [--pairs 7] [--seconds 90] [--pictures 12] >> bench/results.jsonl

Ours: requests in flight together, each with a thread that waits for its picture and then saves it as the worker does
(`generation.files.store_image`: PNG with its recipe, WebP thumbnail, hash, main colour, both files synchronised to the
disk), while the engine goes on. Peer: diffusers' pipeline in a loop that saves each picture, PNG and thumbnail by
Pillow's defaults, before it draws the next, as scripts and simple servers do. Both with the built-in model.

On a machine without a GPU saving takes time from the same processor that draws. First a saved file is read again: it
must hold the picture exactly. Prints one JSON line.
"""

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from compare import difference, median, print_result, ratio, running_engine, take_turns
from PIL import Image
from single_image import load_pipeline

from generation.engine.catalog.models import WEIGHTS, Catalog
from generation.engine.request.request import build_request


def saver(folder: Path):
    """`generation.files`, writing under that folder. No database is opened."""
    os.environ |= {
        "IGNORE_ENV_FILE": "1",
        "VAR_DIR": str(folder),
        "MEDIA_ROOT": str(folder / "media"),
        "DEBUG": "1",
        "DATABASE_URL": "postgres://nobody@localhost/none",
        "REDIS_URL": "redis://localhost:1/0",
        "STORAGE": "local",
        "DJANGO_SETTINGS_MODULE": "dreamsketch.settings",
    }
    import django

    django.setup()
    from generation.storage import files

    return files


def measure(folder: Path, pictures: int, steps: int, side: int, pairs: int, seconds: float) -> dict:
    files = saver(folder)
    spec = Catalog().get("dreamsketch-tiny")
    requests = [
        build_request(spec, prompt=f"a red boat at sea, number {seed}", seed=seed, steps=steps, width=side, height=side)
        for seed in range(pictures)
    ]
    pipeline = load_pipeline(WEIGHTS)
    with running_engine([spec]) as engine, ThreadPoolExecutor(pictures) as waiting:

        def job(request, save):
            image = engine.submit(request).result()[0]
            if save:
                return image, files.store_image(image, request)
            return image, None

        def ours(save):
            began = time.perf_counter()
            done = list(waiting.map(lambda request: job(request, save), requests))
            return time.perf_counter() - began, done

        def theirs(save):
            began = time.perf_counter()
            for request in requests[: max(2, pictures // 4)]:
                picture = pipeline(
                    request.prompt,
                    num_inference_steps=steps,
                    width=side,
                    height=side,
                    guidance_scale=request.guidance_scale,
                ).images[0]
                if save:
                    picture.save(folder / f"{request.seed}.png")
                    picture.thumbnail((384, 384))
                    picture.save(folder / f"{request.seed}.webp")
            return time.perf_counter() - began

        _, done = ours(True)
        image, stored = done[0]
        kept = Image.open(folder / "media" / stored.file)
        assert difference(image.pixels, kept)["largest"] == 0, "the file does not hold the picture"
        theirs(True)
        times = take_turns(
            {
                "ours": lambda _: ours(False)[0],
                "ours_saving": lambda _: ours(True)[0],
                "diffusers": lambda _: theirs(False),
                "diffusers_saving": lambda _: theirs(True),
            },
            pairs,
            seconds,
        )
    counts = {name: pictures if name.startswith("ours") else max(2, pictures // 4) for name in times}
    return {
        "model": spec.key,
        "size": f"{side}x{side}",
        "steps": steps,
        "in_flight": pictures,
        "images_per_second": {name: round(counts[name] / median(values, 6), 3) for name, values in times.items()},
        "ours_saving": ratio(times["ours"], times["ours_saving"]),
        "diffusers_saving": ratio(times["diffusers"], times["diffusers_saving"]),
        "of_cpu_seconds": {
            "ours_saving": ratio(times.cpu["ours"], times.cpu["ours_saving"]),
            "diffusers_saving": ratio(times.cpu["diffusers"], times.cpu["diffusers_saving"]),
        },
        "bytes_of_a_file": stored.file_size,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print_result(
            "saving",
            measure(Path(folder), options.pictures, options.steps, options.side, options.pairs, options.seconds),
        )


if __name__ == "__main__":
    main()
