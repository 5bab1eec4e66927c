"""Gate: the checks between training and the wire. They live in the installed wheel and follow the operator's limits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from aegis_engine import Permit, Release, clip_l2
from aegis_flower.node import Node

Shapes = list[tuple[str, tuple[int, ...]]]

# The only numbers about a client that may enter the secure sum beside the update, all counts over its holdout rows.
METRICS = ("examples", "correct", "loss_milli")


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
