"""The order of a node's checks: nothing is read, charged or permitted before all of them agree."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from asked import NOTHING, Make, begun, events
from by_hand import LENIENT, OFF, START, Server, config, model
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client import NumPyClient

from aegis_flower import Terms, aegis_client_app, wire
from aegis_flower.node.node import close_nodes

# -- nothing before everything is agreed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"junk", b"\x00" * 1000])
def test_a_junk_message_trains_nothing_charges_nothing_and_leaves_no_permission(make: Make, payload: bytes) -> None:
    nodes = make(nodes=1)
    assert nodes.ask(1, wire.MASKED, START, payload=payload, noise_multiplier=nodes.sigma).code == "AEG-S000"
    nodes.ask(1, wire.ADVERTISE)
    for task in ("train", "evaluate"):
        sigma = nodes.sigma if task == "train" else 0.0
        code = nodes.ask(1, wire.MASKED, START, payload=payload, task=task, noise_multiplier=sigma).code
        assert code.startswith("AEG-S")
    assert events(nodes) == NOTHING


def test_a_request_that_was_answered_is_refused_before_anything_is_read_again(make: Make) -> None:
    nodes = make()
    _, request = begun(nodes)
    asked = {"payload": request, "noise_multiplier": nodes.sigma}
    assert nodes.ask(1, wire.MASKED, START, **asked).code == ""
    before = events(nodes)
    assert before == {"authorize": 1, "privacy.reserve": 1, "release": 1}
    assert nodes.ask(1, wire.MASKED, START, **asked).code == "AEG-S007"
    assert events(nodes) == before


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ([START[0].T, START[1]], "AEG-N013"),
        (START[:1], "AEG-S"),
        ([np.full((2, 4), np.nan, np.float32), START[1]], "AEG-N010"),
        ([np.full((2, 4), np.inf, np.float32), START[1]], "AEG-N010"),
        ([START[0].astype(int), START[1]], "AEG-N010"),
        ([START[0].astype(bool), START[1]], "AEG-N010"),
        ([START[0].astype(complex), START[1]], "AEG-N010"),
        ([np.array([["a"] * 4] * 2), START[1]], "AEG-N010"),
        ([np.zeros((0, 4), np.float32), START[1]], "AEG-N010"),
        ([np.full((2, 4), 1e300), START[1]], "AEG-N010"),
    ],
)
def test_a_model_that_is_not_the_nodes_is_refused_unread(make: Make, arrays: Any, code: str) -> None:
    nodes = make()
    _, request = begun(nodes)
    reply = nodes.ask(1, wire.MASKED, arrays, payload=request, noise_multiplier=nodes.sigma)
    assert reply.code.startswith(code)
    assert events(nodes) == NOTHING


def test_too_few_rows_left_are_found_before_the_charge(make: Make) -> None:
    nodes = make(nodes=1, terms=Terms(["research"], min_rows=40, min_subjects=2))
    nodes.vault(1).consent_withdraw("p3", "research")
    close_nodes()
    assert nodes.plain(1, "train").has_error()
    _, request = begun(make(nodes=2, terms=Terms(["research"], min_rows=40, min_subjects=2)))
    nodes = make(nodes=2, terms=Terms(["research"], min_rows=40, min_subjects=2))
    nodes.vault(1).consent_withdraw("p3", "research")
    close_nodes()
    _, request = begun(nodes)
    assert nodes.ask(1, wire.MASKED, START, payload=request, noise_multiplier=nodes.sigma).code == "AEG-N011"
    assert events(nodes) == {"authorize": 1, "privacy.reserve": 0, "release": 0}


# -- plain messages of Flower's own strategies ----------------------------------------------------------------------------------


def test_in_clear_a_node_gives_what_its_terms_allow_and_each_number_is_in_a_release(make: Make) -> None:
    nodes = make(config(*OFF), nodes=1, terms=LENIENT, holdout=LENIENT)
    reply = nodes.plain(1, "train")
    assert not reply.has_error()
    assert reply.content.metric_records["metrics"] == {"num-examples": 1}
    assert reply.content.array_records["arrays"]["0"].numpy().any()
    reply = nodes.plain(1, "evaluate")
    assert reply.content.metric_records["metrics"]["num-examples"] == 12
    assert reply.content.metric_records["metrics"]["loss"] == pytest.approx(0.693, abs=1e-3)
    assert events(nodes)["release"] == 2


def test_in_clear_strict_terms_and_the_holdouts_own_refuse(make: Make) -> None:
    own = Terms(["research"], min_rows=50, min_subjects=50, require_dp=False, require_secure_aggregation=False)
    nodes = make(config(*OFF), nodes=1, terms=LENIENT, holdout=own)
    assert nodes.plain(1, "evaluate").error.reason == "[AEG-P001]"
    assert not nodes.plain(1, "train").has_error()
    assert events(nodes)["release"] == 1


def test_a_client_without_a_vault_does_not_answer_for_a_node_that_has_one() -> None:
    class Plain(NumPyClient):
        def evaluate(self, parameters: Any, config: Any) -> Any:
            return 0.5, 3, {}

    app = aegis_client_app(lambda _: Plain())
    content = RecordDict({"arrays": model(START), "config": ConfigRecord({"server-round": 1})})
    for given, refused in (({}, False), ({"number": 3}, False), ({"aegis-vault": "/srv/vault"}, True)):
        message = Message(copy.copy(content), 1, "evaluate")
        message.metadata.__dict__["_message_id"] = "m"
        reply = app(message, Context(1, 1, given, RecordDict(), {}))
        assert reply.has_error() is refused


# -- one model, one setting for all ----------------------------------------------------------------------------------------------


def test_clients_that_were_sent_different_models_give_no_sum(make: Make) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT)
    other = [START[0] + 1, START[1]]
    found = nodes.round_(Server(nodes.cfg), [1, 2, 3], lambda n: other if n == 2 else START, task="evaluate")
    assert isinstance(found.total, Exception)


def test_the_binding_tells_models_tasks_and_settings_apart() -> None:
    asked = wire.Request(3, b"payload", "train", 2.0)
    base = wire.binding(model(START), asked)
    assert base == wire.binding(model(START), wire.Request(3, b"other", "train", 2.0)), (
        "the payload is each client's own"
    )
    others = {
        wire.binding(model([START[0] + 1e-7, START[1]]), asked),
        wire.binding(model([START[0].T, START[1]]), asked),
        wire.binding(model(START[::-1]), asked),
        wire.binding(model(START[:1]), asked),
        wire.binding(model(START), wire.Request(4, b"", "train", 2.0)),
        wire.binding(model(START), wire.Request(3, b"", "evaluate", 2.0)),
        wire.binding(model(START), wire.Request(3, b"", "train", 2.5)),
        wire.binding(model(START), wire.Request(3, b"", "train", 2.0, evaluate=True)),
        *(wire.binding(model(START), asked, {"lr": v}) for v in (0, 0.0, 0.1, "0.1", b"0.1", True, [0.1], [0.1, 0.2])),
        wire.binding(model(START), asked, {"mu": 0.1}),
    }
    assert len(others - {base}) == 17
