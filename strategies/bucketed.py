"""`Bucketed`: robust rules over the means of groups, where single updates stay hidden.

Bucketing before a robust rule is that of Karimireddy, He and Jaggi ("Byzantine-Robust Learning on Heterogeneous Datasets via
Bucketing", ICLR 2022); here a bucket is a secure sum. docs/SECURE_AGGREGATION.md says what a group's sum leaks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from aegis_engine import SecAggSum
from aegis_flower.errors import NotEnoughClients
from aegis_flower.strategies.inner import check_groups
from aegis_flower.strategies.plan import Plan
from aegis_flower.strategies.secure_aggregation import SecureAggregation


class Bucketed(SecureAggregation):
    """Sums groups of clients securely, and gives the inner strategy one reply per group: its mean.

    A group holds at most as many false updates as it holds false clients, and one is enough to spoil its mean: with f
    malicious clients at most f of the groups are false, which is what the inner rule must bear (``num_malicious_nodes`` of
    Krum and MultiKrum, ``beta`` of FedTrimmedAvg, fewer than half of them for FedMedian). Every group counts alike.

    Args:
        inner: Krum, MultiKrum, FedMedian, FedTrimmedAvg, Bulyan, or any Flower strategy over several replies.
        plan: as `SecureAggregation`; its `shard_size` is `group_size`.
        group_size: clients of a group, 8 to 32 in practice; at least the plan's `min_cohort`.
        options: as `SecureAggregation`.

    Raises:
        ConfigError: the inner strategy asks for more than a group's mean, or a group is smaller than `min_cohort`.

    Guarantees:
        - A group's sum is the smallest thing anybody sees of its clients; groups stay as they are for the run.
        - A group that fails costs the others nothing: the rule goes on without it.
        - Fewer than two groups end the round with the model unchanged.
    """

    def __init__(self, inner: Strategy, plan: Plan | None = None, *, group_size: int = 8, **options: Any) -> None:
        super().__init__(inner, plan, shard_size=group_size, **options)

    def _check_inner(self, inner: object) -> None:
        check_groups(inner)

    def _choose(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid, there: int
    ) -> list[Message]:
        assert self.plan.shard_size is not None
        if there < 2 * self.plan.shard_size:
            raise NotEnoughClients(
                f"{there} clients make no two groups of {self.plan.shard_size}; wait for more, or lower group_size"
            )
        return super()._choose(server_round, arrays, config, grid, there)

    def _contributions(self, sums: list[SecAggSum]) -> list[tuple[npt.NDArray[np.float64], int]]:
        # equal weights: a group must not gain influence by what its clients say about themselves
        return [(np.frombuffer(s.mean(), dtype=np.float64), 1) for s in sums]
