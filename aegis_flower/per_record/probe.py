"""Probe: whether a model and its loss treat each record by itself, found by trying, on made-up rows, before a charge.

DP-SGD clips the gradient of a record, which says nothing where that gradient depends on other records. A list of layers cannot
tell; changing the other rows and looking can. All rows here are random and public, so an error's text is told whole.
"""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from aegis_flower.data import Spec
from aegis_flower.errors import AegisError, AppError
from aegis_flower.per_record.losses import Loss, check_model, clipped_sum, gradients, per_sample
from aegis_flower.stream import fitting

_ROWS = 6
_SIZES = (1, 2, 3, 5)
_TRIES = 5  # a model that draws random numbers is compared under one seed, which another thread may disturb
_DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "int64": torch.int64,
    "int32": torch.int64,
    "uint8": torch.float32,
}
_seeded = threading.Lock()


@dataclass(frozen=True)
class Probed:
    """A model and a loss that passed, and how the gradients of its records are to be taken.

    Attributes:
        functorch: whether Opacus's own rules were wrong for a layer, so that torch.func takes their place.
    """

    functorch: bool = False


@dataclass(frozen=True)
class Batch:
    """Made-up rows in the shape of real ones."""

    x: torch.Tensor
    y: torch.Tensor

    def __getitem__(self, rows: torch.Tensor | slice) -> Batch:
        return Batch(self.x[rows], self.y[rows])


def probe(
    model_fn: Callable[[], nn.Module],
    loss: Loss,
    spec: Spec,
    device: torch.device,
    *,
    private: bool = True,
    features: int | None = None,
    label_width: int = 1,
) -> Probed:
    """Tries a model and a loss on made-up rows of the spec's shape, in training mode.

    Refused, by name: outputs or losses of a row that move with other rows, with their order or with how many there are; a loss
    of a batch that is not the mean of its rows' losses (class weights inside the loss, sums); dtypes and shapes that cannot be
    trained; without DP as well, buffers that training changes, which stay at the node and are lost.

    Args:
        model_fn: builds the model.
        loss: mean-reduced or per-record loss of (outputs, labels).
        spec: the shape of a row.
        device: where to compute.
        private: whether the gradients of records are to be taken (``privacy.mode=example``).
        features: values of a row, where a permit opens fewer than the spec has.
        label_width: values of a label.

    Raises:
        AppError: what is wrong, and what to do.
    """
    try:
        model = model_fn()
    except AegisError:
        raise
    except Exception as error:
        raise AppError(f"the model cannot be built: {_told(error)}") from error
    x = torch.empty((0, spec.features if features is None else features), dtype=_feature_type(spec))
    floats = spec.label_dtype in ("float32", "float64") or (spec.label_dtype is None and spec.classes == 1)
    y = torch.empty((0,) if label_width == 1 else (0, label_width), dtype=torch.float32 if floats else torch.int64)
    return examine(model, loss, x, y, device, classes=max(2, spec.classes), private=private)


def _feature_type(spec: Spec) -> torch.dtype:
    kinds = {_DTYPES[name] for name in spec.dtypes.values()} | (
        {torch.float32} if len(spec.dtypes) < len(spec.columns) else set()
    )
    joined = torch.float32
    for kind in kinds:
        joined = kind if len(kinds) == 1 else torch.promote_types(joined, kind)
    return joined


_passed: dict[object, tuple[object, Probed]] = {}
_KEPT = 64


def examined(
    model: nn.Module, loss: Loss, like_x: torch.Tensor, like_y: torch.Tensor, device: torch.device, *, private: bool
) -> Probed:
    """`examine`, once in a process for a model's classes, its form and this very loss object."""
    shape = (tuple(like_x.shape[1:]), like_x.dtype, tuple(like_y.shape[1:]), like_y.dtype, device, private)
    form = tuple((name, tuple(p.shape), p.dtype, p.requires_grad) for name, p in model.named_parameters())
    # The key holds the classes and the loss themselves, so no other object can take their place in memory.
    key = (
        tuple(type(m) for m in model.modules()),
        repr(model),
        form,
        shape,
        loss if isinstance(loss, nn.Module) else id(loss),
    )
    known = _passed.get(key)
    if known is not None and known[0] is loss:
        return known[1]
    found = examine(model, loss, like_x, like_y, device, private=private)
    while len(_passed) >= _KEPT:
        _passed.pop(next(iter(_passed)), None)
    _passed[key] = (loss, found)
    return found


def examine(
    model: nn.Module,
    loss: Loss,
    like_x: torch.Tensor,
    like_y: torch.Tensor,
    device: torch.device,
    *,
    classes: int | None = None,
    private: bool = True,
) -> Probed:
    """`probe` for a model that is there, on rows like those of an empty batch. The model is left as it was."""
    check_types(model)
    if private:
        check_model(model)
    twin = copy.deepcopy(model).to(device).train()
    # Dropout decides anew for every place in a batch; what it sits between is what is looked at.
    for module in twin.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):  # noqa: SLF001 - torch has no public base of its dropouts
            module.eval()
    with _seeded, torch.random.fork_rng(devices=[]):
        torch.manual_seed(20261123)
        with torch.no_grad():  # weights of zero would hide what goes on in front of them
            for p in twin.parameters():
                if p.is_floating_point():
                    p.add_(torch.randn_like(p) * 0.05 * (torch.nan_to_num(p).abs().mean().clamp(max=1.0) + 0.1))
        _check_buffers(twin, loss, like_x, like_y, classes)
        if not private:
            _runs(twin, loss, like_x, like_y, classes)
            return Probed()
        batch = _runs(twin, loss, like_x, like_y, classes)
        return _check_records(twin, loss, batch)


def check_types(model: nn.Module) -> None:
    """Refuses parameters that cannot be trained and summed, by name.

    Raises:
        AppError: half precision, whole numbers, complex numbers, or no parameter at all.
    """
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not trained:
        raise AppError("the model has no parameter that is trained: all have requires_grad=False")
    for name, p in trained:
        if p.dtype not in (torch.float32, torch.float64):
            raise AppError(
                f"parameter {name} is {str(p.dtype).removeprefix('torch.')}, in which clipping and noise are not exact enough; "
                "build the model in float32 (model.float())"
            )


def class_weighted(weights: Iterable[float], loss: Loss | None = None) -> Loss:
    """A loss in which each record counts by the weight of its class; the way to train on classes of unequal size.

    The weights are public and fixed, and a batch's loss is the sum of weighted losses over the number of records: a record's
    gradient depends on no other, and the clip bounds it. (A ``weight=`` inside `cross_entropy` divides by the batch's weights,
    which mixes the records.)

    Args:
        weights: one for each class, in order.
        loss: of (outputs, labels); by default cross-entropy.
    """
    from aegis_flower.per_record.evaluation import by_record

    table = torch.tensor([float(w) for w in weights])
    if not (len(table) and torch.isfinite(table).all() and (table >= 0).all()):
        raise AppError("class weights must be numbers that are not negative, one for each class")
    each = by_record(loss or nn.functional.cross_entropy)

    def weighted(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        chosen = table.to(device=out.device, dtype=out.dtype)[y.long()]
        return each(out, y) * chosen

    return weighted


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


def _runs(model: nn.Module, loss: Loss, like_x: torch.Tensor, like_y: torch.Tensor, classes: int | None) -> Batch:
    """Rows that go through forwards and backwards.

    Raises:
        AppError: none do; the text is that of the first failure.
    """
    first: Exception | None = None
    for batch in _made_up(like_x, like_y, _ROWS, classes or _outputs(model, like_x)):
        try:
            _forward(model, loss, batch)[2].backward()  # type: ignore[no-untyped-call]
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
        f"with labels of shape {tuple(like_y.shape[1:])} ({kind}): {_told(first)}. These were made-up rows; nothing was read"
    ) from first


def _outputs(model: nn.Module, like_x: torch.Tensor) -> int:
    """How many classes the model tells apart, where that shows."""
    for x in (torch.zeros(2, *like_x.shape[1:], dtype=like_x.dtype),):
        try:
            with torch.no_grad():
                out = model(fitting(model, x, x)[0].to(_device(model)))
            if out.ndim > 1 and out.shape[1] > 1:
                return int(out.shape[1])
        except Exception:  # noqa: BLE001 - what fails here fails again, and is told, where it matters
            return 2
    return 2


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _forward(model: nn.Module, loss: Loss, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Outputs, labels and mean loss of a batch."""
    device = _device(model)
    x, y = fitting(model, batch.x, batch.y)
    out, y = model(x.to(device)), y.to(device)
    if not isinstance(out, torch.Tensor):
        raise AppError(f"the model gives a {type(out).__name__}; return one tensor, with a row for each record")
    if out.ndim == 0 or len(out) != len(y):
        raise AppError(
            f"the model gives shape {tuple(out.shape)} for {len(y)} records; the first dimension must be the records"
        )
    return out, y, mean_loss(loss, out, y)


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"


def _check_buffers(
    model: nn.Module, loss: Loss, like_x: torch.Tensor, like_y: torch.Tensor, classes: int | None
) -> None:
    before = {name: b.clone() for name, b in model.named_buffers()}
    if not before:
        return
    _runs(model, loss, like_x, like_y, classes)
    moved = [name for name, b in model.named_buffers() if name not in before or not torch.equal(b, before[name])]
    if moved:
        raise AppError(
            f"training changes the buffers {', '.join(moved[:5])}, which are not sent and would be lost after each round, so the "
            "model would be evaluated without them. Take layers that keep no statistics: GroupNorm or LayerNorm for BatchNorm, "
            "or track_running_stats=False"
        )


def _check_records(model: nn.Module, loss: Loss, batch: Batch) -> Probed:
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
    raise AppError(f"the gradient of a single record cannot be taken: {problem}")


def _is_random(model: nn.Module, batch: Batch) -> bool:
    with torch.no_grad():
        first, second = (_plain(model, batch.x) for _ in range(2))
    return not _close(first, second)


def _plain(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = model(fitting(model, x, x)[0].to(_device(model)))
    return out.detach()


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
    def outputs(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        return _plain(model, x)

    def same(rows: slice | torch.Tensor, x: torch.Tensor, places: slice | torch.Tensor) -> bool:
        return any(_close(outputs(batch.x)[rows], outputs(x)[places]) for _ in range(_TRIES if draws_anew else 1))

    for kept in range(_ROWS):
        others = batch.x.clone()
        change = torch.randn(others.shape) * 3 if others.is_floating_point() else torch.zeros(others.shape)
        where = torch.arange(_ROWS) != kept
        others[where] = _changed(others, change)[where]
        one = slice(kept, kept + 1)
        if not same(one, others, one):
            raise AppError(f"the model's output for one record moves when other records change, {MIXES}")
    if draws_anew:
        return
    order = torch.randperm(_ROWS)
    if not same(order, batch.x[order], slice(None)):
        raise AppError(f"the model's output for a record depends on its place in the batch, {MIXES}")
    for size in _SIZES:
        try:
            alike = same(slice(0, size), batch.x[:size], slice(None))
        except AegisError:
            raise
        except Exception as error:
            raise AppError(
                f"the model fails on a batch of {size} records, and any number can be drawn: {_told(error)}"
            ) from error
        if not alike:
            raise AppError(f"the model's output for a record depends on how many records are in the batch, {MIXES}")


def _changed(x: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """Other rows that the model takes as well: ids stay the ids 0 and 1."""
    if not x.is_floating_point() or bool(((x == 0) | (x == 1)).all()):
        return 1 - x
    return x + change.to(x.dtype)


def _check_loss(model: nn.Module, loss: Loss, batch: Batch) -> None:
    with torch.no_grad():
        out, y, whole = _forward(model, loss, batch)
        for size in (*_SIZES, _ROWS):
            try:
                each = torch.stack([mean_loss(loss, out[i : i + 1], y[i : i + 1]) for i in range(size)])
                together = mean_loss(loss, out[:size], y[:size])
            except AegisError:
                raise
            except Exception as error:
                raise AppError(f"the loss fails on some batches of {size} records or fewer: {_told(error)}") from error
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
            _forward(net, loss, batch)[2].backward()  # type: ignore[no-untyped-call]
            got = gradients(model, _ROWS)
    except AegisError:
        raise
    except Exception as error:  # noqa: BLE001 - told below, by the caller
        return _told(error)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    for i in range(_ROWS):
        model.zero_grad(set_to_none=True)
        _forward(model, loss, batch[slice(i, i + 1)])[2].backward()  # type: ignore[no-untyped-call]
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
