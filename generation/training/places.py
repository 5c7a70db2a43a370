"""Backgrounds of training pictures: one function for each place, named by its key, that fills a sheet."""

import math

from .sheet import INK, Sheet, mix
from .vocabulary import COLOUR


def plain(sheet: Sheet, backdrop: str) -> None:
    sheet.cover(COLOUR[backdrop].rgb)


def paper(sheet: Sheet, _: str) -> None:
    """Nothing: the sheet's own paper."""


def sea(sheet: Sheet, _: str) -> None:
    sheet.bands([(0, (178, 216, 240)), (0.55, (226, 240, 246))])
    sheet.ground(0.56, (70, 134, 200), 0.008)
    sheet.ground(0.74, (46, 104, 176), 0.012)
    for _ in range(7):
        x, y, w = sheet.rng.random(), sheet.rng.uniform(0.62, 0.97), sheet.rng.uniform(0.05, 0.09)
        sheet.line(
            [(x + w * t * sheet.across, y + 0.012 * math.sin(t * math.pi)) for t in (-1, -0.5, 0, 0.5, 1)],
            (196, 222, 240),
            1.6,
        )


def meadow(sheet: Sheet, _: str) -> None:
    sheet.bands([(0, (176, 216, 242)), (0.6, (236, 244, 240))])
    sheet.ground(0.56, (158, 206, 110), 0.03)
    sheet.ground(0.72, (122, 184, 84), 0.02)
    for _ in range(12):
        x, y = sheet.rng.random(), sheet.rng.uniform(0.76, 0.97)
        for lean in (-0.012, 0, 0.012):
            sheet.line([(x, y), (x + lean * sheet.across, y - 0.03 * sheet.down)], (70, 132, 56), 1.4)


def forest(sheet: Sheet, _: str) -> None:
    sheet.cover((176, 200, 164))
    count = round(5.5 / sheet.across)
    for row, (colour, height) in enumerate((((108, 150, 108), 0.62), ((66, 110, 74), 0.5))):
        for i in range(count + 1):
            x = (i + 0.5 * row) / count + sheet.rng.uniform(-0.03, 0.03) * sheet.across
            base, w, h = 0.74 + 0.04 * row, 0.11 * sheet.across, height * sheet.rng.uniform(0.85, 1.1)
            trunk = 0.012 * sheet.across
            sheet.fill(
                [(x - trunk, base), (x + trunk, base), (x + trunk, base + 0.07), (x - trunk, base + 0.07)], (96, 72, 52)
            )
            for k in range(3):
                foot = base - h * 0.28 * k
                sheet.fill(
                    [(x - w * (1 - 0.22 * k), foot), (x + w * (1 - 0.22 * k), foot), (x, foot - h * 0.44)], colour
                )
    sheet.ground(0.8, (74, 104, 60), 0.015)


def desert(sheet: Sheet, _: str) -> None:
    sheet.bands([(0, (250, 222, 168)), (0.6, (254, 240, 208))])
    sheet.ground(0.56, (238, 200, 128), 0.05)
    sheet.ground(0.72, (224, 176, 98), 0.035)
    for _ in range(4):
        x, y = sheet.rng.random(), sheet.rng.uniform(0.8, 0.96)
        sheet.line([(x - 0.08, y), (x, y - 0.012), (x + 0.08, y)], (190, 140, 74), 1.4)


def mountains(sheet: Sheet, _: str) -> None:
    sheet.bands([(0, (190, 212, 232)), (0.6, (238, 238, 236))])
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
        if sheet.outlined:
            sheet.line([(x - w, 0.76), (x, top), (x + w, 0.76)], mix(colour, INK, 0.5), 1.4)
    sheet.ground(0.72, (128, 150, 112), 0.02)


def city(sheet: Sheet, _: str) -> None:
    """Two rows of houses with lit windows along a grey street."""
    sheet.bands([(0, (200, 208, 222)), (0.7, (242, 232, 220))])
    for row, (low, high, colours) in enumerate(
        (
            (0.12, 0.34, ((172, 176, 196), (182, 180, 192))),
            (0.32, 0.52, ((128, 118, 132), (150, 122, 116), (116, 124, 146))),
        )
    ):
        x = -0.1 * sheet.rng.random()
        while x < 1:
            wide, top = sheet.rng.uniform(0.13, 0.19) * sheet.across, sheet.rng.uniform(low, high)
            colour = sheet.rng.choice(colours)
            sheet.fill([(x, top), (x + wide, top), (x + wide, 0.82), (x, 0.82)], colour)
            if sheet.outlined:
                sheet.line([(x, 0.82), (x, top), (x + wide, top), (x + wide, 0.82)], mix(colour, INK, 0.5), 1.2)
            y = top + 0.05
            while row and y < 0.74:
                for part in (0.2, 0.6):
                    left, right = x + wide * part, x + wide * (part + 0.22)
                    sheet.fill([(left, y), (right, y), (right, y + 0.045), (left, y + 0.045)], (250, 226, 150))
                y += 0.1
            x += wide * (1.0 if row else 1.1)
    sheet.ground(0.8, (108, 106, 114), 0)
    for i in range(9):
        sheet.fill(
            [(i / 8 - 0.03, 0.9), (i / 8 + 0.03, 0.9), (i / 8 + 0.02, 0.92), (i / 8 - 0.04, 0.92)], (236, 228, 190)
        )


def sunset(sheet: Sheet, _: str) -> None:
    sheet.bands([(0, (112, 72, 140)), (0.28, (222, 100, 122)), (0.52, (250, 158, 84)), (0.72, (254, 212, 122))])
    sheet.ground(0.74, (92, 56, 92), 0.025)


def night(sheet: Sheet, _: str) -> None:
    sheet.bands([(0, (18, 24, 62)), (0.75, (44, 56, 112))])
    for _ in range(22):
        sheet.dot(sheet.rng.random(), sheet.rng.uniform(0, 0.7), sheet.rng.uniform(0.004, 0.009), (244, 238, 200))
    sheet.ground(0.78, (24, 34, 52), 0.025)


def dawn(sheet: Sheet, _: str) -> None:
    """Cool above, rose and pale gold at the rim of the earth, where long beams come up; misty hills."""
    sheet.bands([(0, (150, 196, 226)), (0.34, (196, 208, 230)), (0.52, (250, 206, 206)), (0.66, (255, 234, 190))])
    x, y = sheet.rng.uniform(0.35, 0.65), 0.68
    for i in range(9):
        a = math.radians(188 + 20.5 * i)
        sheet.fill(
            [(x, y)] + [(x + 1.3 * math.cos(a + t), y + 0.62 * math.sin(a + t)) for t in (-0.07, 0.07)], (254, 228, 208)
        )
    sheet.dot(x, y, 0.15, (255, 240, 176))
    sheet.ground(0.66, (176, 192, 196), 0.03)
    sheet.ground(0.78, (132, 164, 156), 0.025)


def rain(sheet: Sheet, _: str) -> None:
    """A low grey sky, slanting rain and puddles."""
    sheet.bands([(0, (104, 116, 132)), (0.7, (164, 176, 186))])
    for i in range(6):
        sheet.dot((i + sheet.rng.uniform(0, 0.8)) / 5.5, -0.02, sheet.rng.uniform(0.11, 0.17), (84, 94, 110))
    sheet.ground(0.76, (98, 112, 112), 0.015)
    for _ in range(4):
        x, y, w = sheet.rng.random(), sheet.rng.uniform(0.84, 0.96), sheet.rng.uniform(0.07, 0.12)
        sheet.fill(
            [
                (x + w * math.cos(a) * sheet.across, y + 0.018 * math.sin(a))
                for a in (math.tau * i / 14 for i in range(14))
            ],
            (150, 172, 190),
        )
    for _ in range(round(46 / sheet.across / sheet.down)):
        x, y = sheet.rng.uniform(0, 1.05), sheet.rng.uniform(0.02, 0.95)
        sheet.line([(x, y), (x - 0.022 * sheet.across, y + 0.065 * sheet.down)], (206, 220, 234), 1.9)


def snow(sheet: Sheet, _: str) -> None:
    sheet.bands([(0, (164, 184, 208)), (0.6, (206, 218, 232))])
    sheet.ground(0.6, (226, 236, 246), 0.035)
    sheet.ground(0.76, (246, 250, 254), 0.025)
    for _ in range(34):
        sheet.dot(sheet.rng.random(), sheet.rng.uniform(0, 0.95), sheet.rng.uniform(0.006, 0.012), (254, 254, 255))


GROUNDS = {
    f.__name__: f for f in (plain, paper, sea, meadow, forest, desert, mountains, city, sunset, night, dawn, rain, snow)
}
