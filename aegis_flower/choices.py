"""Choices: one registry for each thing a configuration names. `config` takes its names from here, `server` what they make, and
``aegis run --help`` its text; a name that is not here is refused, it never falls through to another.

Classes of Flower are named, not imported: a configuration is read in processes that need no strategy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aegis_flower.config import Config

LOSS_STEPS: Final = ("advertise", "share", "masked", "commit", "unmask", "train", "evaluate")


@dataclass(frozen=True)
class Strategy:
    """One of Flower's strategies, by name.

    Attributes:
        cls: its class in ``flwr.serverapp.strategy``.
        options: its own arguments in an experiment.
        least_groups: how many groups it needs to bear so many malicious clients; None where it needs only the mean.
    """

    cls: str
    options: Callable[[Config], dict[str, Any]] = lambda _: {}
    least_groups: Callable[[int], int] | None = None


def _rate(cfg: Config, default: float) -> float:
    rate = cfg.strategy.server_learning_rate
    return default if rate is None else rate


def _groups(cfg: Config) -> int:
    return max(1, cfg.data.clients // cfg.strategy.group_size)


def _krum(malicious: int) -> int:
    return 2 * malicious + 3  # Blanchard et al. 2017


def _order(malicious: int) -> int:
    return 2 * malicious + 1  # Yin et al. 2018


STRATEGIES: Final[dict[str, Strategy]] = {
    "fedavg": Strategy("FedAvg"),
    "fedavgm": Strategy("FedAvgM", lambda c: {"server_learning_rate": _rate(c, 1.0), "server_momentum": 0.9}),
    "fedadam": Strategy("FedAdam", lambda c: {"eta": _rate(c, 0.1)}),
    "fedyogi": Strategy("FedYogi", lambda c: {"eta": _rate(c, 0.1)}),
    "fedprox": Strategy("FedProx", lambda c: {"proximal_mu": c.strategy.proximal_mu}),
    # rules that compare updates: over the means of groups, of which as many may be false as there are malicious clients
    "krum": Strategy("Krum", lambda c: {"num_malicious_nodes": c.strategy.malicious}, _krum),
    "multikrum": Strategy(
        "MultiKrum",
        lambda c: {
            "num_malicious_nodes": c.strategy.malicious,
            "num_nodes_to_select": max(1, _groups(c) - c.strategy.malicious),
        },
        _krum,
    ),
    "median": Strategy("FedMedian", least_groups=_order),
    "trimmed_mean": Strategy("FedTrimmedAvg", lambda c: {"beta": c.strategy.malicious / _groups(c)}, _order),
}
OPTIMISERS: Final = tuple(name for name, s in STRATEGIES.items() if s.least_groups is None)
ROBUST: Final = tuple(name for name, s in STRATEGIES.items() if s.least_groups is not None)


@dataclass(frozen=True)
class Keys:
    """What a key of the configuration may be, in one place: `config` checks it, the tests try it.

    Attributes:
        low: least value; NaN and infinity lie in no range.
        high: largest value.
        open_low: whether `low` itself is outside.
        open_high: whether `high` itself is outside.
    """

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """Whether the value lies in the range."""
        above = self.low < value if self.open_low else self.low <= value
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.open_low else f"at least {_shown(self.low)}"
        high = f"below {_shown(self.high)}" if self.open_high else f"at most {_shown(self.high)}"
        return f"must be {low} and {high}"


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


# Every number of a configuration, by its path. Those of the mechanism are the engine's and the ledger's own bounds.
BOUNDS: Final[dict[str, Keys]] = {
    "seed": Keys(0, 2**63 - 1),
    "data.clients": Keys(1, 100_000),
    "data.alpha": Keys(1e-6, 1e6),
    "data.holdout": Keys(0.0, 1.0, True, True),
    "data.limit": Keys(1, 10**9),
    "data.withdrawn": Keys(0.0, 1.0, open_high=True),
    "model.hidden": Keys(1, 65_536),
    "model.learning_rate": Keys(0.0, 1e3, True),
    "model.momentum": Keys(0.0, 1.0, open_high=True),
    "model.physical_batch": Keys(1, 10**6),
    "policy.retention_days": Keys(0, 36_500),
    "policy.min_rows": Keys(1, 10**9),
    "policy.min_subjects": Keys(1, 10**9),
    "policy.budget_epsilon": Keys(0.0, 1e6, True),
    "policy.permit_minutes": Keys(1 / 60, 24 * 60.0),
    "policy.delta": Keys(1e-12, 0.01),
    "privacy.epsilon": Keys(0.0, 1e3, True, True),
    "privacy.delta": Keys(1e-12, 0.01, open_high=True),
    "privacy.clip": Keys(1e-6, 1e6),
    "privacy.sample_rate": Keys(0.0, 1.0, True),
    "privacy.steps_per_round": Keys(1, 10**6),
    "privacy.expected_batch": Keys(1.0, 1e9),
    "privacy.noise_multiplier": Keys(0.05, 1e4),
    "evaluation.epsilon": Keys(0.0, 1e3, True, True),
    "evaluation.loss_max": Keys(1e-3, 1e3),
    "secagg.value_bits": Keys(8, 30),
    "secagg.min_cohort": Keys(2, 2**16),
    "secagg.weight_max": Keys(1, 2**24),
    "secagg.sparse": Keys(0, 49),
    "secagg.shard_size": Keys(2, 2**16),
    "strategy.rounds": Keys(1, 10**6),
    "strategy.max_norm": Keys(1e-9, 1e9),
    "strategy.server_learning_rate": Keys(0.0, 1e3, True),
    "strategy.proximal_mu": Keys(0.0, 1e3),
    "strategy.group_size": Keys(2, 2**16),
    "strategy.malicious": Keys(0, 2**16),
    "runtime.workers": Keys(0, 1024),
    "runtime.round_deadline": Keys(1e-3, 1e6),
    "runtime.join_deadline": Keys(1e-3, 1e6),
}
