"""`SecureAggregation`: a Message-API strategy around any Flower strategy that needs only the mean.

In the steady state a round is two trips: masked input (training happens here) and unmask, whose replies bring the shares
of the next round. The first round has two more, for the adverts of the clients' channel keys and for its shares; a client
that missed an unmask step joins by a share trip of its own. With ``commit`` the survivors sign who survived before they
unmask, one trip more. The evaluation of the model that clients receive rides in the masked input; ``evaluate_rounds`` adds a
metrics-only masked round where the newest model is to be measured.

Messages are pulled as they arrive: each masked vector is added to the one accumulator and forgotten.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Result, Strategy

from aegis_engine import SecAggServer
from aegis_flower import wire
from aegis_flower.client import apply_update
from aegis_flower.errors import AegisError, AppError, ConfigError, NotEnoughClients
from aegis_flower.gate import METRICS
from aegis_flower.strategies.exchange import Exchange
from aegis_flower.strategies.rounds import Lost, RoundRecord

log = logging.getLogger("aegis")

METRIC_MAX = 2**31 - 1
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


class _Cohort(Grid):
    """The grid as the inner strategy may see it: only the cohort, so that its sampling cannot wait for ever."""

    def __init__(self, grid: Grid, nodes: list[int]) -> None:
        self._grid, self._nodes = grid, nodes

    def set_run(self, run: Any) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        return self._grid.run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        return self._grid.create_message(*args, **kwargs)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._nodes)

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [n for n in self._grid.get_nodes() if n.node_id in self._nodes]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self._grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self._grid.send_and_receive(messages, timeout=timeout)


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
        roster: keys of those who may take part (`aegis_engine.roster_open`): a node outside it is left out, where nodes with
            that roster would refuse the whole cohort. It protects no client; the rosters of the nodes do.
        noise_multiplier: σ of the clients' DP-SGD, told to them; 0 without DP.
        evaluate_rounds: rounds after which the new model is measured in a metrics-only masked round.
        on_round: called with each finished `RoundRecord`, for progress.
        observer: called with (round, node, masked vector), for tests and audits of what the server receives.

    Raises:
        ConfigError: the inner strategy needs single updates, or is of Flower's old API.

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
        roster: Collection[bytes] | None = None,
        noise_multiplier: float = 0.0,
        evaluate_rounds: Collection[int] = (),
        on_round: Callable[[RoundRecord], None] | None = None,
        observer: Callable[[int, int, bytes], None] | None = None,
    ) -> None:
        _check_inner(inner)
        if min_cohort < 2:  # noqa: PLR2004 - a sum over one is that one
            raise ConfigError("secagg.min_cohort", "must be at least 2: a sum over one client is that client's update")
        self.inner = inner
        self.max_norm, self.value_bits, self.weight_max = max_norm, value_bits, weight_max
        self.min_cohort, self.cohort = min_cohort, cohort
        self.join_deadline = join_deadline
        self._exchange = Exchange(deadline)
        self.commit, self.sparse = commit, sparse
        self.roster = None if roster is None else sorted(roster)
        self.noise_multiplier = noise_multiplier
        self.evaluate_rounds = frozenset(evaluate_rounds)
        self.on_round, self.observer = on_round, observer
        self.rounds: list[RoundRecord] = []
        self.threshold = 0
        self.ring_bits = 0
        self._server: SecAggServer | None = None
        self._advertised: set[int] = set()
        self._protocol_round = 0
        self._most = 0
        self._last = 0
        self._grid: Grid | None = None
        self._arrays: ArrayRecord = ArrayRecord()
        self._current: RoundRecord | None = None
        self._template: Message | None = None
        self._planned: set[int] = set()

    @property
    def checkpoints(self) -> dict[int, tuple[int, bytes]]:
        """Newest audit checkpoint of each node: records, and the hash of the last."""
        return self._exchange.checkpoints

    def summary(self) -> None:
        """Logs the settings."""
        log.info(
            "aegis: secure aggregation around %s, %d-bit values, norm at most %g, cohort at least %d",
            type(self.inner).__name__,
            self.value_bits,
            self.max_norm,
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
        nodes = self._join(grid)
        mine = ConfigRecord(dict(config))  # the inner strategy writes into it
        try:
            if len(nodes) < getattr(self.inner, "min_available_nodes", 0):
                raise NotEnoughClients(
                    f"{len(nodes)} clients joined, the inner strategy wants {self.inner.min_available_nodes}; lower its "  # type: ignore[attr-defined]
                    "min_available_nodes"
                )
            chosen = list(self.inner.configure_train(server_round, arrays, mine, _Cohort(grid, nodes)))
        except NotEnoughClients as error:
            self._begin(server_round, "train", grid, arrays)
            return self._fail(error)
        contents = {m.metadata.dst_node_id: m.content for m in chosen}
        return self._open_round(server_round, "train", arrays, contents, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Runs the unmask trip, and gives the inner strategy the mean."""
        summed = self._close_round()
        if summed is None:
            return None, None
        names = list(self._arrays)
        before = wire.ndarrays(self._arrays)
        mean = np.frombuffer(summed.mean(), dtype=np.float64)
        after = apply_update(before, mean)
        assert self._template is not None
        metrics = MetricRecord({"num-examples": float(summed.weight), **_means(summed.metrics)})
        content = RecordDict(
            {
                wire.ARRAYS: ArrayRecord({n: Array(a) for n, a in zip(names, after, strict=True)}),
                "metrics": metrics,
            }
        )
        return self.inner.aggregate_train(server_round, [Message(content, reply_to=self._template)])

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """In `evaluate_rounds`, opens a metrics-only masked round over the newest model."""
        trained = any(r.task == "train" and not r.failed for r in self.rounds)
        if server_round not in self.evaluate_rounds or not trained:  # without a new model no data is touched
            self._current = None
            return []
        contents = {
            n: RecordDict({wire.ARRAYS: arrays, "config": ConfigRecord(dict(config))}) for n in self._alive(grid)
        }
        return self._open_round(server_round, "evaluate", arrays, contents, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Means over all clients' holdout rows, from the secure sum."""
        if self._current is None or self._current.task != "evaluate":
            return None
        summed = self._close_round()
        return MetricRecord(_means(summed.metrics)) if summed is not None else None

    # -- one round ------------------------------------------------------------------------------------------------

    def _begin(self, server_round: int, task: str, grid: Grid, arrays: ArrayRecord) -> RoundRecord:
        self._current = RoundRecord(server_round, task)
        self._grid, self._arrays, self._template = grid, arrays, None
        return self._current

    def _open_round(
        self, server_round: int, task: str, arrays: ArrayRecord, contents: dict[int, RecordDict], grid: Grid
    ) -> list[Message]:
        record = self._begin(server_round, task, grid, arrays)
        server = self._engine(arrays, len(contents))
        started = time.monotonic()
        try:
            new = [n for n in contents if n not in self._advertised]
            for node, payload in self._trip(wire.ADVERTISE, {n: wire.Request(server_round) for n in new}):
                if self._take(node, "advertise", server.add_advert, payload):
                    self._advertised.add(node)
            request, missing = self._begin_protocol_round(server, sorted(n for n in contents if n in self._advertised))
            for node, payload in self._trip(wire.SHARE, {n: wire.Request(server_round, request) for n in missing}):
                self._take(node, "share", server.add_share, payload)
            inside = server.end_shares()
        except AegisError as error:
            return self._fail(error)
        self.threshold, self.ring_bits = server.threshold, server.ring_bits
        record.seconds["share"] = time.monotonic() - started
        started = time.monotonic()
        messages = []
        for node in inside:
            if node not in contents:
                record.lost.append(Lost(node, "masked", "it is not there any more"))
                continue
            ask = wire.Request(server_round, server.masked_request(node), task, self.noise_multiplier)
            content = RecordDict({**contents[node], wire.RECORD: ask.to_record()})
            messages.append(Message(content=content, message_type=wire.MASKED, dst_node_id=node))
        self._template = messages[0] if messages else None
        for node, payload in self._exchange.replies(grid, messages, record):
            if self.observer is not None:
                self.observer(record.round, node, payload)
            self._take(node, "masked", server.add_masked, payload)
            record.bytes_up = max(record.bytes_up, len(payload))
        record.seconds["train"] = time.monotonic() - started
        return []

    def _begin_protocol_round(self, server: SecAggServer, cohort: list[int]) -> tuple[bytes, list[int]]:
        """The share request, and who must get it: those whose shares did not come with the last unmask step."""
        cohort = cohort[: self._most]
        planned = server.begin_next()
        if planned is not None:
            self._protocol_round, request, missing = planned
            there = set(cohort)
            # With others chosen, or too many gone, a fresh cohort is better than the planned one.
            if there <= self._planned and len(there) >= server.need:
                return request, [n for n in missing if n in there]
        self._protocol_round += 1
        return server.begin_round(self._protocol_round, cohort), cohort

    def _plan_next(self, server: SecAggServer, record: RoundRecord) -> None:
        """Lets the next round's shares ride in this unmask step: for the cohort as it is, where there is a next round."""
        self._planned = set()
        ends = record.round >= self._last > 0 and (
            record.task == "evaluate" or record.round not in self.evaluate_rounds
        )
        # A strategy that samples chooses anew each round, after this one: then shares have a trip of their own.
        if ends or getattr(self.inner, "fraction_train", 1.0) < 1.0:
            return
        assert self._grid is not None
        cohort = [n for n in self._alive(self._grid) if n in self._advertised][: self._most]
        try:
            server.plan_next(cohort)
            self._planned = set(cohort)
        except NotEnoughClients:
            log.debug("aegis: too few clients for a next round now")

    def _close_round(self) -> Any:
        record, server = self._current, self._server
        if record is None or record.failed or server is None:
            return None
        started = time.monotonic()
        try:
            survivors = server.end_masked()
            if server.has_commit_step:
                request = server.commit_request()
                for node, payload in self._trip(
                    wire.COMMIT, {n: wire.Request(record.round, request) for n in survivors}
                ):
                    self._take(node, "commit", server.add_commit, payload)
            self._plan_next(server, record)
            asks: dict[int, wire.Request] = {}
            for node in survivors:
                try:
                    asks[node] = wire.Request(record.round, server.unmask_request(node))
                except NotEnoughClients as error:  # too few around it signed; the others may be enough
                    record.lost.append(Lost(node, "unmask", str(error), error.code))
            for node, payload in self._trip(wire.UNMASK, asks):
                self._take(node, "unmask", server.add_unmask, payload)
            summed = server.finish()
        except AegisError as error:
            self._fail(error)
            return None
        record.seconds["unmask"] = time.monotonic() - started
        record.participants = list(summed.contributors)
        record.weight, record.metrics = summed.weight, dict(summed.metrics)
        self._finish(record)
        return summed

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

    def _engine(self, arrays: ArrayRecord, cohort: int) -> SecAggServer:
        if self._server is None:
            assert self._grid is not None
            # The ring is as wide as the largest cohort needs, for the whole run; whoever joins above it waits.
            self._most = max(cohort, self.cohort or 0, self.min_cohort)
            dim = sum(int(np.prod(a.shape)) for a in arrays.values())
            self._server = SecAggServer(
                self._grid.run.run_id,
                dim=dim,
                metrics=list(METRICS),
                clip=self.max_norm,
                value_bits=self.value_bits,
                weight_max=self.weight_max,
                metric_max=METRIC_MAX,
                max_clients=self._most,
                min_clients=self.min_cohort,
                sparse=self.sparse,
                commit=self.commit,
                roster=self.roster,
            )
        return self._server

    # -- messages -------------------------------------------------------------------------------------------------

    def _alive(self, grid: Grid) -> list[int]:
        return sorted(grid.get_node_ids())

    def _join(self, grid: Grid) -> list[int]:
        """Waits for the cohort, at most `join_deadline`, and says how far it got."""
        want = max(self.cohort or 0, self.min_cohort) if not self._advertised else self.min_cohort
        until = time.monotonic() + self.join_deadline
        nodes = self._alive(grid)
        while len(nodes) < want and time.monotonic() < until:
            log.info("aegis: %d of %d clients joined", len(nodes), want)
            time.sleep(min(1.0, max(0.01, until - time.monotonic())))
            nodes = self._alive(grid)
        if len(nodes) < want:
            log.warning(
                "aegis: %d of %d clients joined in %g s; going on with them", len(nodes), want, self.join_deadline
            )
        return nodes

    def _trip(self, message_type: str, requests: dict[int, wire.Request]) -> Iterator[tuple[int, bytes]]:
        assert self._grid is not None
        assert self._current is not None
        messages = [
            Message(content=RecordDict({wire.RECORD: r.to_record()}), message_type=message_type, dst_node_id=n)
            for n, r in requests.items()
        ]
        return self._exchange.replies(self._grid, messages, self._current)

    def _take(self, node: int, step: str, add: Callable[[int, bytes], object], payload: bytes) -> bool:
        """Gives a payload to the state machine; a bad one loses its sender, never the round."""
        assert self._current is not None
        try:
            add(node, payload)
        except AegisError as error:
            self._current.lost.append(Lost(node, step, str(error), error.code))
            return False
        return True


def _means(sums: dict[str, int]) -> dict[str, int | float | list[int] | list[float]]:
    rows = sums.get("examples", 0)
    if not rows:
        return {}
    return {"accuracy": sums["correct"] / rows, "loss": sums["loss_milli"] / 1000 / rows, "test-rows": float(rows)}


def _check_inner(inner: object) -> None:
    if isinstance(inner, NEEDS_SINGLE_UPDATES):
        raise ConfigError(
            "strategy",
            f"{type(inner).__name__} compares single updates, which secure aggregation hides; use a strategy that needs "
            "only the mean (FedAvg, FedAvgM, FedAdam, FedYogi, FedProx)",
        )
    if not isinstance(inner, Strategy):
        module = type(inner).__module__
        if module.startswith(("flwr.server.", "flwr.compat.")):
            raise AppError(
                f"{type(inner).__name__} is a strategy of Flower's old API ({module}); import it from "
                "flwr.serverapp.strategy"
            )
        raise AppError(f"{type(inner).__name__} is no Flower strategy")
