"""Trains the built-in model from nothing to a Stable Diffusion folder, stage by stage.

Every stage leaves its result in the work folder and is skipped, or taken up where it stopped, when
run again on the same folder. `manage.py train_sketch` is a thin face of `run`.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from .drawing import SIZE, draw
from .recipe import PRESETS, Recipe
from .scene import random_scene

STAGES = ("data", "tokenizer", "autoencoder", "latents", "text", "denoiser", "decoder", "export")


def draw_seed(seed: int) -> np.ndarray:
    return np.asarray(draw(random_scene(seed)))


def draw_data(recipe: Recipe, work: Path, say=print) -> None:
    """Pictures of the scenes 0..n-1 as one uint8 file (n, 256, 256, 3) that is mapped, not read."""
    part = work / "pictures.part.npy"
    out = np.lib.format.open_memmap(part, "w+", np.uint8, (recipe.pictures, SIZE, SIZE, 3))
    if recipe.pictures < 500:
        for seed in range(recipe.pictures):
            out[seed] = draw_seed(seed)
    else:
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            for seed, picture in enumerate(pool.map(draw_seed, range(recipe.pictures), chunksize=64)):
                out[seed] = picture
    out.flush()
    os.replace(part, work / "pictures.npy")
    say(f"data: drew {recipe.pictures} pictures")


def pictures(recipe: Recipe, work: Path) -> np.ndarray:
    return np.load(work / "pictures.npy", mmap_mode="r")[: recipe.pictures]


def stage(name: str, recipe: Recipe, work: Path, device: str, out: Path, say) -> None:
    """Runs one stage. Torch is imported by the stages that need it."""
    if name == "data":
        draw_data(recipe, work, say)
    elif name == "tokenizer":
        from . import tokenizer

        tokenizer.train(recipe, work / "tokenizer")
    elif name == "autoencoder":
        from . import autoencoder

        autoencoder.train(recipe, pictures(recipe, work), work, device, say)
    elif name == "latents":
        from . import autoencoder

        autoencoder.encode_all(recipe, pictures(recipe, work), work, device, say)
    elif name == "text":
        from . import denoiser

        denoiser.train_text(recipe, work, device, say)
    elif name == "denoiser":
        from . import denoiser

        denoiser.train(recipe, work, device, say)
    elif name == "decoder":
        from . import autoencoder

        autoencoder.train_decoder(recipe, pictures(recipe, work), work, device, say)
    elif name == "export":
        from . import export

        export.export(recipe, work, out, say)


DONE = {"data": "pictures.npy", "tokenizer": "tokenizer", "latents": "latents.npy", "text": "text.pt"}


def run(
    preset: str, out: Path, work: Path, *, until: str = "export", only: str = "", device: str = "", say=print
) -> None:
    """Runs the stages up to `until` (or `only` one), each from where an earlier run left it."""
    if not device:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    recipe = PRESETS[preset]
    work.mkdir(parents=True, exist_ok=True)
    for name in STAGES:
        if only and name != only:
            continue
        if only or not (name in DONE and (work / DONE[name]).exists()):
            stage(name, recipe, work, device, Path(out), say)
        if name == until:
            return
