"""Inner strategies: which of them need only the mean, and which of their options hold under a wrapper.

Both are lists of what is known to hold: what Flower adds, or a user writes, is refused until it is looked at. A wrapper that
takes a strategy it does not know would spend privacy on a model that is another than the strategy's.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from aegis_flower.errors import AppError, ConfigError

# Many replies give these what one reply with their weighted mean gives them: tests/unit/strategies/test_inner.py tries it
# for every class that Flower exports.
NEED_ONLY_THE_MEAN = (
    flower.FedAvg,
    flower.FedAvgM,
    flower.FedAdagrad,
    flower.FedAdam,
    flower.FedYogi,
    flower.FedProx,
)
# These compare replies, each of which may be a group's mean.
COMPARE_REPLIES = (flower.Krum, flower.MultiKrum, flower.Bulyan, flower.FedMedian, flower.FedTrimmedAvg)

# Options of Flower's strategies that the wrappers cannot keep to: the value that changes nothing, and what to do instead.
FIXED: dict[str, tuple[Any, str]] = {
    "weighted_by_key": (
        "num-examples",
        "weights are in the secure sum: secagg.weighting=rows weights by rows, uniform gives each client one vote",
    ),
    "arrayrecord_key": ("arrays", "AEGIS clients read the model under 'arrays'"),
    "configrecord_key": ("config", "AEGIS clients read the settings of a round under 'config'"),
    "train_metrics_aggr_fn": (aggregate_metricrecords, "no client's own metrics reach the server, only their sum"),
    "evaluate_metrics_aggr_fn": (aggregate_metricrecords, "no client's own metrics reach the server, only their sum"),
}


def flowers_own(inner: object) -> type:
    """The nearest class of Flower's that an inner strategy is of; `Strategy` where it is somebody's own from the ground up."""
    mine = (c for c in inspect.getmro(type(inner)) if c.__module__.startswith("flwr."))
    return next(mine, object)


def check_strategy(inner: object) -> None:
    """Says that `inner` is a strategy of Flower's Message API.

    Raises:
        AppError: it is one of the old API, or none.
    """
    if isinstance(inner, Strategy):
        return
    module = type(inner).__module__
    if module.startswith(("flwr.server.", "flwr.compat.")):
        raise AppError(
            f"{type(inner).__name__} is a strategy of Flower's old API ({module}); import it from flwr.serverapp.strategy"
        )
    raise AppError(f"{type(inner).__name__} is no Flower strategy")


def check_mean(inner: object) -> None:
    """Accepts a strategy that needs only the mean of its replies.

    One of Flower's is accepted by its class, a class derived from it too: its `aggregate_train` gets one reply a round. Who
    writes one from the ground up says so by ``needs_only_the_mean = True`` in the class.

    Raises:
        ConfigError: it needs more, or nothing is known of it; the text says what to do.
        AppError: it is no strategy.
    """
    check_strategy(inner)
    name, known = type(inner).__name__, flowers_own(inner)
    if known in NEED_ONLY_THE_MEAN:
        return
    if known in COMPARE_REPLIES or issubclass(known, (flower.QFedAvg, flower.FedXgbBagging, flower.FedXgbCyclic)):
        way_out = (
            f"or Bucketed({name}(...)), which compares the means of groups"
            if known in COMPARE_REPLIES
            else "and no wrapper can give it those"
        )
        raise ConfigError(
            "strategy",
            f"{name} compares single updates, which secure aggregation hides; use a strategy that needs "
            f"only the mean (FedAvg, FedAvgM, FedAdam, FedAdagrad, FedYogi, FedProx), {way_out}",
        )
    _refuse_wrappers(inner)
    if known is Strategy and getattr(inner, "needs_only_the_mean", False) is True:
        return
    raise ConfigError(
        "strategy",
        f"{name} is not known to need only the mean of its replies, which is all that secure aggregation gives; derive it from "
        "FedAvg (or FedAvgM, FedAdam, FedAdagrad, FedYogi, FedProx), or, where one reply a round with the mean is enough for "
        "it, say so with needs_only_the_mean = True in the class",
    )


def check_groups(inner: object) -> None:
    """Accepts a strategy that takes groups' means for replies: rules that compare replies, and what needs only the mean.

    Raises:
        ConfigError, AppError: as `check_mean`.
    """
    check_strategy(inner)
    known = flowers_own(inner)
    if known in COMPARE_REPLIES:
        return
    if issubclass(known, (flower.QFedAvg, flower.FedXgbBagging, flower.FedXgbCyclic)):
        raise ConfigError(
            "strategy",
            f"{type(inner).__name__} needs each client's own numbers, not a group's mean; use Krum, MultiKrum, FedMedian, "
            "FedTrimmedAvg or Bulyan",
        )
    check_mean(inner)


def _refuse_wrappers(inner: object) -> None:
    if "DifferentialPrivacy" in flowers_own(inner).__name__:
        raise ConfigError(
            "strategy",
            f"{type(inner).__name__} clips single updates, which nobody here sees, or counts on clients that do: its noise would "
            "be made for another sensitivity than the mean has. Take the strategy inside it, and privacy.mode=example: each "
            "client then adds the noise of DP-SGD before its update leaves it",
        )
    inside = [key for key, value in vars(inner).items() if isinstance(value, Strategy)]
    if inside:
        raise ConfigError(
            "strategy",
            f"{type(inner).__name__} wraps another strategy ({inside[0]}), and may do with single updates what secure "
            "aggregation makes impossible; hand over the strategy inside it, or derive one class from it",
        )


def check_options(inner: Strategy) -> None:
    """Refuses options that no wrapper can keep to, before anything is spent on them.

    Raises:
        ConfigError: which option, and what to do instead.
    """
    for option, (value, instead) in FIXED.items():
        given = getattr(inner, option, value)
        if given != value:
            shown = getattr(given, "__name__", repr(given))
            raise ConfigError(
                "strategy", f"{type(inner).__name__}({option}={shown}) has no effect here: {instead}; leave it out"
            )
    for option in ("fraction_train", "fraction_evaluate"):
        if not 0 <= getattr(inner, option, 1.0) <= 1:
            raise ConfigError("strategy", f"{type(inner).__name__}({option}) must be 0 to 1")
    if getattr(inner, "fraction_train", 1.0) == 0:
        raise ConfigError("strategy", f"{type(inner).__name__}(fraction_train=0) trains nothing; leave it out")
    mu = getattr(inner, "proximal_mu", 0.0)
    if not (math.isfinite(mu) and mu >= 0):
        raise ConfigError("strategy", f"{type(inner).__name__}(proximal_mu={mu}) must be 0 or more")
