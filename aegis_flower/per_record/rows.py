"""Made-up rows: random and public, in the shape of real ones; of several kinds, of which a model takes one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from aegis_flower import inputs
from aegis_flower.errors import AppError
from aegis_flower.inputs import Inputs
from aegis_flower.per_record.losses import Loss, mean_loss
from aegis_flower.stream import fitting

ROWS = 6


@dataclass(frozen=True)
class Batch:
    """Made-up rows in the shape of real ones."""

    x: Inputs
    y: torch.Tensor

    def __getitem__(self, rows: torch.Tensor | slice) -> Batch:
        return Batch(inputs.rows(self.x, rows), self.y[rows])


def _made_up(like_x: Inputs, like_y: torch.Tensor, width: int, classes: int) -> Iterator[Batch]:
    """Rows of several kinds, of which a model takes one: measurements, then values that are valid ids of any vocabulary."""
    y_shape = (width, *like_y.shape[1:])
    kinds = [inputs.each(lambda one: torch.randint(0, 2, (width, *one.shape[1:])).to(one.dtype), like_x)]
    if any(one.is_floating_point() for one in inputs.parts(like_x)):
        kinds.insert(0, inputs.each(lambda one: _measured(one, width), like_x))
    for x, top in itertools.product(kinds, sorted({classes, 2}, reverse=True)):
        y = torch.rand(y_shape) if like_y.is_floating_point() else torch.randint(0, top, y_shape)
        yield Batch(x, y.to(like_y.dtype))
    if like_y.is_floating_point():  # the two classes of a logit, as floats
        yield Batch(kinds[0], torch.randint(0, 2, y_shape).to(like_y.dtype))


def _measured(one: torch.Tensor, width: int) -> torch.Tensor:
    shape = (width, *one.shape[1:])
    return (torch.randn(shape) if one.is_floating_point() else torch.randint(0, 2, shape)).to(one.dtype)


def runs(model: nn.Module, loss: Loss, like_x: Inputs, like_y: torch.Tensor, classes: int | None) -> Batch:
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
        f"the model or the loss fails on rows of shape {inputs.shape(like_x)} "
        f"with labels of shape {tuple(like_y.shape[1:])} ({kind}): {told(first)}. These were made-up rows; nothing was read"
    ) from first


def _outputs(model: nn.Module, like_x: Inputs) -> int:
    """How many classes the model tells apart, where that shows."""
    x = inputs.each(lambda one: torch.zeros(2, *one.shape[1:], dtype=one.dtype), like_x)
    try:
        out = plain(model, x)
        if out.ndim > 1 and out.shape[1] > 1:
            return int(out.shape[1])
    except Exception:  # noqa: BLE001 - what fails here fails again, and is told, where it matters
        return 2
    return 2


@torch.no_grad()
def plain(model: nn.Module, x: Inputs) -> torch.Tensor:
    """Outputs, without gradients."""
    out: torch.Tensor = model(inputs.moved(fitting(model, x, torch.empty(0))[0], device_of(model)))
    return out.detach()


def device_of(model: nn.Module) -> torch.device:
    """Where the model is."""
    return next(model.parameters()).device


def forward(model: nn.Module, loss: Loss, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Outputs, labels and mean loss of a batch."""
    device = device_of(model)
    x, y = fitting(model, batch.x, batch.y)
    out, y = model(inputs.moved(x, device)), y.to(device)
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
