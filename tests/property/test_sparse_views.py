"""The argument of docs/SECURE_AGGREGATION.md ("One readable sum") against servers that show a ring's clients different survivors.

Combinatorics alone: who answers by the rules of the protocol, which secrets the server then has, which sums it can free of masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import event, given, settings
from hypothesis import strategies as st


@dataclass(frozen=True)
class Ring:
    """All n shared; `signed` has the set that each honest client signed, None where it signed none."""

    n: int
    k: int
    t: int
    colluders: frozenset[int]
    signed: tuple[frozenset[int] | None, ...]

    def half(self, v: int, side: int) -> list[int]:
        return [(v + side * step) % self.n for step in range(1, self.k // 2 + 1)]

    def around(self, v: int) -> list[int]:
        """Its neighbours and itself: the holders of its seed."""
        return [*self.half(v, -1), v, *self.half(v, 1)]

    @property
    def honest(self) -> list[int]:
        return [v for v in range(self.n) if v not in self.colluders]

    def answers(self, v: int) -> frozenset[int] | None:
        """The set for which an honest client gives its shares; colluders sign whatever is wanted."""
        chosen = self.signed[v]
        if chosen is None or v not in chosen or 2 * len(chosen) <= self.n:
            return None
        survivors = [w for w in self.around(v) if w in chosen]
        signers = [w for w in survivors if w in self.colluders or self.signed[w] == chosen]
        return chosen if len(signers) >= self.t else None

    def known(self, *, survived: bool) -> set[int]:
        """Honest clients of whose seed (or else of whose mask secret) the server has t shares, its colluders' among them."""
        found = set()
        for v in self.honest:
            holders = self.around(v) if survived else [w for w in self.around(v) if w != v]
            shares = 0
            for w in holders:
                chosen = None if w in self.colluders else self.answers(w)
                shares += w in self.colluders or (chosen is not None and (v in chosen) == survived)
            if shares >= self.t:
                found.add(v)
        return found

    def components(self, inside: set[int]) -> Iterator[set[int]]:
        left = set(inside)
        while left:
            found, edge = set(), {left.pop()}
            while edge:
                found |= edge
                edge = {w for v in edge for w in self.around(v) if w in left}
                left -= edge
            yield found

    def readable(self) -> list[set[int]]:
        seeds, secrets = self.known(survived=True), self.known(survived=False)
        assert not seeds & secrets, "never both kinds"
        free = {*seeds, *secrets, *self.colluders}
        return [found for found in self.components(seeds) if all(w in free for v in found for w in self.around(v))]


@st.composite
def rings(draw: st.DrawFn) -> Ring:
    half = draw(st.integers(2, 5))
    k = 2 * half
    n = draw(st.integers(k + 2, 5 * k))
    # t - 1 - k/2 is more than the colluders of any half, and t answers must be there
    most = draw(st.integers(0, (half - 1) // 2))
    t = draw(st.integers(half + 2 + most, k + 1))
    wanted = draw(st.permutations(range(n)))
    colluders: set[int] = set()
    ring = Ring(n, k, t, frozenset(), ())
    for v in wanted[: draw(st.integers(0, n // 3))]:
        more = colluders | {v}
        if all(sum(w in more for w in ring.half(u, side)) <= t - 2 - half for u in range(n) for side in (-1, 1)):
            colluders = more
    everyone = frozenset(range(n))
    sets = [everyone]
    for _ in range(draw(st.integers(1, 3))):  # each drops some places, or a stretch of them
        start, length = draw(st.integers(0, n - 1)), draw(st.integers(0, n // 2))
        single = draw(st.sets(st.integers(0, n - 1), max_size=3))
        sets.append(everyone - {(start + step) % n for step in range(length)} - single)
    # stretches of the ring are shown one set each, which they sign where they are in it
    borders = sorted(draw(st.sets(st.integers(0, n - 1), max_size=4)))
    shown = [draw(st.sampled_from(sets)) for _ in range(len(borders) + 1)]
    view = [shown[sum(v >= border for border in borders)] for v in range(n)]
    return Ring(n, k, t, frozenset(colluders), tuple(s if v in s else None for v, s in enumerate(view)))


@settings(max_examples=1500, deadline=None)
@given(ring=rings())
def test_the_only_readable_sum_of_a_ring_is_over_all_honest_clients_that_are_in_it(ring: Ring) -> None:
    found = ring.readable()
    event(f"readable sums: {len(found)}, sets answered for: {len({ring.answers(v) for v in ring.honest} - {None})}")
    assert len(found) <= 1
    for members in found:
        assert members == ring.known(survived=True)
        for v in members:
            around = ring.around(v)
            assert len(members.intersection(around)) >= ring.t - len(ring.colluders.intersection(around))


def test_colluders_in_whole_half_neighbourhoods_cut_the_ring_and_both_parts_are_read() -> None:
    """Where the argument's assumption does not hold, the search finds what it looks for."""
    n, k = 40, 8
    walls = frozenset({*range(k // 2), *range(n // 2, n // 2 + k // 2)})
    # each is told that the other dropped
    parts = [frozenset(range(n // 2 + k // 2)), walls | frozenset(range(n // 2, n))]
    signed = tuple(next(part for part in parts if v in part) for v in range(n))
    ring = Ring(n, k, k // 2 + 2, walls, signed)
    assert sorted(map(min, ring.readable())) == [k // 2, n // 2 + k // 2]
    assert sum(map(len, ring.readable())) == n - len(walls)
