"""The node fixes the mechanism: what it holds a server to."""

from __future__ import annotations

from typing import Any

import pytest
from asked import NOTHING, Make, begun, events
from by_hand import LENIENT, OFF, START, ByHand, config, model
from flwr.app import ConfigRecord, RecordDict

from aegis_flower import wire
from aegis_flower.node import node


def masked(nodes: ByHand, **asked: Any) -> str:
    _, request = begun(nodes)
    return nodes.ask(1, wire.MASKED, START, payload=request, **asked).code


def test_a_server_may_ask_for_more_noise_and_never_for_less(make: Make) -> None:
    nodes = make()
    for factor in (0.0, 0.01, 0.5, 0.98):
        assert masked(nodes, noise_multiplier=factor * nodes.sigma) == "AEG-N011"
    assert events(nodes) == NOTHING
    assert masked(nodes, noise_multiplier=1.5 * nodes.sigma) == ""
    (entry,) = [
        e
        for e in node.Node(node.NodeConfig.from_context(nodes.contexts[1], nodes.cfg)).ledger.entries()
        if e["kind"] == "reserve"
    ]
    assert entry["noise_multiplier"] == pytest.approx(1.5 * nodes.sigma)


def test_a_configured_noise_multiplier_is_the_least(make: Make) -> None:
    nodes = make(config("privacy.noise_multiplier=3.0"))
    assert masked(nodes, noise_multiplier=2.999) == "AEG-N011"
    assert masked(nodes, noise_multiplier=3.0) == ""


@pytest.mark.parametrize("sigma", [float("nan"), float("inf"), -1.0, 1e-155, 1e-300, 1e5, True, "3"])
def test_a_noise_multiplier_outside_all_bounds_spoils_no_ledger(make: Make, sigma: Any) -> None:
    nodes = make()
    _, request = begun(nodes)
    record = ConfigRecord({**wire.Request(1, request, "train", 1.0).to_record(), "noise-multiplier": sigma})
    reply = nodes.send(1, wire.MASKED, RecordDict({wire.ARRAYS: model(START), wire.RECORD: record}))
    assert wire.Reply.from_content(reply.content).code in {"AEG-N010", "AEG-N011", "AEG-C001"}  # type: ignore[union-attr]
    assert events(nodes) == NOTHING
    assert nodes.ask(1, wire.MASKED, START, payload=request, noise_multiplier=nodes.sigma).code == ""


@pytest.mark.parametrize(
    ("overrides", "sigma"),
    [
        (["privacy.delta=0.009"], None),
        (["secagg.weighting=rows"], None),
        ([*OFF], 0.0),
        (["privacy.noise=insecure_test", "policy.require_dp=false"], None),
    ],
    ids=["delta", "weights that count rows", "no DP", "seeded noise"],
)
def test_what_the_datas_terms_do_not_allow_is_refused_unread_and_told_in_a_code(
    make: Make, overrides: Any, sigma: Any
) -> None:
    nodes = make(config(*overrides), number=137)
    assert masked(nodes, noise_multiplier=nodes.sigma if sigma is None else sigma) == "AEG-N011"
    assert events(nodes) == NOTHING


def test_without_dp_a_server_that_names_noise_is_told_that_there_is_none(make: Make) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT)
    assert masked(nodes, noise_multiplier=2.0) == "AEG-N011"
    assert masked(nodes, noise_multiplier=0.0) == ""
