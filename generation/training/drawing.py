"""Training pictures: draws a `Scene` as a page of a sketchbook, always the same, and says where its objects are."""

import math
import random
from functools import cache

import numpy as np
from PIL import Image

from .objects import OUTLINES, Patch
from .places import GROUNDS
from .rendering import LOOKS, Look, ink_for
from .scene import Scene
from .sheet import PAPER, RGB, Sheet, brightness, mix, wobbled
from .vocabulary import COLOUR

SIZE = 256
SIDES = (64, 1024)
"""The least and the most pixels that a side of a picture may have."""


def shade(paint, main: RGB, ink: RGB) -> RGB:
    """The RGB of a patch's paint, given the object's colour and the ink in use."""
    if isinstance(paint, tuple):
        return paint
    if paint == "dark":
        return mix(main, (20, 16, 40), 0.24)
    if paint == "light":
        return mix(main, (255, 250, 235), 0.35)
    return main if paint == "main" else ink


@cache
def angular(points: tuple, least: float) -> tuple:
    """An outline with fewer corners: drops the flattest one until each spans a triangle of area `least`."""
    points = list(points)

    def area(i: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = points[i - 1], points[i], points[(i + 1) % len(points)]
        return abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2

    while len(points) > 4:
        flattest = min(range(len(points)), key=area)
        if area(flattest) >= least:
            break
        del points[flattest]
    return tuple(points)


def draw_patch(sheet: Sheet, look: Look, patch: Patch, place, main: RGB, size: float, dark: bool, flat, rng) -> None:
    """One patch: its fill, then its outline in the manner of the style; all in `flat` if that is given."""
    ink = ink_for(main, dark)
    fill = shade(patch.paint, main, ink)
    if patch.paint in ("main", "dark", "light"):
        fill = look.tint(fill)
    source = angular(patch.points, look.angular) if patch.closed and look.angular else patch.points
    points = wobbled([place(p) for p in source], look.wobble, rng)
    # A big object has a broader outline.
    thick = 0.8 + 4.0 * size
    pen = look.pen(fill, main, dark)
    if not patch.closed:
        if patch.width > 2 and pen:
            sheet.line(points, flat or pen[0], (patch.width + 1.1) * thick)
        sheet.line(points, flat or fill, patch.width * thick)
        return
    sheet.fill(points, flat or fill)
    if pen and patch.inked and patch.paint != "ink":
        sheet.line([*points, *points[:2]], flat or pen[0], thick * pen[1])


def draw_item(sheet: Sheet, scene: Scene, index: int, dark: bool, flat=None) -> None:
    item, look = scene.items[index], LOOKS[scene.style]
    # A generator of its own, so that a mask has the same outlines as the picture.
    rng = random.Random(scene.seed * 64 + index + 3)
    turn, size = rng.uniform(-0.06, 0.06), item.size * look.grown
    cos, sin = math.cos(turn) * size, math.sin(turn) * size

    def place(p):
        return (item.x + (p[0] * cos - p[1] * sin) * sheet.across, item.y + (p[0] * sin + p[1] * cos) * sheet.down)

    for patch in OUTLINES[item.thing]():
        draw_patch(sheet, look, patch, place, COLOUR[item.colour].rgb, size, dark, flat, rng)


def is_dark(scene: Scene) -> bool:
    return scene.place == "night" or bool(scene.backdrop) and brightness(COLOUR[scene.backdrop].rgb) < 60


def checked(scene: Scene) -> None:
    if not all(SIDES[0] <= side <= SIDES[1] for side in (scene.width, scene.height)):
        raise ValueError(f"a picture's sides are {SIDES[0]} to {SIDES[1]} pixels")


def mask(scene: Scene) -> Image.Image:
    """Where the items are: an L picture of the scene's size, 0 is background, the n-th item is n from 1 on.

    Where items overlap the later one counts, as it does in `draw`. Outlines belong to their item.
    """
    checked(scene)
    sheet = Sheet(scene.width, scene.height, random.Random(0), 0, scale=1, mode="L")
    for index in range(len(scene.items)):
        draw_item(sheet, scene, index, is_dark(scene), index + 1)
    return sheet.image


def draw(scene: Scene) -> Image.Image:
    """The picture of a scene: RGB, of the scene's size. Raises ValueError for sides out of `SIDES`."""
    checked(scene)
    look, dark = LOOKS[scene.style], is_dark(scene)
    rng = random.Random(scene.seed * 2 + 1)
    sheet = Sheet(scene.width, scene.height, rng, look.paper, look.outlined)
    GROUNDS[scene.place](sheet, scene.backdrop)
    shape = (np.asarray(mask(scene)) > 0).astype(np.float32) if look.shaped else None
    if look.behind:
        look.behind(sheet, shape, rng)
    for index in range(len(scene.items)):
        draw_item(sheet, scene, index, dark)
    small = sheet.image.reduce(sheet.scale)
    if not look.over:
        return small
    pixels = look.over(np.asarray(small, np.float32), shape, rng)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def contact_sheet(pictures: list[Image.Image], columns: int) -> Image.Image:
    """Pictures side by side, row by row, each in a cell as large as the largest."""
    w, h = (max(p.size[k] for p in pictures) for k in (0, 1))
    sheet = Image.new("RGB", (columns * w, -(-len(pictures) // columns) * h), PAPER)
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * w, i // columns * h))
    return sheet
