"""What a training picture shows, before it is drawn: a `Scene`, and how one is chosen from a seed."""

import random
import zlib
from collections.abc import Collection
from dataclasses import dataclass

from .vocabulary import COLOURS, PLACES, STYLES, THING, THINGS

# Half extents in parts of the shorter side, of an object that has the picture to itself.
EXTENTS = {"small": (0.16, 0.20), "": (0.30, 0.35), "big": (0.43, 0.47)}


@dataclass(frozen=True)
class Item:
    """One object.

    `x`, `y` are its centre in parts of the picture's width and height, `size` is its half extent in
    parts of the shorter side. `named` says whether captions tell its colour; `scale` is the word
    for its size: "small", "big" or "" for the usual, which goes unsaid.
    """

    thing: str
    colour: str
    named: bool = True
    x: float = 0.5
    y: float = 0.5
    size: float = 0.33
    scale: str = ""


@dataclass(frozen=True)
class Scene:
    """A picture of `width` x `height` pixels.

    `relation` tells how several items stand: "beside" (from left to right), "above" (from top to
    bottom) or "group" (the same thing several times, in no order that captions tell). `backdrop` is
    a colour where place is "plain", else "". `seed` moves what captions do not mention: the wobble
    of lines, grain, waves, trees.
    """

    items: tuple[Item, ...] = ()
    place: str = "paper"
    backdrop: str = ""
    style: str = "sketch"
    seed: int = 0
    width: int = 256
    height: int = 256
    relation: str = ""


def held_out(thing: str, colour: str, place: str) -> bool:
    """15 % of all triples never appear in training, so that a test can ask for something new."""
    return zlib.crc32(f"{thing}/{colour}/{place}".encode()) % 100 < 15


def rest(thing: str, size: float, tall: float) -> float:
    """The height at which a thing alone rests: feet on the ground, wings in the air.

    `tall` is the picture's height in shorter sides, 1.0 or more.
    """
    if THING[thing].stands == "ground":
        return 0.86 - size / tall
    return 0.45 if THING[thing].stands == "sky" else 0.52


def random_colour(rng: random.Random, thing: str, avoid: str) -> tuple[str, bool]:
    """A colour and whether captions name it; unnamed ones are what the thing usually wears."""
    usual = [c for c in THING[thing].usual if c != avoid]
    if usual and rng.random() < 0.12:
        return rng.choice(usual), False
    return rng.choice([c.key for c in COLOURS if c.key != avoid]), True


def one_object(rng: random.Random, things: list[str], avoid: str, tall: float) -> list[Item]:
    thing = rng.choice(things)
    scale = rng.choices(("", "small", "big"), (0.68, 0.16, 0.16))[0]
    size = rng.uniform(*EXTENTS[scale])
    loose = 0.015 if scale == "big" else 0.03
    y = min(rest(thing, size, tall), 0.98 - size / tall) if scale != "big" else 0.5
    x = 0.5 + rng.uniform(-loose, loose)
    return [Item(thing, *random_colour(rng, thing, avoid), x, y + rng.uniform(-loose, loose) * 0.8, size, scale)]


def two_objects(rng: random.Random, things: list[str], avoid: str, tall: float, above: bool) -> list[Item]:
    """Two different things, side by side or one above the other."""
    scales = rng.choice((("small", "big"), ("big", "small"))) if rng.random() < 0.15 else ("", "")
    items = []
    for i, (thing, scale) in enumerate(zip(rng.sample(things, 2), scales, strict=True)):
        size = rng.uniform(*{"small": (0.11, 0.13), "": (0.19, 0.22), "big": (0.23, 0.25)}[scale])
        if above:
            x, y = 0.5 + rng.uniform(-0.06, 0.06), (0.26, 0.74)[i]
        else:
            x, y = (0.27, 0.73)[i], rest(thing, size, tall)
        x, y = x + rng.uniform(-0.02, 0.02), y + rng.uniform(-0.02, 0.02)
        items.append(Item(thing, *random_colour(rng, thing, avoid), x, y, size, scale))
    return items


def group(rng: random.Random, things: list[str], avoid: str, tall: float) -> list[Item]:
    """The same thing two or three times, in a row or three in a triangle."""
    thing, count = rng.choice(things), rng.choice((2, 3))
    colour, named = random_colour(rng, thing, avoid)
    size = rng.uniform(0.18, 0.21) if count == 2 else rng.uniform(0.135, 0.15)
    y = rest(thing, size, tall)
    if count == 2:
        spots = [(0.27, y), (0.73, y)]
    elif rng.random() < 0.6:
        spots = [(0.18, y), (0.5, y), (0.82, y)]
    else:
        size *= 1.2
        spots = [(0.28, 0.72), (0.5, 0.3), (0.72, 0.72)]
    return [
        Item(thing, colour, named, x + rng.uniform(-0.015, 0.015), y + rng.uniform(-0.02, 0.02), size) for x, y in spots
    ]


def random_scene(
    seed: int,
    width: int = 256,
    height: int = 256,
    *,
    things: Collection[str] | None = None,
    places: Collection[str] | None = None,
    styles: Collection[str] | None = None,
) -> Scene:
    """A training scene: mostly one object, at times two, or one thing two or three times; rarely a bare place.

    `things`, `places` and `styles` are keys of the vocabulary and narrow the choice; None is all of
    them. Raises ValueError for an unknown key, an empty choice, or when every triple is held out.
    """
    rng = random.Random(seed)
    known = [t.key for t in THINGS if things is None or t.key in things]
    where = [p for p in PLACES if places is None or p.key in places]
    how = [s for s in STYLES if styles is None or s.key in styles]
    for name, keys, chosen in (("things", things, known), ("places", places, where), ("styles", styles, how)):
        if not chosen or (keys is not None and len(set(keys)) != len(chosen)):
            raise ValueError(f"{name} must be keys of the vocabulary, at least one: {keys}")
    tall = height / min(width, height)
    # What is in it is fixed first and once: trying again over a held-out triple must not thin out crowds.
    kind = rng.choices(("one", "two", "group", "none"), (0.62, 0.20, 0.15, 0.03))[0]
    above = rng.random() < 0.4
    style = rng.choices([s.key for s in how], [s.share for s in how])[0]
    for _ in range(1000):
        place = rng.choices([p.key for p in where], [p.share for p in where])[0]
        backdrop = rng.choice(COLOURS).key if place == "plain" else ""
        relation = ""
        if kind == "none":
            items = []
        elif kind == "group":
            items, relation = group(rng, known, backdrop, tall), "group"
        elif kind == "two" and len(known) > 1:
            items, relation = two_objects(rng, known, backdrop, tall, above), "above" if above else "beside"
        else:
            items = one_object(rng, known, backdrop, tall)
        if not any(held_out(i.thing, i.colour, place) for i in items):
            return Scene(tuple(items), place, backdrop, style, seed, width, height, relation)
    raise ValueError("every picture of these things and places is held out")


def overview(count: int = 64) -> list[Scene]:
    """Scenes of one object each that go through all objects, places, styles and colours side by side."""
    scenes = []
    for i in range(count):
        thing, place, colour = THINGS[i % len(THINGS)].key, PLACES[i % len(PLACES)].key, COLOURS[i * 5 % len(COLOURS)]
        backdrop = COLOURS[(i * 5 + 4) % len(COLOURS)].key if place == "plain" else ""
        item = Item(thing, colour.key, True, 0.5, rest(thing, 0.33, 1.0), 0.33)
        scenes.append(Scene((item,), place, backdrop, STYLES[i % len(STYLES)].key, i))
    return scenes
