"""Metrics of losses and of models that predict a number: errors in parts of the label's declared range, cut to it."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from aegis_flower.errors import ConfigError
from aegis_flower.metrics.metric import Metric, Sums
from aegis_flower.metrics.rows import Floats, Judged, Target
from aegis_flower.metrics.statistic import Statistic

_MILLI: Final = 1000
_FINE: Final = 10_000


def _loss_statistic(loss_max: float) -> Statistic:
    cap = round(loss_max * _MILLI)
    return Statistic("loss_milli", lambda rows: rows.losses * _MILLI, cap=cap, failed=cap)


def _mean_loss(sums: Sums) -> float:
    return max(0.0, sums["loss_milli"] / _MILLI / sums["examples"])


def loss(loss_max: float) -> Metric:
    """Mean loss, each record's cut to [0, loss_max]."""
    return Metric("loss", (_loss_statistic(loss_max),), lambda sums: {"loss": _mean_loss(sums)})


def perplexity(loss_max: float) -> Metric:
    """The exponential of the mean loss; each record's loss is its mean over its tokens, cut to [0, loss_max]."""
    return Metric(
        "perplexity", (_loss_statistic(loss_max),), lambda sums: {"perplexity": math.exp(min(700.0, _mean_loss(sums)))}
    )


# -- numbers: labels and outputs are scaled so that the declared range is -1 to 1 ------------------------------------------------


def _gap(rows: Judged) -> Floats:
    """Error as a part of the range; NaN where the output is no number. An output beyond the range counts as its end."""
    out = np.where(rows.finite, np.clip(rows.flat[:, 0], -1, 1), np.nan)
    return np.asarray((out - np.clip(rows.truth[:, 0], -1, 1)) / 2)


def _place(rows: Judged) -> Floats:
    return np.asarray((np.clip(rows.truth[:, 0].astype(np.float64), -1, 1) + 1) / 2)


ABSOLUTE: Final = Statistic("absolute_milli", lambda rows: np.abs(_gap(rows)) * _MILLI, cap=_MILLI, failed=_MILLI)
SQUARED: Final = Statistic("squared_fine", lambda rows: np.square(_gap(rows)) * _FINE, cap=_FINE, failed=_FINE)
LABELS: Final = Statistic("label_milli", lambda rows: _place(rows) * _MILLI, cap=_MILLI)
LABELS_SQUARED: Final = Statistic("label_squared_fine", lambda rows: np.square(_place(rows)) * _FINE, cap=_FINE)


def _range(name: str, target: Target) -> float:
    if target.low is None or target.high is None:
        raise ConfigError(
            "evaluation.metrics",
            f"{name} needs the range of the label, which bounds what one record adds: a regression label of a feature plan "
            "declares it (low, high)",
        )
    return target.high - target.low


def mae(target: Target) -> Metric:
    """Mean absolute error, in the label's own unit."""
    width = _range("mae", target)
    return Metric("mae", (ABSOLUTE,), lambda s: {"mae": width * _part(s["absolute_milli"] / _MILLI / s["examples"])})


def rmse(target: Target) -> Metric:
    """Root of the mean squared error, in the label's own unit."""
    width = _range("rmse", target)
    return Metric(
        "rmse", (SQUARED,), lambda s: {"rmse": width * math.sqrt(_part(s["squared_fine"] / _FINE / s["examples"]))}
    )


def r2(target: Target) -> Metric:
    """Coefficient of determination: 1 minus squared errors over squared distances from the labels' mean."""
    _range("r2", target)

    def read(sums: Sums) -> dict[str, float]:
        rows = sums["examples"]
        mean = sums["label_milli"] / _MILLI / rows
        spread = sums["label_squared_fine"] / _FINE / rows - mean * mean
        if spread <= 0:  # all alike, or noise as large as they
            return {}
        return {"r2": min(1.0, 1 - max(0.0, sums["squared_fine"] / _FINE / rows) / spread)}

    return Metric("r2", (SQUARED, LABELS, LABELS_SQUARED), read)


def _part(value: float) -> float:
    return min(1.0, max(0.0, value))
