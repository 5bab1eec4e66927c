"""Which metrics an evaluation has: by name, by a task's default, or an app's own. The same list follows at server and node."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Sequence
from typing import Final

from aegis_flower.errors import ConfigError
from aegis_flower.features import Label
from aegis_flower.metrics import classes, numbers, survival
from aegis_flower.metrics.metric import Metric, Metrics
from aegis_flower.metrics.rows import Target

BY_TARGET: Final[dict[str, Callable[[Target], Metric]]] = {
    "accuracy": classes.accuracy,
    "auroc": classes.auroc,
    "brier": classes.brier,
    "c-index": survival.c_index,
    "calibration": classes.calibration,
    "confusion": classes.confusion,
    "f1": classes.f1,
    "mae": numbers.mae,
    "precision": classes.precision,
    "r2": numbers.r2,
    "recall": classes.recall,
    "rmse": numbers.rmse,
    "token-accuracy": classes.token_accuracy,
}
BY_LOSS: Final[dict[str, Callable[[float], Metric]]] = {"loss": numbers.loss, "perplexity": numbers.perplexity}
AT_HORIZON: Final = {
    "auroc": Metric("auroc", (survival.RISKS,), classes.read_auroc),
    "brier": survival.BRIER,
}
OF_CLASSES: Final = frozenset(BY_TARGET) - {"c-index", "mae", "r2", "rmse"}
NAMES: Final = tuple(sorted((*BY_TARGET, *BY_LOSS)))


def target_of(label: Label) -> Target:
    """What a feature plan's label is."""
    if label.task == "regression":
        return Target("number", 1, (), label.low, label.high)
    if label.task == "next-token":
        return Target(label.task, label.outputs)
    return Target(
        label.task, label.outputs, label.columns or label.levels or tuple(f"{edge:g}" for edge in label.edges)
    )


def named(name: str, target: Target, loss_max: float) -> Metric:
    """A built-in metric, or the `Metric` at a dotted path of the app.

    Raises:
        ConfigError: there is none, or it says nothing about what is predicted.
    """
    if name in BY_LOSS:
        return BY_LOSS[name](loss_max)
    if target.task == "time-to-event" and name in AT_HORIZON:
        return AT_HORIZON[name]
    if name in BY_TARGET:
        return BY_TARGET[name](target)
    module, dot, attribute = name.rpartition(".")
    if not dot:
        close = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ", nor the dotted path of a Metric"
        raise ConfigError("evaluation.metrics", f"{name!r} is not one of {', '.join(NAMES)}{hint}")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise ConfigError(
            "evaluation.metrics", f"{name} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, Metric):  # nothing is called: a path is text of whoever wrote the run's settings
        raise ConfigError(
            "evaluation.metrics", f"{name} is a {type(found).__name__}; name a Metric, made when its module is imported"
        )
    return found


def declared(
    names: Sequence[str] | None,
    target: Target,
    loss_max: float,
    *,
    exact: bool = False,
    histograms: bool = False,
    groups: Sequence[str] = (),
    own: Sequence[Metric] = (),
) -> Metrics:
    """The metrics of an experiment.

    Args:
        names: as the configuration lists them. None takes those of the task: accuracy and loss of classes, and where the sums
            are exact their calibration; mean absolute error and loss of numbers; area under the ROC curve at the last edge and
            loss of a time to an event; accuracy and loss of next tokens.
        target: what is predicted.
        loss_max: a record's loss counts as at most this.
        exact: whether the sums leave without noise.
        histograms: whether calibration is told, too.
        groups: vocabulary of the column that numbers are told by.
        own: an app's own, after the others.

    Raises:
        ConfigError: names one that there is not, or that says nothing about the target.
    """
    silent: tuple[str, ...] = ()
    if names is None:
        by_task = _by_task(target)
        calibrated = "accuracy" in by_task and (exact or histograms)
        if "accuracy" in by_task and not calibrated and not groups:
            silent = tuple(n for s in classes.CALIBRATION.statistics for n in s.names)
        names = [*by_task, *(["calibration"] if calibrated else [])]
    elif histograms and "calibration" not in names:
        names = [*names, "calibration"]
    if len(set(names)) != len(names):
        raise ConfigError("evaluation.metrics", "names one of them twice")
    found = [named(name, target, loss_max) for name in names] + list(own)
    if twice := [m.name for i, m in enumerate(found) if m.name in [n.name for n in found[:i]]]:
        raise ConfigError("evaluation.metrics", f"there are two metrics {twice[0]!r}; give one another name")
    return Metrics(tuple(found), tuple(groups), silent)


def _by_task(target: Target) -> list[str]:
    if target.task == "time-to-event":
        return ["auroc", "loss"]
    if target.task == "next-token":
        return ["token-accuracy", "loss"]
    if target.classes > 1:
        return ["accuracy", "loss"]
    return ["mae", "loss"] if target.low is not None else ["loss"]


DEFAULT: Final = declared(None, Target(), 10.0, exact=True)
