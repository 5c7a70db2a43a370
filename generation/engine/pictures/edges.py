"""Control maps of lines, made of numpy and Pillow alone: edges (Canny) and strokes. The web shows them too.

edge_map("canny", picture)      white edges on black (Canny 1986), as cv2.Canny(picture, 100, 200) draws them
edge_map("scribble", picture)   white strokes on black, from a drawing or a photograph
"""

import numpy as np
from PIL import Image, ImageFilter

CANNY_LOW, CANNY_HIGH = 100, 200
"""On the scale of Sobel's 3 x 3 sums over 0…255, added along both axes: the usual ones for ControlNets."""
STROKE = 16
"""How much darker than its surroundings a stroke is, of 255."""


def edge_map(kind: str, picture: Image.Image) -> Image.Image:
    """An RGB map of the picture's size; `kind` is canny or scribble."""
    picture = picture.convert("RGB")
    return _white(canny(np.asarray(picture)) if kind == "canny" else scribble(picture))


def canny(pixels: np.ndarray, low: float = CANNY_LOW, high: float = CANNY_HIGH) -> np.ndarray:
    """Edges one pixel wide in h x w x channels of 0…255, as booleans.

    Of several channels the one with the strongest gradient counts. Pixels above `low` are edges where they are
    connected to one above `high`.
    """
    across, down = _gradients(pixels.astype(np.float32))
    strength = np.abs(across) + np.abs(down)
    strongest = strength.argmax(axis=2)[..., None]
    across, down, strength = (
        np.take_along_axis(values, strongest, axis=2)[..., 0] for values in (across, down, strength)
    )
    ridge = _non_maximum_suppression(across, down, strength)
    return _hysteresis(ridge & (strength > high), ridge & (strength > low))


def scribble(picture: Image.Image) -> np.ndarray:
    """Strokes as booleans: what is darker than its surroundings (a difference of Gaussians, Marr & Hildreth
    1980), or lighter where the picture is dark as a whole."""
    grey = picture.convert("L")
    if np.median(np.asarray(grey)) < 128:
        grey = Image.eval(grey, lambda value: 255 - value)
    fine, coarse = (np.asarray(grey.filter(ImageFilter.GaussianBlur(radius)), np.float32) for radius in (0.5, 5))
    return coarse - fine > STROKE


def _gradients(pixels):
    """Sobel's along both axes, with the border repeated."""
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    columns = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2]


def _non_maximum_suppression(across, down, strength):
    """Where the gradient is largest along its own direction, of which four are told apart."""
    padded = np.pad(strength, 1)
    height, width = strength.shape

    def beside(dy, dx):
        return padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    steepness = np.tan(np.pi / 8)
    flat, steep = np.abs(down) < steepness * np.abs(across), np.abs(across) < steepness * np.abs(down)
    same_sign = (across < 0) == (down < 0)
    # On one side "larger", on the other "not smaller": of two equal neighbours exactly one is kept.
    level = (strength > beside(0, -1)) & (strength >= beside(0, 1))
    upright = (strength > beside(-1, 0)) & (strength >= beside(1, 0))
    falling = (strength > beside(-1, -1)) & (strength > beside(1, 1))
    rising = (strength > beside(-1, 1)) & (strength > beside(1, -1))
    return np.where(flat, level, np.where(steep, upright, np.where(same_sign, falling, rising)))


def _hysteresis(seeds, allowed):
    """Of `allowed`, what is connected to `seeds` through it, corners included."""
    height, width = seeds.shape
    free = np.pad(allowed & ~seeds, 1).ravel()
    reached = np.pad(seeds, 1).ravel()
    line = width + 2
    steps = np.array([-line - 1, -line, -line + 1, -1, 1, line - 1, line, line + 1])
    front = np.flatnonzero(reached)
    while front.size:
        front = np.unique((front[:, None] + steps).ravel())
        front = front[free[front]]
        free[front] = False
        reached[front] = True
    return reached.reshape(height + 2, line)[1:-1, 1:-1]


def _white(lines: np.ndarray) -> Image.Image:
    return Image.fromarray(np.where(lines, 255, 0).astype(np.uint8), "L").convert("RGB")
