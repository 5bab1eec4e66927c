"""Rows as a metric sees them: what a model said of some records and what was right, in numpy, whatever the framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """What is predicted, as public text says it.

    Attributes:
        task: of the feature plan's label; ``multiclass`` or ``number`` for a `Spec` without a plan.
        classes: how many there are; 1 where no class is named. Of multilabel and ordinal tasks, the number of outputs; of
            next-token, of tokens.
        names: of classes, labels or bins in order; empty where nobody named them.
        low, high: bounds of a number; None where nobody declared them.
    """

    task: str = "multiclass"
    classes: int = 2
    names: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    @property
    def exclusive(self) -> bool:
        """Whether a record has exactly one class."""
        return self.task in ("binary", "multiclass") and self.classes > 1

    def name(self, at: int) -> str:
        """A class, label or bin in words."""
        return self.names[at] if at < len(self.names) else str(at)


@dataclass(frozen=True)
class Judged:
    """Some records that a model was tried on.

    Attributes:
        outputs: shape (rows, ...): what the model gives before a softmax or sigmoid; of an app whose model ends with one, the
            logarithms of the probabilities. NaN where it failed.
        labels: shape (rows,) or (rows, values), of next tokens (rows, places), as the feature plan encodes them.
        losses: shape (rows,); NaN where the loss failed.
        classes: whether the model names classes; where it predicts a number, no row is right and none is sure.
    """

    outputs: Floats
    labels: Array
    losses: Floats
    classes: bool = True

    @classmethod
    def of(cls, outputs: Any, labels: Any, losses: Any) -> Judged:
        """From whatever numpy takes, of any type of number."""
        out = np.asarray(outputs, dtype=np.float64)
        return cls(out, np.asarray(labels), np.asarray(losses, dtype=np.float64).reshape(len(out)))

    def __len__(self) -> int:
        return len(self.outputs)

    def __getitem__(self, rows: slice) -> Judged:
        return Judged(self.outputs[rows], self.labels[rows], self.losses[rows], self.classes)

    @cached_property
    def flat(self) -> Floats:
        """Outputs as (rows, values)."""
        return self.outputs.reshape(len(self), -1)

    @cached_property
    def finite(self) -> npt.NDArray[np.bool_]:
        """Rows whose outputs are all numbers."""
        return np.asarray(np.isfinite(self.flat).all(axis=1))

    @cached_property
    def names_classes(self) -> npt.NDArray[np.bool_]:
        """Rows whose labels are classes: whole numbers, or floats of the two classes of a logit."""
        whole = self.labels.dtype.kind != "f" or np.isin(self.truth, (0, 1)).all(axis=1)
        return np.asarray(np.logical_and(np.full(len(self), self.classes), whole), dtype=np.bool_)

    @cached_property
    def _logits(self) -> bool:
        """Whether there is an output for each label, its logit."""
        return self.outputs.size == self.labels.size

    @cached_property
    def chances(self) -> Floats:
        """Probabilities: by logit shape (rows, values), else a softmax along the second dimension."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self._logits:
                return np.asarray(0.5 * (1 + np.tanh(self.flat / 2)))
            shifted = np.exp(self.outputs - self.outputs.max(axis=1, keepdims=True))
            return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

    @cached_property
    def named(self) -> npt.NDArray[np.int64]:
        """The class that is named for each label, shape (rows, values): the largest output, or 1 where a logit is above 0."""
        if self._logits:
            return (self.flat > 0).astype(np.int64)
        best = np.nan_to_num(self.outputs, nan=-np.inf).argmax(axis=1)
        return np.asarray(best.reshape(len(self), -1), dtype=np.int64)

    @cached_property
    def truth(self) -> Array:
        """The labels, shape (rows, values)."""
        return self.labels.reshape(len(self), -1)

    @cached_property
    def right(self) -> npt.NDArray[np.bool_]:
        """Rows of which every label was named, with numbers for outputs and loss."""
        if not self.classes:
            return np.zeros(len(self), np.bool_)
        same = np.asarray((self.named == self.truth).all(axis=1))
        return same & self.finite & np.isfinite(self.losses) & self.names_classes

    @cached_property
    def confidence(self) -> Floats:
        """Probability of what was named, on average over the labels of a row; 0 where an output is no number."""
        if not self.classes:
            return np.zeros(len(self))
        sure = np.maximum(self.chances, 1 - self.chances) if self._logits else self.chances.max(axis=1)
        mean = np.nan_to_num(sure.reshape(len(self), -1).mean(axis=1))
        return np.where(self.finite & self.names_classes, mean.clip(0, 1), 0.0)

    @cached_property
    def positive(self) -> Floats:
        """Probability of the second of two classes; NaN where an output is no number."""
        chance = self.chances[:, 0] if self._logits else self.chances.reshape(len(self), -1)[:, 1]
        return np.where(self.finite, chance, np.nan)


def joined(parts: Sequence[Judged]) -> Judged:
    """Rows one after the other; outputs of rows that failed take the shape of the others."""
    shape = next((p.outputs.shape[1:] for p in parts if p.finite.any()), parts[0].outputs.shape[1:])
    outputs = [p.outputs if p.outputs.shape[1:] == shape else np.full((len(p), *shape), np.nan) for p in parts]
    return Judged(
        np.concatenate(outputs),
        np.concatenate([p.labels for p in parts]),
        np.concatenate([p.losses for p in parts]),
        all(p.classes for p in parts),
    )


def made_up(target: Target, rows: int = 6) -> Judged:
    """Random public records of a kind, to try a statistic on."""
    rng = np.random.default_rng(rows)
    several = target.task in ("multilabel", "ordinal")
    labels: Array = rng.integers(0, max(2, target.classes), rows)
    if several:
        labels = rng.integers(0, 2, (rows, target.classes)).astype(np.float32)
    elif target.task == "time-to-event":
        ends = rng.integers(0, target.classes + 1, rows)[
            :, None
        ]  # passed before, the event or the end of observation there
        places = np.arange(target.classes)
        at_end = np.where(rng.random((rows, 1)) < 0.5, 1, -1)  # noqa: PLR2004 - half
        labels = np.where(places < ends, 0, np.where(places == ends, at_end, -1)).astype(np.float32)
    elif target.task == "next-token":
        shape = (rows, 3)
        labels = rng.integers(-1, target.classes, shape)
        outputs = rng.normal(size=(rows, target.classes, 3))
        return Judged.of(outputs, labels, rng.exponential(size=rows))
    elif target.classes == 1:
        labels = rng.uniform(-1, 1, rows).astype(np.float32)
    return Judged.of(rng.normal(size=(rows, target.classes)), labels, rng.exponential(size=rows))
