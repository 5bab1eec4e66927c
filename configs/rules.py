"""Aggregation rules: Flower's strategies that a configuration can name, and what each needs. A new rule is one entry of `RULES`.

Classes of Flower are named, not imported: a configuration is read in processes that need no strategy. A name that is not here is
refused; it never falls through to another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aegis_flower.configs.schema import Groups


@dataclass(frozen=True)
class Rule:
    """One of Flower's strategies, by name.

    Attributes:
        cls: its class in ``flwr.serverapp.strategy``.
        options: its own arguments in an experiment.
        least_groups: how many groups it needs to bear so many malicious clients; None where it needs only the mean.
        rate: the attribute with its learning rate, and the rate where none is configured; None where it has none.
    """

    cls: str
    options: Callable[[Groups], dict[str, Any]] = lambda _: {}
    least_groups: Callable[[int], int] | None = None
    rate: tuple[str, float] | None = None


def _rate(cfg: Groups, default: float) -> float:
    rate = cfg.strategy.server_learning_rate
    return default if rate is None else rate


def rate_of(cfg: Groups) -> tuple[str, float] | None:
    """The attribute of the configured rule that is its learning rate, and the configured rate; None where it has none."""
    known = RULES[cfg.strategy.name].rate
    return None if known is None else (known[0], _rate(cfg, known[1]))


def _groups(cfg: Groups) -> int:
    return max(1, cfg.data.clients // cfg.strategy.group_size)


def _krum(malicious: int) -> int:
    return 2 * malicious + 3  # Blanchard et al. 2017


def _order(malicious: int) -> int:
    return 2 * malicious + 1  # Yin et al. 2018


RULES: Final[dict[str, Rule]] = {
    "fedavg": Rule("FedAvg"),
    "fedavgm": Rule(
        "FedAvgM",
        lambda c: {"server_learning_rate": _rate(c, 1.0), "server_momentum": 0.9},
        rate=("server_learning_rate", 1.0),
    ),
    "fedadam": Rule("FedAdam", lambda c: {"eta": _rate(c, 0.1)}, rate=("eta", 0.1)),
    "fedyogi": Rule("FedYogi", lambda c: {"eta": _rate(c, 0.1)}, rate=("eta", 0.1)),
    "fedprox": Rule("FedProx", lambda c: {"proximal_mu": c.strategy.proximal_mu}),
    # rules that compare updates: over the means of groups, of which as many may be false as there are malicious clients
    "krum": Rule("Krum", lambda c: {"num_malicious_nodes": c.strategy.malicious}, _krum),
    "multikrum": Rule(
        "MultiKrum",
        lambda c: {
            "num_malicious_nodes": c.strategy.malicious,
            "num_nodes_to_select": max(1, _groups(c) - c.strategy.malicious),
        },
        _krum,
    ),
    "median": Rule("FedMedian", least_groups=_order),
    "trimmed_mean": Rule("FedTrimmedAvg", lambda c: {"beta": c.strategy.malicious / _groups(c)}, _order),
}
OPTIMISERS: Final = tuple(name for name, s in RULES.items() if s.least_groups is None)
ROBUST: Final = tuple(name for name, s in RULES.items() if s.least_groups is not None)
