"""Pictures and masks to start from."""

import numpy as np
from PIL import Image


def scene(width=32, height=32, seed=0) -> Image.Image:
    """Soft colours, different everywhere."""
    values = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


def hole(width=32, height=32, box=(8, 12, 24, 28)) -> Image.Image:
    """Black with a white rectangle: left, top, right, bottom."""
    mask = Image.new("L", (width, height))
    mask.paste(255, box)
    return mask
