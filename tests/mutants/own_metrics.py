"""Mutants of what an evaluation counts of a record."""

from __future__ import annotations

from mutant import Mutant

COUNTED = [
    Mutant(
        "G07 a value of a record beyond its cap",
        "aegis_flower/metrics/statistic.py",
        "cut = np.clip(values, 0, self.cap)",
        "cut = np.clip(values, 0, None)",
        "tests/property/test_metric_bounds.py::test_an_apps_own_metric_is_held_to_what_it_declares",
    ),
    Mutant(
        "G08 a sum rounded half to even",
        "aegis_flower/metrics/statistic.py",
        "[[(n + _PARTS // 2) // _PARTS for n in own] for own in sums]",
        "[[round(n / _PARTS) for n in own] for own in sums]",
        "tests/property/test_metric_bounds.py::test_sums_are_rounded_once_and_a_half_never_adds_to_the_cap",
    ),
    Mutant(
        "G09 names of a block apart in the noise",
        "aegis_flower/metrics/metric.py",
        "return tuple((s.cap, tuple(n for own in self._by_group(s) for n in own)) for s in self.statistics)",
        "return tuple((1, tuple(n for own in self._by_group(s) for n in own)) for s in self.statistics)",
        "tests/property/test_metric_bounds.py::test_one_record_moves_one_name_of_each_block_by_at_most_its_cap",
    ),
]
