"""Whole update: what a node learned in a round, clipped and noised by the engine as one vector. How it was learned is not asked.

The unit is all data of the node. Whatever they were, others or none among them, what is noised is a vector of norm `clip` at
most, so two such vectors are at most twice the clip apart: that is the sensitivity, and the noise is in its units.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aegis_engine import DpSession, Permit, clip_l2
from aegis_flower.ledger import RoundReservation
from aegis_flower.mechanism import noised_sum
from aegis_flower.weights import NDArrays

Floats = npt.NDArray[np.float32]


def session(permit: Permit, reservation: RoundReservation, dim: int, insecure_seed: int | None = None) -> DpSession:
    """The engine's session for what was charged: of an update, or of blocks, one step over all of the permit's rows.

    Args:
        permit: the permit to train.
        reservation: what was charged.
        dim: values of the arrays that are trained.
        insecure_seed: noise anybody can repeat, for ``privacy.noise=insecure_test``.
    """
    charged = reservation.mechanism
    return DpSession(
        permit,
        noise_multiplier=charged.noise_multiplier,
        # The engine takes twice the clip of a block by itself, as it clips each; an update was clipped before.
        clip=charged.clip if charged.blocks else charged.sensitivity,
        sample_rate=charged.sample_rate,
        steps=charged.steps,
        expected_batch=charged.expected_batch,
        dim=dim,
        reservation=reservation.id,
        insecure_seed=insecure_seed,
        blocks=charged.blocks,
    )


def noised(before: NDArrays, after: NDArrays, trained: Sequence[bool], session: DpSession, clip: float) -> Floats:
    """The update that may leave: over the trained arrays clipped and noised, 0 in all others.

    An update that is not finite counts as zeros: whether a node answers must not depend on its data.

    Args:
        before: the arrays of a model, in order.
        after: the same arrays, trained.
        trained: which of them the training may change; noise on the others would spoil what stays as it is.
        session: of `session`; its one step is used up.
        clip: L2 bound of the update.

    Returns:
        Shape (values of all arrays,), on the engine's grid.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        parts = [
            np.asarray(a - b, dtype=np.float32).ravel() for a, b, own in zip(after, before, trained, strict=True) if own
        ]
    moved = np.ascontiguousarray(np.concatenate(parts))
    clip_l2(moved, clip)
    session.draw()
    made = noised_sum(session, moved.astype(np.float64))
    whole, at = [], 0
    for a, own in zip(before, trained, strict=True):
        whole.append(made[at : at + a.size] if own else np.zeros(a.size, np.float32))
        at += a.size if own else 0
    return np.concatenate(whole)
