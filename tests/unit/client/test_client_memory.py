"""State that was put back: nothing is masked twice, and nothing older is remembered."""

from __future__ import annotations

import copy

import pytest
from asked import Make, begun, evaluated, events
from by_hand import LENIENT, OFF, START, Server, config, model
from flwr.app import ConfigRecord, RecordDict

from aegis_flower import wire


def test_a_state_that_was_put_back_masks_nothing_twice(make: Make) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT)
    _, request = begun(nodes)
    kept = copy.deepcopy(nodes.contexts[1].state)
    asked = {"payload": request, "task": "evaluate"}
    assert nodes.ask(1, wire.MASKED, START, **asked).code == ""
    before = events(nodes)
    nodes.contexts[1].state = kept
    assert nodes.ask(1, wire.MASKED, START, **asked).code == "AEG-N017"
    assert events(nodes) == before


def test_an_older_memory_put_back_with_an_older_state_remembers_nothing(make: Make) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT)
    _, request = begun(nodes)
    file = nodes.folder / "node-1" / "privacy" / "answered"
    state, memory = copy.deepcopy(nodes.contexts[1].state), file.read_bytes()
    asked = {"payload": request, "task": "evaluate"}
    assert nodes.ask(1, wire.MASKED, START, **asked).code == ""
    for content in (memory, b"", b"junk"):
        nodes.contexts[1].state = copy.deepcopy(state)
        file.write_bytes(content)
        assert nodes.ask(1, wire.MASKED, START, **asked).code == "AEG-N017"
    file.unlink()
    assert nodes.ask(1, wire.MASKED, START, **asked).code == "AEG-N017"
    nodes.new_run(2)
    assert nodes.ask(1, wire.ADVERTISE).code == "", "a new run begins with fresh keys"


def test_the_state_of_one_run_of_a_series_is_no_obstacle_to_the_next(make: Make) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT)
    assert evaluated(nodes).codes == {""}
    for context in nodes.contexts.values():
        context.run_id = 2  # Flower's run series: the state stays
    assert evaluated(nodes, Server(nodes.cfg, run_id=2)).codes == {""}


def test_a_damaged_state_is_refused_by_a_code(make: Make) -> None:
    nodes = make(nodes=1)
    nodes.ask(1, wire.ADVERTISE)
    record = nodes.contexts[1].state.config_records["aegis.secagg"]
    record["sealed"] = bytes(record["sealed"])[:-1] + b"x"  # type: ignore[arg-type]
    assert nodes.ask(1, wire.SHARE, payload=b"x").code == "AEG-V026"
    record["sealed"] = 7
    assert nodes.ask(1, wire.SHARE, payload=b"x").code == "AEG-N017"


@pytest.mark.parametrize("round_", [0, -1, 2**31, 2**63 - 1])
def test_a_round_outside_its_bounds_is_refused_and_the_run_goes_on(make: Make, round_: int) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT)
    record = ConfigRecord({**wire.Request(1).to_record(), "round": round_})
    for kind in (wire.ADVERTISE, wire.SHARE, wire.MASKED, wire.COMMIT, wire.UNMASK):
        reply = nodes.send(1, kind, RecordDict({wire.RECORD: record, wire.ARRAYS: model(START)}))
        assert wire.Reply.from_content(reply.content).code == "AEG-N010"  # type: ignore[union-attr]
    assert evaluated(nodes).codes == {""}
