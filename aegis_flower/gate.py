"""Gate: the checks between training and the wire. They live in the installed wheel and follow the operator's limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from aegis_engine import Permit, Release, clip_l2
from aegis_flower.node import Node

Shapes = list[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Histogram:
    """Counts of values between public edges, so that a sum over clients is the histogram over all their rows.

    Attributes:
        name: what is counted; bin i is the metric ``<name>_<i>``.
        edges: increasing; k of them make k + 1 bins, of which the first and the last are open, so that every value has one.
    """

    name: str
    edges: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bins, in order."""
        return tuple(f"{self.name}_{i}" for i in range(len(self.edges) + 1))

    def count(self, values: npt.NDArray[np.floating[Any]]) -> dict[str, int]:
        """How many values fall into each bin; an edge belongs to the bin above it."""
        counts = np.bincount(np.searchsorted(self.edges, values, side="right"), minlength=len(self.edges) + 1)
        return {name: int(n) for name, n in zip(self.names, counts, strict=True)}

    def read(self, metrics: Mapping[str, int]) -> list[int]:
        """The bins of a sum, in order."""
        return [metrics.get(name, 0) for name in self.names]


_TENTHS = tuple(i / 10 for i in range(1, 10))
CONFIDENCE = Histogram("confidence", _TENTHS)
CONFIDENT_AND_RIGHT = Histogram("confident_and_right", _TENTHS)

# The only numbers about a client that may enter the secure sum beside the update, all counts over its holdout rows.
COUNTS = ("examples", "correct", "loss_milli")
HISTOGRAMS = (CONFIDENCE, CONFIDENT_AND_RIGHT)
METRICS = (*COUNTS, *(name for histogram in HISTOGRAMS for name in histogram.names))
METRIC_MAX = 2**31 - 1


def means(sums: Mapping[str, int]) -> dict[str, float]:
    """What the sums of `METRICS` say of the model: accuracy, mean loss, rows, calibration.

    ``calibration-error`` is the expected calibration error over ten bins of confidence (Guo et al. 2017, eq. 5), with the middle
    of a bin for the confidence in it.
    """
    rows = sums.get("examples", 0)
    if not rows:
        return {}
    sure, right = CONFIDENCE.read(sums), CONFIDENT_AND_RIGHT.read(sums)
    gaps = [abs(r - n * (i + 0.5) / len(sure)) for i, (n, r) in enumerate(zip(sure, right, strict=True))]
    return {
        "accuracy": sums["correct"] / rows,
        "loss": sums["loss_milli"] / 1000 / rows,
        "test-rows": float(rows),
        "calibration-error": sum(gaps) / rows,
    }


@dataclass(frozen=True)
class Proposal:
    """What a client would like to release.

    Attributes:
        update: flat float32 difference to the global model, in the order of `tensors`; empty for metrics alone.
        tensors: names and shapes of the update.
        metrics: counts over the holdout rows, by the names of `METRICS`.
        rows: rows the permit allowed.
        dp: ``off``, ``secure`` or ``insecure_test``: the noise that was added.
        reservation: id of the ledger's reservation.
        epsilon_total: ε of the data set's ledger with this round.
        weight: the client's weight in the mean.
    """

    update: npt.NDArray[np.float32]
    tensors: Shapes
    metrics: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    dp: str = "off"
    reservation: str | None = None
    epsilon_total: float = 0.0
    weight: int = 1


@dataclass(frozen=True)
class Limits:
    """What the release is held against: the model the server sent, the norm, the weight."""

    contract: Shapes
    max_norm: float
    weight_max: int


def release(node: Node, permit: Permit, proposal: Proposal, limits: Limits, *, secure_aggregation: bool) -> Release:
    """Clips the update, runs every gate and asks for one ``release_update`` decision.

    The engine clips to ``limits.max_norm`` (the update is already noised: clipping is post-processing), recomputes the
    norm, and records the decision before the `Release` exists.

    Raises:
        GateFailed: at least one gate failed; `gates` has all of them.
        PolicyDenied: the policies refuse, such as an update without DP where the data demand it.
    """
    own = node.config.max_norm
    max_norm = limits.max_norm if own is None else min(limits.max_norm, own)
    if proposal.update.size and np.isfinite(proposal.update).all():
        clip_l2(proposal.update, max_norm)
    return node.engine.gate(
        permit,
        np.ascontiguousarray(proposal.update),
        tensors=proposal.tensors,
        contract=limits.contract,
        metrics=proposal.metrics,
        metrics_allowed=list(METRICS),
        rows=proposal.rows,
        subjects=permit.subjects,
        dp=proposal.dp,
        reservation=proposal.reservation,
        epsilon=proposal.epsilon_total,
        secure_aggregation=secure_aggregation,
        weight=proposal.weight,
        weight_max=limits.weight_max,
        max_norm=max_norm,
    )
