"""Whose turn it is: the device's time shared between groups of rows that cannot go through the UNet together."""

from collections.abc import Hashable


class FairShare:
    """Gives each turn to the group that was charged least so far.

    That is deficit round-robin (Shreedhar & Varghese 1996) with a quantum that goes to nothing: over time
    all groups are charged alike, none waits for more than one turn of each other one, and a group that
    comes or comes back starts level with those that wait, whatever it missed.
    """

    def __init__(self):
        self._charged: dict[Hashable, float] = {}

    def pick(self, charges: dict[Hashable, float], urgent: Hashable = None) -> Hashable:
        """The group whose turn it is, of those in `charges`, which says what a turn costs each of them.

        The first of those charged alike. An `urgent` one has its turn at once, and is charged for it.
        """
        least = min((self._charged[key] for key in charges if key in self._charged), default=0.0)
        self._charged = {key: self._charged.get(key, least) - least for key in charges}
        chosen = min(charges, key=self._charged.get) if urgent is None else urgent
        self._charged[chosen] += charges[chosen]
        return chosen
