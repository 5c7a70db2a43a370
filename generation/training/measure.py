"""Prompt adherence by plain colour statistics, without a model: does a picture show what its prompt says?

Good enough to compare checkpoints and to test that a colour or a place is plainly visible. It does
not know objects: that takes a trained judge.
"""

from functools import cache

import numpy as np
from PIL import Image

from .drawing import draw
from .scene import Item, Scene
from .vocabulary import COLOURS, PLACES


def nearest_colours(image: Image.Image) -> np.ndarray:
    """Index into COLOURS of the nearest named colour, per pixel of a 64x64 copy."""
    pixels = np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BOX), np.float32)
    palette = np.array([c.rgb for c in COLOURS], np.float32)
    distance = np.square(pixels[:, :, None] - palette)
    # Rough weights of the eye: it is keenest on green, least so on blue.
    return (distance @ np.array([2.0, 4.0, 3.0], np.float32)).argmin(-1)


def colour_share(image: Image.Image, colour: str, *, middle: bool = True) -> float:
    """The share of pixels nearest to that colour: in the middle half each way, or else along the rim."""
    names = nearest_colours(image) == [c.key for c in COLOURS].index(colour)
    if middle:
        return float(names[16:48, 16:48].mean())
    return float(names[rim_mask(64, 6)].mean())


def colour_in(image: Image.Image, region: np.ndarray) -> str | None:
    """The named colour that most pixels of `region`, bool (64, 64), are nearest to; None if it is empty.

    Ink and paper are no colours of an object unless they fill most of it.
    """
    counts = np.bincount(nearest_colours(image)[region], minlength=len(COLOURS))
    return COLOURS[int(counts.argmax())].key if counts.any() else None


def rim_mask(side: int, width: int) -> np.ndarray:
    mask = np.ones((side, side), bool)
    mask[width:-width, width:-width] = False
    return mask


def rim(image: Image.Image) -> np.ndarray:
    """The colours around the object: the outer ring of a 16x16 copy, flattened."""
    small = np.asarray(image.convert("RGB").resize((16, 16), Image.Resampling.BOX), np.float32)
    return small[rim_mask(16, 2)].ravel()


@cache
def place_rims() -> dict[str, np.ndarray]:
    """The mean rim of twelve drawings of each place."""
    return {
        p.key: np.mean([rim(draw(Scene((Item("circle", "red"),), p.key, "", "sketch", seed))) for seed in range(12)], 0)
        for p in PLACES
        if p.key != "plain"
    }


def place_of(image: Image.Image) -> str:
    """The place whose drawings' rims are nearest."""
    mine = rim(image)
    return min(place_rims(), key=lambda key: float(np.abs(place_rims()[key] - mine).mean()))
