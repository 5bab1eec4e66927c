"""What a hostile client sends back loses that client, never the round and never the server."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import strategy as flower
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_engine import SecAggPlan, SecAggServer
from aegis_flower import wire
from aegis_flower.client import aegis_client_app
from aegis_flower.errors import AegisError
from aegis_flower.simulations.inprocess import InProcessGrid
from aegis_flower.strategies import ClearAggregation, RoundRecord, SecureAggregation
from aegis_flower.strategies.masked.exchange import Exchange
from aegis_flower.strategies.masked.group import taken

START = {"w": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), "b": np.array([0.5], np.float32)}
GOOD = {"payload": b"x", "code": "", "reason": "", "audit-records": 3, "audit-head": b"h" * 32, "name": "n"}
ODD: list[Any] = [
    None,
    0,
    -1,
    1,
    2**62,
    10**12,
    1.5,
    float("nan"),
    True,
    "text",
    b"bytes",
    [1, 2],
    ["a"],
    [b"x"] * 3,
    "",
]


def record(arrays: dict[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord({name: Array(a) for name, a in arrays.items()})


# -- replies of the protocol ----------------------------------------------------------------------------------------------


def hostile_contents() -> Iterable[RecordDict]:
    yield RecordDict()
    yield RecordDict({wire.RECORD: ConfigRecord()})
    yield RecordDict({wire.RECORD: MetricRecord({"payload": 1.0})})
    yield RecordDict({"other": ConfigRecord(GOOD)})
    yield RecordDict({wire.RECORD: record(START)})
    for key, value in itertools.product(GOOD, ODD):
        changed = {k: v for k, v in GOOD.items() if k != key}
        yield RecordDict({wire.RECORD: ConfigRecord(changed if value is None else {**changed, key: value})})
    yield RecordDict({wire.RECORD: ConfigRecord({**GOOD, "more": b"x" * 1000, "payload": 2**40})})


class Answers:
    """A grid whose second node answers with what the test likes, and the others well."""

    def __init__(self, content: RecordDict) -> None:
        self.content, self.replies = content, []

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"m{message.metadata.dst_node_id}"
            good = RecordDict({wire.RECORD: ConfigRecord(GOOD)})
            content = self.content if message.metadata.dst_node_id == 2 else good
            self.replies.append(Message(content, reply_to=message))
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, ids: Iterable[str]) -> list[Message]:
        ready, self.replies = self.replies, []
        return ready


@pytest.fixture(autouse=True)
def server() -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, SUPERLINK_NODE_ID


def test_a_reply_of_whatever_fields_and_types_loses_its_sender_alone() -> None:
    tried = 0
    forged = RecordDict({wire.RECORD: ConfigRecord({**GOOD, "code": "AEG-P001\nINFO all is well"})})
    noted = RoundRecord(1)
    assert not list(Exchange(1.0).replies(Answers(forged), [Message(RecordDict(), 2, wire.SHARE)], noted))  # type: ignore[arg-type]
    assert [x.code for x in noted.lost] == ["AEG-F001"]
    for content in hostile_contents():
        noted = RoundRecord(1)
        asks = [Message(RecordDict(), node, wire.SHARE) for node in (1, 2, 3)]
        came = dict(Exchange(1.0).replies(Answers(content), asks, noted))  # type: ignore[arg-type]
        assert {1, 3} <= came.keys()
        assert all(type(payload) is bytes for payload in came.values())
        assert {x.node for x in noted.lost} == {1, 2, 3} - came.keys()
        tried += 1
    assert tried > 70


def test_a_name_is_kept_plain_and_short_and_decides_nothing() -> None:
    hostile = "clinic\n\x1b[31m\u202e" + "x" * 10_000
    exchange, noted = Exchange(1.0), RoundRecord(1)
    asks = [Message(RecordDict(), node, wire.SHARE) for node in (1, 2, 3)]
    said = RecordDict({wire.RECORD: ConfigRecord({**GOOD, "name": hostile})})
    assert dict(exchange.replies(Answers(said), asks, noted)).keys() == {1, 2, 3}  # type: ignore[arg-type]
    assert exchange.names[1] == "n"
    assert exchange.names[2].startswith("clinic[31mx")
    assert len(exchange.names[2]) <= 128
    assert exchange.names[2].isprintable()
    unnamed = {key: value for key, value in GOOD.items() if key != "name"}  # of an earlier version
    assert wire.Reply.from_content(RecordDict({wire.RECORD: ConfigRecord(unnamed)})) is not None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["add_advert", "add_share", "add_masked", "add_commit", "add_unmask"]))
def test_a_payload_of_whatever_bytes_loses_its_sender_alone(payload: bytes, step: str) -> None:
    plan = {"clip": 1.0, "value_bits": 16, "weight_max": 1, "metric_max": 9, "max_clients": 4, "min_clients": 2}
    machine = SecAggServer(1, SecAggPlan(dim=3, metrics=["m"], **plan))
    noted = RoundRecord(1)
    for prefix in (b"", b"\1", b"\2\1", b"\2\3" + (1).to_bytes(8, "little") + bytes(16)):
        assert taken(noted, 2, step, getattr(machine, step), prefix + payload) is None
    assert {x.node for x in noted.lost} == {2}
    with pytest.raises(AegisError):
        machine.finish()


class Says(Answers):
    """A grid whose nodes give these replies to the one message, whoever was asked."""

    def __init__(self, *said: tuple[int, dict[str, Any]], stale: bool = False) -> None:
        super().__init__(RecordDict())
        self.said, self.stale = said, stale

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        (ask,) = messages
        ids = super().push_messages([ask])
        self.replies = []
        for node, fields in self.said:
            reply = Message(RecordDict({wire.RECORD: ConfigRecord({**GOOD, **fields})}), reply_to=ask)
            reply.metadata.__dict__["_src_node_id"] = node
            if self.stale:
                reply.metadata.__dict__["_reply_to_message_id"] = "one of an earlier trip"
            self.replies.append(reply)
        return ids


def heard(
    trips: Exchange, *said: tuple[int, dict[str, Any]], stale: bool = False
) -> tuple[list[tuple[int, bytes]], list[tuple[int, str]]]:
    """What an exchange with node 2 gives, and whom it has lost with which code."""
    noted = RoundRecord(1)
    grid: Any = Says(*said, stale=stale)
    came = list(trips.replies(grid, [Message(RecordDict(), 2, wire.SHARE)], noted))
    return came, [(x.node, x.code) for x in noted.lost]


def test_a_node_whose_log_went_back_or_was_rewritten_is_lost() -> None:
    trips = Exchange(0.05)

    def at(records: int, head: bytes) -> Any:
        return heard(trips, (2, {"audit-records": records, "audit-head": head * 32}))

    taken, lost = ([(2, b"x")], []), ([], [(2, "AEG-A001")])
    assert at(5, b"a") == at(5, b"a") == at(6, b"b") == taken
    assert at(5, b"a") == at(6, b"c") == lost
    assert trips.checkpoints == {2: (6, b"b" * 32)}
    assert at(7, b"d") == taken, "what it cannot show is what was kept"


def test_an_answer_of_somebody_who_was_not_asked_or_that_comes_twice_is_not_taken() -> None:
    assert heard(Exchange(0.05), (3, {})) == ([], [(2, "")])
    assert heard(Exchange(0.05), (2, {}), (2, {"payload": b"other"})) == ([(2, b"x")], [])
    trips = Exchange(0.05)
    assert heard(trips, (3, {"audit-records": 9})) == ([], [(2, "")])
    assert trips.checkpoints == {}


def test_an_answer_to_an_earlier_message_is_not_taken_for_one_to_this() -> None:
    trips = Exchange(0.05)
    assert heard(trips, (2, {}), stale=True) == ([], [(2, "")])
    assert trips.checkpoints == {}


def test_words_of_a_client_are_short_and_printable() -> None:
    noted = RoundRecord(1)
    said = (2, {"code": "AEG-P001", "reason": "\x1b[31mred\n" + "x" * 1000 + "\u202e"})
    assert not list(Exchange(0.05).replies(Says(said), [Message(RecordDict(), 2, wire.SHARE)], noted))  # type: ignore[arg-type]
    (one,) = noted.lost
    assert (one.code, one.reason) == ("AEG-P001", ("[31mred" + "x" * 1000)[: len(one.reason)])
    assert len(one.reason) <= 300


# -- replies in clear -------------------------------------------------------------------------------------------------------


class Adder(NumPyClient):
    def __init__(self, number: int) -> None:
        self.number = number

    def fit(self, parameters: Any, config: dict[str, Any]) -> Any:
        return [p + self.number for p in parameters], 10 * self.number, {}

    def evaluate(self, parameters: Any, config: dict[str, Any]) -> Any:
        return 2.0, 10 * self.number, {"accuracy": self.number / 10}


class Liar(InProcessGrid):
    """The second node's replies are changed on their way."""

    change: Any = None

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        replies = list(super().send_and_receive(messages, timeout=timeout))
        for reply in replies:
            if reply.metadata.src_node_id == 2 and self.change is not None:
                reply.content = self.change(reply.content)
        return replies


def clear(change: Any, rounds: int = 1, **options: Any) -> tuple[Any, ClearAggregation]:
    strategy = ClearAggregation(flower.FedAvg(), **options)
    app = aegis_client_app(lambda c: Adder(int(c.node_config["number"])))
    with Liar(app, [{"number": i + 1} for i in range(3)]) as grid:
        grid.change = change
        return strategy.start(grid, record(START), num_rounds=rounds, timeout=60), strategy


def arrays(**changes: Any) -> Any:
    def change(content: RecordDict) -> RecordDict:
        if not content.array_records:
            return content
        made = {**{k: a.numpy() for k, a in content["arrays"].items()}, **changes}
        return RecordDict({**content, "arrays": record({k: a for k, a in made.items() if a is not None})})

    return change


def metrics(**changes: Any) -> Any:
    def change(content: RecordDict) -> RecordDict:
        found = {**content["metrics"], **{k.replace("_", "-"): v for k, v in changes.items()}}
        return RecordDict({**content, "metrics": MetricRecord({k: v for k, v in found.items() if v is not None})})

    return change


BAD = {
    "nothing": lambda _: RecordDict(),
    "no metrics": lambda content: RecordDict({k: v for k, v in content.items() if k != "metrics"}),
    "metrics twice": lambda content: RecordDict({**content, "more": MetricRecord({"a": 1})}),
    "NaN": arrays(b=np.array([np.nan], np.float32)),
    "infinite": arrays(b=np.array([np.inf], np.float32)),
    "another shape": arrays(b=np.zeros(2, np.float32)),
    "a scalar": arrays(b=np.array(1.0, np.float32)),
    "whole numbers": arrays(b=np.zeros(1, np.int64)),
    "text": arrays(b=np.array(["x"])),
    "one missing": arrays(b=None),
    "one too many": arrays(c=np.zeros(1, np.float32)),
    "arrays twice": lambda content: RecordDict({**content, "again": record(START)}),
    "bytes cut": lambda content: RecordDict(
        {
            **content,
            "arrays": ArrayRecord({"w": content["arrays"]["w"], "b": Array("float32", (1,), "numpy.ndarray", b"x")}),
        }
    ),
    "no examples": metrics(num_examples=None),
    "negative examples": metrics(num_examples=-5),
    "NaN examples": metrics(num_examples=float("nan")),
    "a list of examples": metrics(num_examples=[1, 2]),
    "half an example": metrics(num_examples=0.5),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_reply_in_clear_loses_its_sender_and_the_mean_is_that_of_the_others(name: str) -> None:
    result, strategy = clear(BAD[name], evaluate="never")
    (train,) = strategy.rounds
    assert train.participants == [1, 3]
    assert [(x.node, x.code) for x in train.lost] == [(2, "AEG-F001")]
    np.testing.assert_allclose(result.arrays["w"].numpy(), START["w"] + (10 * 1 + 30 * 3) / 40, rtol=1e-6)


def test_metrics_that_some_do_not_give_or_give_as_nan_are_means_over_the_others() -> None:
    for changes in (
        {"accuracy": None},
        {"accuracy": float("nan"), "loss": float("inf")},
        {"more": 1.0, "accuracy": [1.0]},
    ):
        result, strategy = clear(metrics(**changes))
        _, evaluate = strategy.rounds
        assert evaluate.participants == [1, 2, 3]
        found = result.evaluate_metrics_clientapp[1]
        assert found["accuracy"] == pytest.approx((10 * 0.1 + 30 * 0.3) / 40)
        assert found["loss"] == pytest.approx(2.0)


def test_a_client_without_any_loss_or_accuracy_leaves_no_half_measure() -> None:
    class Silent(Adder):
        def evaluate(self, parameters: Any, config: dict[str, Any]) -> Any:
            return float("nan"), 10, {}

    strategy = ClearAggregation(flower.FedAvg())
    with InProcessGrid(aegis_client_app(lambda _: Silent(1)), [{}] * 3) as grid:
        result = strategy.start(grid, record(START), num_rounds=1, timeout=60)
    assert result.arrays
    assert strategy.rounds[1].metrics == {}
    assert result.evaluate_metrics_clientapp.get(1, {}).get("accuracy") is None


def test_uniform_gives_each_client_one_vote_whatever_it_says_of_its_rows() -> None:
    result, strategy = clear(metrics(num_examples=10**9), weighting="uniform", evaluate="never")
    np.testing.assert_allclose(result.arrays["w"].numpy(), START["w"] + (1 + 2 + 3) / 3, rtol=1e-6)
    assert strategy.rounds[0].weight == 3
    result, _ = clear(metrics(num_examples=0), weighting="uniform", evaluate="never")
    np.testing.assert_allclose(result.arrays["w"].numpy(), START["w"] + (1 + 2 + 3) / 3, rtol=1e-6)
    result, _ = clear(None, weighting="rows", evaluate="never")
    np.testing.assert_allclose(result.arrays["w"].numpy(), START["w"] + (10 + 40 + 90) / 60, rtol=1e-6)


def test_in_clear_every_round_is_measured_without_dp_and_the_last_with_it() -> None:
    def measured(**options: Any) -> list[int]:
        return sorted(clear(None, rounds=3, **options)[0].evaluate_metrics_clientapp)

    assert measured() == [1, 2, 3]
    assert measured(evaluate="last") == [3]
    assert measured(evaluate="never") == []
    assert measured(evaluate="last", evaluate_rounds=[1]) == [1, 3]


# -- runs that cannot go on ---------------------------------------------------------------------------------------------------


def test_a_run_that_all_nodes_refuse_for_good_stops_after_that_round_with_one_sentence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    strategy = SecureAggregation(flower.FedAvg(), min_cohort=3, join_deadline=1)
    seen: list[int] = []
    app = aegis_client_app(lambda _: Adder(1))  # no vault: refused with AEG-F001
    caplog.set_level(logging.WARNING, "aegis")
    with InProcessGrid(app, [{}] * 3) as grid:
        result = strategy.start(
            grid, record(START), num_rounds=9, evaluate_fn=lambda n, _: seen.append(n) or MetricRecord({"n": n})
        )
    assert len(strategy.rounds) == 1
    assert seen == [0]
    assert not result.arrays
    assert result.evaluate_metrics_serverapp[0]["n"] == 0
    assert "AEG-F001 of 3 nodes (1, 2, 3)" in strategy.stopped
    said = [r for r in caplog.records if r.name == "aegis" and r.module in ("secure_aggregation", "opening")]
    assert [r.levelname for r in said] == ["ERROR"]
    assert said[0].getMessage().endswith(strategy.stopped)


def test_a_run_of_which_one_node_may_come_back_goes_on_and_says_who_is_missing_and_why() -> None:
    def client(context: Context) -> Any:
        if context.node_id == 1:
            raise OSError("for now")
        return Adder(1)

    strategy = SecureAggregation(flower.FedAvg(), min_cohort=3, join_deadline=1)
    with InProcessGrid(aegis_client_app(client), [{}] * 3) as grid:
        strategy.start(grid, record(START), num_rounds=2)
    assert len(strategy.rounds) == 2
    assert not strategy.stopped
    for noted in strategy.rounds:
        assert "AEG-F001 of 2 nodes (2, 3), AEG-X000 of 1 node (1)" in noted.failed
