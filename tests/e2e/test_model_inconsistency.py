"""A server that sends one client another model than the rest (Pasquini, Francati, Ateniese, CCS 2022), with real nodes.

The strategy is the real one; what it sends to the victim is changed on the way. The server that reads everything is the reference
implementation of the test vectors, which adds up whatever it is given and asks no questions of the sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp.strategy import FedAvg
from reference.secagg import crypto
from reference.secagg.server import Server
from scipy import stats

from aegis_flower import compose, wire
from aegis_flower.client import VaultClient, aegis_client_app
from aegis_flower.gate import METRIC_MAX, METRICS
from aegis_flower.node.node import close_nodes
from aegis_flower.server import initial_arrays
from aegis_flower.simulations.inprocess import InProcessGrid
from aegis_flower.simulations.provision import provision
from aegis_flower.strategies import SecureAggregation

CFG = compose(
    "quickstart",
    [
        "privacy=off",
        "policy.require_dp=false",
        "data.clients=4",
        "model.kind=mlp",
        "model.hidden=[16]",
        "strategy.rounds=2",
    ],
)
VICTIM, NODES, RUN = 2, [1, 2, 3, 4], 9000
ALPHA = 1e-6


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    yield [dict(n.node_config) for n in provision(CFG, tmp_path_factory.mktemp("inconsistent") / "vaults")]
    close_nodes()


def other_model(content: RecordDict) -> None:
    first = next(iter(content[wire.ARRAYS]))
    arrays = dict(content.array_records[wire.ARRAYS])
    arrays[first] = Array(arrays[first].numpy() * 0 + 0.5)
    content[wire.ARRAYS] = ArrayRecord(arrays)


def one_weight(content: RecordDict) -> None:
    """The smallest change there is: one bit of one weight."""
    first = next(iter(content[wire.ARRAYS]))
    arrays = dict(content.array_records[wire.ARRAYS])
    values = arrays[first].numpy().copy()
    values.flat[0] = np.nextafter(values.flat[0], np.float32(9))
    arrays[first] = Array(values)
    content[wire.ARRAYS] = ArrayRecord(arrays)


def renamed(content: RecordDict) -> None:
    content[wire.ARRAYS] = ArrayRecord({f"x{k}": v for k, v in content.array_records[wire.ARRAYS].items()})


def asked(**changes: Any) -> Any:
    def change(content: RecordDict) -> None:
        content[wire.RECORD] = ConfigRecord({**content.config_records[wire.RECORD], **changes})

    return change


def told(**changes: Any) -> Any:
    def change(content: RecordDict) -> None:
        content["config"] = ConfigRecord({**content.config_records.get("config", {}), **changes})

    return change


class Hostile(InProcessGrid):
    """Changes what one node is sent for its masked input; keeps every masked input."""

    def __init__(self, *args: Any, change: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.change = change

    def push_messages(self, messages: Any) -> Any:
        messages = list(messages)
        for message in messages:
            if message.metadata.message_type == wire.MASKED and message.metadata.dst_node_id == VICTIM:
                content = RecordDict(dict(message.content))
                self.change(content)
                message.content = content
        return super().push_messages(messages)


def drive(configs: Any, change: Any, run: int, **options: Any) -> tuple[Any, SecureAggregation]:
    strategy = SecureAggregation(FedAvg(), cohort=len(NODES), join_deadline=1, weight_max=1, **options)
    with Hostile(aegis_client_app(config=CFG), configs, run_id=run, change=change) as grid:
        return strategy.start(grid, initial_arrays(CFG), num_rounds=2, timeout=60), strategy


CHANGES = {
    "another model": other_model,
    "one bit of one weight": one_weight,
    "other names": renamed,
    "another task": asked(task="evaluate"),
    "without evaluating": asked(evaluate=False),
    "another round": asked(round=7),
    "another mu": told(**{"proximal-mu": 500.0}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_round_in_which_one_client_is_sent_something_else_gives_no_sum(configs: Any, name: str) -> None:
    result, strategy = drive(configs, CHANGES[name], RUN + list(CHANGES).index(name))
    assert len(strategy.rounds) == 2
    for record in strategy.rounds:
        assert record.participants == []
        assert record.failed.startswith("[AEG-S019]")
        assert "clients were sent different models" in record.failed
        assert record.metrics == {}
    assert not result.arrays
    assert not result.evaluate_metrics_clientapp


def test_without_a_change_the_same_run_gives_sums(configs: Any) -> None:
    result, strategy = drive(configs, lambda _: None, RUN + 50)
    assert [(r.participants, r.failed) for r in strategy.rounds] == [(NODES, "")] * 2
    assert result.arrays


@pytest.mark.parametrize("commit", [False, True])
def test_with_a_commit_step_the_clients_themselves_refuse(configs: Any, commit: bool) -> None:
    _, strategy = drive(configs, other_model, RUN + 60 + commit, commit=commit)
    codes = {x.code for r in strategy.rounds for x in r.lost}
    assert ("AEG-S011" in codes) == commit
    assert all(r.failed for r in strategy.rounds)


def test_an_inner_strategy_that_sends_different_models_trains_nobody(configs: Any) -> None:
    """A server that is honest and a strategy that is not fit for sums: found before a client is asked for anything."""

    class Uneven(FedAvg):
        def configure_train(self, *args: Any) -> Any:
            messages = list(super().configure_train(*args))
            content = RecordDict(dict(messages[0].content))
            other_model(content)
            messages[0].content = content
            return messages

    strategy = SecureAggregation(Uneven(), cohort=len(NODES), join_deadline=1, weight_max=1)
    with InProcessGrid(aegis_client_app(config=CFG), configs, run_id=RUN + 65) as grid:
        result = strategy.start(grid, initial_arrays(CFG), num_rounds=1, timeout=60)
    (record,) = strategy.rounds
    assert "different models or settings" in record.failed
    assert record.trips == 0
    assert not result.arrays


# -- the server that reads everything ---------------------------------------------------------------------------------------


class Reader:
    """The reference server against real nodes: it sends each its own model, and adds up what comes."""

    def __init__(self, grid: InProcessGrid, run: int) -> None:
        arrays = initial_arrays(CFG)
        self.arrays, self.grid = arrays, grid
        plan = {"dim": sum(int(np.prod(a.shape)) for a in arrays.values()), "n_max": 4, "clip": CFG.strategy.max_norm}
        plan |= {"value_bits": 20, "weight_max": 1, "metric_max": METRIC_MAX, "metrics": list(METRICS)}
        request = wire.Request(1, b"", "train", 0.0)
        self.server = Server(run, 1, plan, wire.binding(arrays, request), commit=False)
        self.plan = plan

    def ask(self, node: int, kind: str, payload: bytes, arrays: ArrayRecord | None = None) -> bytes:
        content = RecordDict({wire.RECORD: wire.Request(1, payload, "train", 0.0).to_record()})
        if arrays is not None:
            content[wire.ARRAYS] = arrays
        (reply,) = self.grid.send_and_receive([Message(content, node, kind)])
        found = wire.Reply.from_content(reply.content)
        assert found is not None
        assert not found.code, found
        return found.payload

    def sum(self, victims: ArrayRecord) -> list[int]:
        """A whole round, in which nobody is lost; the raw sum, masks and all."""
        for node in NODES:
            self.server.take(node, "advert", self.ask(node, wire.ADVERTISE, b""))
        request = self.server.share_request()
        for node in NODES:
            self.server.take(node, "share reply", self.ask(node, wire.SHARE, request))
        asks = {node: self.server.masked_request(node) for node in NODES}
        for node, ask in asks.items():
            arrays = victims if node == VICTIM else self.arrays
            self.server.take(node, "masked input", self.ask(node, wire.MASKED, ask, arrays))
        asks = {node: self.server.unmask_request(node) for node in NODES}
        for node, ask in asks.items():
            self.server.take(node, "unmask reply", self.ask(node, wire.UNMASK, ask))
        return self.server.finish()


class Still(VaultClient):
    """Its update is known: a quarter in every place at the victim, nothing at the others."""

    def train_round(self, parameters: Any, round_: int, noise_multiplier: float) -> Any:
        trained = super().train_round(parameters, round_, noise_multiplier)
        step = 0.01 if self.context.node_id == VICTIM else 0.0
        for after, before in zip(trained.after, trained.before, strict=True):
            after[...] = before + step
        return trained


def read(configs: Any, run: int, change: Any) -> tuple[list[int], int, int]:
    with InProcessGrid(aegis_client_app(Still, config=CFG), configs, run_id=run) as grid:
        reader = Reader(grid, run)
        content = RecordDict({wire.ARRAYS: initial_arrays(CFG)})
        change(content)
        total = reader.sum(content.array_records[wire.ARRAYS])
        return total, reader.plan["dim"], crypto.width(reader.plan)


def uniformity(values: list[int], width: int) -> list[float]:
    """p-values, for each half-byte place, that all its sixteen values are equally likely."""
    packed = np.frombuffer(crypto.pack(values, width), np.uint8).reshape(-1, width)
    halves = [packed[:, place] >> shift & 15 for place in range(width) for shift in (0, 4)]
    return [float(stats.chisquare(np.bincount(half, minlength=16)).pvalue) for half in halves]


def test_the_raw_sum_of_a_consistent_round_is_the_victims_update_bit_for_bit(configs: Any) -> None:
    total, dim, _ = read(configs, RUN + 70, lambda _: None)
    expected = round(0.01 * (2**19 - 1) / CFG.strategy.max_norm)
    assert np.abs(np.array(total[:dim]) - expected).max() <= 1  # one float32 rounding of the update
    assert total[dim] == len(NODES)


def test_the_raw_sum_of_an_inconsistent_round_is_uniform_and_tells_nothing(configs: Any) -> None:
    for change in (other_model, one_weight):
        total, dim, width = read(configs, RUN + 80 + (change is one_weight), change)
        assert dim > 500
        assert min(uniformity(total[:dim], width)) > ALPHA
    # the same test on the sum that would be there without the binding
    plain, dim, width = read(configs, RUN + 90, lambda _: None)
    assert min(uniformity(plain[:dim], width)) < ALPHA
