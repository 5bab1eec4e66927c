"""`SecureAggregation` on a grid that loses, repeats and reorders replies: exact rounds, or rounds that leave the model as it was.

The nodes are real ones (vault, permit, gates, masks); only their training is a draw of numbers, so that the plain updates are
known. Time is the grid's: a look for replies that finds none moves the clock, and nothing waits.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Iterator
from random import Random
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp.strategy import FedAvg
from hypothesis import Phase, currently_in_test_context, event, given, settings
from hypothesis import strategies as st
from secure import runs

from aegis_engine import encode_update
from aegis_flower import SecureAggregation, VaultClient, aegis_client_app, compose, wire
from aegis_flower.client import Trained
from aegis_flower.gate import METRIC_MAX, METRICS
from aegis_flower.node.node import close_nodes, open_node
from aegis_flower.simulations.inprocess import InProcessGrid
from aegis_flower.simulations.provision import provision
from aegis_flower.strategies.masked import closing, exchange
from aegis_flower.train import TrainResult

NODES, ROUNDS, DIM = 7, 3, 5
MAX_NORM, VALUE_BITS = 4.0, 20
CFG = compose(
    "quickstart",
    [f"data.clients={NODES}", "privacy=off", "policy.require_dp=false", "secagg.weighting=rows", "policy.min_rows=16"],
)
AS_DRAWN = [Phase.reuse, Phase.generate]  # a seed does not become simpler by being smaller
START = np.linspace(-1, 1, DIM, dtype=np.float32)


class Clock:
    """Takes the place of `time` in the exchange: sleeping is what makes it go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


LostReply = tuple[int, str, int]  # round, step, node


class RestlessGrid:
    """An `InProcessGrid` whose replies all exist before the first is given out; then the dice decide what becomes of each.

    Attributes:
        asked: for each (round, step) the nodes it was sent to, trip by trip.
        came: for each (round, step) the nodes whose reply was given out in its time.
    """

    NEVER = 10**9

    def __init__(self, grid: InProcessGrid, dice: Random, loss: float, lost: Collection[LostReply] = ()) -> None:
        self._grid, self._dice, self._loss, self._lost = grid, dice, loss, lost
        self._waiting: list[tuple[int, Message]] = []
        self._stale: list[Message] = []
        self.asked: dict[tuple[int, str], list[int]] = {}
        self.came: dict[tuple[int, str], list[int]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        sent = list(messages)
        self._stale += [m for _, m in self._waiting if not m.has_error()]  # what came too late, or twice
        self._waiting = []
        replies = list(self._grid.send_and_receive(sent))
        asked = {m.metadata.message_id: m for m in sent}
        assert len(replies) == len(asked)
        for reply in replies:
            self._meet(asked[reply.metadata.reply_to_message_id], reply)
        self._dice.shuffle(self._waiting)
        return list(asked)

    def _meet(self, request: Message, reply: Message) -> None:
        step = request.metadata.message_type.rpartition("_")[2]
        key, node = (int(request.content.config_records["aegis"]["round"]), step), request.metadata.dst_node_id
        self.asked.setdefault(key, []).append(node)
        looks = self._dice.choice([0, 0, 1, 4])
        if (*key, node) in self._lost:
            looks = self.NEVER
        elif self._dice.random() < self._loss:
            if self._dice.random() < 0.5:
                looks = self.NEVER
            else:  # the SuperLink says that the node is not there
                self._waiting.append((looks, Message(Error(ErrorCode.NODE_UNAVAILABLE, "gone"), reply_to=request)))
                looks = self.NEVER
        elif wire.Reply.from_content(reply.content).code == "":
            self.came.setdefault(key, []).append(node)
        self._waiting.append((looks, reply))
        if looks != self.NEVER and self._dice.random() < 0.3:
            self._waiting.append((looks + self._dice.choice([0, 2]), reply))

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        ready = [m for looks, m in self._waiting if looks == 0]
        self._waiting = [(looks - 1, m) for looks, m in self._waiting if looks > 0]
        if self._stale and self._dice.random() < 0.3:  # an answer to a message of an earlier trip
            ready.insert(0, self._dice.choice(self._stale))
        return ready

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        assert not list(messages), "the strategy sends for itself"
        return []


class Drawing(VaultClient):
    """Its training is a draw of numbers, told by round and node."""

    torch_model = False

    def train_round(self, parameters: Any, round_: int, noise_multiplier: float) -> Trained:
        update = drawn(self.context.run_id, round_, self.context.node_id)
        permit = self.authorize("train", round_)
        return Told(parameters, parameters, permit, TrainResult(1, permit.rows, 0), "off", None, update)

    def evaluate_counts(self, parameters: Any, round_: int) -> Any:
        node = self.context.node_id
        return {"examples": 10 * node, "correct": node, "loss_milli": round_}, None


@dataclasses.dataclass(frozen=True)
class Told(Trained):
    told: np.ndarray

    @property
    def update(self) -> np.ndarray:
        return self.told.copy()


def drawn(run: int, round_: int, node: int) -> np.ndarray:
    return np.random.default_rng([run, round_, node]).uniform(-1, 1, DIM).astype(np.float32)


@dataclasses.dataclass(repr=False)
class Nodes:
    configs: list[dict[str, Any]]
    rows: dict[int, int]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    root = tmp_path_factory.mktemp("strategy")
    configs = [dict(n.node_config) for n in provision(CFG, root / "vaults")]
    rows = {}
    for i, config in enumerate(configs, 1):
        context = Context(run_id=1, node_id=i, node_config=config, state=RecordDict(), run_config={})
        rows[i] = Drawing(open_node(context, CFG), CFG, context).authorize("train", 1).rows
    yield Nodes(configs, rows)
    close_nodes()


def coded(run: int, round_: int, node: int, weight: int) -> np.ndarray:
    """A contribution as the engine encodes it: float32 values within the clip, so nothing else is done to it."""
    plan = {
        "clip": MAX_NORM,
        "value_bits": VALUE_BITS,
        "weight_max": 65536,
        "metric_max": METRIC_MAX,
        "max_clients": NODES,
    }
    metrics = [{"examples": 10 * node, "correct": node, "loss_milli": round_}.get(m, 0) for m in METRICS]
    return np.array(encode_update(drawn(run, round_, node), weight, metrics, names=METRICS, **plan))


@dataclasses.dataclass
class Seen:
    """A finished run: the grid's book, the strategy's records with the threshold of each, the model after each round."""

    run: int
    grid: RestlessGrid
    rounds: list[tuple[Any, int]]
    models: list[np.ndarray]


def drive(nodes: Nodes, dice: Random, loss: float, lost: Collection[LostReply] = ()) -> Seen:
    number, rounds, models = next(runs), [], []
    app = aegis_client_app(Drawing, config=CFG)
    with pytest.MonkeyPatch.context() as patch, InProcessGrid(app, nodes.configs, run_id=number) as inner:
        patch.setattr(exchange, "time", Clock())
        grid = RestlessGrid(inner, dice, loss, lost)
        strategy = SecureAggregation(
            FedAvg(min_train_nodes=3, min_available_nodes=3),
            max_norm=MAX_NORM,
            value_bits=VALUE_BITS,
            cohort=NODES,
            on_round=lambda record: rounds.append((record, strategy.threshold)),
        )

        def keep(round_: int, arrays: ArrayRecord) -> None:
            models.append(arrays["w"].numpy().copy())

        strategy.start(grid, ArrayRecord({"w": Array(START)}), num_rounds=ROUNDS, evaluate_fn=keep)
    return Seen(number, grid, rounds, models)


def check(seen: Seen, nodes: Nodes) -> None:
    asked, came = seen.grid.asked, seen.grid.came
    assert [record.round for record, _ in seen.rounds] == list(range(1, ROUNDS + 1))
    for (record, threshold), (before, after) in zip(seen.rounds, itertools.pairwise(seen.models), strict=True):
        number = record.round
        masked, unmasked = came.get((number, "masked"), []), came.get((number, "unmask"), [])
        short = None
        if (number, "masked") in asked:
            short = next((len(have) for have in (masked, unmasked) if len(have) < threshold), None)
        else:  # the share step had too few: more than one of those it needs was hit since the round before it began
            assert record.failed.startswith("[AEG-S015]")
            before_masks = [(number, "advertise"), (number, "share"), (number - 1, "unmask")]
            hit = {n for key in before_masks for n in asked.get(key, []) if n not in came.get(key, [])}
            assert len(hit) > 1
        if currently_in_test_context():
            event(f"round {number}: {record.failed or 'summed'}")
        if record.failed:
            if short is not None:
                why = f"[AEG-S015] not enough clients: {short} remain, {threshold} are needed; lost: no answer of "
                assert record.failed.startswith(why)
            assert record.participants == []
            np.testing.assert_array_equal(after, before)
            continue
        assert short is None
        assert record.participants == sorted(masked)
        weights = {n: nodes.rows[n] for n in masked}
        total = np.sum([coded(seen.run, number, n, weights[n]) for n in masked], axis=0)
        assert record.weight == total[DIM] == sum(weights.values())
        assert [record.metrics[m] for m in METRICS] == total[DIM + 1 :].tolist()
        step = 1.0 / ((2 ** (VALUE_BITS - 1) - 1) / MAX_NORM * record.weight)
        np.testing.assert_array_equal(after, (before + total[:DIM] * step).astype(np.float32))


@settings(max_examples=15, deadline=None, phases=AS_DRAWN)
@given(seed=st.integers(0, 2**32 - 1), loss=st.sampled_from([0.02, 0.05, 0.1, 0.25]))
def test_each_round_adds_the_exact_mean_of_those_who_came_or_leaves_the_model_as_it_was(
    nodes: Nodes, seed: int, loss: float
) -> None:
    check(drive(nodes, Random(seed), loss), nodes)


@settings(max_examples=4, deadline=None, phases=AS_DRAWN)
@given(seed=st.integers(0, 2**32 - 1))
def test_repeats_and_disorder_alone_cost_nobody_a_round(nodes: Nodes, seed: int) -> None:
    seen = drive(nodes, Random(seed), 0.0)
    check(seen, nodes)
    assert [len(record.participants) for record, _ in seen.rounds] == [NODES] * ROUNDS
    assert [record.lost for record, _ in seen.rounds] == [[]] * ROUNDS
    assert [record.trips for record, _ in seen.rounds] == [4, 2, 2]


def test_a_client_whose_unmask_reply_was_lost_takes_part_in_the_next_round(nodes: Nodes) -> None:
    seen = drive(nodes, Random(1), 0.0, [(1, "unmask", 2)])
    check(seen, nodes)
    assert [len(record.participants) for record, _ in seen.rounds] == [NODES] * ROUNDS
    assert [[(x.node, x.step) for x in record.lost] for record, _ in seen.rounds] == [[(2, "unmask")], [], []]
    assert seen.grid.asked[2, "share"] == [2]
    assert [record.trips for record, _ in seen.rounds] == [4, 3, 2]


def test_a_client_that_lies_about_a_share_is_named_and_costs_nobody_a_round(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = closing.taken

    def lied(record: Any, node: int, step: str, add: Any, payload: bytes) -> Any:
        if (node, step) == (2, "unmask"):  # the lowest bit of its share of the first seed
            first = 26 + 4 + 8
            payload = payload[:first] + bytes([payload[first] ^ 1]) + payload[first + 1 :]
        return take(record, node, step, add, payload)

    monkeypatch.setattr(closing, "taken", lied)
    seen = drive(nodes, Random(1), 0.0)
    check(seen, nodes)
    losses = [[(x.node, x.step, x.code) for x in record.lost] for record, _ in seen.rounds]
    assert losses == [[(2, "unmask", "AEG-S018")]] * ROUNDS
    assert [len(record.participants) for record, _ in seen.rounds] == [NODES] * ROUNDS
    assert [record.trips for record, _ in seen.rounds] == [4, 2, 2]
