"""`Metric` and `Metrics`: what an evaluation tells, declared before a row is read, and how it is read from a noised sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from aegis_flower.errors import ConfigError
from aegis_flower.metrics.rows import Judged
from aegis_flower.metrics.statistic import BINS_MAX, Statistic

Sums = Mapping[str, float]
Read = Callable[[Sums], Mapping[str, float]]
BLOCKS_MAX: Final = 64
EXAMPLES: Final = Statistic("examples", lambda rows: np.ones(len(rows)), failed=1)
OTHER: Final = "other"


@dataclass(frozen=True)
class Metric:
    """A number about a model that is made of declared statistics.

    Attributes:
        name: as ``evaluation.metrics`` names it.
        statistics: what is counted, beside the number of examples.
        read: numbers by name from the sums (``sums["examples"]`` and those of the statistics), which may carry noise; it leaves
            out what they do not say.
    """

    name: str
    statistics: tuple[Statistic, ...]
    read: Read


@dataclass(frozen=True)
class Metrics:
    """All that an evaluation tells, equal on server and nodes.

    Guarantees:
        - A sum holds `names` and no other; with noise, only those of `blocks` are other than 0.
        - One record changes one name of each block, by at most its cap.

    Attributes:
        metrics: in order.
        groups: vocabulary of the column that numbers are told by; then each name is there once for each group and once for all
            others, and the number over all is that of their sum.
        silent: names of the sum that stay 0, so that runs with and without noise have sums of one form.

    Raises:
        ConfigError: two statistics of one name, too many blocks or names.
    """

    metrics: tuple[Metric, ...]
    groups: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        seen: dict[str, Statistic] = {}
        for statistic in (s for m in self.metrics for s in m.statistics):
            known = seen.setdefault(statistic.name, statistic)
            if known is not statistic and (known.cap, known.bins, known.failed) != (
                statistic.cap,
                statistic.bins,
                statistic.failed,
            ):
                raise ConfigError("evaluation.metrics", f"two statistics are called {statistic.name!r}")
        if len(set(self.names)) != len(self.names):
            raise ConfigError("evaluation.metrics", "two statistics have a name in common; give each another one")
        if len(self.blocks) > BLOCKS_MAX:
            raise ConfigError(
                "evaluation.metrics",
                f"they count {len(self.blocks)} statistics of each record, more than {BLOCKS_MAX}; name fewer",
            )
        if len(self.names) > BINS_MAX:
            raise ConfigError(
                "evaluation.metrics", f"they make {len(self.names)} numbers, more than {BINS_MAX}; name fewer"
            )

    @cached_property
    def statistics(self) -> tuple[Statistic, ...]:
        """What is counted, each once, the number of examples first."""
        found = {EXAMPLES.name: EXAMPLES}
        for metric in self.metrics:
            for statistic in metric.statistics:
                found.setdefault(statistic.name, statistic)
        return tuple(found.values())

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Elements of the sum, in order."""
        return (*(name for _, names in self.blocks for name in names), *self.silent)

    @cached_property
    def blocks(self) -> tuple[tuple[int, tuple[str, ...]], ...]:
        """What is told: cap and names of each block, for the engine."""
        return tuple((s.cap, tuple(n for own in self._by_group(s) for n in own)) for s in self.statistics)

    def _by_group(self, statistic: Statistic) -> list[tuple[str, ...]]:
        if not self.groups:
            return [statistic.names]
        return [tuple(f"{name}@{g}" for name in statistic.names) for g in range(len(self.groups) + 1)]

    def tally(self) -> Tally:
        """A count that goes batch by batch."""
        return Tally(self)

    def count(self, outputs: Any, labels: Any, losses: Any, groups: Any = None) -> dict[str, int]:
        """Exact sums over records, by the names of the sum; see `Judged` for the arrays and `Tally.add` for groups."""
        tally = self.tally()
        tally.add(Judged.of(outputs, labels, losses), groups)
        return tally.counts()

    def read(self, sums: Sums) -> dict[str, float]:
        """What sums over all clients say of the model. They may carry noise, so each number is cut to where it can lie."""
        whole = self.whole(sums)
        rows = whole.get("examples", 0)
        if rows <= 0:
            return {}
        told = {"test-rows": float(rows)}
        for metric in self.metrics:
            if all(name in whole for s in metric.statistics for name in s.names):
                told.update(metric.read(whole))
        return told

    def by_group(self, sums: Sums) -> dict[str, dict[str, float]]:
        """As `read`, of each group that has rows; empty without groups."""
        inner = Metrics(self.metrics)
        found = {}
        for at, name in enumerate((*self.groups, OTHER) if self.groups else ()):
            own = {n.removesuffix(f"@{at}"): v for n, v in sums.items() if n.endswith(f"@{at}")}
            if told := inner.read(own):
                found[name] = told
        return found

    def whole(self, sums: Sums) -> dict[str, float]:
        """The sums over all groups."""
        if not self.groups:
            return dict(sums)
        found: dict[str, float] = {}
        for name, value in sums.items():
            plain = name.partition("@")[0]
            found[plain] = found.get(plain, 0) + value
        return found

    def of(self, counted: Mapping[str, int]) -> dict[str, int]:
        """Counts of an app, with 0 for each name that it did not count. What is not declared fails the gate."""
        return {**dict.fromkeys(self.names, 0), **counted}


class Tally:
    """Exact sums, batch by batch; how records are cut into batches changes nothing."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._sums = [np.zeros((len(metrics.groups) + 1, s.bins), np.int64) for s in metrics.statistics]
        self._kept = [[[0] * s.bins for _ in range(len(metrics.groups) + 1)] for s in metrics.statistics]

    def add(self, rows: Judged, groups: Any = None) -> None:
        """Counts records.

        Args:
            rows: what was judged.
            groups: place of each record's group in the vocabulary; anything else is the group of all others.
        """
        most = len(self._metrics.groups)
        own = np.full(len(rows), most) if groups is None else np.asarray(groups)
        own = np.where((own >= 0) & (own < most), own, most).astype(np.int64)
        for sums, kept, statistic in zip(self._sums, self._kept, self._metrics.statistics, strict=True):
            statistic.add(sums, rows, own)
            for row, parts in zip(kept, sums.tolist(), strict=True):
                row[:] = [a + b for a, b in zip(row, parts, strict=True)]
            sums[...] = 0

    def counts(self) -> dict[str, int]:
        """The sums so far, by the names of the metrics; silent ones are 0."""
        found = dict.fromkeys(self._metrics.names, 0)
        for statistic, kept in zip(self._metrics.statistics, self._kept, strict=True):
            for names, values in zip(self._metrics._by_group(statistic), statistic.whole(kept), strict=True):  # noqa: SLF001
                found.update(zip(names, values, strict=True))
        return found


def plain(metrics: Sequence[Metric]) -> Metrics:
    """Those metrics, told of all records together."""
    return Metrics(tuple(metrics))
