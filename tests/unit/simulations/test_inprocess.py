"""The ``inprocess`` runtime: a Flower grid in this process that behaves as a federation does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid, ServerApp

from aegis_flower.errors import AppError
from aegis_flower.simulations import inprocess
from aegis_flower.simulations.inprocess import InProcessGrid, run_inprocess


def app_of(handler: Any) -> ClientApp:
    app = ClientApp()
    app.train()(handler)
    app.query("aegis_share")(handler)
    return app


def ask(node: int, content: RecordDict | None = None, kind: str = "train") -> Message:
    return Message(content if content is not None else RecordDict(), node, kind)


def answer(message: Message, **values: Any) -> Message:
    return Message(RecordDict({"answer": ConfigRecord(values)}), reply_to=message)


def values(replies: Any) -> dict[int, dict[str, Any]]:
    return {m.metadata.src_node_id: dict(m.content.config_records["answer"]) for m in replies}


@contextmanager
def grid_of(handler: Any, nodes: int = 3, **options: Any) -> Iterator[InProcessGrid]:
    with InProcessGrid(app_of(handler), [{"partition-id": i} for i in range(nodes)], **options) as grid:
        yield grid


def count(message: Message, context: Context) -> Message:
    seen = int(context.state.config_records.get("seen", ConfigRecord({"n": 0}))["n"]) + 1
    context.state["seen"] = ConfigRecord({"n": seen})
    return answer(message, seen=seen, partition=context.node_config["partition-id"], node=context.node_id)


def test_nodes_are_numbered_from_one_and_each_has_its_own_config() -> None:
    with grid_of(count) as grid:
        assert list(grid.get_node_ids()) == [1, 2, 3]
        assert [n.node_id for n in grid.get_nodes()] == [1, 2, 3]
        found = values(grid.send_and_receive([ask(n) for n in (1, 2, 3)]))
    assert {node: (v["node"], v["partition"]) for node, v in found.items()} == {1: (1, 0), 2: (2, 1), 3: (3, 2)}


def test_a_nodes_state_persists_from_message_to_message_and_is_its_own() -> None:
    with grid_of(count) as grid:
        grid.send_and_receive([ask(1), ask(2)])
        grid.send_and_receive([ask(1)])
        found = values(grid.send_and_receive([ask(n) for n in (1, 2, 3)]))
        assert {n: v["seen"] for n, v in found.items()} == {1: 3, 2: 2, 3: 1}
        assert grid.context(1).state.config_records["seen"]["n"] == 3


def test_the_run_config_reaches_every_node_and_the_run_has_its_id() -> None:
    def tell(message: Message, context: Context) -> Message:
        return answer(message, run=context.run_id, purpose=context.run_config["purpose"])

    with grid_of(tell, run_id=77, run_config={"purpose": "research"}) as grid:
        assert grid.run.run_id == 77
        found = values(grid.send_and_receive([ask(1), ask(3)]))
    assert found == {n: {"run": 77, "purpose": "research"} for n in (1, 3)}


def test_what_one_node_writes_into_its_records_no_other_node_and_not_the_server_sees() -> None:
    """All messages of a round share the objects the server made."""

    def scribble(message: Message, context: Context) -> Message:
        content = message.content
        found = [int(content.config_records["c"]["n"]), int(content.metric_records["m"]["n"])]
        found.append(int(content.array_records["a"]["w"].numpy()[0]))
        found.append(len(content))
        content.config_records["c"]["n"] = 9
        content.metric_records["m"]["n"] = 9
        content.array_records["a"]["w"] = Array(np.array([9]))
        content["more"] = ConfigRecord({"n": 9})
        return answer(message, found=found)

    arrays, metrics, config = ArrayRecord({"w": Array(np.array([0]))}), MetricRecord({"n": 0}), ConfigRecord({"n": 0})
    with grid_of(scribble, workers=1) as grid:
        messages = [ask(n, RecordDict({"a": arrays, "m": metrics, "c": config})) for n in (1, 2, 3)]
        found = values(grid.send_and_receive(messages))
    assert [list(v["found"]) for v in found.values()] == [[0, 0, 0, 3]] * 3
    assert config["n"] == metrics["n"] == arrays["w"].numpy()[0] == 0


@pytest.mark.parametrize("record", ["aegis", "config"])
def test_an_injected_loss_takes_the_node_away_from_that_message_on(record: str) -> None:
    def content(round_: int) -> RecordDict:
        return RecordDict({record: ConfigRecord({"round": round_, "server-round": round_})})

    with grid_of(count, lose=[(1, 2, "train")]) as grid:  # the second node, in round 2
        for round_ in (1, 2, 3):
            grid.send_and_receive([ask(n, content(round_), "query.aegis_share") for n in (1, 2, 3)])
            replies = list(grid.send_and_receive([ask(n, content(round_)) for n in (1, 2, 3)]))
            errors = {m.metadata.src_node_id: m.error.code for m in replies if m.has_error()}
            assert errors == ({} if round_ == 1 else {2: ErrorCode.NODE_UNAVAILABLE})
            assert list(grid.get_node_ids()) == ([1, 2, 3] if round_ == 1 else [1, 3])
        assert grid.context(2).state.config_records["seen"]["n"] == 3  # both steps of round 1, one of round 2


def test_a_node_that_never_was_is_unavailable() -> None:
    with grid_of(count) as grid:
        (reply,) = grid.send_and_receive([ask(9)])
    assert reply.has_error()
    assert reply.error.code == ErrorCode.NODE_UNAVAILABLE


def test_a_failure_becomes_an_error_reply_and_the_others_answer() -> None:
    def fail(message: Message, context: Context) -> Message:
        if context.node_id == 1:
            raise AppError("build the same model on both sides")
        if context.node_id == 2:
            raise ZeroDivisionError("by nothing")
        return answer(message, fine=True)

    with grid_of(fail) as grid:
        replies = {m.metadata.src_node_id: m for m in grid.send_and_receive([ask(n) for n in (1, 2, 3)])}
    assert {n: m.has_error() for n, m in replies.items()} == {1: True, 2: True, 3: False}
    assert {replies[n].error.code for n in (1, 2)} == {ErrorCode.CLIENT_APP_RAISED_EXCEPTION}
    assert "[AEG-F001] build the same model on both sides" in replies[1].error.reason
    assert "ZeroDivisionError" in replies[2].error.reason


def test_a_deadline_gives_the_replies_that_came_and_the_late_one_is_forgotten() -> None:
    release, done = threading.Event(), threading.Event()

    def slow(message: Message, context: Context) -> Message:
        if context.node_id == 2:
            release.wait(60)
            done.set()
        return answer(message, node=context.node_id)

    with grid_of(slow, workers=3) as grid:
        found = values(grid.send_and_receive([ask(n) for n in (1, 2, 3)], timeout=3.0))
        assert set(found) == {1, 3}
        release.set()
        assert done.wait(60)
        again = values(grid.send_and_receive([ask(n) for n in (1, 2, 3)]))
        assert set(again) == {1, 2, 3}


def test_replies_are_handed_out_once() -> None:
    with grid_of(count) as grid:
        ids = list(grid.push_messages([ask(1), ask(2)]))
        got: list[Message] = []
        while len(got) < 2:
            got += grid.pull_messages(ids)
        assert list(grid.pull_messages(ids)) == []
        assert list(grid.pull_messages(["m999"])) == []
    assert sorted(m.metadata.src_node_id for m in got) == [1, 2]


def test_a_node_handles_one_message_at_a_time() -> None:
    inside, most = [0], [0]
    guard = threading.Lock()
    pause = threading.Event()

    def handler(message: Message, context: Context) -> Message:
        with guard:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        pause.wait(0.02)
        with guard:
            inside[0] -= 1
        return count(message, context)

    with grid_of(handler, workers=3) as grid:
        grid.send_and_receive([ask(1) for _ in range(6)])
        assert grid.context(1).state.config_records["seen"]["n"] == 6
    assert most == [1]


def test_the_pool_is_no_larger_than_asked_or_needed() -> None:
    with grid_of(count, nodes=5, workers=2) as grid:
        assert grid.workers == 2
    with grid_of(count, nodes=2, workers=8) as grid:
        assert grid.workers == 2
    with grid_of(count, nodes=1) as grid:
        assert grid.workers == 1


def test_a_server_app_runs_against_it_and_leaves_its_state() -> None:
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        found = values(grid.send_and_receive([ask(n) for n in grid.get_node_ids()]))
        context.state["sum"] = ConfigRecord({"n": sum(v["partition"] for v in found.values())})

    context = run_inprocess(server, app_of(count), [{"partition-id": i} for i in range(4)], run_id=5)
    assert context.run_id == 5
    assert context.state.config_records["sum"]["n"] == 6


def test_an_error_of_the_server_app_comes_out() -> None:
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        raise AppError("no")

    with pytest.raises(AppError):
        run_inprocess(server, app_of(count), [{}])


def test_a_slow_node_holds_no_thread_that_the_others_wait_for() -> None:
    release = threading.Event()

    def slow(message: Message, context: Context) -> Message:
        if context.node_id == 1:
            release.wait(60)
        return answer(message, node=context.node_id)

    with grid_of(slow, nodes=5, workers=2) as grid:
        for _ in range(4):  # its messages pile up in its own queue
            grid.push_messages([ask(1)])
        found = values(grid.send_and_receive([ask(n) for n in (2, 3, 4, 5)], timeout=30))
        assert set(found) == {2, 3, 4, 5}
        release.set()


def test_an_interrupted_grid_waits_for_no_straggler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inprocess, "_PATIENCE", 0.05)
    release = threading.Event()

    def hang(message: Message, context: Context) -> Message:
        release.wait(60)
        return answer(message, node=context.node_id)

    grid = InProcessGrid(app_of(hang), [{}, {}], workers=2)
    grid.push_messages([ask(1), ask(2), ask(1)])
    grid.__exit__(KeyboardInterrupt)  # returns, though both handlers hang
    assert not release.is_set()
    release.set()
