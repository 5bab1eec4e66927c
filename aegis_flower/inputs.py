"""Inputs: what a model takes of a batch, one tensor or several by name, handled alike."""

from __future__ import annotations

from collections.abc import Callable

import torch

Inputs = torch.Tensor | dict[str, torch.Tensor]


def each(change: Callable[[torch.Tensor], torch.Tensor], x: Inputs) -> Inputs:
    """Inputs of the same names, each changed."""
    return change(x) if isinstance(x, torch.Tensor) else {name: change(one) for name, one in x.items()}


def parts(x: Inputs) -> list[torch.Tensor]:
    """The tensors, in the order of the names."""
    return [x] if isinstance(x, torch.Tensor) else list(x.values())


def rows(x: Inputs, chosen: slice | torch.Tensor) -> Inputs:
    """The chosen rows."""
    return each(lambda one: one[chosen], x)


def moved(x: Inputs, device: torch.device) -> Inputs:
    """On a device."""
    return each(lambda one: one.to(device), x)


def clear(x: Inputs) -> None:
    """Zeros in place of the rows."""
    for one in parts(x):
        one.zero_()


def shape(x: Inputs) -> str:
    """Shape and type of a row, in words."""

    def told(one: torch.Tensor) -> str:
        return f"{tuple(one.shape[1:])} ({str(one.dtype).removeprefix('torch.')})"

    return told(x) if isinstance(x, torch.Tensor) else ", ".join(f"{name}: {told(one)}" for name, one in x.items())
