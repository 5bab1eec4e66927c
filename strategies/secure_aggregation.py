"""`SecureAggregation`: a Message-API strategy around any Flower strategy that needs only the mean.

The trips of a round are in `masked`. The evaluation of the model that clients receive rides in the masked input;
``evaluate_rounds`` adds a metrics-only masked round where the newest model is to be measured.
"""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from aegis_engine import SecAggSum
from aegis_flower import wire
from aegis_flower.errors import AegisError, AppError, NotEnoughClients
from aegis_flower.strategies.cohort import alive, cohort_grid, join
from aegis_flower.strategies.inner import check_mean, check_options
from aegis_flower.strategies.masked import InputCheck, MaskedRounds
from aegis_flower.strategies.masked.exchange import Exchange
from aegis_flower.strategies.masked.group import CONFIG
from aegis_flower.strategies.masked.grouping import Grouping
from aegis_flower.strategies.masked.opening import Opening
from aegis_flower.strategies.plan import Plan
from aegis_flower.strategies.refusals import lasting, summary
from aegis_flower.strategies.rounds import Ending, OnRound, RoundRecord, Stopped
from aegis_flower.strategies.schedule import Schedule
from aegis_flower.weights import apply_update

log = logging.getLogger("aegis")
_GIVES = {"train": "model", "evaluate": "metrics"}


class SecureAggregation(Ending, Strategy):
    """Hands an inner strategy one synthetic reply with the mean; nobody here ever sees a single update.

    Args:
        inner: FedAvg, FedAvgM, FedAdam, FedYogi, FedAdagrad, FedProx, a class derived from one of them, or one that says of
            itself ``needs_only_the_mean = True``.
        plan: cohort, encoding, graph and deadlines; None takes the defaults.
        noise_multiplier: σ of the clients' DP-SGD, told to them; 0 without DP.
        evaluate: which models are counted over the clients' held-out rows: ``every`` model that a training round sends, in
            its own masked inputs; the ``last`` one alone, in a metrics-only masked round after the last; ``never``; ``auto``
            is ``every`` where `noise_multiplier` is 0, and ``last`` elsewhere, since each counting has a price in privacy.
        evaluate_rounds: rounds after which the new model is measured in a metrics-only masked round, besides.
        check: what a masked input must pass before it is added (`InputCheck`).
        on_round: called with each finished `RoundRecord`; where it returns `STOP`, the run ends with that round's model.
        observer: called with (round, node, masked vector), for tests and audits of what the server receives.
        settings: single settings of the plan, such as ``min_cohort=5``, in place of the plan's own.

    Raises:
        ConfigError: the inner strategy needs more than the mean, or has an option that no wrapper can keep to; a number
            cannot be.
        AppError: it is no strategy of Flower's Message API.

    Guarantees:
        - The unmasked sum equals the plain integer sum of the survivors bit for bit.
        - A client lost at any step never costs the round while the threshold and `min_cohort` hold.
        - Below them the round ends with `NotEnoughClients` in its record, and the model is unchanged.
        - Every wait has a deadline.
        - All clients of a sum worked on the same model, task, noise and settings: each binds its masks to what it was sent.
        - A reply of whatever kind loses its sender, never the round.
        - A run whose nodes all refuse, for a reason that lasts, stops after that round (`stopped` says why); one that `end` or
          `STOP` ends, too (`ended` says why).
    """

    def __init__(
        self,
        inner: Strategy,
        plan: Plan | None = None,
        *,
        noise_multiplier: float = 0.0,
        evaluate: str = "auto",
        evaluate_rounds: Collection[int] = (),
        check: InputCheck | None = None,
        on_round: OnRound | None = None,
        observer: Callable[[int, int, bytes], None] | None = None,
        **settings: Any,
    ) -> None:
        self._check_inner(inner)
        check_options(inner)
        self.inner = inner
        self.plan = Plan.of(plan, settings)
        self._exchange = Exchange(self.plan.deadline)
        self.noise_multiplier = noise_multiplier
        self._schedule = Schedule(evaluate, evaluate_rounds, noise_multiplier, getattr(inner, "fraction_evaluate", 1.0))
        self.check, self.on_round, self.observer = check, on_round, observer
        self.rounds: list[RoundRecord] = []
        self.threshold = 0
        self.ring_bits = 0
        self._masked: MaskedRounds | None = None
        self.stopped = ""
        self._last = 0
        self._started = False
        self._counts = False
        self._result = Result()
        self._asked: frozenset[int] = frozenset()
        self._grid: Grid | None = None
        self._arrays: ArrayRecord = ArrayRecord()
        self._current: RoundRecord | None = None
        self._template: Message | None = None

    @property
    def checkpoints(self) -> dict[int, tuple[int, bytes]]:
        """Newest audit checkpoint of each node: records, and the hash of the last."""
        return self._exchange.checkpoints

    @property
    def names(self) -> dict[int, str]:
        """What each node calls itself, by its number."""
        return self._exchange.names

    def summary(self) -> None:
        """Logs the settings."""
        log.info(
            "aegis: %s around %s, %d-bit values, norm at most %g, %s of at least %d",
            "secure aggregation" if type(self) is SecureAggregation else type(self).__name__.lower(),
            type(self.inner).__name__,
            self.plan.value_bits,
            self.plan.max_norm,
            "cohort" if self.plan.shard_size is None else f"groups of {self.plan.shard_size}",
            self.plan.min_cohort,
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
        """Runs the rounds as Flower's strategies do; `timeout` is the deadline of one trip, by default the strategy's own.

        Metrics of the clients are in the result's `evaluate_metrics_clientapp`, under the round whose model they are of: 0 is the
        initial one.
        """
        if timeout is not None:
            self._exchange.deadline = timeout
        self._last, self._started, self.stopped, self.ended = num_rounds, True, "", ""
        self._result = Result()
        noted = evaluate_fn and functools.partial(self._note, evaluate_fn)
        try:
            result = super().start(
                grid, initial_arrays, num_rounds, self._exchange.deadline, train_config, evaluate_config, noted
            )
        except Stopped:
            result = self._result
            self._measure_last(grid, evaluate_config or ConfigRecord())
        finally:
            self._started = False
        result.evaluate_metrics_clientapp = dict(sorted(self._result.evaluate_metrics_clientapp.items()))
        return result

    def _measure_last(self, grid: Grid, config: ConfigRecord) -> None:
        """A run that stops ends with the rounds it had: its last model is measured where the schedule measures the last one."""
        trained = [r.round for r in self.rounds if r.task == "train" and not r.failed]
        if trained:
            if self.ended:
                self._schedule.last_is(trained[-1], self._last)
            self._last = trained[-1]
            self.aggregate_evaluate(
                self._last, list(self.configure_evaluate(self._last, self._result.arrays, config, grid))
            )

    def _note(
        self, evaluate: Callable[[int, ArrayRecord], MetricRecord | None], server_round: int, arrays: ArrayRecord
    ) -> MetricRecord | None:
        """Flower's own evaluation at the server, kept for a run that stops."""
        found = evaluate(server_round, arrays)
        if found is not None:
            self._result.evaluate_metrics_serverapp[server_round] = found
        return found

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Runs the trips up to the masked input, adding as they come in; it leaves Flower no messages to send."""
        self.check_end(running=self._started)
        want = max(self.plan.cohort or 0, self.plan.min_cohort) if self._masked is None else self.plan.min_cohort
        nodes = join(grid, want, self.plan.join_deadline)
        mine = ConfigRecord(dict(config))  # the inner strategy writes into it
        self._begin(server_round, "train", grid, arrays)
        try:
            chosen = self._choose(server_round, arrays, mine, cohort_grid(grid, nodes), len(nodes))
            contents = _contents(chosen)
        except AegisError as error:
            return self._fail(error)
        return self._open(contents, evaluate=self._schedule.rides())

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Runs the unmask trip, and gives the inner strategy the mean."""
        sums = self._close()
        if not sums:
            return None, None
        assert self._template is not None
        before = wire.ndarrays(self._arrays)
        made = []
        for mean, weight in self._contributions(sums):
            after = apply_update(before, mean)
            arrays = ArrayRecord({n: Array(a) for n, a in zip(self._arrays, after, strict=True)})
            record = MetricRecord({"num-examples": float(weight)})
            made.append(Message(RecordDict({wire.ARRAYS: arrays, "metrics": record}), reply_to=self._template))
        model, metrics = self.inner.aggregate_train(server_round, made)
        if model is not None:
            self._result.arrays = model
        if metrics is not None:
            self._result.train_metrics_clientapp[server_round] = metrics
        return model, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Where the schedule says so, opens a metrics-only masked round over the newest model."""
        trained = any(r.task == "train" and not r.failed for r in self.rounds)
        if not self._schedule.after(server_round, self._last) or not trained:  # without a new model no data is touched
            self._current = None
            return []
        self._begin(server_round, "evaluate", grid, arrays)
        content = RecordDict({wire.ARRAYS: arrays, CONFIG: ConfigRecord(dict(config))})
        return self._open(dict.fromkeys(self._measuring(alive(grid)), content), evaluate=True)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Means over all clients' holdout rows, from the secure sum."""
        record = self._current
        if record is None or record.task != "evaluate":
            return None
        found = self.plan.metrics.read(record.metrics) if self._close() else {}
        if not found:
            return None
        metrics = MetricRecord({**found})
        self._result.evaluate_metrics_clientapp[server_round] = metrics
        return metrics

    # -- what subclasses change -----------------------------------------------------------------------------------

    def _check_inner(self, inner: object) -> None:
        check_mean(inner)

    def _contributions(self, sums: list[SecAggSum]) -> list[tuple[npt.NDArray[np.float64], int]]:
        """Mean and weight of each reply that the inner strategy gets: here one, over all shards."""
        assert self._current is not None
        weight = self._current.weight
        mean = np.zeros(0)
        for one in sums:
            part = np.frombuffer(one.mean(), dtype=np.float64)
            # a single shard's mean is passed on as it is
            mean = (
                part if len(sums) == 1 else (mean if mean.size else np.zeros(part.size)) + part * (one.weight / weight)
            )
        return [(mean, weight)]

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

    def _measuring(self, nodes: list[int]) -> list[int]:
        """Clients of a metrics-only round: all, or as many as the inner strategy's ``fraction_evaluate`` says."""
        fraction = getattr(self.inner, "fraction_evaluate", 1.0)
        least = max(self.plan.min_cohort, getattr(self.inner, "min_evaluate_nodes", 0))
        return sorted(random.sample(nodes, min(len(nodes), max(int(len(nodes) * fraction), least))))

    def _begin(self, server_round: int, task: str, grid: Grid, arrays: ArrayRecord) -> None:
        self._current = RoundRecord(server_round, task)
        self._grid, self._arrays, self._template = grid, arrays, None

    def _open(self, contents: dict[int, RecordDict], *, evaluate: bool) -> list[Message]:
        assert self._grid is not None
        record = self._current
        assert record is not None
        self._asked, self._counts = frozenset(contents), evaluate
        if contents:  # the update is a difference to the model that was sent, whichever the inner strategy chose
            self._arrays = next(iter(contents.values())).array_records[wire.ARRAYS]
        masked = self._rounds(len(contents))
        request = wire.Request(
            record.round, b"", record.task, self.noise_multiplier, evaluate=evaluate and record.task == "train"
        )
        try:
            self._template = masked.open(self._grid, record, contents, request)
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
        if not self._counts:
            record.metrics = {}
        elif record.task == "train" and (found := self.plan.metrics.read(record.metrics)):
            # of the model that was sent, which the round before made
            self._result.evaluate_metrics_clientapp[record.round - 1] = MetricRecord({**found})
        self._finish(record)
        return sums

    def _following(self, record: RoundRecord) -> list[int]:
        """Clients of the next round, as far as it can be known; none where there is no next round."""
        ends = record.round >= self._last > 0 and (
            record.task == "evaluate" or not self._schedule.after(record.round, self._last)
        )
        # A strategy that samples chooses anew each round, after this one: then shares have a trip of their own.
        if ends or getattr(self.inner, "fraction_train", 1.0) < 1.0:
            return []
        assert self._masked is not None
        assert self._grid is not None
        return self._masked.present(self._grid)

    def _fail(self, error: AegisError) -> list[Message]:
        record = self._current
        assert record is not None
        record.failed = f"[{error.code}] {error}"
        if record.lost and isinstance(error, NotEnoughClients):
            record.failed += f"; lost: {summary(record.lost)}"
        why = lasting(record, self._asked)
        self._finish(record)
        if not why:
            log.warning("aegis: round %d gave no %s: %s", record.round, _GIVES[record.task], record.failed)
        elif record.task == "evaluate":  # training may go on all the same
            self._schedule.stop()
            log.error("aegis: no model is measured any more: %s", why)
        else:
            self.stopped = why
            log.error("aegis: %s", why)
            if self._started:
                raise Stopped
        return []

    def _finish(self, record: RoundRecord) -> None:
        record.seconds["total"] = sum(v for k, v in record.seconds.items() if k != "total")
        self.rounds.append(record)
        if self.on_round is not None:
            self.heard(self.on_round(record))

    def _rounds(self, cohort: int) -> MaskedRounds:
        if self._masked is None:
            assert self._grid is not None
            dim = sum(int(np.prod(a.shape)) for a in self._arrays.values())
            base = self.plan.server(self._grid.run.run_id, dim, cohort)
            grouping = Grouping(self.plan.shard_size, self.plan.min_cohort)
            opening = Opening(base, self._exchange, grouping, self.plan.most(cohort))
            self._masked = MaskedRounds(opening, self.check, self.observer)
        return self._masked


def _contents(messages: Iterable[Message]) -> dict[int, RecordDict]:
    """What the inner strategy sends to each client.

    Raises:
        AppError: it has more or other records than AEGIS clients read.
    """
    found = {m.metadata.dst_node_id: m.content for m in messages}
    for content in found.values():
        if set(content) != {wire.ARRAYS, CONFIG} or wire.ARRAYS not in content.array_records:
            raise AppError(
                f"the inner strategy sends the records {', '.join(map(repr, content))}; AEGIS clients read the model under "
                f"{wire.ARRAYS!r} and settings under {CONFIG!r}, and nothing else"
            )
    return found
