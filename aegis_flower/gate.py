"""Gate: the checks between training and the wire. They live in the installed wheel and follow the operator's limits."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import aegis_engine as engine
from aegis_engine import DpSession, Permit, Release, clip_l2
from aegis_flower import accountant
from aegis_flower.configs import Config
from aegis_flower.ledger import Reservation
from aegis_flower.mechanism import Mechanism
from aegis_flower.node.node import Node

if TYPE_CHECKING:
    from aegis_flower.train import Evaluated

log = logging.getLogger("aegis")
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

    The sums may carry noise, so each number is cut to where it can lie. ``calibration-error`` is the expected calibration error
    over ten bins of confidence (Guo et al. 2017, eq. 5), with the middle of a bin for the confidence in it; it is there where the
    histograms are. Where the model predicts a number there is neither of them: no row has a confidence, and none is right.
    """
    rows = sums.get("examples", 0)
    if rows <= 0:
        return {}
    sure, right = CONFIDENCE.read(sums), CONFIDENT_AND_RIGHT.read(sums)
    told = {"loss": max(0.0, sums["loss_milli"] / 1000 / rows), "test-rows": float(rows)}
    # none right and bins that are there and empty: nobody named a class
    if any(sure) or sums.get("correct") or ("correct" in sums and CONFIDENCE.names[0] not in sums):
        told["accuracy"] = min(1.0, max(0.0, sums["correct"] / rows))
    if any(sure):
        gaps = [abs(r - n * (i + 0.5) / len(sure)) for i, (n, r) in enumerate(zip(sure, right, strict=True))]
        told["calibration-error"] = min(1.0, sum(gaps) / rows)
    return told


def accuracy_sd(sums: Mapping[str, int], clients: int, noise_multiplier: float, *, histograms: bool) -> float | None:
    """Standard deviation that the counts' noise gives the accuracy, to first order; None where there is no accuracy.

    Args:
        sums: of `METRICS`.
        clients: whose counts are in them, each with noise of its own.
        noise_multiplier: that of the counts' mechanism.
        histograms: whether histograms were counted as well, which widens the sensitivity.
    """
    share = means(sums).get("accuracy")
    if share is None:
        return None
    # of one count of one client (docs/PRIVACY.md; crates/policy/src/release/counts.rs)
    one = float(noise_multiplier * np.sqrt(5 if histograms else 3))
    return one * float(np.sqrt(clients * (1 + share**2))) / sums["examples"]


@dataclass(frozen=True)
class Counts:
    """How the counts of an evaluation are noised, and what that was charged to.

    Attributes:
        mechanism: of kind ``counts``; its multiplier is in units of the counts' joint sensitivity.
        reservation: of the holdout's own ledger.
        loss_max: one record's loss counts as at most this.
        histograms: whether the histograms are told; else their bins are zero.
        insecure_seed: a seed for noise anybody can repeat; None draws it from the operating system.
    """

    mechanism: Mechanism
    reservation: Reservation
    loss_max: float
    histograms: bool
    insecure_seed: int | None = None


@dataclass(frozen=True)
class Proposal:
    """What a client would like to release. What noise it carries is not for the client to say.

    Attributes:
        update: flat float32 difference to the global model, in the order of `tensors`; empty for metrics alone.
        tensors: names and shapes of the update.
        metrics: exact counts over the holdout rows, by the names of `METRICS`; the engine noises them as `counts` says.
        session: the engine's session that drew the batches and noised the sums; None without DP. It is used up.
        epsilon_total: ε of the training data's ledger with this round.
        counts: the noise of the metrics; None where they leave as they are.
        weight: the client's weight in the mean; 1 where the data demand privacy.
    """

    update: npt.NDArray[np.float32]
    tensors: Shapes
    metrics: dict[str, int] = field(default_factory=dict)
    session: DpSession | None = None
    epsilon_total: float = 0.0
    counts: Counts | None = None
    weight: int = 1


@dataclass(frozen=True)
class Limits:
    """What the release is held against: the model the server sent, the norm, the weight."""

    contract: Shapes
    max_norm: float
    weight_max: int


def counts_mechanism(config: Config, delta: float) -> Mechanism:
    """The mechanism of one evaluation in this experiment, at the δ of the holdout's terms."""
    e = config.evaluation
    return accountant.counts_mechanism(e.epsilon, min(delta, config.privacy.delta), loss_max=e.loss_max)


def counted(found: Evaluated, *, histograms: bool) -> dict[str, int]:
    """The metrics of an evaluation, exact, by the names of `METRICS`; bins are zero without `histograms` and without classes."""
    bins = {**CONFIDENCE.count(found.confidence), **CONFIDENT_AND_RIGHT.count(found.confidence[found.right])}
    return {
        "examples": len(found.right),
        "correct": int(found.right.sum()),
        "loss_milli": round(found.loss * 1000),
        **(bins if histograms and found.classes else dict.fromkeys(bins, 0)),
    }


def release(
    node: Node, permits: Permit | Sequence[Permit], proposal: Proposal, limits: Limits, *, secure_aggregation: bool
) -> Release:
    """Clips the update, runs every gate and asks the policies of each data set that a permit opened.

    An update that is not finite leaves as zeros: whether a node refuses must not depend on a row.

    A release names all permits it used: the one trained on (``release_update``) first, then the one evaluated on
    (``release_counts``). The engine clips to ``limits.max_norm`` (the update is already noised: clipping is post-processing),
    recomputes the norm, reads from the session what was noised, noises the counts, and records the decision before the `Release`
    exists.

    Raises:
        GateFailed: at least one gate failed; `gates` has all of them.
        PolicyDenied: the policies refuse, such as an update without DP where the data demand it.
    """
    own = node.config.max_norm
    max_norm = limits.max_norm if own is None else min(limits.max_norm, own)
    if proposal.update.size:
        # Weights can be chosen to overflow on some rows and on no others: a refusal would tell the server which there are.
        norm = clip_l2(proposal.update, max_norm)  # makes zeros of what is not finite
        if not np.isfinite(norm):
            log.warning(
                "aegis: the update is not finite, so zeros take its place; lower model.learning_rate, or ask the researcher to"
            )
    counts = proposal.counts
    asked = engine.Proposal(
        np.ascontiguousarray(proposal.update),
        tensors=proposal.tensors,
        metrics=proposal.metrics,
        secure_aggregation=secure_aggregation,
        weight=proposal.weight,
    )
    allowed = engine.Limits(
        contract=limits.contract, metrics_allowed=METRICS, weight_max=limits.weight_max, max_norm=max_norm
    )
    return node.engine.gate(
        [permits] if isinstance(permits, Permit) else list(permits),
        asked,
        allowed,
        session=proposal.session,
        epsilon=proposal.epsilon_total,
        counts=(counts.mechanism.noise_multiplier, round(counts.loss_max * 1000), counts.histograms)
        if counts
        else None,
        counts_seed=counts.insecure_seed if counts else None,
        counts_reservation=counts.reservation.id if counts else None,
        counts_epsilon=counts.reservation.epsilon_total if counts else 0.0,
    )


def nothing(node: Node, *, secure_aggregation: bool) -> Release:
    """Zeros for every metric, of a node without held-out rows: no row was used, so no permit is named."""
    return node.engine.release_nothing(list(METRICS), secure_aggregation=secure_aggregation)
