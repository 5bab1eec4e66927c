"""The plan of a run's masked rounds: what is summed with whom, how it is encoded, and how long anybody waits."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aegis_engine import SecAggPlan, SecAggServer
from aegis_flower.errors import ConfigError
from aegis_flower.gate import METRIC_MAX
from aegis_flower.metrics import DEFAULT, Metrics


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of secure aggregation, checked once and passed on whole.

    Attributes:
        max_norm: L2 bound of a client's update; also the range of one value in the encoding.
        value_bits: bits of one quantised value.
        weight_max: largest weight a client may have; nodes refuse one that is above their own.
        min_cohort: fewest clients a sum may be over.
        cohort: clients to wait for at the start; None takes who is there, at least `min_cohort`.
        join_deadline: seconds to wait for them.
        deadline: seconds a message may take.
        commit: the survivors sign who survived before they unmask; one more trip per round, and fewer honest inputs
            that a lying server could bring a sum down to (docs/SECURE_AGGREGATION.md).
        sparse: percent of colluding and of lost clients that a sparse graph (profile D) must bear, for cohorts of
            hundreds to thousands; None for a complete graph (profile S).
        shard_size: clients of a shard: each shard is summed by itself, in the same trips, and the sums are added here.
            Cost and losses stay those of a small cohort; what the server sees of a client is its shard's sum, not
            the whole one. None for one sum over all.
        roster: keys of those who may take part (`aegis_engine.roster_open`): a node outside it is left out, where nodes with
            that roster would refuse the whole cohort. It protects no client; the rosters of the nodes do.
        metrics: what the clients count, by their own configuration; a client that counts others refuses (AEG-S023).

    Raises:
        ConfigError: a number cannot be.
    """

    max_norm: float = 4.0
    value_bits: int = 20
    weight_max: int = 65536
    min_cohort: int = 3
    cohort: int | None = None
    join_deadline: float = 60.0
    deadline: float = 120.0
    commit: bool = False
    sparse: tuple[int, int] | None = None
    shard_size: int | None = None
    roster: Collection[bytes] | None = None
    metrics: Metrics = DEFAULT

    def __post_init__(self) -> None:
        if self.min_cohort < 2:  # noqa: PLR2004 - a sum over one is that one
            raise ConfigError("secagg.min_cohort", "must be at least 2: a sum over one client is that client's update")
        if self.shard_size is not None and self.shard_size < self.min_cohort:
            raise ConfigError(
                "secagg.shard_size",
                f"groups of {self.shard_size} clients are below secagg.min_cohort={self.min_cohort}, the fewest a sum may "
                "be over",
            )

    @classmethod
    def of(cls, plan: Plan | None, settings: Mapping[str, Any]) -> Plan:
        """A plan with single settings in place of its own: ``SecureAggregation(inner, min_cohort=5)``.

        Raises:
            TypeError: no plan has such a setting.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        for name in settings:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]}?" if close else f"; a plan has {', '.join(known)}"
                raise TypeError(f"secure aggregation has no setting {name!r}{hint}")
        return dataclasses.replace(plan or cls(), **settings)

    def most(self, there: int) -> int:
        """Clients that the largest group may have: the ring is as wide as they need; whoever joins above it waits."""
        most = max(there, self.cohort or 0, self.min_cohort)
        return most if self.shard_size is None else min(most, 2 * self.shard_size)

    def server(self, run_id: int, dim: int, there: int) -> SecAggServer:
        """The engine's server for a run over `dim` values, with `there` clients at the start."""
        plan = SecAggPlan(
            dim=dim,
            metrics=list(self.metrics.names),
            clip=self.max_norm,
            value_bits=self.value_bits,
            weight_max=self.weight_max,
            metric_max=METRIC_MAX,
            max_clients=self.most(there),
            min_clients=self.min_cohort,
            sparse=self.sparse,
            commit=self.commit,
        )
        return SecAggServer(run_id, plan, roster=None if self.roster is None else sorted(self.roster))
