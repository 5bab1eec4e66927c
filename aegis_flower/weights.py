"""Weights: a model's parameters as float32 arrays, in order, and back. Both sides use it; torch is imported where a model is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aegis_flower.errors import ModelMismatch

if TYPE_CHECKING:
    from torch import nn

NDArrays = list[npt.NDArray[Any]]


def weights(model: nn.Module) -> NDArrays:
    """The model's parameters as float32 arrays, in order. Buffers stay at home: they are not noised."""
    return [p.detach().cpu().numpy().astype(np.float32, copy=True) for p in model.parameters()]


def load(model: nn.Module, parameters: NDArrays) -> None:
    """Writes weights into a model.

    Raises:
        ModelMismatch: number or shapes differ; both sides must build the same model.
    """
    import torch

    own = list(model.parameters())
    if [tuple(p.shape) for p in own] != [a.shape for a in parameters]:
        raise ModelMismatch(
            f"the server's model has shapes {[a.shape for a in parameters]}, this client's has "
            f"{[tuple(p.shape) for p in own]}; build the same model on both sides"
        )
    with torch.no_grad():
        for p, a in zip(own, parameters, strict=True):
            p.copy_(torch.from_numpy(np.ascontiguousarray(a).reshape(a.shape)))  # which makes () to (1,)


def apply_update(parameters: NDArrays, update: npt.NDArray[np.floating[Any]]) -> NDArrays:
    """Weights plus a flat update."""
    out, at = [], 0
    for a in parameters:
        # numpy makes a number of the sum of two arrays without dimensions
        out.append(np.asarray(a + update[at : at + a.size].reshape(a.shape), dtype=a.dtype))
        at += a.size
    return out
