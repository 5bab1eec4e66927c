"""Evaluation: a model on every row of a permit. It never fails on data: what cannot be judged is wrong, at the largest loss."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from aegis_flower import inputs
from aegis_flower.errors import AppError
from aegis_flower.metrics import Judged, joined
from aegis_flower.per_record.losses import Loss
from aegis_flower.stream import PermitDataset, fitting

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evaluated:
    """A model on the rows of a permit.

    Attributes:
        loss: summed over the rows, each cut to [0, loss_max].
        confidence: probability of what it named, by row, in no order that a caller may rely on.
        right: whether that was the label, by row; nowhere where labels are not whole numbers.
        classes: whether the model names classes; of one that predicts a number only the loss says something.
    """

    loss: float
    confidence: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]
    classes: bool = True


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loss: Loss,
    data: PermitDataset,
    device: torch.device,
    batch: int = 512,
    loss_max: float = 10.0,
    *,
    classes: bool = True,
) -> Evaluated:
    """Evaluates a model on every row of the permit.

    With one output for each row, class 1 is named where it is above 0 (its logit); with several, the largest one, along the
    second dimension. A row with several labels is right when all of them are.

    Args:
        model: the model, which is put into evaluation mode.
        loss: mean-reduced or per-record loss of (outputs, labels).
        data: the permit's rows.
        device: where to compute.
        batch: rows at once; changes no result.
        loss_max: a row's loss counts as at most this, and a loss that is not finite as this.
        classes: whether the labels are classes; else no row is right, and there is no confidence.
    """
    total, confidence, right = 0.0, [np.zeros(0, np.float32)], [np.zeros(0, np.bool_)]
    for rows in judged(model, loss, data, device, batch, classes=classes):
        total += float(np.where(np.isfinite(rows.losses), rows.losses.clip(0.0, loss_max), loss_max).sum())
        confidence.append(rows.confidence.astype(np.float32))
        right.append(rows.right)
    return Evaluated(total, np.concatenate(confidence), np.concatenate(right), classes)


@torch.no_grad()
def judged(
    model: nn.Module,
    loss: Loss,
    data: PermitDataset,
    device: torch.device,
    batch: int = 512,
    *,
    classes: bool = True,
) -> Iterator[Judged]:
    """What a model says of every row of the permit, batch by batch in their order; a row that fails is NaN, and alone in that."""
    model.to(device).eval()
    each = by_record(loss)
    for at in range(0, len(data), batch):
        x, y = data.__getitems__(np.arange(at, min(at + batch, len(data)), dtype=np.uint32))
        found = _judged(model, each, x, y, device)
        if found is None:  # one row that fails must not take the others along
            rows = [_judged(model, each, inputs.rows(x, slice(i, i + 1)), y[i : i + 1], device) for i in range(len(y))]
            failed = np.full((1, 1), np.nan), np.full(1, np.nan)
            parts = [Judged(*(row or (failed[0], y[i : i + 1].numpy(), failed[1]))) for i, row in enumerate(rows)]
            whole = joined(parts)
        else:
            whole = Judged(*found)
        inputs.clear(x)
        yield dataclasses.replace(whole, classes=classes)


def by_record(loss: Loss) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """A loss as one number for each record. torch's own are asked for that, and one that says ``each_record`` gives it by itself;
    any other is called with one record at a time.
    """
    if getattr(loss, "each_record", False):
        return lambda out, y: _row_means(loss(out, y))
    module = getattr(loss, "__module__", "")
    if module == "torch.nn.functional":
        plain: Any = loss

        def whole(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return _row_means(plain(out, y, reduction="none"))

        return whole
    if isinstance(loss, nn.Module) and type(loss).__module__ == "torch.nn.modules.loss" and hasattr(loss, "reduction"):
        asked: Any = copy.copy(loss)
        asked.reduction = "none"
        return lambda out, y: _row_means(asked(out, y))
    return lambda out, y: torch.stack(
        [_row_means(loss(out[i : i + 1], y[i : i + 1]).reshape(1, -1))[0] for i in range(len(y))]
    )


def _row_means(values: torch.Tensor) -> torch.Tensor:
    return values if values.ndim == 1 else values.flatten(1).mean(1)


def _judged(
    model: nn.Module, each: Loss, x: inputs.Inputs, y: torch.Tensor, device: torch.device
) -> tuple[Floats, npt.NDArray[Any], Floats] | None:
    """Outputs, labels and losses by row; None when a row among them makes the model or the loss fail."""
    try:
        fitted, labels = fitting(model, x, y)
        out = model(inputs.moved(fitted, device))
        losses = each(out, labels.to(device))
    except (IndexError, RuntimeError, ValueError, AssertionError):
        return None
    if losses.shape != y.shape[:1] or len(out) != len(y):
        return None
    return out.detach().cpu().double().numpy(), y.numpy().copy(), losses.detach().cpu().double().numpy()


def class_weighted(weights: Iterable[float], loss: Loss | None = None) -> Loss:
    """A loss in which each record counts by the weight of its class; the way to train on classes of unequal size.

    The weights are public and fixed, and a batch's loss is the sum of weighted losses over the number of records: a record's
    gradient depends on no other, and the clip bounds it. (A ``weight=`` inside `cross_entropy` divides by the batch's weights,
    which mixes the records.)

    Args:
        weights: one for each class, in order.
        loss: of (outputs, labels); by default cross-entropy.
    """
    table = torch.tensor([float(w) for w in weights])
    if not (len(table) and torch.isfinite(table).all() and (table >= 0).all()):
        raise AppError("class weights must be numbers that are not negative, one for each class")
    each = by_record(loss or nn.functional.cross_entropy)

    def weighted(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        chosen = table.to(device=out.device, dtype=out.dtype)[y.long()]
        return each(out, y) * chosen

    return weighted
