"""Grouping: seats that last, and groups that are never too small."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aegis_flower.strategies.masked.grouping import Grouping


def test_without_a_size_all_are_one_group():
    assert Grouping(None, 3).groups([3, 1, 2]) == [[1, 2, 3]]
    assert Grouping(None, 3).groups([]) == []


@given(st.sets(st.integers(0, 999), min_size=1, max_size=60), st.integers(2, 9))
def test_everybody_has_one_seat_and_no_group_is_smaller_than_asked_for(nodes, size):
    groups = Grouping(size, 2).groups(nodes)
    assert sorted(n for g in groups for n in g) == sorted(nodes)
    assert len(groups) == max(1, len(nodes) // size)
    assert all(len(g) >= min(size, len(nodes)) for g in groups)


@given(
    st.sets(st.integers(0, 99), min_size=12, max_size=30),
    st.lists(st.sets(st.integers(0, 99), min_size=3), min_size=1, max_size=6),
)
def test_a_seat_lasts_while_its_group_has_enough(nodes, changes):
    grouping = Grouping(4, 3)
    together = grouping.groups(nodes)
    for there in changes:
        groups = grouping.groups(there)
        assert sorted(n for g in groups for n in g) == sorted(there)
        assert len(groups) == 1 or all(len(g) >= 3 for g in groups)
        for before in together:
            left = set(before) & there
            if len(left) >= 3:  # such a group was not dissolved: its members are still together
                assert any(left <= set(g) for g in groups)
        together = groups


def test_a_client_that_was_away_comes_back_to_its_group():
    grouping = Grouping(4, 3)
    first = grouping.groups(range(12))
    away = first[0][0]
    grouping.groups(set(range(12)) - {away})
    assert grouping.groups(range(12)) == first


def test_who_sits_with_whom_is_drawn_anew_in_each_run():
    assert len({str(Grouping(4, 3).groups(range(40))) for _ in range(5)}) > 1
