"""The protocol: what a model of any framework must do to be trained on a vault, in arrays of numpy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
X = Array | dict[str, Array]
Batch = Iterable[tuple[X, Array]]


@dataclass(frozen=True)
class Settings:
    """What a round says of the training. A learner names those that it reads in `Learner.reads`.

    Attributes:
        learning_rate: of this round: ``train_config["lr"]``, or ``model.learning_rate`` on its schedule.
        momentum: ``model.momentum``.
        proximal_mu: FedProx's μ; 0 for none.
        expected_batch: rows that a batch has on average, at least 1: what its sums are divided by.
    """

    learning_rate: float = 0.1
    momentum: float = 0.0
    proximal_mu: float = 0.0
    expected_batch: float = 1.0


@runtime_checkable
class Learner(Protocol):
    """A model that learns from batches. One is made for each message, and loaded with the server's arrays.

    Attributes:
        framework: its name, for people.
        modes: the values of ``privacy.mode`` that it can have. With ``example`` it must be a `PerRecord`; with ``update`` the
            engine noises what it learned, whatever that is.
        reads: fields of `Settings` that it uses; a run that sets another one is refused, as it would change nothing.
    """

    framework: str
    modes: tuple[str, ...]
    reads: frozenset[str]

    def arrays(self) -> dict[str, Floats]:
        """What is trained and travels, by name, in order: copies in float32."""

    def load(self, arrays: Sequence[Array]) -> None:
        """Takes arrays of the shapes of `arrays`, in that order; what was learned before is forgotten."""

    def train(self, batches: Iterable[Batch], settings: Settings) -> None:
        """Learns from batches without clipping or noise.

        Args:
            batches: each in parts of at most ``model.physical_batch`` rows: inputs of shape (rows, values), or several by
                name, and labels of shape (rows,) or (rows, values). A batch may have no part. A part's memory is cleared
                after it.
            settings: of the round.
        """

    def outputs(self, x: X) -> Array:
        """What the model gives before a softmax or sigmoid: shape (rows, outputs)."""

    def losses(self, outputs: Array, y: Array) -> Array:
        """The loss of each row: shape (rows,)."""


@runtime_checkable
class PerRecord(Learner, Protocol):
    """A learner with gradients of single records: they are clipped, summed and noised outside of it."""

    def gradients(self, x: X, y: Array) -> Floats:
        """The gradient of each record's own loss, over all trained arrays in order: shape (rows, values)."""

    def step(self, gradient: Floats, settings: Settings) -> None:
        """One step of the optimiser with a gradient of shape (values,)."""
