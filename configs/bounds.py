"""The range of every number of a configuration, by its path. `check` holds values against it, the tests try its edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


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
