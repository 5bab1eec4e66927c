"""What must hold of a model and a loss: outputs, losses and gradients of a record do not move when other records do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from aegis_flower.errors import AegisError, AppError
from aegis_flower.inputs import Inputs, each
from aegis_flower.per_record.losses import Loss, clipped_sum, gradients, mean_loss, per_sample
from aegis_flower.per_record.rows import ROWS, Batch, forward, plain, runs, told

_SIZES = (1, 2, 3, 5)
_TRIES = 5  # a model that draws random numbers is compared under one seed, which another thread may disturb


@dataclass(frozen=True)
class Probed:
    """A model and a loss that passed, and how the gradients of its records are to be taken.

    Attributes:
        functorch: whether Opacus's own rules were wrong for a layer, so that torch.func takes their place.
    """

    functorch: bool = False


def check_buffers(model: nn.Module, loss: Loss, like_x: Inputs, like_y: torch.Tensor, classes: int | None) -> None:
    """Refuses buffers that training changes: they stay at the node and are lost."""
    before = {name: b.clone() for name, b in model.named_buffers()}
    if not before:
        return
    runs(model, loss, like_x, like_y, classes)
    moved = [name for name, b in model.named_buffers() if name not in before or not torch.equal(b, before[name])]
    if moved:
        raise AppError(
            f"training changes the buffers {', '.join(moved[:5])}, which are not sent and would be lost after each round, so the "
            "model would be evaluated without them. Take layers that keep no statistics: GroupNorm or LayerNorm for BatchNorm, "
            "or track_running_stats=False"
        )


def check_adapters(model: nn.Module, loss: Loss, batch: Batch) -> None:
    """Refuses adapters that get no gradient. Noise would move them all the same, and nobody would see that they learn nothing.

    Raises:
        AppError: names them.
    """
    forward(model, loss, batch)[2].backward()  # type: ignore[no-untyped-call]
    still = [
        name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not bool(p.grad.any()))
    ]
    model.zero_grad(set_to_none=True)
    if still:
        raise AppError(
            f"{', '.join(still[:5])} {'get' if len(still) > 1 else 'gets'} no gradient, so noise alone would move "
            f"{'them' if len(still) > 1 else 'it'}: the layer is not used, or the adapter is merged, disabled or not "
            "the active one. Name layers in target_modules that rows go through"
        )


def check_records(model: nn.Module, loss: Loss, batch: Batch) -> Probed:
    """Whether a record's outputs, loss and gradient are its own."""
    draws_anew = _is_random(model, batch)
    _check_outputs(model, batch, draws_anew)
    _check_loss(model, loss, batch)
    if draws_anew:  # two passes have two masks, so their gradients cannot be compared
        return Probed()
    for functorch in (False, True):
        problem = _gradient_problem(model, loss, batch, functorch)
        if problem is None:
            return Probed(functorch)
    several = "" if isinstance(batch.x, torch.Tensor) else SEVERAL
    raise AppError(f"the gradient of a single record cannot be taken: {problem}{several}")


SEVERAL = (
    ". The model takes several inputs, and Opacus reads those of each module that has parameters of its own: give these tensors, "
    "and the dict only to modules that hold others"
)


def _is_random(model: nn.Module, batch: Batch) -> bool:
    first, second = (plain(model, batch.x) for _ in range(2))
    return not _close(first, second)


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape:
        return False
    scale = float(torch.nan_to_num(a).abs().max()) if a.numel() else 0.0
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4 * max(scale, 1e-3), equal_nan=True)


MIXES = (
    "so the records of a batch are mixed and the noise for one record does not cover another. Normalise by public constants or "
    "within a record (LayerNorm, GroupNorm), and keep the records in the first dimension (batch_first=True)"
)


@torch.no_grad()
def _check_outputs(model: nn.Module, batch: Batch, draws_anew: bool) -> None:  # noqa: C901 - one question in three forms
    def outputs(x: Inputs) -> torch.Tensor:
        torch.manual_seed(1)
        return plain(model, x)

    def same(rows: slice | torch.Tensor, x: Inputs, places: slice | torch.Tensor) -> bool:
        return any(_close(outputs(batch.x)[rows], outputs(x)[places]) for _ in range(_TRIES if draws_anew else 1))

    for kept in range(ROWS):
        others = _others(batch.x, torch.arange(ROWS) != kept)
        one = slice(kept, kept + 1)
        if not same(one, others, one):
            raise AppError(f"the model's output for one record moves when other records change, {MIXES}")
    if draws_anew:
        return
    order = torch.randperm(ROWS)
    if not same(order, batch[order].x, slice(None)):
        raise AppError(f"the model's output for a record depends on its place in the batch, {MIXES}")
    for size in _SIZES:
        try:
            alike = same(slice(0, size), batch[slice(size)].x, slice(None))
        except AegisError:
            raise
        except Exception as error:
            raise AppError(
                f"the model fails on a batch of {size} records, and any number can be drawn: {told(error)}"
            ) from error
        if not alike:
            raise AppError(f"the model's output for a record depends on how many records are in the batch, {MIXES}")


def _others(x: Inputs, where: torch.Tensor) -> Inputs:
    """Other values in the rows that are named."""

    def moved(one: torch.Tensor) -> torch.Tensor:
        others = one.clone()
        change = torch.randn(others.shape) * 3 if others.is_floating_point() else torch.zeros(others.shape)
        others[where] = _changed(others, change)[where]
        return others

    return each(moved, x)


def _changed(x: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """Other rows that the model takes as well: ids stay the ids 0 and 1."""
    if not x.is_floating_point() or bool(((x == 0) | (x == 1)).all()):
        return 1 - x
    return x + change.to(x.dtype)


def _check_loss(model: nn.Module, loss: Loss, batch: Batch) -> None:
    with torch.no_grad():
        out, y, whole = forward(model, loss, batch)
        for size in (*_SIZES, ROWS):
            try:
                each = torch.stack([mean_loss(loss, out[i : i + 1], y[i : i + 1]) for i in range(size)])
                together = mean_loss(loss, out[:size], y[:size])
            except AegisError:
                raise
            except Exception as error:
                raise AppError(f"the loss fails on some batches of {size} records or fewer: {told(error)}") from error
            if not _close(each.mean().reshape(1), together.reshape(1)):
                hint = "reduction='sum' gives sums" if _close(each.sum().reshape(1), together.reshape(1)) else ""
                raise AppError(
                    "the loss of a batch is not the mean of its records' losses"
                    + (f": {hint}; use reduction='mean', or return one number for each record" if hint else f", {LOSS}")
                )
        # Each class alone: weights by class cancel where all labels are alike.
        mixed = mean_loss(loss, out.flip(0), y.flip(0))
        if not _close(mixed.reshape(1), whole.reshape(1)):
            raise AppError(f"the loss of a batch depends on the order of its records, {LOSS}")


LOSS = (
    "so one record moves the gradients of others and its own clip does not bound that. For classes of unequal size take "
    "class_weights= instead of weight= inside the loss; compare outputs and labels of one shape; contrast with public ones only"
)


def _gradient_problem(model: nn.Module, loss: Loss, batch: Batch, functorch: bool) -> str | None:
    """What is wrong with the per-sample gradients; None where they are those of single records."""
    try:
        with per_sample(model, functorch=functorch) as net:
            forward(net, loss, batch)[2].backward()  # type: ignore[no-untyped-call]
            got = gradients(model, ROWS)
    except AegisError:
        raise
    except Exception as error:  # noqa: BLE001 - told below, by the caller
        return told(error)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    for i in range(ROWS):
        model.zero_grad(set_to_none=True)
        forward(model, loss, batch[slice(i, i + 1)])[2].backward()  # type: ignore[no-untyped-call]
        wanted = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters() if p.requires_grad]
        for name, g, w in zip(names, got, wanted, strict=True):
            if not _close(g[i], w.detach().reshape(-1)):
                model.zero_grad(set_to_none=True)
                return f"that of {name} differs from the one of a batch of one record"
    model.zero_grad(set_to_none=True)
    clip = 1e-3
    full = clipped_sum(got, clip)
    less = clipped_sum([g[1:] for g in got], clip)
    moved = torch.stack([(a - b).square().sum() for a, b in zip(full, less, strict=True)]).sum().sqrt()
    return (
        None
        if float(moved) <= clip * (1 + 1e-3)
        else f"one record moves the sum by {float(moved) / clip:.3f} times the clip"
    )
