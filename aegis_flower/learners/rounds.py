"""Rounds of a learner: batches of a permit's rows in numpy, steps that are clipped and noised, and what it says of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from aegis_engine import DpSession, Rng
from aegis_flower import inputs
from aegis_flower.errors import AppError
from aegis_flower.learners.protocol import Array, Batch, Floats, Learner, PerRecord, Settings, X
from aegis_flower.mechanism import RoundMechanism, noised_sum
from aegis_flower.metrics import Judged, joined
from aegis_flower.per_record.losses import clipped_sum
from aegis_flower.stream import PermitDataset, PoissonSampler, Rows


@dataclass(frozen=True)
class Learned:
    """What a client's training was; as `aegis_flower.train.TrainResult`."""

    steps: int
    rows: int
    empty_batches: int


def learn(
    learner: Learner,
    data: PermitDataset,
    mechanism: RoundMechanism,
    rng: Rng | DpSession,
    settings: Settings,
    *,
    physical_batch: int,
    classes: int | None = None,
) -> Learned:
    """Trains a learner on Poisson batches: with ``mechanism.private`` on noised sums of clipped gradients, else as it likes.

    Guarantees:
        - Clip, sum and noise are those of models of torch (`aegis_flower.train`): a learner is asked for gradients of single
          records and no more, and steps by what the engine gave back. Empty batches are noised, too.

    Args:
        learner: loaded with the round's model; a `PerRecord` where gradients are clipped.
        data: the permit's rows.
        mechanism: what is drawn, clipped and noised.
        rng: the engine's session where gradients are clipped.
        settings: of the round.
        physical_batch: rows whose gradients are in memory at once; changes no result.
        classes: how many there are, where labels are classes: some frameworks take another class for a label that none has.

    Raises:
        AppError: a label that no class has, or gradients of another shape than on the rows of the probe.
    """
    draws = _Draws(data, mechanism, rng, max(1, physical_batch), classes)
    if not mechanism.private:
        learner.train(draws, settings)
        for (
            _
        ) in draws:  # what a learner did not ask for is drawn all the same, so that the count below is one of batches
            pass
    else:
        assert isinstance(learner, PerRecord)
        assert isinstance(rng, DpSession)
        size = sum(a.size for a in learner.arrays().values())
        for batch in draws:
            sums = np.zeros(size)
            for x, y in batch:
                found = learner.gradients(x, y)
                if found.shape != (len(y), size):
                    raise AppError(f"gradients() gives shape {found.shape}, where ({len(y)}, {size}) is wanted")
                sums += summed(_weighed(found, draws.weight), mechanism.clip)
            learner.step(noised_sum(rng, sums) / np.float32(mechanism.expected_batch), settings)
    return Learned(mechanism.steps, len(data), draws.empty)


def _weighed(gradients: Floats, weight: Floats | None) -> Floats:
    """Gradients of weighted losses: a record's weight is a factor of its loss, so of its gradient, before the clip."""
    return gradients if weight is None else gradients * weight[:, None]


def summed(gradients: Floats, clip: float) -> Array:
    """Clipped and summed as for torch: shape (rows, values) to (values,), in float64."""
    if not len(gradients):
        return np.zeros(gradients.shape[1])
    (total,) = clipped_sum([torch.from_numpy(np.ascontiguousarray(gradients))], clip)
    return total.numpy()


class _Draws:
    """The round's batches, once.

    Attributes:
        empty: batches without a row, so far.
        weight: how much each record of the part that was given last counts; None where all count alike.
    """

    weight: Floats | None = None

    def __init__(
        self, data: PermitDataset, mechanism: RoundMechanism, rng: Rng | DpSession, most: int, classes: int | None
    ) -> None:
        self._data, self._most, self._classes, self.empty = data, most, classes, 0
        self._batches = self._drawn(mechanism, rng)

    def __iter__(self) -> Iterator[Batch]:
        return self._batches

    def _drawn(self, mechanism: RoundMechanism, rng: Rng | DpSession) -> Iterator[Batch]:
        if isinstance(rng, Rng):
            for batch in PoissonSampler(len(self._data), mechanism.sample_rate, mechanism.steps, rng):
                yield self._counted(batch)
            return
        for _ in range(mechanism.steps):
            yield self._counted(np.frombuffer(rng.draw(), dtype=np.uint32))

    def _counted(self, batch: Rows) -> Batch:
        self.empty += len(batch) == 0
        return self._parts(batch)

    def _parts(self, batch: Rows) -> Iterator[tuple[X, Array]]:
        for at in range(0, len(batch), self._most):
            x, y, weight = self._data.weighed(batch[at : at + self._most])
            self.weight = None if weight is None else weight.numpy()
            try:
                labels = y.numpy()
                if self._classes is not None and not ((labels >= 0) & (labels < self._classes)).all():
                    raise AppError(
                        f"a label is outside 0 to {self._classes - 1}, the {self._classes} classes of the data's Spec; store "
                        "labels as whole numbers from 0 (labels 1..k: take one away)"
                    )
                yield plain(x), labels
            finally:
                inputs.clear(x)


def plain(x: inputs.Inputs) -> X:
    """Inputs as arrays of numpy, in the same memory."""
    return x.numpy() if isinstance(x, torch.Tensor) else {name: one.numpy() for name, one in x.items()}


def judged(learner: Learner, data: PermitDataset, *, classes: bool, batch: int = 512) -> Iterator[Judged]:
    """What a learner says of every row of the permit, in their order; a row that fails is NaN, and alone in that."""
    for at in range(0, len(data), batch):
        x, y = data.__getitems__(np.arange(at, min(at + batch, len(data)), dtype=np.uint32))
        found = _judged(learner, x, y.numpy())
        if found is None:
            rows = [_judged(learner, inputs.rows(x, slice(i, i + 1)), y[i : i + 1].numpy()) for i in range(len(y))]
            failed = (np.full((1, 1), np.nan), np.full(1, np.nan))
            made = joined(
                [Judged(*(row or (failed[0], y[i : i + 1].numpy(), failed[1]))) for i, row in enumerate(rows)]
            )
        else:
            made = Judged(*found)
        inputs.clear(x)
        yield Judged(made.outputs, made.labels, made.losses, classes)


def _judged(learner: Learner, x: inputs.Inputs, y: Array) -> tuple[Array, Array, Array] | None:
    try:
        outputs = np.asarray(learner.outputs(plain(x)), dtype=np.float64)
        losses = np.asarray(learner.losses(outputs, y), dtype=np.float64)
    except Exception:  # noqa: BLE001 - an evaluation never fails on a row, whatever framework it meets
        return None
    if len(outputs) != len(y) or losses.shape != y.shape[:1]:
        return None
    return outputs, y.copy(), losses
