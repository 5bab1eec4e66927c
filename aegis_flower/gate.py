"""Gate: the checks between training and the wire. They live in the installed wheel and follow the operator's limits."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

import aegis_engine as engine
from aegis_engine import DpSession, Permit, Release, clip_l2
from aegis_flower import accountant, features, metrics
from aegis_flower.configs import Config
from aegis_flower.ledger import Reservation
from aegis_flower.mechanism import Mechanism
from aegis_flower.metrics import Metric, Metrics, Target
from aegis_flower.node.node import Node

log = logging.getLogger("aegis")
Shapes = list[tuple[str, tuple[int, ...]]]
Blocks = Sequence[tuple[int, Sequence[str]]]


# The only numbers about a client that may enter the secure sum beside the update are declared (`aegis_flower.metrics`), all sums
# over its holdout rows of which one record moves each by a bounded amount. These are the names of a run that declares none.
METRICS = metrics.DEFAULT.names
METRIC_MAX = 2**31 - 1


def means(sums: Mapping[str, int]) -> dict[str, float]:
    """What the sums of `METRICS` say of the model: accuracy, mean loss, rows, calibration."""
    return metrics.DEFAULT.read(sums)


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
        blocks: cap and names of each statistic that is told; every other metric is zero.
        insecure_seed: a seed for noise anybody can repeat; None draws it from the operating system.
    """

    mechanism: Mechanism
    reservation: Reservation
    blocks: Blocks
    insecure_seed: int | None = None


@dataclass(frozen=True)
class Proposal:
    """What a client would like to release. What noise it carries is not for the client to say.

    Attributes:
        update: flat float32 difference to the global model, in the order of `tensors`; empty for metrics alone.
        tensors: names and shapes of the update.
        metrics: exact counts over the holdout rows, by the declared names; the engine noises them as `counts` says.
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
    """What the release is held against: the model the server sent, the norm, the weight, the declared metrics."""

    contract: Shapes
    max_norm: float
    weight_max: int
    metrics: tuple[str, ...] = METRICS


def counts_mechanism(config: Config, delta: float) -> Mechanism:
    """The mechanism of one evaluation in this experiment, at the δ of the holdout's terms."""
    e = config.evaluation
    return accountant.counts_mechanism(e.epsilon, min(delta, config.privacy.delta), loss_max=e.loss_max)


def target(config: Config) -> Target:
    """What is predicted, by the configuration's data."""
    spec = features.spec_of(config.data)
    plan = features.plan_of(spec)
    return metrics.target_of(plan.label) if plan else Target("multiclass", spec.classes)


def declared(config: Config, own: tuple[Metric, ...] = ()) -> Metrics:
    """The metrics of an experiment, the same at the server and at each node.

    Args:
        config: names them, or the task that has some by default.
        own: an app's own, beside those.

    Raises:
        ConfigError: one that there is not, or that says nothing about what is predicted.
    """
    e = config.evaluation
    return metrics.declared(
        e.metrics,
        target(config),
        e.loss_max,
        exact=config.privacy.mode == "off",
        histograms=e.histograms,
        groups=e.groups,
        own=own,
    )


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
        contract=limits.contract, metrics_allowed=limits.metrics, weight_max=limits.weight_max, max_norm=max_norm
    )
    return node.engine.gate(
        [permits] if isinstance(permits, Permit) else list(permits),
        asked,
        allowed,
        session=proposal.session,
        epsilon=proposal.epsilon_total,
        counts=(counts.mechanism.noise_multiplier, counts.blocks) if counts else None,
        counts_seed=counts.insecure_seed if counts else None,
        counts_reservation=counts.reservation.id if counts else None,
        counts_epsilon=counts.reservation.epsilon_total if counts else 0.0,
    )


def nothing(node: Node, names: Sequence[str], *, secure_aggregation: bool) -> Release:
    """Zeros for every metric, of a node without held-out rows: no row was used, so no permit is named."""
    return node.engine.release_nothing(names, secure_aggregation=secure_aggregation)
