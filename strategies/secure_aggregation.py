"""`SecureAggregation`: a Message-API strategy around any Flower strategy that needs only the mean.

The trips of a round are in `masked_rounds`. The evaluation of the model that clients receive rides in the masked input;
``evaluate_rounds`` adds a metrics-only masked round where the newest model is to be measured.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Result, Strategy

from aegis_engine import SecAggServer, SecAggSum
from aegis_flower import wire
from aegis_flower.client import apply_update
from aegis_flower.errors import AegisError, AppError, ConfigError, NotEnoughClients
from aegis_flower.gate import METRIC_MAX, METRICS, means
from aegis_flower.strategies.cohort import alive, cohort_grid, join
from aegis_flower.strategies.exchange import Exchange
from aegis_flower.strategies.grouping import Grouping
from aegis_flower.strategies.masked_rounds import InputCheck, MaskedRounds
from aegis_flower.strategies.rounds import RoundRecord

log = logging.getLogger("aegis")

NEEDS_SINGLE_UPDATES = (
    flower.Krum,
    flower.MultiKrum,
    flower.Bulyan,
    flower.FedMedian,
    flower.FedTrimmedAvg,
    flower.QFedAvg,
    flower.FedXgbBagging,
    flower.FedXgbCyclic,
)


class SecureAggregation(Strategy):
    """Hands an inner strategy one synthetic reply with the mean; nobody here ever sees a single update.

    Args:
        inner: FedAvg, FedAvgM, FedAdam, FedYogi, FedAdagrad, FedProx or any strategy that needs only the mean.
        max_norm: L2 bound of a client's update; also the range of one value in the encoding.
        value_bits: bits of one quantised value.
        weight_max: largest weight a client may have.
        min_cohort: fewest clients a sum may be over.
        cohort: clients to wait for at the start; None takes who is there, at least `min_cohort`.
        join_deadline: seconds to wait for them.
        deadline: seconds a message may take.
        commit: the survivors sign who survived before they unmask; one trip more a round, and fewer honest inputs
            that a lying server could bring a sum down to (docs/SECURE_AGGREGATION.md).
        sparse: percent of colluding and of lost clients that a sparse graph (profile D) must bear, for cohorts of
            hundreds to thousands; None for a complete graph (profile S).
        shard_size: clients of a shard: each shard is summed by itself, in the same trips, and the sums are added here.
            Cost and losses stay those of a small cohort; what the server sees of a client is its shard's sum, not
            the whole one. None for one sum over all.
        roster: keys of those who may take part (`aegis_engine.roster_open`): a node outside it is left out, where nodes with
            that roster would refuse the whole cohort. It protects no client; the rosters of the nodes do.
        noise_multiplier: σ of the clients' DP-SGD, told to them; 0 without DP.
        evaluate_rounds: rounds after which the new model is measured in a metrics-only masked round.
        check: what a masked input must pass before it is added (`InputCheck`).
        on_round: called with each finished `RoundRecord`, for progress.
        observer: called with (round, node, masked vector), for tests and audits of what the server receives.

    Raises:
        ConfigError: the inner strategy needs single updates, or is of Flower's old API; a number cannot be.

    Guarantees:
        - The unmasked sum equals the plain integer sum of the survivors bit for bit.
        - A client lost at any step never costs the round while the threshold and `min_cohort` hold.
        - Below them the round ends with `NotEnoughClients` in its record, and the model is unchanged.
        - Every wait has a deadline.
    """

    def __init__(
        self,
        inner: Strategy,
        *,
        max_norm: float = 4.0,
        value_bits: int = 20,
        weight_max: int = 65536,
        min_cohort: int = 3,
        cohort: int | None = None,
        join_deadline: float = 60.0,
        deadline: float = 120.0,
        commit: bool = False,
        sparse: tuple[int, int] | None = None,
        shard_size: int | None = None,
        roster: Collection[bytes] | None = None,
        noise_multiplier: float = 0.0,
        evaluate_rounds: Collection[int] = (),
        check: InputCheck | None = None,
        on_round: Callable[[RoundRecord], None] | None = None,
        observer: Callable[[int, int, bytes], None] | None = None,
    ) -> None:
        self._check_inner(inner)
        if min_cohort < 2:  # noqa: PLR2004 - a sum over one is that one
            raise ConfigError("secagg.min_cohort", "must be at least 2: a sum over one client is that client's update")
        if shard_size is not None and shard_size < min_cohort:
            raise ConfigError(
                "secagg.shard_size",
                f"groups of {shard_size} clients are below secagg.min_cohort={min_cohort}, the fewest a sum may be over",
            )
        self.inner = inner
        self.max_norm, self.value_bits, self.weight_max = max_norm, value_bits, weight_max
        self.min_cohort, self.cohort = min_cohort, cohort
        self.join_deadline = join_deadline
        self._exchange = Exchange(deadline)
        self.commit, self.sparse, self.shard_size = commit, sparse, shard_size
        self.roster = None if roster is None else sorted(roster)
        self.noise_multiplier = noise_multiplier
        self.evaluate_rounds = frozenset(evaluate_rounds)
        self.check, self.on_round, self.observer = check, on_round, observer
        self.rounds: list[RoundRecord] = []
        self.threshold = 0
        self.ring_bits = 0
        self._masked: MaskedRounds | None = None
        self._last = 0
        self._grid: Grid | None = None
        self._arrays: ArrayRecord = ArrayRecord()
        self._current: RoundRecord | None = None
        self._template: Message | None = None

    @property
    def checkpoints(self) -> dict[int, tuple[int, bytes]]:
        """Newest audit checkpoint of each node: records, and the hash of the last."""
        return self._exchange.checkpoints

    def summary(self) -> None:
        """Logs the settings."""
        log.info(
            "aegis: %s around %s, %d-bit values, norm at most %g, %s of at least %d",
            "secure aggregation" if type(self) is SecureAggregation else type(self).__name__.lower(),
            type(self.inner).__name__,
            self.value_bits,
            self.max_norm,
            "cohort" if self.shard_size is None else f"groups of {self.shard_size}",
            self.min_cohort,
        )
        self.inner.summary()

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float | None = None,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Runs the rounds as Flower's strategies do; `timeout` is the deadline of one trip, by default the strategy's own."""
        if timeout is not None:
            self._exchange.deadline = timeout
        self._last = num_rounds
        return super().start(
            grid, initial_arrays, num_rounds, self._exchange.deadline, train_config, evaluate_config, evaluate_fn
        )

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Runs the trips up to the masked input, adding as they come in; it leaves Flower no messages to send."""
        want = max(self.cohort or 0, self.min_cohort) if self._masked is None else self.min_cohort
        nodes = join(grid, want, self.join_deadline)
        mine = ConfigRecord(dict(config))  # the inner strategy writes into it
        self._begin(server_round, "train", grid, arrays)
        try:
            chosen = self._choose(server_round, arrays, mine, cohort_grid(grid, nodes), len(nodes))
        except NotEnoughClients as error:
            return self._fail(error)
        return self._open({m.metadata.dst_node_id: m.content for m in chosen})

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Runs the unmask trip, and gives the inner strategy the mean."""
        sums = self._close()
        if not sums:
            return None, None
        assert self._template is not None
        before = wire.ndarrays(self._arrays)
        parts = self._contributions(sums)
        measured = all(
            metrics.get("examples") for _, _, metrics in parts
        )  # Flower wants the same metrics in every reply
        made = []
        for mean, weight, metrics in parts:
            after = apply_update(before, mean)
            arrays = ArrayRecord({n: Array(a) for n, a in zip(self._arrays, after, strict=True)})
            record = MetricRecord({"num-examples": float(weight), **(means(metrics) if measured else {})})
            made.append(Message(RecordDict({wire.ARRAYS: arrays, "metrics": record}), reply_to=self._template))
        return self.inner.aggregate_train(server_round, made)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """In `evaluate_rounds`, opens a metrics-only masked round over the newest model."""
        trained = any(r.task == "train" and not r.failed for r in self.rounds)
        if server_round not in self.evaluate_rounds or not trained:  # without a new model no data is touched
            self._current = None
            return []
        self._begin(server_round, "evaluate", grid, arrays)
        return self._open(
            {n: RecordDict({wire.ARRAYS: arrays, "config": ConfigRecord(dict(config))}) for n in alive(grid)}
        )

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Means over all clients' holdout rows, from the secure sum."""
        record = self._current
        if record is None or record.task != "evaluate":
            return None
        return MetricRecord({**means(record.metrics)}) if self._close() else None

    # -- what subclasses change -----------------------------------------------------------------------------------

    def _check_inner(self, inner: object) -> None:
        if isinstance(inner, NEEDS_SINGLE_UPDATES):
            raise ConfigError(
                "strategy",
                f"{type(inner).__name__} compares single updates, which secure aggregation hides; use a strategy that needs "
                f"only the mean (FedAvg, FedAvgM, FedAdam, FedYogi, FedProx), or Bucketed({type(inner).__name__}(...)), "
                "which compares the means of groups",
            )
        if not isinstance(inner, Strategy):
            module = type(inner).__module__
            if module.startswith(("flwr.server.", "flwr.compat.")):
                raise AppError(
                    f"{type(inner).__name__} is a strategy of Flower's old API ({module}); import it from "
                    "flwr.serverapp.strategy"
                )
            raise AppError(f"{type(inner).__name__} is no Flower strategy")

    def _contributions(self, sums: list[SecAggSum]) -> list[tuple[npt.NDArray[np.float64], int, dict[str, int]]]:
        """Mean, weight and metrics of each reply that the inner strategy gets: here one, over all shards."""
        assert self._current is not None
        weight = self._current.weight
        mean = np.zeros(0)
        for one in sums:
            part = np.frombuffer(one.mean(), dtype=np.float64)
            # a single shard's mean is passed on as it is
            mean = (
                part if len(sums) == 1 else (mean if mean.size else np.zeros(part.size)) + part * (one.weight / weight)
            )
        return [(mean, weight, self._current.metrics)]

    # -- one round ------------------------------------------------------------------------------------------------

    def _choose(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid, there: int
    ) -> list[Message]:
        """The inner strategy's messages.

        Raises:
            NotEnoughClients: it would wait for more than there are.
        """
        want = getattr(self.inner, "min_available_nodes", 0)
        if there < want:
            raise NotEnoughClients(
                f"{there} clients joined, the inner strategy wants {want}; lower its min_available_nodes"
            )
        return list(self.inner.configure_train(server_round, arrays, config, grid))

    def _begin(self, server_round: int, task: str, grid: Grid, arrays: ArrayRecord) -> None:
        self._current = RoundRecord(server_round, task)
        self._grid, self._arrays, self._template = grid, arrays, None

    def _open(self, contents: dict[int, RecordDict]) -> list[Message]:
        assert self._grid is not None
        assert self._current is not None
        masked = self._rounds(len(contents))
        try:
            self._template = masked.open(self._grid, self._current, contents, self.noise_multiplier)
        except AegisError as error:
            return self._fail(error)
        finally:
            self.threshold, self.ring_bits = masked.shape()
        return []

    def _close(self) -> list[SecAggSum]:
        record, masked = self._current, self._masked
        if record is None or record.failed or masked is None:
            return []
        assert self._grid is not None
        try:
            sums = masked.close(self._grid, record, self._following(record))
        except AegisError as error:
            self._fail(error)
            return []
        self._finish(record)
        return sums

    def _following(self, record: RoundRecord) -> list[int]:
        """Clients of the next round, as far as it can be known; none where there is no next round."""
        ends = record.round >= self._last > 0 and (
            record.task == "evaluate" or record.round not in self.evaluate_rounds
        )
        # A strategy that samples chooses anew each round, after this one: then shares have a trip of their own.
        if ends or getattr(self.inner, "fraction_train", 1.0) < 1.0:
            return []
        assert self._masked is not None
        assert self._grid is not None
        return self._masked.present(self._grid)

    def _fail(self, error: AegisError) -> list[Message]:
        assert self._current is not None
        self._current.failed = f"[{error.code}] {error}"
        log.warning("aegis: round %d gave no model: %s", self._current.round, self._current.failed)
        self._finish(self._current)
        return []

    def _finish(self, record: RoundRecord) -> None:
        record.seconds["total"] = sum(v for k, v in record.seconds.items() if k != "total")
        self.rounds.append(record)
        if self.on_round is not None:
            self.on_round(record)

    def _rounds(self, cohort: int) -> MaskedRounds:
        if self._masked is None:
            assert self._grid is not None
            # The ring is as wide as the largest group needs, for the whole run; whoever joins above it waits.
            most = max(cohort, self.cohort or 0, self.min_cohort)
            if self.shard_size is not None:
                most = min(most, 2 * self.shard_size)
            base = SecAggServer(
                self._grid.run.run_id,
                dim=sum(int(np.prod(a.shape)) for a in self._arrays.values()),
                metrics=list(METRICS),
                clip=self.max_norm,
                value_bits=self.value_bits,
                weight_max=self.weight_max,
                metric_max=METRIC_MAX,
                max_clients=most,
                min_clients=self.min_cohort,
                sparse=self.sparse,
                commit=self.commit,
                roster=self.roster,
            )
            grouping = Grouping(self.shard_size, self.min_cohort)
            self._masked = MaskedRounds(base, self._exchange, grouping, most, self.check, self.observer)
        return self._masked
