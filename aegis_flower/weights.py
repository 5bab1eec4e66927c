"""Weights: a model's parameters as float32 arrays, in order, and back. Both sides use it; torch is imported where a model is."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from aegis_flower.errors import ModelMismatch

if TYPE_CHECKING:
    from torch import nn

NDArrays = list[npt.NDArray[Any]]
BASE: Final = "base-sha256"  # the setting of a message in which the server tells the hash of what adapters sit on


def adapted(model: nn.Module) -> bool:
    """Whether the model has adapters of peft in it."""
    return any(type(module).__module__.partition(".")[0] == "peft" for module in model.modules())


def travelling(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that travel, by name, in order: all of them; of a model with adapters those that are trained."""
    every = dict(model.named_parameters())
    return {name: p for name, p in every.items() if p.requires_grad} if adapted(model) else every


def base_sha256(model: nn.Module) -> str | None:
    """The hash of what adapters sit on: frozen parameters and buffers, which each side has of its own. None without adapters."""
    if not adapted(model):
        return None
    found = hashlib.sha256()
    stays = {**{name: p for name, p in model.named_parameters() if not p.requires_grad}, **dict(model.named_buffers())}
    for name, value in sorted(stays.items()):
        found.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(_bytes()).numpy().tobytes())
    return found.hexdigest()


def _bytes() -> Any:
    import torch

    return torch.uint8


def weights(model: nn.Module) -> NDArrays:
    """What travels of a model (`travelling`) as float32 arrays, in order. Buffers stay at home: they are not noised."""
    return [p.detach().cpu().numpy().astype(np.float32, copy=True) for p in travelling(model).values()]


def load(model: nn.Module, parameters: NDArrays) -> None:
    """Writes weights into a model.

    Raises:
        ModelMismatch: number or shapes differ; both sides must build the same model.
    """
    import torch

    own = list(travelling(model).values())
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
