"""Losses by row in numpy: those of a task, as torch's defaults have them (`aegis_flower.per_record.losses.loss_of`)."""

from __future__ import annotations

from typing import Final

import numpy as np

from aegis_flower.data import Spec
from aegis_flower.features import plan_of
from aegis_flower.learners.protocol import Array

CLASSES: Final = "classes"


def task_of(spec: Spec) -> str:
    """``classes`` where a row has one of several, else the plan's task; ``regression`` where a `Spec` has one class."""
    plan = plan_of(spec)
    if plan is not None and plan.label.task not in ("binary", "multiclass"):
        return plan.label.task
    return CLASSES if spec.classes > 1 else "regression"


def losses(task: str, outputs: Array, y: Array) -> Array:
    """The loss of each row.

    Args:
        task: ``classes`` (cross-entropy of a softmax along the second dimension), ``next-token`` (its mean over the places that
            have one) or ``regression`` (squared error).
        outputs: shape (rows, outputs), of next-token (rows, tokens, places).
        y: shape (rows,), of next-token (rows, places).

    Returns:
        Shape (rows,), float64; NaN for a label that no class has.
    """
    out = np.asarray(outputs, dtype=np.float64)
    if task == "regression":
        return np.asarray(np.square(out.reshape(y.shape) - y).reshape(len(y), -1).mean(axis=1))
    shifted = out - out.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    known = (y >= 0) & (y < out.shape[1])
    if task == "next-token":
        each = -np.take_along_axis(logs, np.where(known, y, 0)[:, None, :], axis=1)[:, 0, :]
        return np.asarray(np.where(known, each, 0.0).sum(axis=1) / np.maximum(1, known.sum(axis=1)))
    return np.where(known, -logs[np.arange(len(y)), np.where(known, y, 0)], np.nan)
