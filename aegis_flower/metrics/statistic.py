"""Statistics: what is counted of each record. One record moves one number of each, by at most the cap, whatever is counted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aegis_flower.errors import AppError, ConfigError
from aegis_flower.metrics.rows import Array, Judged

Each = Callable[[Judged], Array]
CAP_MAX: Final = 1 << 24
BINS_MAX: Final = 4096
_PARTS: Final = 1 << 20  # sums are kept in so many parts of a unit, as whole numbers, and rounded once
_ROWS: Final = 1 << 18  # at once: CAP_MAX * _PARTS * _ROWS is below 2^63
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,39}")


@dataclass(frozen=True)
class Statistic:
    """A bounded sum over records, or a histogram of them.

    Guarantees:
        - One record changes one number of it at most, by `cap` at most: values are cut here, after `each` gave them, and sums are
          whole numbers, so that no rounding adds to it.
        - A row that `each` fails on takes no other along; it counts as `failed`.

    Attributes:
        name: letters, digits and ``_.-``; of a histogram's bins ``NAME_0``, ``NAME_1``, ...
        each: of the records of a batch, from each alone: the value (a bounded sum, cut to [0, cap]) or the number of its bin (of
            several; another number is in none). Shape (rows,).
        cap: the most that a record adds; 1 for a histogram.
        bins: 1 for a bounded sum, else the number of bins.
        failed: what a value counts as that is no number, or cannot be made; of a histogram -1 is no bin.

    Raises:
        ConfigError: a name, cap or number of bins that cannot be.
    """

    name: str
    each: Each
    cap: int = 1
    bins: int = 1
    failed: int = 0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                "evaluation.metrics",
                f"{self.name!r:.60} is no name of a statistic: a letter, then letters, digits, _.-",
            )
        if type(self.cap) is not int or not 1 <= self.cap <= CAP_MAX or (self.bins > 1 and self.cap != 1):
            raise ConfigError(
                "evaluation.metrics",
                f"{self.name}: a record adds a whole number from 1 to {CAP_MAX}, to a bin exactly 1",
            )
        if type(self.bins) is not int or not 1 <= self.bins <= BINS_MAX:
            raise ConfigError("evaluation.metrics", f"{self.name}: a histogram has 2 to {BINS_MAX} bins, a sum 1")
        if self.bins == 1 and not 0 <= self.failed <= self.cap:
            raise ConfigError("evaluation.metrics", f"{self.name}: a row that fails counts as 0 to {self.cap}")

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that it is made of."""
        return (self.name,) if self.bins == 1 else tuple(f"{self.name}_{i}" for i in range(self.bins))

    def add(self, sums: npt.NDArray[np.int64], rows: Judged, groups: Array) -> None:
        """Adds records to sums of shape (groups, bins), in parts of a unit (`whole` ends it)."""
        for at in range(0, len(rows), _ROWS):
            part, own = rows[at : at + _ROWS], groups[at : at + _ROWS]
            values = self._values(part)
            if self.bins > 1:
                kept = (values >= 0) & (values < self.bins)
                np.add.at(sums, (own[kept], values[kept].astype(np.int64)), _PARTS)
            else:
                cut = np.clip(values, 0, self.cap)
                np.add.at(sums[:, 0], own, np.floor(cut * _PARTS + 0.5).astype(np.int64))

    def whole(self, sums: list[list[int]]) -> list[list[int]]:
        """Sums in units: a half goes up, so a record that adds at most `cap` moves what comes out by at most that."""
        return [[(n + _PARTS // 2) // _PARTS for n in own] for own in sums]

    def _values(self, rows: Judged) -> npt.NDArray[np.float64]:
        try:
            values = self._made(rows)
        except Exception:  # noqa: BLE001 - of an app's own function; one row that fails must not take the others along
            values = (
                np.concatenate([self._alone(rows[i : i + 1]) for i in range(len(rows))]) if len(rows) else np.zeros(0)
            )
        return np.where(np.isfinite(values), values, float(self.failed))

    def _alone(self, row: Judged) -> npt.NDArray[np.float64]:
        try:
            return self._made(row)
        except Exception:  # noqa: BLE001 - as above
            return np.full(1, float(self.failed))

    def _made(self, rows: Judged) -> npt.NDArray[np.float64]:
        with np.errstate(all="ignore"):
            values = np.asarray(self.each(rows), dtype=np.float64)
        if values.shape != (len(rows),):
            raise AppError(
                f"the statistic {self.name} gives shape {values.shape} for {len(rows)} records; one number for each"
            )
        return values


def check_alone(statistic: Statistic, rows: Judged) -> None:
    """Refuses a statistic that fails on made-up records, or whose number for one moves with the others.

    Raises:
        AppError: says which and what to do.
    """
    made: Callable[[Judged], Any] = statistic._made  # noqa: SLF001 - a failure is told here, and counted elsewhere
    try:
        whole = made(rows)
        alone = np.concatenate([made(rows[i : i + 1]) for i in range(len(rows))])
    except AppError:
        raise
    except Exception as error:
        raise AppError(
            f"the statistic {statistic.name} fails on made-up records: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    if not np.allclose(whole, alone, rtol=1e-6, atol=1e-9, equal_nan=True):
        raise AppError(
            f"the statistic {statistic.name} gives a record another number when other records are there, so its cap covers "
            "nothing; compute each from its own outputs, label and loss"
        )
