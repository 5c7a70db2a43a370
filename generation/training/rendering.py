"""Styles of training pictures as ways of rendering: what each does to the page, to outlines and to the finish.

A style may treat the background freely, since it is done before any object is drawn on it; objects
keep their colours in every style, because the colour is what a prompt asked for.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .sheet import CHALK, INK, PAPER, RGB, Sheet, brightness, cut, mix

Hook = Callable[[Sheet, np.ndarray | None, random.Random], None]
Finish = Callable[[np.ndarray, np.ndarray | None, random.Random], np.ndarray]
SEPIA = (np.array((62, 46, 34), np.float32), np.array((250, 234, 202), np.float32))
LUMA = np.array((0.299, 0.587, 0.114), np.float32)


@dataclass(frozen=True)
class Look:
    """One style.

    `pen` yields an outline's colour and its relative width, or None for no outline, from the fill,
    the named colour and whether the page is dark. `tint` turns a fill into the one used. `behind` changes the sheet
    before objects are drawn, `over` the finished pixels (height, width, 3; float32, 0 to 255);
    where `shaped`, both get the objects' shape as floats 0 or 1. `grown` scales objects about
    their middle; with `angular` outlines lose corners that span less than that
    area of an object's unit square.
    """

    pen: Callable[[RGB, RGB, bool], tuple[RGB, float] | None]
    tint: Callable[[RGB], RGB] = lambda fill: fill
    behind: Hook | None = None
    over: Finish | None = None
    paper: RGB = PAPER
    outlined: bool = False
    wobble: float = 0.0035
    shaped: bool = False
    grown: float = 1.0
    angular: float = 0.0


def pixels_of(sheet: Sheet) -> np.ndarray:
    return np.asarray(sheet.image.reduce(sheet.scale), np.float32)


def put(sheet: Sheet, pixels: np.ndarray) -> None:
    """Makes pixels the sheet's picture; enlarged without smoothing, reducing gives the same ones back."""
    small = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    sheet.image = small.resize((sheet.width, sheet.height), Image.Resampling.NEAREST)
    sheet.pen = ImageDraw.Draw(sheet.image)


def contrast_pen(_: RGB, main: RGB, dark: bool) -> tuple[RGB, float] | None:
    """No outline, except where the object would vanish: white ones, and black ones on a dark page."""
    if brightness(main) > 225:
        return mix(main, INK, 0.4), 0.7
    return (CHALK, 0.7) if dark and brightness(main) < 110 else None


def ink_for(main: RGB, dark: bool) -> RGB:
    """A dark thing on a dark page would vanish: there the pen is chalk."""
    return CHALK if dark and brightness(main) < 110 else INK


def grey(pixels: np.ndarray) -> np.ndarray:
    return (pixels @ LUMA)[..., None]


def spread(shape: np.ndarray, radius: float) -> np.ndarray:
    """The shape grown by about `radius` pixels, with a soft edge."""
    image = Image.fromarray((shape * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(radius))
    return np.clip(np.asarray(image, np.float32) / 40, 0, 1)


def moved(shape: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """The shape moved to the right and down by so many pixels (either may be negative)."""
    out = np.zeros_like(shape)
    h, w = shape.shape
    out[max(dy, 0) : h + min(dy, 0), max(dx, 0) : w + min(dx, 0)] = shape[
        max(-dy, 0) : h + min(-dy, 0), max(-dx, 0) : w + min(-dx, 0)
    ]
    return out


@cache
def frame(width: int, height: int, margin: float, radius: float) -> np.ndarray:
    """1 within a rounded rectangle that keeps `margin` (parts of the shorter side) off the rim, else 0."""
    short, k = min(width, height), 4
    image = Image.new("L", (width * k, height * k))
    m = margin * short * k
    ImageDraw.Draw(image).rounded_rectangle([m, m, width * k - m - 1, height * k - m - 1], radius * short * k, fill=255)
    return np.asarray(image.reduce(k), np.float32)[..., None] / 255


@cache
def rim(width: int, height: int) -> np.ndarray:
    """How many pixels each pixel is away from the picture's edge."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.minimum.reduce([x, y, width - 1 - x, height - 1 - y])[..., None]


@cache
def vignette(width: int, height: int) -> np.ndarray:
    """0 in the middle, 1 in the corners, rising late."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    return np.clip((x * x + y * y) / 2, 0, 1)[..., None] ** 1.5


def sketch_over(pixels, shape, rng):
    h, w = pixels.shape[:2]
    return pixels * (1 + 0.02 * cut("grain", rng, w, h) + 0.025 * cut("wash", rng, w, h))


def watercolour_over(pixels, shape, rng):
    """Thin paint: the paper shines through, unevenly, and stays bare along the rim."""
    h, w = pixels.shape[:2]
    thin = np.clip(0.16 + 0.14 * cut("wash", rng, w, h) + 0.03 * cut("grain", rng, w, h), 0, 1)
    # Strong on dark paint it would turn black into grey.
    thin = thin * np.clip(grey(pixels) / 100, 0.3, 1)
    edge = rim(w, h) + 5 * cut("wash", rng, w, h)
    thin = np.maximum(thin, np.clip((11 - edge) / 4, 0, 1))
    return pixels * (1 - thin) + np.array(PAPER, np.float32) * thin


def anime_behind(sheet, shape, rng):
    """Loud colours, and a white rim around everything, as on a sticker."""
    pixels = pixels_of(sheet)
    light = grey(pixels)
    pixels = np.clip(light + 1.5 * (pixels - light) + 6, 0, 255)
    around = spread(shape, round(6 * sheet.nib / sheet.scale))[..., None]
    put(sheet, pixels * (1 - around) + 255 * around)


def anime_over(pixels, shape, rng):
    """Two tones with a hard border, as cels are painted: shade from below right, a shine above left."""
    d = round(min(shape.shape) * 0.045)
    shade = shape * (1 - moved(shape, -d, -d))
    shine = shape * (1 - moved(shape, d // 2, d // 2)) * moved(shape, d // 4, d // 4)
    pixels = pixels * (1 - 0.2 * shade[..., None])
    return pixels + (255 - pixels) * 0.4 * shine[..., None]


def line_behind(sheet, shape, rng):
    """The background keeps a hint of its colours; where they change stands a thin line."""
    pixels = pixels_of(sheet)
    light = grey(pixels)[..., 0]
    step = np.zeros_like(light)
    step[:, 1:] += np.abs(np.diff(light, axis=1))
    step[1:] += np.abs(np.diff(light, axis=0))
    lines = np.clip((step - 5) / 22, 0, 0.6)[..., None]
    pale = 255 - 0.3 * (255 - pixels)
    put(sheet, pale * (1 - lines) + np.array((96, 104, 124), np.float32) * lines)


def line_pen(fill: RGB, main: RGB, dark: bool) -> tuple[RGB, float]:
    return (INK, 1.0) if brightness(main) > 225 else (main, 2.8)


def line_tint(fill: RGB) -> RGB:
    """Paler, but near enough to the named colour to be told from its neighbours: pale black is grey."""
    return mix(fill, (255, 255, 255), 0.12 if brightness(fill) < 60 else 0.18)


def logo_behind(sheet, shape, rng):
    """A badge with a thick rim, on it the long shadow of what stands there."""
    pixels = pixels_of(sheet)
    h, w = shape.shape
    shadow, reach = shape, 1
    while reach < min(h, w):
        shadow = np.maximum(shadow, moved(shadow, reach, reach))
        reach *= 2
    pixels = pixels * (1 - 0.2 * shadow[..., None])
    for margin, radius, colour in ((0.055, 0.15, (44, 52, 82)), (0.025, 0.18, (250, 249, 246))):
        inside = frame(w, h, margin, radius)
        pixels = pixels * inside + np.array(colour, np.float32) * (1 - inside)
    put(sheet, pixels)


def abstract_behind(sheet, shape, rng):
    """The background as a mosaic of triangles, each of the colour found there."""
    nx, ny = round(6 / sheet.across), round(6 / sheet.down)
    small = np.asarray(sheet.image.resize((nx, ny), Image.Resampling.BOX), np.float32)
    knots = [
        [
            ((i + (0 < i < nx) * rng.uniform(-0.3, 0.3)) / nx, (j + (0 < j < ny) * rng.uniform(-0.3, 0.3)) / ny)
            for i in range(nx + 1)
        ]
        for j in range(ny + 1)
    ]
    for j in range(ny):
        for i in range(nx):
            a, b, c, d = knots[j][i], knots[j][i + 1], knots[j + 1][i + 1], knots[j + 1][i]
            halves = ((a, b, c), (a, c, d)) if rng.random() < 0.5 else ((a, b, d), (b, c, d))
            for half in halves:
                sheet.fill(half, tuple(np.clip(small[j, i] * rng.uniform(0.88, 1.12), 0, 255).astype(int).tolist()))


def abstract_over(pixels, shape, rng):
    """Objects in facets: big slanting fields, each a little lighter or darker."""
    h, w = shape.shape
    image = Image.new("F", (w, h), 0.0)
    pen = ImageDraw.Draw(image)
    for _ in range(5):
        x, y, a = rng.random() * w, rng.random() * h, rng.uniform(0, math.tau)
        far = [(x + 2 * w * math.cos(a + t), y + 2 * h * math.sin(a + t)) for t in (0, 0.9)]
        pen.polygon([(x, y), *far], fill=rng.choice((-0.14, -0.09, 0.1, 0.16)))
    facets = (np.asarray(image, np.float32) * shape)[..., None]
    return pixels + np.where(facets > 0, (255 - pixels) * facets, pixels * facets)


@cache
def disc(width: int, height: int, rx: float, ry: float) -> np.ndarray:
    image = Image.new("L", (width * 4, height * 4))
    x, y = width * 2, height * 2
    rx, ry = rx * width * 4, ry * height * 4
    ImageDraw.Draw(image).ellipse([x - rx, y - ry, x + rx, y + ry], fill=255)
    return np.asarray(image.reduce(4), np.float32)[..., None] / 255


def minimal_behind(sheet, shape, rng):
    """The place shrinks to a disc in the middle of an almost empty page."""
    pixels = pixels_of(sheet)
    h, w = pixels.shape[:2]
    page = 255 - 0.2 * (255 - pixels.mean((0, 1)))
    inside = disc(w, h, 0.42 * sheet.across, 0.42 * sheet.down)
    put(sheet, pixels * inside + page * (1 - inside))


def vintage_behind(sheet, shape, rng):
    pixels = pixels_of(sheet)
    tone = SEPIA[0] + (SEPIA[1] - SEPIA[0]) * grey(pixels) / 255
    put(sheet, 0.28 * pixels + 0.72 * tone)


def vintage_over(pixels, shape, rng):
    """An old print: faded, blotched, darker towards the corners, in a cream border."""
    h, w = pixels.shape[:2]
    pixels = pixels * 0.88 + SEPIA[1] * 0.12
    pixels = pixels * (1 + 0.05 * cut("wash", rng, w, h) + 0.035 * cut("grain", rng, w, h))
    pixels = pixels * (1 - 0.35 * vignette(w, h))
    inside = np.clip((rim(w, h) - 0.035 * min(w, h)) / 2 + 0.4 * cut("grain", rng, w, h), 0, 1)
    return pixels * inside + np.array((244, 232, 206), np.float32) * (1 - inside)


def grunge_behind(sheet, shape, rng):
    """A dirty wall: half grey, dark, blotched, with spatter and scratches."""
    pixels = pixels_of(sheet)
    h, w = pixels.shape[:2]
    pixels = (0.5 * pixels + 0.5 * grey(pixels)) * (
        0.74 + 0.16 * cut("wash", rng, w, h) + 0.07 * cut("grain", rng, w, h)
    )
    put(sheet, pixels * (1 - 0.75 * vignette(w, h)))
    for _ in range(26):
        colour = rng.choice(((34, 30, 32), (34, 30, 32), (196, 188, 172)))
        sheet.dot(rng.random(), rng.random(), rng.choice((0.004, 0.006, 0.009, 0.016)), colour)
    for _ in range(7):
        x, y, a, n = rng.random(), rng.random(), rng.uniform(-0.5, 0.5) + math.pi / 2, rng.uniform(0.1, 0.4)
        sheet.line([(x, y), (x + n * math.cos(a), y + n * math.sin(a))], (206, 198, 184), 1.2)


def grunge_over(pixels, shape, rng):
    """Paint has come off in specks."""
    h, w = pixels.shape[:2]
    scuffs = np.clip((cut("grain", rng, w, h) + 0.6 * cut("wash", rng, w, h) - 0.95) * 3, 0, 0.8)
    return pixels * (1 + 0.05 * cut("grain", rng, w, h)) * (1 - scuffs) + np.array((52, 46, 46), np.float32) * scuffs


LOOKS = {
    "sketch": Look(lambda f, m, dark: (ink_for(m, dark), 1.0), over=sketch_over, outlined=True),
    "anime": Look(
        lambda f, m, dark: ((26, 20, 34), 1.5), behind=anime_behind, over=anime_over, shaped=True, wobble=0.0
    ),
    "line-art": Look(line_pen, line_tint, line_behind, paper=(255, 255, 255), wobble=0.002),
    "flat-logo": Look(contrast_pen, behind=logo_behind, paper=(238, 232, 218), shaped=True, wobble=0.0),
    "watercolour": Look(
        lambda f, m, dark: (mix(f, ink_for(m, dark), 0.4), 0.7), over=watercolour_over, paper=(252, 249, 242)
    ),
    "abstract": Look(
        lambda f, m, dark: (mix(m, INK, 0.4), 1.0) if brightness(m) > 225 else ((250, 246, 236), 1.0),
        behind=abstract_behind,
        over=abstract_over,
        paper=(240, 234, 222),
        shaped=True,
        wobble=0.0,
        angular=0.024,
    ),
    "minimalist": Look(contrast_pen, behind=minimal_behind, paper=(228, 224, 216), wobble=0.0, grown=0.8),
    "vintage": Look(
        lambda f, m, dark: (CHALK if dark and brightness(m) < 110 else (92, 66, 48), 0.9),
        behind=vintage_behind,
        over=vintage_over,
        outlined=True,
    ),
    "grunge": Look(
        lambda f, m, dark: (CHALK if brightness(m) < 60 else (24, 20, 22), 1.9),
        behind=grunge_behind,
        over=grunge_over,
        outlined=True,
        wobble=0.007,
    ),
}
