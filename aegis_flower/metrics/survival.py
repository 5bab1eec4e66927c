"""Metrics of a time to an event, at the label's last edge: who had the event by then, and how likely the model called it.

A concordance index compares pairs of records, of which one record is in as many as there are others: no sum over records has a
bound for it. The area under the ROC curve at a declared horizon is one of histograms, of which a record moves one bin. Records
that were censored before the horizon are left out of both numbers, which is unbiased where censoring says nothing of the risk.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from aegis_flower.metrics.classes import SCORED, SCORES
from aegis_flower.metrics.metric import Metric, Sums
from aegis_flower.metrics.rows import Array, Floats, Judged
from aegis_flower.metrics.statistic import Statistic

_MILLI: Final = 1000


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


def _squared(rows: Judged) -> Array:
    return np.where(status(rows) >= 0, np.square(risk(rows) - status(rows)) * _MILLI, 0)


KNOWN: Final = Statistic("known", lambda rows: status(rows) >= 0)
RISKS: Final = Statistic(SCORED.name, _bin, bins=SCORED.bins, failed=-1)
SQUARED: Final = Statistic("brier_milli", _squared, cap=_MILLI, failed=_MILLI)


def brier(sums: Sums) -> dict[str, float]:
    """Mean square of risk minus event, of those of whom it is known (Graf et al. 1999, without weights for censoring)."""
    return {"brier": min(1.0, max(0.0, sums["brier_milli"] / _MILLI / sums["known"]))} if sums["known"] > 0 else {}


BRIER: Final = Metric("brier", (SQUARED, KNOWN), brier)
