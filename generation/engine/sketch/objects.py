"""The shape of every object, as outlines in a unit square.

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
    yield patch(arc(0, 0, 0.6), "light")
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
    yield patch([(0.07, -0.9), (0.75, 0.38), (0.07, 0.38)], CREAM)
    yield patch([(-0.07, -0.7), (-0.6, 0.38), (-0.07, 0.38)], "main")
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


SHAPES = {
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
        tree,
        flower,
        mushroom,
        house,
        castle,
        lighthouse,
        boat,
        balloon,
        rocket,
        car,
        fish,
        bird,
        cat,
        apple,
        umbrella,
        cup,
    )
}
