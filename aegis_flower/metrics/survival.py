"""Metrics of a time to an event: how well the risk of the event by the label's last edge tells records apart.

The area under the ROC curve and the Brier score ask who had the event by then. Records that were censored before are left out of
both, which is unbiased where censoring says nothing of the risk. The concordance index compares pairs of records, and one record
is in as many pairs as there are others: a sum over pairs has no bound. So it is read from a histogram of records, of which one
record moves one cell: how its observation ended, by the label's intervals, and the bin of its risk.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from aegis_flower.errors import ConfigError
from aegis_flower.metrics.classes import SCORED, SCORES, read_bins
from aegis_flower.metrics.metric import Metric, Sums
from aegis_flower.metrics.rows import Array, Floats, Judged, Target
from aegis_flower.metrics.statistic import Statistic

_MILLI: Final = 1000
# Between bins of a cumulative hazard, each a quarter more than the one before: from a risk of 1 in 200 to one of 99 in 100. Bins
# of equal width of the risk would put all records of a rare event into one.
HAZARDS: Final = np.geomspace(0.005, 5.0, 31)


def risk(rows: Judged) -> Floats:
    """Probability of the event by the horizon; NaN where an output is no number."""
    chance = np.asarray(1 - np.prod(0.5 * (1 - np.tanh(rows.flat / 2)), axis=1))
    return np.where(rows.finite, chance, np.nan)


def status(rows: Judged) -> Array:
    """1 where the event was by the horizon, 0 where it was not, -1 where nobody knows."""
    known = np.where(rows.truth[:, -1] == 0, 0, -1)
    return np.where((rows.truth == 1).any(axis=1), 1, known)


def _bin(rows: Judged) -> Array:
    place = np.minimum(np.floor(risk(rows) * SCORES), SCORES - 1)
    return np.where(status(rows) >= 0, place + SCORES * status(rows), -1)


def _ended(rows: Judged) -> Array:
    """How observation ended, of K intervals: k for the event in interval k, K + p for the end of observation after p whole ones;
    -1 where the label is none of these.
    """
    intervals = rows.truth.shape[1]
    passed = np.cumprod(rows.truth == 0, axis=1).sum(axis=1)
    last = rows.truth[np.arange(len(rows)), np.minimum(passed, intervals - 1)]
    censored = (passed == intervals) | (last == -1)
    return np.where(last == 1, passed, np.where(censored, intervals + passed, -1))


def _squared(rows: Judged) -> Array:
    return np.where(status(rows) >= 0, np.square(risk(rows) - status(rows)) * _MILLI, 0)


KNOWN: Final = Statistic("known", lambda rows: status(rows) >= 0)
RISKS: Final = Statistic(SCORED.name, _bin, bins=SCORED.bins, failed=-1)
SQUARED: Final = Statistic("brier_milli", _squared, cap=_MILLI, failed=_MILLI)


def brier(sums: Sums) -> dict[str, float]:
    """Mean square of risk minus event, of those of whom it is known (Graf et al. 1999, without weights for censoring)."""
    return {"brier": min(1.0, max(0.0, sums["brier_milli"] / _MILLI / sums["known"]))} if sums["known"] > 0 else {}


BRIER: Final = Metric("brier", (SQUARED, KNOWN), brier)


def _place(rows: Judged) -> Array:
    """Bin of the cumulative hazard by the last edge, which orders records as the risk does; NaN where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        hazard = -np.log1p(-risk(rows))
    return np.where(np.isnan(hazard), np.nan, np.searchsorted(HAZARDS, hazard, side="right"))


def _cell(rows: Judged) -> Floats:
    return np.where(_ended(rows) >= 0, _place(rows) + (len(HAZARDS) + 1) * _ended(rows), -1)


def c_index(target: Target) -> Metric:
    """Harrell's concordance index (1996) of the risk by the last edge, over pairs that the label's intervals put in order: one
    had the event in an interval that the other is known to have passed.

    A pair within one of 32 bins of the risk counts half, so the error of these bins is at most half the share of such pairs.
    Pairs within one interval of time are left out; with narrower intervals there are fewer.

    Raises:
        ConfigError: the label is no time to an event, or has more intervals than a histogram has room for.
    """
    if target.task != "time-to-event":
        raise ConfigError("evaluation.metrics", f"c-index is for a time to an event; this label is a {target.task}")
    ends, places = 2 * target.classes + 1, len(HAZARDS) + 1
    statistic = Statistic("ended", _cell, bins=ends * places, failed=-1)

    def read(sums: Sums) -> dict[str, float]:
        cells = np.array(read_bins(statistic, sums)).reshape(ends, places)
        had, seen = cells[: target.classes], cells[target.classes :]
        # Known to have passed interval k: the event was in a later one, or observation ended behind k whole intervals.
        later = np.cumsum(had[::-1], axis=0)[::-1] - had + np.cumsum(seen[:0:-1], axis=0)[::-1]
        pairs = float((had.sum(axis=1) * later.sum(axis=1)).sum())
        if pairs <= 0:
            return {}
        lower = np.cumsum(later, axis=1) - later / 2
        return {"c-index": min(1.0, max(0.0, float((had * lower).sum()) / pairs))}

    return Metric("c-index", (statistic,), read)
