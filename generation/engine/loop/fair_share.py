"""Fair scheduler: which group of rows has the next turn on the device, by deficit round-robin over what turns cost."""

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

Group = TypeVar("Group", bound=Hashable)


class FairShare:
    """Gives each turn to the group that was charged least so far.

    That is deficit round-robin (Shreedhar & Varghese 1996) with a quantum that goes to nothing: over time
    all groups are charged alike, none waits for more than one turn of each other one, and a group that
    comes or comes back starts level with those that wait, whatever it missed.
    """

    def __init__(self) -> None:
        self._charged: dict[Any, float] = {}

    def pick(self, charges: Mapping[Group, float], urgent: Group | None = None) -> Group:
        """The group whose turn it is, of those in `charges`, which says what a turn costs each of them.

        The first of those charged alike. An `urgent` one has its turn at once, and is charged for it.
        """
        least = min((self._charged[group] for group in charges if group in self._charged), default=0.0)
        charged = {group: self._charged.get(group, least) - least for group in charges}
        chosen = min(charged, key=charged.__getitem__) if urgent is None else urgent
        charged[chosen] += charges[chosen]
        self._charged = charged
        return chosen
