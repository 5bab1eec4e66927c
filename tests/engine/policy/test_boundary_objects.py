"""Request, Proposal, Limits and SecAggPlan: what crosses into the engine is made once, checked once and passed whole."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from aegis_engine.errors import PolicyDenied, SecAggError

from aegis_engine import Limits, Permit, Proposal, Request, SecAggPlan, SecAggServer

PLAN: dict[str, Any] = {
    "dim": 3, "metrics": ["m"], "clip": 1.0, "value_bits": 16, "weight_max": 10, "metric_max": 100, "max_clients": 5,
    "min_clients": 2,
}  # fmt: skip
SHAPES = [("w", [3])]
ALLOWED: dict[str, Any] = {"contract": SHAPES, "metrics_allowed": ["m"], "weight_max": 1, "max_norm": 1.0}
ASKED: dict[str, Any] = {"tensors": SHAPES, "metrics": {"m": 0}, "secure_aggregation": True, "weight": 1}


def test_a_request_is_asked_of_several_data_sets_and_says_the_same_as_its_keywords(governed: Any) -> None:
    engine = governed.engine()
    words = {"action": "train", "purpose": "research", "columns": ["height"], "run": "1", "round": 2, "node": "n"}
    request = Request(**words)
    assert {name: getattr(request, name) for name in words} == words
    first, told = engine.authorize(governed.dataset, request), engine.explain(governed.dataset, request)
    with pytest.warns(DeprecationWarning, match=r"pass Request\(action=\.\.\., purpose=\.\.\.\)"):
        assert engine.explain(governed.dataset, **words) == told
    with pytest.warns(DeprecationWarning, match=r"pass Request\(") as warned:
        second = engine.authorize(governed.dataset, **words)
    assert [w.filename for w in warned] == [__file__]
    assert isinstance(first, Permit)
    assert (first.rows, first.action, first.round) == (second.rows, second.action, second.round)
    assert engine.explain(governed.dataset, request, today=100_000)["rows"] == 0


def test_keywords_in_place_of_an_object_fail_every_test_that_does_not_expect_them(governed: Any) -> None:
    with pytest.raises(DeprecationWarning, match=r"^aegis_engine: .* until 0.2"):
        governed.engine().authorize(governed.dataset, action="train", purpose="research")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"action": "sell", "purpose": "research"}, ValueError),
        ({"action": "train", "purpose": "research", "minutes": 0.0}, ValueError),
        ({"action": "train", "purpose": "research", "minutes": float("nan")}, ValueError),
        ({"action": "train", "purpose": "research", "today": 1}, TypeError),
        ({"purpose": "research"}, TypeError),
    ],
)
def test_a_request_that_means_nothing_is_not_made(governed: Any, words: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Request(**words)
    with pytest.raises(error), pytest.warns(DeprecationWarning, match="pass Request"):
        governed.engine().authorize(governed.dataset, **words)


def test_a_request_and_keywords_beside_it_are_refused(governed: Any) -> None:
    engine, request = governed.engine(), Request(action="train", purpose="research")
    for asked in ((request, {"run": "1"}), (None, {})):
        with pytest.raises(TypeError):
            engine.authorize(governed.dataset, asked[0], **asked[1])
    with pytest.raises(AttributeError):
        request.purpose = "advertising"


def test_a_gate_takes_a_proposal_and_limits_and_the_keywords_of_before(governed: Any) -> None:
    engine = governed.engine()
    update = np.zeros(3, np.float32)
    found = []
    for give, warns in (
        (lambda permit: engine.gate([permit], Proposal(update, **ASKED), Limits(**ALLOWED)), False),
        (lambda permit: engine.gate([permit], update, **ASKED, **ALLOWED), True),
    ):
        remedy = (
            pytest.warns(DeprecationWarning, match=r"pass Proposal\(update, \.\.\.\) and Limits")
            if warns
            else nullcontext()
        )
        with pytest.raises(PolicyDenied) as error, remedy:
            give(governed.permit())
        found.append((error.value.policies, error.value.advice))
    assert found[0] == found[1]


def test_a_proposal_is_used_up_and_half_of_the_objects_is_refused(governed: Any) -> None:
    engine, permit = governed.engine(), governed.permit()
    proposal, limits = Proposal(np.zeros(3, np.float32), **ASKED), Limits(**ALLOWED)
    assert (limits.contract, limits.metrics_allowed, limits.min_rows) == ([("w", [3])], ["m"], 0)
    with pytest.raises(TypeError):
        engine.gate([permit], proposal)
    with pytest.raises(TypeError):
        engine.gate([permit], proposal, limits, weight=1)
    with pytest.raises(PolicyDenied):
        engine.gate([permit], proposal, limits)
    with pytest.raises(ValueError, match="a gate already"):
        engine.gate([permit], proposal, limits)


def test_a_plan_is_checked_when_it_is_made_and_builds_the_server_that_its_keywords_build() -> None:
    plan = SecAggPlan(**PLAN, commit=True)
    assert {name: getattr(plan, name) for name in PLAN} == PLAN
    servers = [SecAggServer(7, plan)]
    with pytest.warns(DeprecationWarning, match=r"pass SecAggPlan\(dim"):
        servers.append(SecAggServer(7, **PLAN, commit=True))
    assert {server.ring_bits for server in servers} == {plan.ring_bits} == {24}
    with pytest.raises(TypeError):
        SecAggServer(7, plan, commit=True)
    with pytest.raises(TypeError):
        SecAggServer(7)


@pytest.mark.parametrize(
    "wrong",
    [{"dim": 0}, {"clip": 0.0}, {"value_bits": 31}, {"min_clients": 6}, {"min_clients": 1}, {"metrics": ["m", "m"]}],
)
def test_an_impossible_plan_is_not_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(SecAggError):
        SecAggPlan(**{**PLAN, **wrong})
