"""Per sample: the gradient of each record by itself. The one file that knows Opacus."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from aegis_flower.errors import AppError

# Opacus gives the root logger a handler when it is imported, and every line of Flower's would be printed twice.
_handlers = list(logging.root.handlers)
from opacus import GradSampleModule  # noqa: E402
from opacus.validators import ModuleValidator  # noqa: E402

logging.root.handlers[:] = _handlers

# Inputs need no gradients; torch remarks on that once for every hook that Opacus sets.
warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def check_model(model: nn.Module) -> None:
    """Refuses layers that mix records, by name and with the remedy.

    Raises:
        AppError: a layer such as BatchNorm, whose output for one record depends on the others.
    """
    errors = ModuleValidator.validate(model, strict=False)
    if errors:
        raise AppError(
            f"the model cannot be trained with example-level DP: {'; '.join(str(e) for e in errors)}. "
            "opacus.validators.ModuleValidator.fix(model) replaces such layers"
        )


@contextmanager
def per_sample(model: nn.Module, *, functorch: bool = False) -> Iterator[nn.Module]:
    """Wraps a model for per-sample gradients and leaves it as it was: no hooks, no ``_module.`` names.

    Layers that overwrite their input lose what a hook needs, so they stop doing so inside the block.

    Args:
        model: the model.
        functorch: derive each layer by torch.func instead of Opacus's rules, which are wrong for some options.
    """
    inplace = [m for m in model.modules() if getattr(m, "inplace", None) is True]
    for module in inplace:
        module.inplace = False  # type: ignore[assignment]  # every layer with the flag has it as a bool
    try:
        wrapped = GradSampleModule(model, loss_reduction="mean", force_functorch=functorch)
        try:
            yield wrapped
        finally:
            wrapped._close()  # noqa: SLF001 - Opacus has no public way to take its hooks off
    finally:
        for module in inplace:
            module.inplace = True  # type: ignore[assignment]
        for module in model.modules():  # after a failure Opacus leaves the batch there, in clear
            for name in ("activations", "max_batch_len", "ft_compute_sample_grad"):
                if name in vars(module):  # wrappers of peft say that they have what the module inside them has
                    delattr(module, name)
        for p in model.parameters():
            for name in ("grad_sample", "summed_grad", "_forward_counter"):
                if hasattr(p, name):
                    delattr(p, name)
            p.grad = None


def gradients(model: nn.Module, rows: int) -> list[torch.Tensor]:
    """The per-sample gradients that the last backward pass left, of each trained parameter as (rows, values), and taken off it.

    A parameter that the forward pass did not use has gradient zero.
    """
    found = []
    for p in model.parameters():
        if not p.requires_grad:
            continue
        kept: Any = getattr(p, "grad_sample", None)
        p.grad_sample = None  # type: ignore[attr-defined]
        p.grad = None
        if kept is None:
            kept = p.new_zeros(1).expand(rows, p.numel())
        elif isinstance(kept, list):  # a layer that was used twice in a batch
            kept = torch.stack(kept).sum(0)
        found.append(kept.detach().reshape(rows, p.numel()))
    return found


def squared(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The squared difference of each record, for models that predict a number: outputs of shape (rows,) or (rows, 1)."""
    return (out.reshape(y.shape) - y).square()


squared.each_record = True  # type: ignore[attr-defined]  # evaluation need not call it row by row


def hazards(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The negative log-likelihood of each record in discrete time: its hazards over the intervals that it was seen in.

    It is a sum over one record's own intervals (Tutz and Schmid 2016, 3.4; Gensheimer and Narasimhan 2019), where Cox's partial
    likelihood compares records with each other and so has no gradient of a record.
    """
    seen = (y >= 0).to(out.dtype)
    each = nn.functional.binary_cross_entropy_with_logits(out, y.clamp(0, 1), reduction="none")
    return (each * seen).flatten(1).sum(1)


hazards.each_record = True  # type: ignore[attr-defined]


def next_token(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy of each record over the places that have a next token; 0 where none has.

    Args:
        out: shape (rows, tokens, places).
        y: shape (rows, places); -1 where there is none.
    """
    each = nn.functional.cross_entropy(out, y, ignore_index=-1, reduction="none")
    return each.sum(1) / (y >= 0).sum(1).clamp(min=1)


next_token.each_record = True  # type: ignore[attr-defined]


def loss_of(task: str | None) -> Loss:
    """The default loss of a feature plan's task; cross-entropy without one."""
    if task == "regression":
        return squared
    if task == "time-to-event":
        return hazards
    if task == "next-token":
        return next_token
    if task in ("multilabel", "ordinal"):
        return nn.functional.binary_cross_entropy_with_logits
    return nn.functional.cross_entropy


_BLOCK = 32  # rows that are turned into float64 at once


def clipped_sum(per_row: list[torch.Tensor], clip: float) -> list[torch.Tensor]:
    """The sum over the rows, each scaled to an L2 norm of at most `clip` over all parameters together, in float64.

    One record moves the sum by at most the clip and the rounding of float64. A gradient that is not finite counts as zero.
    """
    rows = len(per_row[0])
    sums = [torch.zeros(g.shape[1], dtype=torch.float64, device=g.device) for g in per_row]
    for at in range(0, rows, _BLOCK):
        block = [g[at : at + _BLOCK].to(torch.float64) for g in per_row]
        norms = torch.stack([g.square().sum(1) for g in block]).sum(0).sqrt()
        finite = torch.isfinite(norms)
        factors = torch.where(finite, (clip / norms.clamp(min=1e-300)).clamp(max=1.0), torch.zeros_like(norms))
        for total, g in zip(sums, block, strict=True):
            # zero times infinity is no zero
            total.add_(factors @ torch.where(finite[:, None], g, torch.zeros_like(g)))
    return sums


def mean_loss(loss: Loss, out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The mean over the records, of a loss that gives one number for all or one for each.

    Raises:
        AppError: it gives something else.
    """
    value = loss(out, y)
    if not isinstance(value, torch.Tensor):
        raise AppError(
            f"the loss gives a {type(value).__name__}; return a tensor: the mean over the records, or one number for each"
        )
    if value.ndim == 0:
        return value
    if value.shape[0] != len(y):
        raise AppError(
            f"the loss gives shape {tuple(value.shape)} for {len(y)} records; return the mean over them, or one number for each"
        )
    return value.flatten(1).mean(1).mean() if value.ndim > 1 else value.mean()
