"""Grouping: who is summed with whom. A group's sum is the smallest thing anybody sees of its clients."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

_random = secrets.SystemRandom()


class Grouping:
    """Seats clients in groups of about `size`, drawn by the operating system's randomness; None seats all in one.

    A client keeps its seat for the whole run, also while it is away: groups that are drawn anew give the server new sums
    over numbers that stay the same, such as row counts, and with enough of them each client's own number. Only a group of
    which fewer than `least` clients are there is dissolved, and its clients join the smallest others.

    Args:
        size: clients of a group, at least as many where there are enough; None for one group.
        least: fewest clients a group may have.
    """

    def __init__(self, size: int | None, least: int) -> None:
        self.size, self.least = size, least
        self._seats: dict[int, int] = {}

    def groups(self, nodes: Iterable[int]) -> list[list[int]]:
        """The groups of those who are there, each sorted; one group where no two would have `least` clients."""
        there = sorted(set(nodes))
        if self.size is None:
            return [there] if there else []
        new = [n for n in there if n not in self._seats]
        _random.shuffle(new)
        if not self._seats:
            count = max(1, len(there) // self.size)
            self._seats = {n: i % count for i, n in enumerate(new)}
            new = []
        members = self._members(there)
        for node in new:
            self._seat(node, members)
        while len(members) > 1:
            smallest = min(members, key=lambda g: (len(members[g]), g))
            if len(members[smallest]) >= self.least:
                break
            for node in members.pop(smallest):
                self._seat(node, members)
        return [sorted(m) for _, m in sorted(members.items())]

    def _members(self, there: list[int]) -> dict[int, list[int]]:
        members: dict[int, list[int]] = {}
        for node in there:
            if node in self._seats:
                members.setdefault(self._seats[node], []).append(node)
        return members

    def _seat(self, node: int, members: dict[int, list[int]]) -> None:
        group = min(members, key=lambda g: (len(members[g]), g)) if members else 0
        members.setdefault(group, []).append(node)
        self._seats[node] = group
