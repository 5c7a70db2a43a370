"""The canvas of training pictures, its pen, and the colours and textures of the paper.

Backgrounds and objects are drawn with Pillow at twice the size and reduced, which is its cheapest
good antialiasing; grain and washes come from textures that are made once.
"""

import math
import random
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

SCALE = 2
INK = (48, 42, 48)
CHALK = (236, 230, 214)
PAPER = (249, 244, 232)

RGB = tuple[int, int, int]


def mix(a: RGB, b: RGB, t: float) -> RGB:
    """The colour `t` of the way from `a` to `b`, `t` from 0 to 1."""
    return tuple(round(x + (y - x) * t) for x, y in zip(a, b, strict=True))


def brightness(rgb: RGB) -> float:
    """Luma of Rec. 601, 0 to 255."""
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


@cache
def texture(kind: str) -> np.ndarray:
    """A 768x768 float32 field with mean 0 and about ±1: fine "grain" or slow "wash"."""
    rng = np.random.default_rng(7)
    total = np.zeros((768, 768), np.float32)
    for cell, weight in {"grain": ((3, 1.0), (6, 0.6)), "wash": ((24, 0.5), (64, 1.0))}[kind]:
        n = 768 // cell + 2
        noise = Image.fromarray(rng.normal(size=(n, n)).astype(np.float32))
        total += weight * np.asarray(noise.resize((768, 768), Image.Resampling.BICUBIC))
    return (total - total.mean()) / (2 * total.std())


def cut(kind: str, rng: random.Random, width: int, height: int) -> np.ndarray:
    """A random window of a texture, up to 768x768, with a channel axis of one."""
    x, y = rng.randint(0, 768 - width), rng.randint(0, 768 - height)
    return texture(kind)[y : y + height, x : x + width, None]


class Sheet:
    """A canvas of `width` x `height` pixels, held `scale` times as large while it is drawn on.

    Positions are parts of the width and the height (0 to 1); radii and lengths that must look the
    same both ways are parts of the shorter side, and `across` turns those into parts of the width.
    """

    def __init__(
        self, width: int, height: int, rng: random.Random, colour=PAPER, outlined=False, scale: int = SCALE, mode="RGB"
    ):
        self.rng, self.outlined, self.scale = rng, outlined, scale
        self.width, self.height = width * scale, height * scale
        self.short = min(self.width, self.height)
        self.across, self.down = self.short / self.width, self.short / self.height
        # Lines grow with the picture: their widths are meant for one of 256 pixels.
        self.nib = self.short / 256
        self.image = Image.new(mode, (self.width, self.height), colour)
        self.pen = ImageDraw.Draw(self.image)

    def fill(self, points, colour: RGB) -> None:
        """A polygon without an outline."""
        self.pen.polygon([(x * self.width, y * self.height) for x, y in points], fill=colour)

    def cover(self, colour: RGB) -> None:
        self.image.paste(colour, (0, 0, self.width, self.height))

    def line(self, points, colour: RGB, width: float) -> None:
        """A line of `width` pixels, were the picture's shorter side 256."""
        self.pen.line(
            [(x * self.width, y * self.height) for x, y in points],
            fill=colour,
            width=max(1, round(width * self.nib)),
            joint="curve",
        )

    def dot(self, x: float, y: float, r: float, colour: RGB) -> None:
        """A disc of radius `r` shorter sides."""
        x, y, r = x * self.width, y * self.height, r * self.short
        self.pen.ellipse([x - r, y - r, x + r, y + r], fill=colour)

    def bands(self, stops: list[tuple[float, RGB]]) -> None:
        """A vertical gradient over the whole sheet."""
        ys = np.linspace(0, 1, self.height)
        column = np.stack([np.interp(ys, [s for s, _ in stops], [c[k] for _, c in stops]) for k in range(3)], -1)
        strip = Image.fromarray(column[:, None].astype(np.uint8))
        self.image.paste(strip.resize((self.width, self.height), Image.Resampling.NEAREST))

    def ground(self, top: float, colour: RGB, swing: float = 0.02) -> None:
        """Fills everything under a softly rolling horizon."""
        a, b = self.rng.uniform(0, 6), self.rng.uniform(3, 6)
        edge = [(i / 12, top + swing * math.sin(a + b * i / 12)) for i in range(13)]
        self.fill([*edge, (1, 1), (0, 1)], colour)
        if self.outlined:
            self.line(edge, mix(colour, INK, 0.55), 1.4)


def wobbled(points: list, amount: float, rng: random.Random) -> list:
    """Moves an outline by two slow sines: a hand that is steady but not a ruler."""
    a, b, c, d = (rng.uniform(0, math.tau) for _ in range(4))
    if not amount:
        return points
    return [
        (
            x + amount * math.sin(9 * y + a) + amount * 0.6 * math.sin(23 * x + b),
            y + amount * math.sin(9 * x + c) + amount * 0.6 * math.sin(23 * y + d),
        )
        for x, y in points
    ]
