"""Whose turn it is on one worker: fresh generations, or suspects, which lost a worker before and run alone.

A crash says nothing about which of those that ran together was to blame, so each of them runs alone once more:
an innocent one ends well and a poisonous one harms nobody else. For that the worker stops claiming until it is
empty. Both sides take turns, so that neither waits long for the other, whatever is submitted meanwhile:

- A new worker begins with a fresh one, for it may be there because a suspect killed the last. So between any two
  crashes by suspects something else is drawn.
- When a fresh one has ended, up to IN_A_ROW suspects follow, one after another.
- Neither a fresh one that takes long nor one that the worker waits for holds suspects up for ever. After TURN of
  a lease it is their turn anyway; after DRAIN of a lease the next of them joins those that still run.

So a suspect waits for TURN + DRAIN of a lease at most before the first of them runs. A second engine for suspects
would need no waiting, but twice the memory for models.
"""

import time

from generation.models import Generation

IN_A_ROW = 4
"""As many as a worker leaves behind that is killed with all its places taken, by default."""
TURN, DRAIN = 1 / 6, 1 / 4
"""Of a lease: with the lease itself and a sweep, 90 seconds by default."""


class Turns:
    """The turns of one worker with leases of `lease_seconds`. Not called from two threads at once, but for `ended`."""

    def __init__(self, lease_seconds: float):
        self._turn_seconds, self._drain_seconds = lease_seconds * TURN, lease_seconds * DRAIN
        self._suspects_left = 0
        self._fresh_since = time.monotonic()
        self._draining_since: float | None = None
        self.careful = True
        """Nothing has ended here yet: should the next one kill the worker, it had better be alone."""

    def is_suspects_turn(self) -> bool:
        return self._suspects_left > 0 or time.monotonic() - self._fresh_since > self._turn_seconds

    @property
    def draining(self) -> bool:
        """Whether the worker takes nothing until it is empty."""
        return self._draining_since is not None

    def drain(self) -> None:
        """A suspect waits until the worker is empty."""
        if self._draining_since is None:
            self._draining_since = time.monotonic()

    def stop_draining(self) -> None:
        self._draining_since = None

    def drained_long_enough(self) -> bool:
        """Whether the suspect should wait no more for those that still run."""
        return self._draining_since is not None and time.monotonic() - self._draining_since > self._drain_seconds

    def began(self, generation: Generation) -> None:
        """The worker has claimed `generation`."""
        if generation.losses:
            self._suspects_left = max(0, self._suspects_left - 1)
            self._draining_since = None

    def ended(self, generation: Generation) -> None:
        """`generation` has ended in some way that the worker survived."""
        if generation.losses:
            self._fresh_since = time.monotonic()
        else:
            self.careful = False
            self._suspects_left = IN_A_ROW
