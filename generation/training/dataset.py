"""The training data on disk: pictures and latents, one growing file per size of picture.

A row's scene follows from its size and number alone, so that captions need no file, more rows can be
added to a finished folder at any time, and a stopped stage goes on behind its last whole row.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .drawing import draw
from .recipe import Recipe
from .scene import Scene, random_scene

ROWS_APART = 10**6
"""More than a size will ever have rows: seeds of one size never meet another's."""
FRESH = 5 * 10**7
"""Scenes from this seed on are in no data set; what is measured on "drawings never seen" starts here."""


class Rows:
    """A file of equal arrays, one behind another, without a header: its length tells how many."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype):
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self.nbytes = int(np.prod(shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.path.stat().st_size // self.nbytes if self.path.exists() else 0

    def read(self, most: int | None = None) -> np.ndarray:
        """All rows (the first `most` of them), mapped and not loaded."""
        shape = (len(self) if most is None else min(most, len(self)), *self.shape)
        return np.memmap(self.path, self.dtype, "r", shape=shape) if shape[0] else np.empty(shape, self.dtype)

    def append(self, arrays: Iterable[np.ndarray]) -> None:
        """Adds rows; what an interrupted write left half is cut off first."""
        with open(self.path, "ab") as file:
            file.truncate(len(self) * self.nbytes)
            for array in arrays:
                file.write(np.ascontiguousarray(array, self.dtype).tobytes())


def wanted(recipe: Recipe) -> Iterator[tuple[int, int, int, int, float]]:
    """(index, width, height, rows, share of the batches) of every size."""
    for index, (width, height, share) in enumerate(recipe.sizes):
        yield index, width, height, max(1, round(recipe.pictures * share)), share


def scene_of(recipe: Recipe, size: int, row: int) -> Scene:
    """What that row of the size with that index shows."""
    width, height, _ = recipe.sizes[size]
    return random_scene(size * ROWS_APART + row, width, height)


def pictures(work: Path, width: int, height: int) -> Rows:
    return Rows(work / f"pictures-{width}x{height}.u8", (height, width, 3), np.uint8)


def latents(recipe: Recipe, work: Path, width: int, height: int) -> Rows:
    shape = (recipe.latent_channels, height // 16, width // 16)
    return Rows(work / f"latents-{width}x{height}.f16", shape, np.float16)


@dataclass(frozen=True)
class Shelf:
    """Everything of one size: pictures (n, height, width, 3) and latents (n, c, height / 16, width / 16)."""

    size: int
    width: int
    height: int
    share: float
    pictures: np.ndarray
    latents: np.ndarray

    def batch(self, batch: int) -> int:
        """How many of this size make about as much work as `batch` of 256x256."""
        return max(1, round(batch * 256 * 256 / (self.width * self.height)))


def shelves(recipe: Recipe, work: Path) -> list[Shelf]:
    return [
        Shelf(
            size,
            width,
            height,
            share,
            pictures(work, width, height).read(rows),
            latents(recipe, work, width, height).read(rows),
        )
        for size, width, height, rows, share in wanted(recipe)
    ]


def with_latents(recipe: Recipe, work: Path) -> list[Shelf]:
    """The sizes that have latents already, so that training can begin before all are there."""
    return [shelf for shelf in shelves(recipe, work) if len(shelf.latents)]


def choose(stock: list[Shelf], rng: np.random.Generator) -> Shelf:
    """One of them, by its share."""
    shares = np.array([shelf.share for shelf in stock])
    return stock[rng.choice(len(stock), p=shares / shares.sum())]


def odds(recipe: Recipe, shelf: Shelf) -> np.ndarray:
    """The chance of each row to be the next that the denoiser sees, as the recipe's `two_things` asks; sums to 1."""
    relations = [scene_of(recipe, shelf.size, row).relation for row in range(len(shelf.latents))]
    weights = np.array([recipe.two_things if relation in ("beside", "above") else 1.0 for relation in relations])
    return weights / weights.sum()


def draw_row(recipe: Recipe, size: int, row: int) -> np.ndarray:
    return np.asarray(draw(scene_of(recipe, size, row)))


def draw_missing(recipe: Recipe, work: Path, processes: int = 0, say=print) -> None:
    """Draws the rows that the recipe wants and the folder lacks, in so many processes (0: one a core)."""
    drawn, processes = 0, processes or os.cpu_count() or 1
    for size, width, height, rows, _ in wanted(recipe):
        file = pictures(work, width, height)
        missing = range(len(file), rows)
        make = partial(draw_row, recipe, size)
        if len(missing) < 500 or processes == 1:
            file.append(map(make, missing))
        else:
            with ProcessPoolExecutor(processes) as pool:
                file.append(pool.map(make, missing, chunksize=64))
        drawn += len(missing)
    say(f"data: drew {drawn} pictures")
