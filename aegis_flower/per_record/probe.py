"""Probe: whether a model and its loss treat each record by itself, found by trying, on made-up rows, before a charge.

DP-SGD clips the gradient of a record, which says nothing where that gradient depends on other records. A list of layers cannot
tell; changing the other rows and looking can. All rows here are random and public, so an error's text is told whole.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import torch
from torch import nn

from aegis_flower import inputs
from aegis_flower.data import Spec
from aegis_flower.errors import AegisError, AppError
from aegis_flower.features import Label, plan_of
from aegis_flower.inputs import Inputs
from aegis_flower.per_record.checks import Probed, check_adapters, check_buffers, check_records
from aegis_flower.per_record.losses import Loss, check_model, loss_of
from aegis_flower.per_record.rows import runs, told
from aegis_flower.stream import tensors
from aegis_flower.weights import adapted

_DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "int64": torch.int64,
    "int32": torch.int64,
    "uint8": torch.float32,
}
_seeded = threading.Lock()


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
        raise AppError(f"the model cannot be built: {told(error)}") from error
    if (plan := plan_of(spec)) is not None:
        empty = plan.empty()
        planned = torch.from_numpy(empty.label) if empty.label is not None else torch.empty(0)
        if loss is loss_of(plan.label.task):  # a loss of the app's own may want others
            _check_width(model, tensors(empty.inputs), plan.label)
        return examine(
            model, loss, tensors(empty.inputs), planned, device, classes=max(2, spec.classes), private=private
        )
    x = torch.empty((0, spec.features if features is None else features), dtype=_feature_type(spec))
    floats = spec.label_dtype in ("float32", "float64") or (spec.label_dtype is None and spec.classes == 1)
    y = torch.empty((0,) if label_width == 1 else (0, label_width), dtype=torch.float32 if floats else torch.int64)
    return examine(model, loss, x, y, device, classes=max(2, spec.classes), private=private)


def _check_width(model: nn.Module, like: Inputs, label: Label) -> None:
    """A plan says what each output means. More would name levels that there are not, and its task's loss would not notice.

    Raises:
        AppError: the model gives another number of outputs.
    """
    row = inputs.each(lambda one: torch.zeros((1, *one.shape[1:]), dtype=one.dtype), like)
    try:
        with torch.no_grad():
            outputs = copy.deepcopy(model).cpu().eval()(row)
    except Exception:  # noqa: BLE001 - the examination that follows says what is wrong, in full
        return
    if isinstance(outputs, torch.Tensor) and outputs.dim() > 1 and outputs.shape[1:] != label.given:
        places = ", and give the places last: logits.transpose(1, 2)" if len(label.given) > 1 else ""
        raise AppError(
            f"the model gives {tuple(outputs.shape[1:])} outputs for a row, and the plan's label {', '.join(label.reads)} "
            f"({label.task}) has {label.given}; end it in a layer of {label.outputs} outputs, spec.classes in a model(spec)"
            f"{places}"
        )


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
    model: nn.Module, loss: Loss, like_x: Inputs, like_y: torch.Tensor, device: torch.device, *, private: bool
) -> Probed:
    """`examine`, once in a process for a model's classes, its form and this very loss object."""
    shape = (inputs.shape(like_x), tuple(like_y.shape[1:]), like_y.dtype, device, private)
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
    like_x: Inputs,
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
        check_buffers(twin, loss, like_x, like_y, classes)
        batch = runs(twin, loss, like_x, like_y, classes)
        if adapted(twin):
            check_adapters(twin, loss, batch)
        if not private:
            return Probed()
        return check_records(twin, loss, batch)


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
