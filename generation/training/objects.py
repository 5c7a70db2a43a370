"""Objects of training pictures, as outlines in a unit square.

Each function yields `Patch`es back to front. Coordinates run from -1 to 1, x to the right, y down;
things that stand on the ground have their foot at y = 1. Paint is "main" (the colour a caption
names), "dark" or "light" (shades of it) or a fixed RGB. The named colour must cover most of an
object, since that is what a prompt asks for and what a judge measures.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

Point = tuple[float, float]
Paint = str | tuple[int, int, int]

WINDOW = (253, 240, 180)
WOOD = (120, 82, 52)
STEM = (74, 134, 66)
TYRE = (52, 50, 56)
CREAM = (250, 244, 228)


@dataclass(frozen=True)
class Patch:
    points: tuple[Point, ...]
    paint: Paint = "main"
    closed: bool = True
    inked: bool = True
    width: float = 1.0


def patch(points, paint: Paint = "main", **kw) -> Patch:
    return Patch(tuple(points), paint, **kw)


def stroke(points, paint: Paint = "ink", width: float = 1.0) -> Patch:
    return Patch(tuple(points), paint, closed=False, width=width)


def arc(
    x: float, y: float, rx: float, ry: float | None = None, start: float = 0, stop: float = 360, n: int = 28
) -> list[Point]:
    """Points on an ellipse; degrees run clockwise from the right because y points down."""
    ry = rx if ry is None else ry
    full = stop - start == 360
    return [
        (x + rx * math.cos(math.radians(a)), y + ry * math.sin(math.radians(a)))
        for a in (start + (stop - start) * i / (n if full else n - 1) for i in range(n))
    ]


def box(left: float, top: float, right: float, bottom: float) -> list[Point]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def spikes(n: int, outer: float, inner: float, turn: float = -90) -> list[Point]:
    """A star polygon with n points."""
    return [
        (r * math.cos(math.radians(turn + 180 * i / n)), r * math.sin(math.radians(turn + 180 * i / n)))
        for i in range(2 * n)
        for r in (outer if i % 2 == 0 else inner,)
    ]


def circle() -> Iterator[Patch]:
    yield patch(arc(0, 0, 0.92, n=40))


def square() -> Iterator[Patch]:
    yield patch(box(-0.85, -0.85, 0.85, 0.85))


def triangle() -> Iterator[Patch]:
    yield patch([(0, -0.95), (1, 0.85), (-1, 0.85)])


def heart() -> Iterator[Patch]:
    ts = [math.tau * i / 48 for i in range(48)]
    yield patch(
        (
            math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16 - 0.05,
        )
        for t in ts
    )


def star() -> Iterator[Patch]:
    yield patch(spikes(5, 1.0, 0.45))


def sun() -> Iterator[Patch]:
    yield patch(spikes(12, 1.0, 0.68, 0), "main")
    yield patch(arc(0, 0, 0.6))
    yield stroke(arc(0, 0.08, 0.3, 0.24, 25, 155, 9))
    yield patch(arc(-0.22, -0.12, 0.06, n=10), "ink")
    yield patch(arc(0.22, -0.12, 0.06, n=10), "ink")


def moon() -> Iterator[Patch]:
    yield patch(arc(0, 0, 0.95, None, 60, 300, 26) + arc(0.42, 0, 0.83, 0.82, 275, 85, 22))


def cloud() -> Iterator[Patch]:
    yield patch(
        arc(-0.6, 0.15, 0.38, 0.4, 90, 250, 10)
        + arc(-0.25, -0.2, 0.42, 0.42, 180, 295, 10)
        + arc(0.28, -0.12, 0.4, 0.4, 230, 350, 10)
        + arc(0.62, 0.2, 0.36, 0.35, 290, 450, 10)
    )


def tree() -> Iterator[Patch]:
    yield patch([(-0.13, 0.1), (0.13, 0.1), (0.2, 1), (-0.2, 1)], WOOD)
    yield patch(
        arc(-0.42, -0.02, 0.4, 0.42, 60, 230, 10)
        + arc(-0.12, -0.55, 0.46, 0.44, 190, 310, 10)
        + arc(0.4, -0.3, 0.42, 0.4, 260, 400, 10)
        + arc(0.3, 0.1, 0.42, 0.34, 0, 120, 10)
    )


def flower() -> Iterator[Patch]:
    yield stroke([(0, 0), (0.04, 0.5), (0, 1)], STEM, 3.0)
    yield patch([(0.02, 0.75), (0.28, 0.42), (0.5, 0.4), (0.36, 0.66)], STEM)
    yield patch([(0.02, 0.85), (-0.26, 0.55), (-0.48, 0.55), (-0.32, 0.8)], STEM)
    for i in range(6):
        a = math.radians(60 * i + 30)
        yield patch(arc(0.42 * math.cos(a), -0.32 + 0.42 * math.sin(a), 0.27, n=16))
    yield patch(arc(0, -0.32, 0.23, n=18), (246, 204, 70))


def mushroom() -> Iterator[Patch]:
    yield patch([(-0.26, 0.0), (0.26, 0.0), (0.34, 0.9), (0.2, 1), (-0.2, 1), (-0.34, 0.9)], CREAM)
    yield patch(arc(0, 0.12, 0.98, 1.02, 180, 360, 26) + [(0.6, 0.24), (-0.6, 0.24)])
    for x, y, r in ((-0.45, -0.22, 0.14), (0.08, -0.55, 0.16), (0.5, -0.14, 0.13)):
        yield patch(arc(x, y, r, n=14), CREAM, inked=False)


def house() -> Iterator[Patch]:
    yield patch(box(0.38, -0.85, 0.58, -0.3), "dark")
    yield patch(box(-0.72, -0.1, 0.72, 1))
    yield patch([(-0.95, -0.05), (0, -0.88), (0.95, -0.05)], "dark")
    yield patch(box(-0.14, 0.4, 0.2, 1), WOOD)
    yield patch(box(-0.55, 0.2, -0.26, 0.52), WINDOW)
    yield patch(box(0.34, 0.2, 0.6, 0.52), WINDOW)


def castle() -> Iterator[Patch]:
    yield patch(box(-0.6, -0.1, 0.6, 1))
    for left in (-0.95, 0.5):
        yield patch(box(left, -0.35, left + 0.45, 1))
        yield patch([(left - 0.06, -0.35), (left + 0.225, -0.95), (left + 0.51, -0.35)], "dark")
        yield patch(box(left + 0.15, 0.0, left + 0.3, 0.25), WINDOW)
    yield patch(
        [
            (x, y)
            for i in range(3)
            for x, y in (
                (-0.4 + 0.3 * i, -0.1),
                (-0.4 + 0.3 * i, -0.28),
                (-0.22 + 0.3 * i, -0.28),
                (-0.22 + 0.3 * i, -0.1),
            )
        ]
    )
    yield patch(arc(0, 0.65, 0.2, 0.25, 180, 360, 10) + [(0.2, 1), (-0.2, 1)], WOOD)


def lighthouse() -> Iterator[Patch]:
    yield patch([(-0.32, -0.45), (0.32, -0.45), (0.5, 1), (-0.5, 1)])
    yield patch([(-0.385, 0.05), (0.385, 0.05), (0.43, 0.38), (-0.43, 0.38)], CREAM)
    yield patch(box(-0.22, -0.75, 0.22, -0.45), WINDOW)
    yield patch([(-0.32, -0.72), (0, -1), (0.32, -0.72)])
    yield patch(box(-0.42, -0.5, 0.42, -0.42), "dark")


def boat() -> Iterator[Patch]:
    yield stroke([(0, 0.5), (0, -1)], WOOD, 2.5)
    yield patch([(0.07, -0.9), (0.75, 0.38), (0.07, 0.38)])
    yield patch([(-0.07, -0.7), (-0.6, 0.38), (-0.07, 0.38)], CREAM)
    yield patch([(-1, 0.5), (1, 0.5), (0.68, 1), (-0.62, 1)])


def balloon() -> Iterator[Patch]:
    yield stroke([(-0.3, 0.3), (-0.16, 0.75)], WOOD)
    yield stroke([(0.3, 0.3), (0.16, 0.75)], WOOD)
    yield patch(arc(0, -0.32, 0.72, 0.68, 150, 390, 30) + [(0.2, 0.45), (-0.2, 0.45)])
    yield patch(arc(0, -0.32, 0.26, 0.68, 150, 390, 20) + [(0.08, 0.45), (-0.08, 0.45)], "light")
    yield patch(box(-0.2, 0.7, 0.2, 1), WOOD)


def rocket() -> Iterator[Patch]:
    yield patch([(-0.2, 0.6), (0, 1.05), (0.2, 0.6)], (252, 176, 50))
    yield patch([(-0.3, 0.05), (-0.68, 0.7), (-0.28, 0.6)], "dark")
    yield patch([(0.3, 0.05), (0.68, 0.7), (0.28, 0.6)], "dark")
    yield patch([(0, -1), (0.24, -0.66), (0.36, -0.15), (0.28, 0.65), (-0.28, 0.65), (-0.36, -0.15), (-0.24, -0.66)])
    yield patch(arc(0, -0.22, 0.17, n=18), (186, 222, 240))


def car() -> Iterator[Patch]:
    yield patch([(-0.6, 0.25), (-0.4, -0.25), (0.28, -0.25), (0.58, 0.25)])
    yield patch([(-0.42, 0.2), (-0.3, -0.12), (-0.06, -0.12), (-0.06, 0.2)], (200, 228, 240))
    yield patch([(0.06, 0.2), (0.06, -0.12), (0.22, -0.12), (0.42, 0.2)], (200, 228, 240))
    yield patch([(-1, 0.28), (-0.9, 0.2), (0.8, 0.2), (0.98, 0.38), (0.98, 0.78), (-1, 0.78)])
    for x in (-0.55, 0.55):
        yield patch(arc(x, 0.76, 0.24, n=20), TYRE)
        yield patch(arc(x, 0.76, 0.09, n=10), (210, 210, 214), inked=False)


def fish() -> Iterator[Patch]:
    yield patch([(0.45, 0), (1, -0.48), (0.9, 0), (1, 0.48)], "dark")
    yield patch([(-0.25, -0.4), (0.1, -0.75), (0.3, -0.35)], "dark")
    yield patch(arc(-0.2, 0, 0.78, 0.5))
    yield stroke(arc(-0.6, 0, 0.2, 0.34, -70, 70, 8))
    yield patch(arc(-0.68, -0.12, 0.1, n=12), CREAM)
    yield patch(arc(-0.69, -0.12, 0.045, n=8), "ink")


def bird() -> Iterator[Patch]:
    yield patch([(0.3, 0.0), (1, -0.2), (0.95, 0.25), (0.4, 0.3)], "dark")
    yield patch([(-0.72, -0.4), (-1, -0.27), (-0.7, -0.18)], (246, 166, 50))
    yield patch(arc(0, 0.12, 0.6, 0.46))
    yield patch(arc(-0.48, -0.3, 0.33, n=20))
    yield patch([(-0.2, 0.0), (0.5, -0.05), (0.25, 0.38), (-0.05, 0.34)], "dark")
    yield patch(arc(-0.56, -0.37, 0.06, n=10), "ink")
    yield stroke([(-0.08, 0.56), (-0.1, 0.85)])
    yield stroke([(0.14, 0.56), (0.14, 0.85)])


def cat() -> Iterator[Patch]:
    yield stroke([(0.4, 0.85), (0.8, 0.7), (0.82, 0.25), (0.66, 0.1)], "main", 6.0)
    yield patch(arc(0, 0.55, 0.5, 0.48))
    yield patch([(-0.52, -0.3), (-0.5, -0.98), (-0.1, -0.62)])
    yield patch([(0.52, -0.3), (0.5, -0.98), (0.1, -0.62)])
    yield patch(arc(0, -0.22, 0.58, 0.5))
    for x in (-0.24, 0.24):
        yield patch(arc(x, -0.28, 0.1, 0.12, n=12), (240, 250, 200))
        yield patch(arc(x, -0.28, 0.035, 0.09, n=8), "ink")
    yield patch([(-0.08, -0.1), (0.08, -0.1), (0, 0)], (240, 150, 160))
    for side in (-1, 1):
        yield stroke([(side * 0.25, -0.03), (side * 0.75, -0.12)])
        yield stroke([(side * 0.25, 0.03), (side * 0.75, 0.06)])


def apple() -> Iterator[Patch]:
    yield stroke([(0, -0.5), (0.08, -0.95)], WOOD, 3.0)
    yield patch([(0.08, -0.7), (0.35, -0.98), (0.7, -0.9), (0.42, -0.68)], STEM)
    yield patch(
        [(0, -0.5)]
        + arc(0.4, -0.08, 0.5, 0.52, 250, 400, 14)
        + [(0.3, 0.88), (0, 0.8), (-0.3, 0.88)]
        + arc(-0.4, -0.08, 0.5, 0.52, 140, 290, 14)
    )


def umbrella() -> Iterator[Patch]:
    yield stroke([(0, -0.9), (0, 0.75)] + arc(0.16, 0.75, 0.16, 0.18, 180, 0, 8), WOOD, 2.5)
    scallop = [p for x in (0.75, 0.25, -0.25, -0.75) for p in arc(x, 0.05, 0.25, 0.14, 360, 180, 6)]
    yield patch(arc(0, 0.05, 1.0, 0.95, 180, 360, 30) + scallop)
    yield stroke([(0, -0.9), (-0.5, 0.02)])
    yield stroke([(0, -0.9), (0.5, 0.02)])


def cup() -> Iterator[Patch]:
    yield stroke(arc(0.62, 0.1, 0.33, 0.33, -90, 90, 10), "main", 6.0)
    yield patch([(-0.7, -0.45), (0.66, -0.45), (0.5, 0.85), (-0.54, 0.85)])
    yield patch(arc(-0.02, -0.45, 0.68, 0.15), "light")
    yield stroke([(-0.25, -0.65), (-0.18, -0.78), (-0.28, -0.9)], (150, 150, 150))
    yield stroke([(0.15, -0.65), (0.22, -0.78), (0.12, -0.9)], (150, 150, 150))


def mountain() -> Iterator[Patch]:
    yield patch([(-1, 1), (-0.38, -0.25), (-0.2, -0.05), (0.12, -0.95), (0.5, -0.1), (0.62, -0.22), (1, 1)])
    yield patch([(0.12, -0.95), (0.5, -0.1), (0.3, 1), (0.15, 0.2)], "dark", inked=False)
    yield patch([(-0.06, -0.45), (0.12, -0.95), (0.34, -0.46), (0.2, -0.3), (0.12, -0.44), (0.02, -0.28)], CREAM)


def hill() -> Iterator[Patch]:
    yield patch(arc(0.42, 1, 0.58, 0.72, 180, 360, 20), "dark")
    yield patch(arc(-0.2, 1, 0.8, 1.15, 180, 360, 26))
    yield stroke(arc(-0.2, 1.25, 0.62, 1.0, 215, 325, 10), "light", 1.6)
    yield stroke(arc(-0.2, 1.6, 0.62, 1.0, 220, 320, 10), "light", 1.6)


def frond(x: float, y: float, lift: float, broad: float) -> list[Point]:
    """A leaf that rises from the crown of a palm and bends down to its tip at (x, y)."""
    foot = (0.0, -0.36)
    upper, lower = [], []
    for i in range(8):
        t = i / 7
        u = 1 - t
        bow = 2 * u * t
        px, py = foot[0] * u * u + bow * 0.55 * x + x * t * t, foot[1] * u * u + bow * (foot[1] - lift) + y * t * t
        half = broad * math.sin(math.pi * min(1, t * 0.9 + 0.12))
        upper.append((px, py - half))
        lower.append((px, py + half))
    return upper + [(x, y)] + lower[::-1]


def palm() -> Iterator[Patch]:
    yield patch([(-0.08, -0.35), (0.08, -0.35), (0.1, 0.4), (0.24, 1), (-0.08, 1), (-0.04, 0.4)], WOOD)
    for x, y, lift in ((-0.98, 0.02, 0.35), (0.98, 0.02, 0.35), (-0.7, 0.42, 0.2), (0.7, 0.42, 0.2)):
        yield patch(frond(x, y, lift, 0.2))
    for x, y, lift in ((-0.66, -0.78, 0.5), (0.66, -0.78, 0.5)):
        yield patch(frond(x, y, lift, 0.19))
    yield patch(arc(0.02, -0.36, 0.15, n=14), "dark")


def cactus() -> Iterator[Patch]:
    yield patch(
        [(-0.27, 0.52), (-0.82, 0.44), (-0.82, -0.24)]
        + arc(-0.65, -0.24, 0.17, None, 180, 360, 8)
        + [(-0.48, 0.14), (-0.27, 0.16)]
    )
    yield patch(
        [(0.27, 0.26), (0.46, 0.22), (0.46, -0.42)]
        + arc(0.64, -0.42, 0.18, None, 180, 360, 8)
        + [(0.82, 0.5), (0.27, 0.62)]
    )
    yield patch(arc(0, -0.66, 0.3, 0.32, 180, 360, 14) + [(0.3, 1), (-0.3, 1)])
    yield stroke([(-0.1, -0.62), (-0.1, 0.88)], "dark", 1.2)
    yield stroke([(0.1, -0.62), (0.1, 0.88)], "dark", 1.2)


def tent() -> Iterator[Patch]:
    yield patch([(-0.3, -0.72), (0.42, -0.72), (1, 1), (0.3, 1)])
    yield patch([(-0.3, -0.72), (0.36, 1), (-1, 1)], "dark")
    yield patch([(-0.3, 0.1), (-0.06, 1), (-0.54, 1)], (66, 52, 58))
    yield stroke([(-0.3, -0.72), (-0.3, -1)], WOOD, 2.0)


def bridge() -> Iterator[Patch]:
    """A suspension bridge; the web of its ropes is one pale field, since thin ropes would be lost."""
    hang = [(-1, 0.3), (-0.5, -0.72)] + [(0.5 * t, 0.12 - 0.84 * t * t) for t in (-0.8, -0.5, -0.2, 0.2, 0.5, 0.8)]
    yield patch([*hang, (0.5, -0.72), (1, 0.3), (1, 0.45), (-1, 0.45)], "light")
    for x in (-0.5, 0.5):
        yield patch(box(x - 0.14, -0.82, x + 0.14, 0.95))
    yield patch(box(-1, 0.3, 1, 0.58))


def ship() -> Iterator[Patch]:
    for x in (-0.42, 0.02, 0.46):
        yield patch(box(x - 0.13, -0.85, x + 0.13, -0.1))
        yield patch(box(x - 0.13, -0.85, x + 0.13, -0.64), TYRE)
    yield patch(box(-0.72, -0.22, 0.74, 0.2), CREAM)
    yield patch([(-1, 0.12), (1, 0.12), (0.82, 0.98), (-0.74, 0.98)])
    for x in (-0.55, -0.18, 0.19, 0.56):
        yield patch(arc(x, 0.45, 0.1, n=12), WINDOW)


def plane() -> Iterator[Patch]:
    yield patch([(-0.16, -0.2), (0.16, -0.72), (0.42, -0.72), (0.28, -0.2)], "dark")
    yield patch([(0.5, -0.1), (0.72, -0.7), (1.0, -0.7), (0.98, 0.04)], "dark")
    yield patch(arc(-0.66, 0.02, 0.34, 0.32, 90, 270, 14) + [(0.5, -0.28), (1.0, -0.14), (1.0, 0.06), (0.4, 0.34)])
    yield patch([(-0.3, 0.1), (0.22, 0.1), (0.68, 0.86), (0.34, 0.86)])
    yield patch([(-0.88, -0.04), (-0.78, -0.2), (-0.56, -0.22), (-0.56, -0.02)], (200, 228, 240))
    for x in (-0.36, -0.06, 0.24, 0.54):
        yield patch(arc(x, -0.08, 0.065, n=10), (200, 228, 240), inked=False)


def train() -> Iterator[Patch]:
    yield patch(box(-0.84, -0.62, -0.58, -0.1), "dark")
    yield patch([(-0.92, -0.86), (-0.5, -0.86), (-0.6, -0.6), (-0.82, -0.6)], "dark")
    yield patch([(-1, 0.95), (-0.76, 0.45), (-0.6, 0.95)], "dark")
    yield patch(arc(-0.75, 0.2, 0.2, 0.34, 90, 270, 12) + [(0.3, -0.14), (0.3, 0.6), (-0.75, 0.6)])
    yield patch(arc(-0.16, -0.12, 0.17, 0.22, 180, 360, 10), "dark")
    yield patch(box(0.2, -0.66, 0.92, 0.66))
    yield patch(box(0.1, -0.86, 1.0, -0.62), "dark")
    yield patch(box(0.4, -0.42, 0.74, -0.02), WINDOW)
    for x, r in ((-0.52, 0.22), (-0.04, 0.22), (0.58, 0.34)):
        yield patch(arc(x, 1 - r, r, n=20), TYRE)
        yield patch(arc(x, 1 - r, r * 0.4, n=10), (210, 210, 214), inked=False)


def bicycle() -> Iterator[Patch]:
    # The tyres carry the colour too: the frame alone would be too thin to show it.
    for x in (-0.54, 0.54):
        yield stroke([*arc(x, 0.5, 0.36, n=26), (x + 0.36, 0.5), (x + 0.34, 0.6)], "main", 5.0)
    yield stroke([(-0.54, 0.5), (-0.24, -0.14), (0.34, -0.14), (0.02, 0.5), (-0.54, 0.5)], "main", 4.5)
    yield stroke([(-0.3, -0.36), (0.02, 0.5)], "main", 4.5)
    yield stroke([(0.54, 0.5), (0.26, -0.5), (0.52, -0.62)], "main", 4.5)
    yield patch([(-0.52, -0.46), (-0.1, -0.46), (-0.16, -0.32), (-0.4, -0.3)], TYRE)


def dog() -> Iterator[Patch]:
    """From the side and on four legs, as the cat sits and looks at you."""
    yield stroke([(0.72, 0.02), (0.9, -0.22), (0.92, -0.5)], "main", 6.0)
    for x in (-0.42, 0.44):
        yield patch(box(x, 0.4, x + 0.22, 1), "dark")
    for x in (-0.22, 0.62):
        yield patch(box(x - 0.02, 0.4, x + 0.2, 1))
    yield patch(arc(-0.12, 0.22, 0.34, 0.36, 90, 270, 12) + arc(0.54, 0.22, 0.3, 0.36, -90, 90, 12))
    yield patch(arc(-0.84, -0.16, 0.16, 0.2, 90, 270, 10) + arc(-0.4, -0.36, 0.38, 0.4, 240, 430, 16))
    yield patch([(-0.3, -0.66), (-0.06, -0.6), (0.1, -0.12), (-0.1, 0.04), (-0.24, -0.2)], "dark")
    yield patch(arc(-0.95, -0.24, 0.1, n=12), "ink")
    yield patch(arc(-0.55, -0.4, 0.07, n=10), "ink")


def butterfly() -> Iterator[Patch]:
    for side in (-1, 1):
        yield patch(
            [(0, 0.08), (side * 0.34, -0.66), (side * 0.8, -0.92), (side, -0.62), (side * 0.86, -0.1), (0, 0.2)]
        )
        yield patch(
            [(0, 0.02), (side * 0.72, 0.02), (side * 0.88, 0.36), (side * 0.66, 0.82), (side * 0.36, 0.84), (0, 0.3)]
        )
        yield patch(arc(side * 0.66, -0.5, 0.18, n=14), "light", inked=False)
        yield patch(arc(side * 0.5, 0.42, 0.15, n=14), "light", inked=False)
        yield stroke([(0, -0.45), (side * 0.14, -0.75), (side * 0.3, -0.88)], "ink", 1.0)
    yield patch(arc(0, 0.08, 0.1, 0.58, n=20), (70, 52, 46))


def whale() -> Iterator[Patch]:
    for side in (-1, 1):
        yield stroke([(-0.35, -0.42), (-0.37 + 0.05 * side, -0.72), (-0.37 + 0.26 * side, -0.86)], (120, 180, 220), 2.6)
    yield patch([(0.62, 0.1), (0.7, -0.3), (0.46, -0.62), (0.8, -0.52), (1.02, -0.68), (0.96, -0.2), (0.9, 0.3)])
    yield patch(
        arc(-0.32, 0.28, 0.68, 0.66, 90, 282, 22)
        + [(0.2, -0.18), (0.5, 0.06), (0.74, 0.04), (0.94, 0.14), (0.78, 0.58), (0.4, 0.86)]
    )
    yield patch(
        [(-0.86, 0.56), (-0.5, 0.66), (-0.1, 0.62), (0.2, 0.74), (0.1, 0.9), (-0.32, 0.94), (-0.68, 0.82)], CREAM
    )
    yield patch(arc(-0.6, 0.16, 0.08, n=10), CREAM, inked=False)
    yield patch(arc(-0.61, 0.16, 0.045, n=10), "ink")
    yield patch([(-0.1, 0.42), (0.22, 0.44), (0.12, 0.76)], "dark")


def lamp() -> Iterator[Patch]:
    yield patch(box(-0.07, 0.0, 0.07, 0.9), "dark")
    yield patch(arc(0, 0.98, 0.5, 0.2, 180, 360, 14))
    yield patch([(-0.4, -0.95), (0.4, -0.95), (0.86, 0.16), (-0.86, 0.16)])
    yield patch([(-0.16, -0.95), (0.16, -0.95), (0.34, 0.16), (-0.34, 0.16)], "light", inked=False)
    yield stroke([(0.5, 0.16), (0.5, 0.46)], "ink", 1.2)
    yield patch(arc(0.5, 0.5, 0.07, n=10), "ink")


def book() -> Iterator[Patch]:
    """Open, its back to us, so that the covers show their colour; pages stand out on top."""
    for side in (-1, 1):
        yield patch([(0, -0.5), (side * 0.42, -0.74), (side * 0.9, -0.64), (side * 0.9, 0.4), (0, 0.6)], CREAM)
    for side in (-1, 1):
        yield patch([(0, -0.24), (side, -0.52), (side, 0.62), (0, 0.86)])
        yield stroke([(side * 0.24, 0.06), (side * 0.78, -0.08)], "light", 2.2)
        yield stroke([(side * 0.24, 0.32), (side * 0.78, 0.18)], "light", 2.2)
    yield patch([(-0.09, -0.24), (0.09, -0.24), (0.09, 0.88), (-0.09, 0.88)], "dark")


def crown() -> Iterator[Patch]:
    yield patch([(-0.78, 0.5), (-1, -0.5), (-0.46, 0.0), (0, -0.8), (0.46, 0.0), (1, -0.5), (0.78, 0.5)])
    yield patch(box(-0.8, 0.46, 0.8, 0.8), "dark")
    for x, y in ((-0.96, -0.56), (0, -0.84), (0.96, -0.56)):
        yield patch(arc(x, y, 0.13, n=14))
    yield patch([(0, 0.0), (0.13, 0.2), (0, 0.4), (-0.13, 0.2)], CREAM)


OUTLINES = {
    f.__name__: f
    for f in (
        circle,
        square,
        triangle,
        heart,
        star,
        sun,
        moon,
        cloud,
        mountain,
        hill,
        tree,
        palm,
        cactus,
        flower,
        mushroom,
        house,
        castle,
        lighthouse,
        tent,
        bridge,
        boat,
        ship,
        balloon,
        rocket,
        plane,
        car,
        train,
        bicycle,
        cat,
        dog,
        fish,
        bird,
        butterfly,
        whale,
        apple,
        cup,
        umbrella,
        lamp,
        book,
        crown,
    )
}
