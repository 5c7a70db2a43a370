"""Draws a `Scene` as a page of a sketchbook: a 256x256 RGB picture, the same for the same scene.

Everything is drawn with Pillow at twice the size and reduced, which is its cheapest good
antialiasing; grain and washes are multiplied on at the end from textures made once.
"""

import math
import random
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from .objects import SHAPES, Patch
from .scene import Scene
from .vocabulary import COLOUR

SIZE = 256
SCALE = 2
BIG = SIZE * SCALE
INK = (48, 42, 48)
CHALK = (236, 230, 214)
PAPER = (249, 244, 232)

RGB = tuple[int, int, int]


def mix(a: RGB, b: RGB, t: float) -> RGB:
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


def cut(kind: str, rng: random.Random) -> np.ndarray:
    """A random 256x256 window of a texture, with a channel axis of one."""
    x, y = rng.randrange(512), rng.randrange(512)
    return texture(kind)[y : y + SIZE, x : x + SIZE, None]


class Sheet:
    """A canvas that knows the style's pen: fills, wobbling outlines and plain strokes."""

    def __init__(self, style: str, rng: random.Random, colour: RGB = PAPER):
        self.style, self.rng = style, rng
        self.image = Image.new("RGB", (BIG, BIG), colour)
        self.pen = ImageDraw.Draw(self.image)

    def fill(self, points, colour: RGB) -> None:
        """A polygon in parts of the picture (0 to 1), without an outline."""
        self.pen.polygon([(x * BIG, y * BIG) for x, y in points], fill=colour)

    def line(self, points, colour: RGB, width: float) -> None:
        self.pen.line(
            [(x * BIG, y * BIG) for x, y in points], fill=colour, width=max(1, round(width * SCALE)), joint="curve"
        )

    def dot(self, x: float, y: float, r: float, colour: RGB) -> None:
        self.pen.ellipse([(x - r) * BIG, (y - r) * BIG, (x + r) * BIG, (y + r) * BIG], fill=colour)

    def wobbled(self, points: list, amount: float) -> list:
        """Moves an outline by two slow sines: a hand that is steady but not a ruler."""
        a, b, c, d = (self.rng.uniform(0, math.tau) for _ in range(4))
        return [
            (
                x + amount * math.sin(9 * y + a) + amount * 0.6 * math.sin(23 * x + b),
                y + amount * math.sin(9 * x + c) + amount * 0.6 * math.sin(23 * y + d),
            )
            for x, y in points
        ]


def ground(sheet: Sheet, top: float, colour: RGB, swing: float = 0.02) -> None:
    """Fills everything under a softly rolling horizon."""
    a, b = sheet.rng.uniform(0, 6), sheet.rng.uniform(3, 6)
    edge = [(i / 12, top + swing * math.sin(a + b * i / 12)) for i in range(13)]
    sheet.fill([*edge, (1, 1), (0, 1)], colour)
    if sheet.style == "sketch":
        sheet.line(edge, mix(colour, INK, 0.55), 1.4)


def bands(sheet: Sheet, stops: list[tuple[float, RGB]]) -> None:
    """A vertical gradient over the whole sheet."""
    ys = np.linspace(0, 1, BIG)
    column = np.stack([np.interp(ys, [s for s, _ in stops], [c[k] for _, c in stops]) for k in range(3)], -1)
    sheet.image.paste(Image.fromarray(np.repeat(column[:, None].astype(np.uint8), BIG, 1)))


def plain(sheet: Sheet, backdrop: str) -> None:
    sheet.fill([(0, 0), (1, 0), (1, 1), (0, 1)], COLOUR[backdrop].rgb)


def paper(sheet: Sheet, _: str) -> None:
    if sheet.style == "flat":
        sheet.fill([(0, 0), (1, 0), (1, 1), (0, 1)], (252, 250, 244))


def sea(sheet: Sheet, _: str) -> None:
    bands(sheet, [(0, (178, 216, 240)), (0.55, (226, 240, 246))])
    ground(sheet, 0.56, (70, 134, 200), 0.008)
    ground(sheet, 0.74, (46, 104, 176), 0.012)
    for _ in range(7):
        x, y, w = sheet.rng.random(), sheet.rng.uniform(0.62, 0.97), sheet.rng.uniform(0.05, 0.09)
        sheet.line(
            [(x + w * t, y + 0.012 * math.sin(t * math.pi)) for t in (-1, -0.5, 0, 0.5, 1)], (196, 222, 240), 1.6
        )


def meadow(sheet: Sheet, _: str) -> None:
    bands(sheet, [(0, (176, 216, 242)), (0.6, (236, 244, 240))])
    ground(sheet, 0.56, (158, 206, 110), 0.03)
    ground(sheet, 0.72, (122, 184, 84), 0.02)
    for _ in range(12):
        x, y = sheet.rng.random(), sheet.rng.uniform(0.76, 0.97)
        for lean in (-0.012, 0, 0.012):
            sheet.line([(x, y), (x + lean, y - 0.03)], (70, 132, 56), 1.4)


def forest(sheet: Sheet, _: str) -> None:
    sheet.fill([(0, 0), (1, 0), (1, 1), (0, 1)], (176, 200, 164))
    for row, (colour, height) in enumerate((((108, 150, 108), 0.62), ((66, 110, 74), 0.5))):
        for i in range(6):
            x = (i + 0.5 * row) / 5.5 + sheet.rng.uniform(-0.03, 0.03)
            base, w, h = 0.74 + 0.04 * row, 0.11, height * sheet.rng.uniform(0.85, 1.1)
            sheet.fill(
                [(x - 0.012, base), (x + 0.012, base), (x + 0.012, base + 0.07), (x - 0.012, base + 0.07)], (96, 72, 52)
            )
            for k in range(3):
                foot = base - h * 0.28 * k
                sheet.fill(
                    [(x - w * (1 - 0.22 * k), foot), (x + w * (1 - 0.22 * k), foot), (x, foot - h * 0.44)], colour
                )
    ground(sheet, 0.8, (74, 104, 60), 0.015)


def desert(sheet: Sheet, _: str) -> None:
    bands(sheet, [(0, (250, 222, 168)), (0.6, (254, 240, 208))])
    ground(sheet, 0.56, (238, 200, 128), 0.05)
    ground(sheet, 0.72, (224, 176, 98), 0.035)
    for _ in range(4):
        x, y = sheet.rng.random(), sheet.rng.uniform(0.8, 0.96)
        sheet.line([(x - 0.08, y), (x, y - 0.012), (x + 0.08, y)], (190, 140, 74), 1.4)


def mountains(sheet: Sheet, _: str) -> None:
    bands(sheet, [(0, (190, 212, 232)), (0.6, (238, 238, 236))])
    for x, top, w, colour in (
        (0.22, 0.2, 0.34, (140, 150, 176)),
        (0.8, 0.14, 0.38, (124, 134, 164)),
        (0.52, 0.34, 0.32, (160, 166, 186)),
    ):
        x, top = x + sheet.rng.uniform(-0.05, 0.05), top + sheet.rng.uniform(-0.04, 0.04)
        sheet.fill([(x - w, 0.76), (x, top), (x + w, 0.76)], colour)
        t = 0.3
        sheet.fill(
            [
                (x - w * t, top + (0.76 - top) * t),
                (x, top),
                (x + w * t, top + (0.76 - top) * t),
                (x + 0.04, top + 0.1),
                (x - 0.03, top + 0.13),
            ],
            (248, 250, 252),
        )
        if sheet.style == "sketch":
            sheet.line([(x - w, 0.76), (x, top), (x + w, 0.76)], mix(colour, INK, 0.5), 1.4)
    ground(sheet, 0.72, (128, 150, 112), 0.02)


def sunset(sheet: Sheet, _: str) -> None:
    bands(sheet, [(0, (112, 72, 140)), (0.28, (222, 100, 122)), (0.52, (250, 158, 84)), (0.72, (254, 212, 122))])
    ground(sheet, 0.74, (92, 56, 92), 0.025)


def night(sheet: Sheet, _: str) -> None:
    bands(sheet, [(0, (18, 24, 62)), (0.75, (44, 56, 112))])
    for _ in range(22):
        sheet.dot(sheet.rng.random(), sheet.rng.uniform(0, 0.7), sheet.rng.uniform(0.004, 0.009), (244, 238, 200))
    ground(sheet, 0.78, (24, 34, 52), 0.025)


def snow(sheet: Sheet, _: str) -> None:
    bands(sheet, [(0, (164, 184, 208)), (0.6, (206, 218, 232))])
    ground(sheet, 0.6, (226, 236, 246), 0.035)
    ground(sheet, 0.76, (246, 250, 254), 0.025)
    for _ in range(34):
        sheet.dot(sheet.rng.random(), sheet.rng.uniform(0, 0.95), sheet.rng.uniform(0.006, 0.012), (254, 254, 255))


GROUNDS = {f.__name__: f for f in (plain, paper, sea, meadow, forest, desert, mountains, sunset, night, snow)}


def shade(paint, main: RGB, ink: RGB) -> RGB:
    """The RGB of a patch's paint, given the object's colour and the ink in use."""
    if isinstance(paint, tuple):
        return paint
    return {"main": main, "dark": mix(main, (20, 16, 40), 0.24), "light": mix(main, (255, 250, 235), 0.35), "ink": ink}[
        paint
    ]


def draw_patch(sheet: Sheet, patch: Patch, place, main: RGB, ink: RGB, size: float) -> None:
    """One patch: its fill, then its outline in the manner of the style."""
    colour = shade(patch.paint, main, ink)
    points = sheet.wobbled([place(p) for p in patch.points], 0.0 if sheet.style == "flat" else 0.0035)
    thick = 0.8 + 4.0 * size
    if not patch.closed:
        if patch.width > 2 and sheet.style == "sketch":
            sheet.line(points, ink, patch.width * thick + 2.4)
        sheet.line(points, colour, patch.width * thick)
        return
    sheet.fill(points, colour)
    if not patch.inked or patch.paint == "ink":
        return
    if sheet.style == "sketch":
        sheet.line([*points, *points[:2]], ink, thick)
    elif sheet.style == "watercolour":
        sheet.line([*points, *points[:2]], mix(colour, ink, 0.4), thick * 0.7)


def draw_item(sheet: Sheet, item, dark_page: bool) -> None:
    main = COLOUR[item.colour].rgb
    # A dark thing on a dark page would vanish: there the pen is chalk.
    ink = CHALK if dark_page and brightness(main) < 110 else INK
    turn = sheet.rng.uniform(-0.06, 0.06)
    cos, sin = math.cos(turn) * item.size, math.sin(turn) * item.size

    def place(p):
        return item.x + p[0] * cos - p[1] * sin, item.y + p[0] * sin + p[1] * cos

    for patch in SHAPES[item.thing]():
        draw_patch(sheet, patch, place, main, ink, item.size)


def finished(image: Image.Image, style: str, rng: random.Random) -> Image.Image:
    """Lays the style's paper over the drawing."""
    small = image.reduce(SCALE)
    if style == "flat":
        return small
    pixels = np.asarray(small, np.float32)
    if style == "sketch":
        pixels = pixels * (1 + 0.02 * cut("grain", rng) + 0.025 * cut("wash", rng))
    else:
        # Thin paint: the paper shines through, unevenly, and stays bare along the rim.
        thin = np.clip(0.16 + 0.14 * cut("wash", rng) + 0.03 * cut("grain", rng), 0, 1)
        rim = np.minimum.reduce([X, Y, SIZE - 1 - X, SIZE - 1 - Y])[..., None] + 5 * cut("wash", rng)
        thin = np.maximum(thin, np.clip((11 - rim) / 4, 0, 1))
        pixels = pixels * (1 - thin) + np.array(PAPER, np.float32) * thin
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


Y, X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)


def draw(scene: Scene) -> Image.Image:
    """The picture of a scene: 256x256 RGB."""
    rng = random.Random(scene.seed * 2 + 1)
    sheet = Sheet(scene.style, rng)
    GROUNDS[scene.place](sheet, scene.backdrop)
    dark_page = scene.place == "night" or bool(scene.backdrop) and brightness(COLOUR[scene.backdrop].rgb) < 60
    for item in scene.items:
        draw_item(sheet, item, dark_page)
    return finished(sheet.image, scene.style, rng)


def contact_sheet(pictures: list[Image.Image], columns: int) -> Image.Image:
    """Pictures side by side, row by row."""
    w, h = pictures[0].size
    sheet = Image.new("RGB", (columns * w, -(-len(pictures) // columns) * h), PAPER)
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * w, i // columns * h))
    return sheet
