"""Made-up rows: random and public, in the shape of real ones; of several kinds, of which a model takes one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from aegis_flower.errors import AppError
from aegis_flower.per_record.losses import Loss, mean_loss
from aegis_flower.stream import fitting

ROWS = 6


@dataclass(frozen=True)
class Batch:
    """Made-up rows in the shape of real ones."""

    x: torch.Tensor
    y: torch.Tensor

    def __getitem__(self, rows: torch.Tensor | slice) -> Batch:
        return Batch(self.x[rows], self.y[rows])


def _made_up(like_x: torch.Tensor, like_y: torch.Tensor, width: int, classes: int) -> Iterator[Batch]:
    """Rows of several kinds, of which a model takes one: measurements, then values that are valid ids of any vocabulary."""
    x_shape, y_shape = (width, *like_x.shape[1:]), (width, *like_y.shape[1:])
    kinds = [torch.randint(0, 2, x_shape)]
    if like_x.is_floating_point():
        kinds.insert(0, torch.randn(x_shape))
    for x, top in itertools.product(kinds, sorted({classes, 2}, reverse=True)):
        y = torch.rand(y_shape) if like_y.is_floating_point() else torch.randint(0, top, y_shape)
        yield Batch(x.to(like_x.dtype), y.to(like_y.dtype))
    if like_y.is_floating_point():  # the two classes of a logit, as floats
        yield Batch(kinds[0].to(like_x.dtype), torch.randint(0, 2, y_shape).to(like_y.dtype))


def runs(model: nn.Module, loss: Loss, like_x: torch.Tensor, like_y: torch.Tensor, classes: int | None) -> Batch:
    """Rows that go through forwards and backwards.

    Raises:
        AppError: none do; the text is that of the first failure.
    """
    first: Exception | None = None
    for batch in _made_up(like_x, like_y, ROWS, classes or _outputs(model, like_x)):
        try:
            forward(model, loss, batch)[2].backward()  # type: ignore[no-untyped-call]
        except AppError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the app's code raises; told below, or by the next kind of rows
            first = first or error
            continue
        finally:
            model.zero_grad(set_to_none=True)
        return batch
    if first is None:
        raise AppError("the data have no shape that a model could be tried on")
    kind = str(like_y.dtype).removeprefix("torch.")
    raise AppError(
        f"the model or the loss fails on rows of shape {tuple(like_x.shape[1:])} ({str(like_x.dtype).removeprefix('torch.')}) "
        f"with labels of shape {tuple(like_y.shape[1:])} ({kind}): {told(first)}. These were made-up rows; nothing was read"
    ) from first


def _outputs(model: nn.Module, like_x: torch.Tensor) -> int:
    """How many classes the model tells apart, where that shows."""
    for x in (torch.zeros(2, *like_x.shape[1:], dtype=like_x.dtype),):
        try:
            with torch.no_grad():
                out = model(fitting(model, x, x)[0].to(device_of(model)))
            if out.ndim > 1 and out.shape[1] > 1:
                return int(out.shape[1])
        except Exception:  # noqa: BLE001 - what fails here fails again, and is told, where it matters
            return 2
    return 2


def device_of(model: nn.Module) -> torch.device:
    """Where the model is."""
    return next(model.parameters()).device


def forward(model: nn.Module, loss: Loss, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Outputs, labels and mean loss of a batch."""
    device = device_of(model)
    x, y = fitting(model, batch.x, batch.y)
    out, y = model(x.to(device)), y.to(device)
    if not isinstance(out, torch.Tensor):
        raise AppError(f"the model gives a {type(out).__name__}; return one tensor, with a row for each record")
    if out.ndim == 0 or len(out) != len(y):
        raise AppError(
            f"the model gives shape {tuple(out.shape)} for {len(y)} records; the first dimension must be the records"
        )
    return out, y, mean_loss(loss, out, y)


def told(error: Exception) -> str:
    """An error of the app, in a line; the rows were made up, so that it is told whole."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
