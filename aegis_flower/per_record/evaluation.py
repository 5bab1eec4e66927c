"""Evaluation: a model on every row of a permit. It never fails on data: what cannot be judged is wrong, at the largest loss."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from aegis_flower import inputs
from aegis_flower.errors import AppError
from aegis_flower.per_record.losses import Loss
from aegis_flower.stream import PermitDataset, fitting


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
    model.to(device).eval()
    each = by_record(loss)
    total = 0.0
    confidence, right = np.zeros(len(data), np.float32), np.zeros(len(data), np.bool_)
    for at in range(0, len(data), batch):
        x, y = data.__getitems__(np.arange(at, min(at + batch, len(data)), dtype=np.uint32))
        judged = _judged(model, each, x, y, device)
        if judged is None:  # one row that fails must not take the others along
            rows = [_judged(model, each, inputs.rows(x, slice(i, i + 1)), y[i : i + 1], device) for i in range(len(y))]
            failed = (torch.full((1,), torch.nan), torch.zeros(1), torch.zeros(1, dtype=torch.bool))
            columns = list(zip(*(row or failed for row in rows), strict=True))
            judged = torch.cat(columns[0]), torch.cat(columns[1]), torch.cat(columns[2])
        losses, sure, correct = judged
        kept = torch.isfinite(losses)
        total += float(torch.where(kept, losses.double().clamp(0.0, loss_max), loss_max).sum())
        confidence[at : at + len(y)] = torch.nan_to_num(sure.float(), nan=0.0).clamp(0, 1).numpy()
        right[at : at + len(y)] = (correct & kept).numpy()
        inputs.clear(x)
    if not classes:
        confidence, right = np.zeros_like(confidence), np.zeros_like(right)
    return Evaluated(total, confidence, right, classes)


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
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Loss, confidence and rightness by row; None when a row among them makes the model or the loss fail."""
    try:
        fitted, labels = fitting(model, x, y)
        out = model(inputs.moved(fitted, device))
        losses = each(out, labels.to(device))
        if losses.shape != y.shape[:1]:
            return None
        sure, correct = _named(out.float(), y.to(device))
    except (IndexError, RuntimeError, ValueError, AssertionError):
        return None
    return losses.detach().cpu(), sure.cpu(), correct.cpu()


def _named(out: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rows = len(y)
    if y.is_floating_point() and not _classes(y):
        return torch.zeros(rows), torch.zeros(rows, dtype=torch.bool)
    logits = out.reshape(rows, -1) if out.numel() == y.numel() else None
    if logits is not None:
        chance = torch.sigmoid(logits)
        named = (logits > 0).to(torch.int64)
        sure = torch.maximum(chance, 1 - chance)
    else:
        best = out.softmax(1).max(1)
        named, sure = best.indices.reshape(rows, -1), best.values.reshape(rows, -1)
    good = named == y.reshape(rows, -1)
    finite = torch.isfinite(out.reshape(rows, -1)).all(1)
    return torch.where(finite, sure.mean(1), 0.0), good.all(1) & finite


def _classes(y: torch.Tensor) -> bool:
    """Whether float labels are the two classes of a logit."""
    return bool(((y == 0) | (y == 1)).all())


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
