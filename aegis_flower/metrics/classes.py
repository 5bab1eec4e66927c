"""Metrics of models that name classes: what is counted of each record, and what the sums say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from aegis_flower.errors import ConfigError
from aegis_flower.metrics.metric import Metric, Sums
from aegis_flower.metrics.rows import Array, Floats, Judged, Target
from aegis_flower.metrics.statistic import Statistic

TENTHS: Final = tuple(i / 10 for i in range(1, 10))
SCORES: Final = 20  # bins of a score, of equal width
_CELLS: Final = 4  # of a table of two classes: true 0 named 0, 0 and 1, 1 and 0, 1 and 1
_TABLE_MAX: Final = 32  # classes of a confusion table
_MILLI: Final = 1000


def _share(part: float, whole: float) -> float:
    return min(1.0, max(0.0, part / whole))


# -- accuracy and calibration ---------------------------------------------------------------------------------------------------

CORRECT: Final = Statistic("correct", lambda rows: rows.right)


def _tenth(rows: Judged) -> Array:
    return np.searchsorted(TENTHS, rows.confidence, side="right")  # an edge belongs to the bin above it


def _surely(rows: Judged) -> Array:
    return np.where(rows.names_classes, _tenth(rows), -1)


CONFIDENCE: Final = Statistic("confidence", _surely, bins=len(TENTHS) + 1, failed=-1)
CONFIDENT_AND_RIGHT: Final = Statistic(
    "confident_and_right", lambda rows: np.where(rows.right, _tenth(rows), -1), bins=len(TENTHS) + 1, failed=-1
)


def read_bins(statistic: Statistic, sums: Sums) -> list[float]:
    """The bins of a sum, in order; 0 where they are not told."""
    return [sums.get(name, 0) for name in statistic.names]


def _accuracy(sums: Sums) -> dict[str, float]:
    # None right and bins that are there and empty: nobody named a class, as where a number is predicted.
    nobody = not sums["correct"] and CONFIDENCE.names[0] in sums and not any(read_bins(CONFIDENCE, sums))
    return {} if nobody else {"accuracy": _share(sums["correct"], sums["examples"])}


def _calibration(sums: Sums) -> dict[str, float]:
    """Expected calibration error over ten bins (Guo et al. 2017, eq. 5), with the middle of a bin for the confidence in it."""
    sure, right = read_bins(CONFIDENCE, sums), read_bins(CONFIDENT_AND_RIGHT, sums)
    if not any(sure):
        return {}
    gaps = [abs(r - n * (i + 0.5) / len(sure)) for i, (n, r) in enumerate(zip(sure, right, strict=True))]
    return {"calibration-error": min(1.0, sum(gaps) / sums["examples"])}


ACCURACY: Final = Metric("accuracy", (CORRECT,), _accuracy)
CALIBRATION: Final = Metric("calibration", (CONFIDENCE, CONFIDENT_AND_RIGHT), _calibration)


def accuracy(target: Target) -> Metric:
    """Share of rows of which every label was named."""
    _need_classes("accuracy", target)
    return ACCURACY


def calibration(target: Target) -> Metric:
    """Expected calibration error, by two histograms of confidence."""
    _need_classes("calibration", target)
    return CALIBRATION


# -- tokens -------------------------------------------------------------------------------------------------------------------


def _right_tokens(rows: Judged) -> Floats:
    """Share of a row's next tokens that were named, in thousandths; 0 of a row that has none."""
    known = rows.truth >= 0
    right = (rows.named == rows.truth) & known & rows.finite[:, None]
    return np.asarray(right.sum(axis=1) / np.maximum(1, known.sum(axis=1)) * _MILLI)


TOKENS: Final = Statistic("token_milli", _right_tokens, cap=_MILLI)


def token_accuracy(target: Target) -> Metric:
    """Share of next tokens that were named: the mean over the rows of each row's own share, so that a long row counts as one."""
    if target.task != "next-token":
        raise ConfigError(
            "evaluation.metrics", f"token-accuracy is for next-token labels; this label is a {target.task}"
        )
    return Metric(
        "token-accuracy",
        (TOKENS,),
        lambda sums: {"token-accuracy": _share(sums["token_milli"] / _MILLI, sums["examples"])},
    )


# -- scores of two classes -------------------------------------------------------------------------------------------------------


def _score_bin(rows: Judged) -> Floats:
    """Bin of the score, behind those of class 0 for class 1; no bin where there is no score."""
    place = np.minimum(np.floor(rows.positive * SCORES), SCORES - 1)
    return np.asarray(np.where(np.isin(rows.truth[:, 0], (0, 1)), place + SCORES * rows.truth[:, 0], -1))


SCORED: Final = Statistic("score", _score_bin, bins=2 * SCORES, failed=-1)
SQUARED: Final = Statistic(
    "brier_milli", lambda rows: np.square(rows.positive - rows.truth[:, 0]) * _MILLI, cap=_MILLI, failed=_MILLI
)


def read_auroc(sums: Sums) -> dict[str, float]:
    """Pairs of a positive and a negative that are in order; those within one bin count half."""
    bins = read_bins(SCORED, sums)
    negative, positive = np.array(bins[:SCORES]), np.array(bins[SCORES:])
    pairs = negative.sum() * positive.sum()
    if negative.sum() <= 0 or positive.sum() <= 0:
        return {}
    below = np.cumsum(negative) - negative
    return {"auroc": _share(float((positive * (below + negative / 2)).sum()), float(pairs))}


def auroc(target: Target) -> Metric:
    """Area under the ROC curve of two classes, by histograms of the score by class: 20 bins of equal width of the probability.

    Pairs within a bin count half, so the error of the binning is at most half the share of pairs that share a bin.
    """
    _need_two("auroc", target)
    return Metric("auroc", (SCORED,), read_auroc)


def brier(target: Target) -> Metric:
    """Brier score of two classes: the mean square of probability minus label."""
    _need_two("brier", target)
    return Metric("brier", (SQUARED,), lambda sums: {"brier": _share(sums["brier_milli"] / _MILLI, sums["examples"])})


# -- tables of what is and what was named --------------------------------------------------------------------------------------


def _table(name: str, classes: int, at: int) -> Statistic:
    """Cells of (true, named) of one label."""

    def cell(rows: Judged) -> Floats:
        true, named = rows.truth[:, at], rows.named[:, at]
        known = rows.finite & (true >= 0) & (true < classes) & (named < classes)
        return np.asarray(np.where(known, true * classes + named, -1.0))

    return Statistic(name, cell, bins=classes**2, failed=-1)


def _of_classes(classes: int) -> tuple[Statistic, ...]:
    """For many classes: how often each is true, named, and both; three numbers for each in place of a table."""

    def at(rows: Judged, which: Array, kept: Array) -> Array:
        return np.where(kept & rows.finite, which, -1)

    return (
        Statistic("true", lambda r: at(r, r.truth[:, 0], r.finite), bins=classes, failed=-1),
        Statistic("named", lambda r: at(r, r.named[:, 0], r.finite), bins=classes, failed=-1),
        Statistic("hit", lambda r: at(r, r.truth[:, 0], r.named[:, 0] == r.truth[:, 0]), bins=classes, failed=-1),
    )


def _hits(target: Target) -> tuple[Statistic, ...]:
    """What precision, recall and F1 are made of."""
    if target.task in ("multilabel", "ordinal"):
        return tuple(_table(f"label{at}", 2, at) for at in range(target.classes))
    return (_table("table", 2, 0),) if target.classes == len(("no", "yes")) else _of_classes(target.classes)


def _of_each(target: Target, sums: Sums) -> dict[str, tuple[float, float, float]]:
    """Hits, named and true by what is reported: the second of two classes, each of many, each label."""
    if target.exclusive and target.classes > len(("no", "yes")):
        names = [target.name(at) for at in range(target.classes)]
        true, named, hit = ([sums[f"{kind}_{at}"] for at in range(target.classes)] for kind in ("true", "named", "hit"))
        return {name: (h, n, t) for name, h, n, t in zip(names, hit, named, true, strict=True)}
    found = {}
    for at, statistic in enumerate(_hits(target)):
        _, false, missed, hit_ = read_bins(statistic, sums)
        found[target.name(1) if target.exclusive else target.name(at)] = (hit_, hit_ + false, hit_ + missed)
    return found


def _scores(target: Target, kind: str) -> Metric:
    def read(sums: Sums) -> Mapping[str, float]:
        each = {}
        for name, (hit, named, true) in _of_each(target, sums).items():
            whole = {"precision": named, "recall": true, "f1": (named + true) / 2}[kind]
            if whole > 0:
                each[name] = _share(hit, whole)
        if not each:
            return {}
        several = {f"{kind} of {name}": value for name, value in each.items()} if len(each) > 1 else {}
        return {kind: sum(each.values()) / len(each), **several}

    return Metric(kind, _hits(target), read)


def precision(target: Target) -> Metric:
    """Share of what was named that is so: of the second of two classes; the mean over classes or labels where there are more."""
    _need_classes("precision", target)
    return _scores(target, "precision")


def recall(target: Target) -> Metric:
    """Share of what is so that was named; over classes as `precision`."""
    _need_classes("recall", target)
    return _scores(target, "recall")


def f1(target: Target) -> Metric:
    """Harmonic mean of precision and recall; over classes as `precision` (macro)."""
    _need_classes("f1", target)
    return _scores(target, "f1")


def confusion(target: Target) -> Metric:
    """How often each class was taken for each."""
    if not target.exclusive or target.classes > _TABLE_MAX:
        raise ConfigError("evaluation.metrics", f"confusion is for 2 to {_TABLE_MAX} classes of which a row has one")
    statistic = _table("table", target.classes, 0)

    def read(sums: Sums) -> dict[str, float]:
        pairs = [(t, n) for t in range(target.classes) for n in range(target.classes)]
        cells = read_bins(statistic, sums)
        return {f"{target.name(t)} named {target.name(n)}": max(0.0, c) for (t, n), c in zip(pairs, cells, strict=True)}

    return Metric("confusion", (statistic,), read)


def _need_classes(name: str, target: Target) -> None:
    if target.classes < len(("no", "yes")) or target.task in ("time-to-event", "next-token"):
        raise ConfigError(
            "evaluation.metrics", f"{name} is for models that name classes; this label is a {target.task}"
        )


def _need_two(name: str, target: Target) -> None:
    if not target.exclusive or target.classes != len(("no", "yes")):
        raise ConfigError(
            "evaluation.metrics",
            f"{name} is for two classes; this label is {target.task} with {target.classes} outputs",
        )
