"""Models as pure functions of their parameters, of whatever framework: arrays, steps by SGD and losses are the same for all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from aegis_flower.errors import AppError
from aegis_flower.learners.protocol import Array, Batch, Floats, Settings, X

Leaves = list[Array]


class Functions(Protocol):
    """What a framework computes of a model, from parameters (leaves, in order) to arrays of numpy."""

    def outputs(self, leaves: Leaves, x: X) -> Array:
        """What the model gives: shape (rows, outputs)."""

    def losses(self, outputs: Array, y: Array) -> Array:
        """The loss of each row: shape (rows,)."""

    def by_record(self, leaves: Leaves, x: X, y: Array) -> Floats:
        """The gradient of each row's own loss, of at least one row: shape (rows, values)."""

    def summed(self, leaves: Leaves, x: X, y: Array) -> Floats:
        """The sum of the rows' gradients, of at least one row: shape (values,)."""


class Stepped:
    """A learner of `Functions`. Steps are SGD with the round's learning rate and momentum, as torch has it.

    Args:
        named: the start: parameters by name, in order.
        functions: of the framework.
        whose: what gave the parameters, for refusals.

    Raises:
        AppError: parameters that are no float32 arrays, or two of one name.
    """

    framework = ""
    modes: tuple[str, ...] = ("example", "update", "off")
    reads = frozenset({"learning_rate", "momentum", "proximal_mu"})

    def __init__(self, named: Sequence[tuple[str, Array]], functions: Functions, whose: str) -> None:
        self._functions = functions
        self._names = [name for name, _ in named]
        wrong = [name for name, a in named if a.dtype != np.float32]
        if wrong or not named:
            raise AppError(
                f"{whose} {', '.join(wrong) or 'nothing'} that is no float32 array; parameters are float32, in which clip and "
                "noise are exact enough"
            )
        if len(set(self._names)) < len(self._names):
            raise AppError(f"{whose} two parameters of one name")
        self._set([a for _, a in named])

    def _set(self, leaves: Sequence[Array]) -> None:
        """Parameters from now on, and an optimiser that has seen nothing."""
        self._leaves = [np.array(a) for a in leaves]
        self._start = [a.copy() for a in self._leaves]
        self._velocity: Floats | None = None

    def arrays(self) -> dict[str, Floats]:
        """The parameters by name."""
        return {name: np.array(a, dtype=np.float32) for name, a in zip(self._names, self._leaves, strict=True)}

    def load(self, arrays: Sequence[Array]) -> None:
        """Takes parameters in the order of `arrays`."""
        self._set(
            [np.asarray(a, dtype=np.float32).reshape(own.shape) for a, own in zip(arrays, self._leaves, strict=True)]
        )

    def train(self, batches: Iterable[Batch], settings: Settings) -> None:
        """A step a batch, by the sum of its rows' gradients over ``settings.expected_batch``."""
        for batch in batches:
            total = np.zeros(sum(a.size for a in self._leaves), dtype=np.float32)
            for x, y in batch:
                if len(y):
                    total += self._functions.summed(self._leaves, x, y)
            self.step(total / np.float32(settings.expected_batch), settings)

    def gradients(self, x: X, y: Array) -> Floats:
        """See `PerRecord.gradients`."""
        if not len(y):
            return np.zeros((0, sum(a.size for a in self._leaves)), np.float32)
        return self._functions.by_record(self._leaves, x, y)

    def step(self, gradient: Floats, settings: Settings) -> None:
        """One step of the optimiser; with FedProx, a pull to the round's start after it."""
        parts, at = [], 0
        for a in self._leaves:
            parts.append(np.asarray(gradient[at : at + a.size], dtype=np.float32).reshape(a.shape))
            at += a.size
        moves = self._moves(parts, settings)
        pull = np.float32(settings.learning_rate * settings.proximal_mu)
        self._leaves = [
            np.asarray(a + move, dtype=np.float32).reshape(a.shape) for a, move in zip(self._leaves, moves, strict=True)
        ]
        if settings.proximal_mu:
            self._leaves = [
                np.asarray(a - pull * (a - start), dtype=np.float32).reshape(a.shape)
                for a, start in zip(self._leaves, self._start, strict=True)
            ]

    def _moves(self, parts: list[Floats], settings: Settings) -> list[Array]:
        """What is added to each parameter, by the gradient in parts of their shapes."""
        flat = np.concatenate([part.ravel() for part in parts])
        # torch's SGD: v = μ v + g
        self._velocity = flat if self._velocity is None else np.float32(settings.momentum) * self._velocity + flat
        rate, moves, at = np.float32(settings.learning_rate), [], 0
        for part in parts:
            moves.append(-rate * self._velocity[at : at + part.size].reshape(part.shape))
            at += part.size
        return moves

    def outputs(self, x: X) -> Array:
        """See `Learner.outputs`."""
        return self._functions.outputs(self._leaves, x)

    def losses(self, outputs: Array, y: Array) -> Array:
        """See `Learner.losses`. NaN for a label that no class has."""
        known = (y >= 0) & (y < np.shape(outputs)[-1]) if y.dtype.kind in "iu" and y.ndim == 1 else np.True_
        # JAX takes another label where there is no such class, TensorFlow raises an error for the whole batch.
        found = self._functions.losses(np.asarray(outputs, dtype=np.float32), np.where(known, y, 0).astype(y.dtype))
        if found.shape != (len(y),):
            raise AppError(f"the loss gives shape {found.shape} for {len(y)} records; return one number for each")
        return np.where(known, found, np.nan)
