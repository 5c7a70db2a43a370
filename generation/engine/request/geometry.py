"""Sizes and step counts of img2img and of second passes, as diffusers and A1111 round them. No torch here."""

import math


def drawn_steps(steps: int, strength: float) -> int:
    """How many of `steps` a start at `strength` draws; at least one."""
    return max(1, min(int(steps * strength), steps))


def enlarged(width: int, height: int, scale: float) -> tuple[int, int]:
    """The size after a second pass, rounded to what the first one's size is a multiple of (64, else 32, 16 or 8)."""
    unit = next((unit for unit in (64, 32, 16) if width % unit == height % unit == 0), 8)
    across, down = (max(unit, math.floor(side * scale / unit + 0.5) * unit) for side in (width, height))
    return across, down
