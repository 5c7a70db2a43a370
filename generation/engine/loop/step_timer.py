"""How long the steps of a group take, by how many pictures go at once: learned from the steps themselves. No torch."""

from collections.abc import Hashable
from dataclasses import dataclass

KNOWN_AFTER = 4
"""Steps of a size before it is judged; the first of them warms caches up and counts for nothing."""
NEWEST = 0.2
"""Weight of the newest step in the average."""
WORTH = 0.95
"""A smaller batch is taken if a picture costs less than this part of what it costs in a larger one."""
LOOK_AGAIN = 64
"""After so many capped steps a full one is taken, since a machine's other work comes and goes."""


@dataclass(slots=True)
class _Measured:
    seconds: float = 0.0
    """Per step, averaged."""
    steps: int = 0


class Pace:
    """Seconds per step of each group, and the batch beyond which more pictures make nobody faster."""

    def __init__(self):
        self._measured: dict[Hashable, dict[int, _Measured]] = {}
        self._capped: dict[Hashable, int] = {}

    def note(self, key: Hashable, pictures: int, seconds: float) -> None:
        """A step of that group with so many pictures took that long."""
        measured = self._measured.setdefault(key, {}).setdefault(pictures, _Measured())
        measured.steps += 1
        share = 1.0 if measured.steps <= 2 else NEWEST
        measured.seconds += share * (seconds - measured.seconds)

    def seconds(self, key: Hashable, pictures: int) -> float:
        """What a step of so many pictures is expected to take; 0 where nothing is known."""
        measured = self._measured.get(key)
        if not measured:
            return 0.0
        nearest = min(measured, key=lambda size: abs(size - pictures))
        return measured[nearest].seconds * max(pictures / nearest, 1.0)

    def most(self, key: Hashable, pictures: int) -> int:
        """How many of so many pictures should go at once."""
        known = {
            size: one.seconds / size for size, one in self._measured.get(key, {}).items() if one.steps >= KNOWN_AFTER
        }
        smaller = {size: cost for size, cost in known.items() if size < pictures}
        if pictures not in known or not smaller:
            return pictures
        best = min(smaller, key=smaller.get)
        if smaller[best] >= known[pictures] * WORTH:
            return pictures
        self._capped[key] = self._capped.get(key, 0) + 1
        return pictures if self._capped[key] % LOOK_AGAIN == 0 else best
