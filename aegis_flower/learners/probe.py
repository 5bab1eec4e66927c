"""Probe of a learner: what it can have, and that it does what `Learner` says, tried on made-up rows before a charge."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from aegis_flower.data import Spec
from aegis_flower.errors import AegisError, AppError
from aegis_flower.features import plan_of
from aegis_flower.learners.protocol import Array, Learner, PerRecord, Settings, X
from aegis_flower.learners.rounds import plain, summed
from aegis_flower.per_record.rows import ROWS, told
from aegis_flower.stream import tensors

_CLIP = 1e-3


def check_mode(learner: Learner, mode: str) -> None:
    """Refuses a kind of privacy that a learner cannot have.

    Raises:
        AppError: says what it can have, and what to set.
    """
    if mode not in learner.modes:
        raise AppError(
            f"a model of {learner.framework} can have privacy.mode={' or '.join(learner.modes)}, not {mode}"
            + (", as it gives no gradients of single records" if mode == "example" else "")
            + (
                ": set privacy=update, by which its whole update is clipped and noised"
                if "update" in learner.modes
                else ""
            )
        )
    if mode == "example" and not isinstance(learner, PerRecord):
        raise AppError(
            f"the {type(learner).__name__} says that it can have privacy.mode=example, and has no gradients() and step()"
        )


def check_settings(learner: Learner, asked: Mapping[str, str]) -> None:
    """Refuses settings that the learner does not read.

    Args:
        learner: the learner.
        asked: settings that differ from their defaults, by the field of `Settings`, with the key that set each.

    Raises:
        AppError: names the key.
    """
    for name, key in asked.items():
        if name not in learner.reads:
            raise AppError(f"{key} would change nothing: a model of {learner.framework} does not read it; leave it out")


def probe(make: Callable[[], Learner], spec: Spec, *, mode: str, features: int, label_width: int) -> None:
    """Tries a learner on made-up rows of the spec's shape.

    Refused, by name: arrays that do not come back as they were loaded; outputs or losses that move with other rows or fail; with
    ``privacy.mode=example`` gradients that are not those of single records.

    Raises:
        AppError: what is wrong, and what to do.
    """
    learner = make()
    check_mode(learner, mode)
    try:
        _check_arrays(learner)
        x, y = _made_up(spec, features, label_width)
        _check_rows(learner, x, y, spec)
        if mode == "example":
            assert isinstance(learner, PerRecord)
            _check_gradients(learner, x, y)
        else:
            learner.train(iter([iter([(x, y)]), iter([])]), Settings(expected_batch=float(ROWS)))
            _outputs(learner, x)
    except AegisError:
        raise
    except Exception as error:
        raise AppError(f"the model of {learner.framework} fails on made-up rows: {told(error)}") from error


def _check_arrays(learner: Learner) -> None:
    first = learner.arrays()
    if not first:
        raise AppError("the model has no array that is trained")
    random = np.random.default_rng(20261129)
    other = [
        np.asarray(a + random.normal(size=a.shape) * 0.05, dtype=np.float32).reshape(a.shape) for a in first.values()
    ]
    learner.load(other)
    found = learner.arrays()
    for (name, a), wanted in zip(found.items(), other, strict=True):
        if a.dtype != np.float32 or a.shape != wanted.shape or not np.array_equal(a, wanted):
            raise AppError(f"the array {name} does not come back from arrays() as load() was given it, in float32")


def _made_up(spec: Spec, features: int, label_width: int) -> tuple[X, Array]:
    random = np.random.default_rng(20261130)

    def values(like: Array) -> Array:
        shape = (ROWS, *like.shape[1:])
        drawn = random.normal(size=shape) if like.dtype.kind == "f" else random.integers(0, 2, shape)
        return np.asarray(drawn, dtype=like.dtype)

    if (plan := plan_of(spec)) is not None:
        empty = plan.empty()
        label = np.empty(0) if empty.label is None else empty.label
        x = plain(tensors({name: values(a) for name, a in empty.inputs.items()}))
    else:
        wanted = next(iter(spec.dtypes.values()), "float32")
        x = values(np.empty((0, features), np.int64 if wanted.startswith(("int", "uint")) else np.float32))
        floats = spec.label_dtype in ("float32", "float64") or (spec.label_dtype is None and spec.classes == 1)
        shape = (0,) if label_width == 1 else (0, label_width)
        label = np.empty(shape, np.float32 if floats else np.int64)
    shape = (ROWS, *label.shape[1:])
    y = random.random(shape) if label.dtype.kind == "f" else np.arange(ROWS * int(np.prod(shape[1:]))).reshape(shape)
    return x, np.asarray(y if label.dtype.kind == "f" else y % max(2, spec.classes), dtype=label.dtype)


def _rows(x: X, rows: slice | Array) -> X:
    return {name: a[rows] for name, a in x.items()} if isinstance(x, dict) else x[rows]


def _outputs(learner: Learner, x: X) -> Array:
    outputs = np.asarray(learner.outputs(x))
    if outputs.ndim < 2 or len(outputs) != ROWS:  # noqa: PLR2004 - rows and outputs
        raise AppError(f"the model gives shape {outputs.shape} for {ROWS} records; it must be (records, outputs)")
    return outputs


MIXES = "so the records of a batch are mixed and the noise for one record does not cover another"


def _check_rows(learner: Learner, x: X, y: Array, spec: Spec) -> None:
    outputs = _outputs(learner, x)
    plan = plan_of(spec)
    if plan is not None and outputs.shape[1:] != plan.label.given:
        raise AppError(
            f"the model gives {outputs.shape[1:]} outputs for a row, and the plan's label has {plan.label.given}"
        )
    losses = np.asarray(learner.losses(outputs, y))
    if losses.shape != (ROWS,):
        raise AppError(f"losses() gives shape {losses.shape} for {ROWS} records; it must be one number for each")
    for i in range(ROWS):
        one = slice(i, i + 1)
        alone = np.asarray(learner.outputs(_rows(x, one)))
        if not _close(alone, outputs[one]):
            raise AppError(f"the model's output for one record moves when other records change, {MIXES}")
        if not _close(np.asarray(learner.losses(outputs[one], y[one])), losses[one]):
            raise AppError(f"the loss of one record moves when other records change, {MIXES}")


def _check_gradients(learner: PerRecord, x: X, y: Array) -> None:
    """Those of a batch are those of its records alone; one record moves the sum by the clip at most; a step moves the arrays."""
    size = sum(a.size for a in learner.arrays().values())
    whole = np.asarray(learner.gradients(x, y))
    if whole.shape != (ROWS, size):
        raise AppError(f"gradients() gives shape {whole.shape}; it must be ({ROWS}, {size}): a row for each record")
    for i in range(ROWS):
        one = slice(i, i + 1)
        if not _close(np.asarray(learner.gradients(_rows(x, one), y[one])), whole[one]):
            raise AppError(f"the gradient of one record moves when other records change, {MIXES}")
    order = np.arange(ROWS)[::-1].copy()
    if not _close(np.asarray(learner.gradients(_rows(x, order), y[order])), whole[order]):
        raise AppError(f"the gradient of a record depends on its place in the batch, {MIXES}")
    moved = float(np.linalg.norm(summed(whole, _CLIP) - summed(whole[1:], _CLIP)))
    if moved > _CLIP * (1 + 1e-3):
        raise AppError(f"one record moves the sum by {moved / _CLIP:.3f} times the clip")
    before = np.concatenate([a.ravel() for a in learner.arrays().values()])
    learner.step(np.ones(size, np.float32), Settings())
    after = np.concatenate([a.ravel() for a in learner.arrays().values()])
    if not (before != after).all():
        raise AppError("a step leaves arrays as they are; step() must change every array that arrays() gives")


def _close(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return False
    scale = max(float(np.abs(np.nan_to_num(b)).max(initial=0.0)), 1e-3)
    return bool(np.allclose(a, b, rtol=1e-3, atol=1e-4 * scale, equal_nan=True))
