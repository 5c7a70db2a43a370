"""What a picture shows, before it is drawn: a `Scene`, and how one is chosen from a seed."""

import random
import zlib
from dataclasses import dataclass

from .vocabulary import COLOURS, PLACES, STYLES, THING, THINGS


@dataclass(frozen=True)
class Item:
    """One object. `x`, `y` are its centre and `size` its half extent, in parts of the picture."""

    thing: str
    colour: str
    named: bool = True
    x: float = 0.5
    y: float = 0.5
    size: float = 0.33


@dataclass(frozen=True)
class Scene:
    """Items stand in order from left to right. `backdrop` is a colour where place is "plain", else "".

    `seed` moves what captions do not mention: the wobble of lines, grain, waves, trees.
    """

    items: tuple[Item, ...] = ()
    place: str = "paper"
    backdrop: str = ""
    style: str = "sketch"
    seed: int = 0


def held_out(thing: str, colour: str, place: str) -> bool:
    """15 % of all triples never appear in training, so that a test can ask for something new."""
    return zlib.crc32(f"{thing}/{colour}/{place}".encode()) % 100 < 15


def placed(thing: str, x: float, size: float, rng: random.Random) -> tuple[float, float]:
    """Where an object of this size goes: feet on the ground, wings in the air, a little loose."""
    stands = THING[thing].stands
    y = {"ground": 0.84 - size, "sky": 0.44, "any": 0.52}[stands]
    return x + rng.uniform(-0.03, 0.03), y + rng.uniform(-0.025, 0.025)


def random_colour(rng: random.Random, thing: str, avoid: str) -> tuple[str, bool]:
    """A colour and whether captions name it; unnamed ones are what the thing usually wears."""
    usual = [c for c in THING[thing].usual if c != avoid]
    if usual and rng.random() < 0.12:
        return rng.choice(usual), False
    return rng.choice([c.key for c in COLOURS if c.key != avoid]), True


def random_scene(seed: int) -> Scene:
    """A training scene: usually one object, at times two side by side, rarely a bare place."""
    rng = random.Random(seed)
    while True:
        place = "plain" if rng.random() < 0.18 else rng.choice([p.key for p in PLACES if p.key != "plain"])
        backdrop = rng.choice(COLOURS).key if place == "plain" else ""
        style = rng.choices([s.key for s in STYLES], [s.share for s in STYLES])[0]
        count = rng.choices((0, 1, 2), (0.04, 0.80, 0.16))[0]
        xs, sizes = ((0.5,), (0.31, 0.36)) if count == 1 else ((0.27, 0.73), (0.19, 0.22))
        items = []
        for i in range(count):
            thing = rng.choice(THINGS).key
            colour, named = random_colour(rng, thing, backdrop)
            size = rng.uniform(*sizes)
            x, y = placed(thing, xs[i], size, rng)
            items.append(Item(thing, colour, named, x, y, size))
        if not any(held_out(i.thing, i.colour, place) for i in items):
            return Scene(tuple(items), place, backdrop, style, seed)
