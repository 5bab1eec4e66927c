"""Held-out rows: who may be told of them, how often, and at what charge."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asked import NOTHING, Make, evaluated, events
from by_hand import DIM, LENIENT, OFF, SPEC, START, STRICT, ByHand, Server, config, rows
from torch import nn

from aegis_flower import Terms, VaultClient
from aegis_flower.data import Spec
from aegis_flower.errors import AppError
from aegis_flower.gate import METRICS, means
from aegis_flower.metrics import Metric, Statistic
from aegis_flower.node import node
from aegis_flower.node.node import close_nodes


def test_an_evaluation_is_noised_charged_to_the_holdout_alone_and_given_once_per_run(make: Make) -> None:
    nodes = make(config("evaluation.epsilon=2.0"))
    server = Server(nodes.cfg)
    first = evaluated(nodes, server)
    assert first.codes == {""}
    assert any(first.total.metrics[name] != exact for name, exact in (("examples", 36), ("loss_milli", 24954)))
    opened = node.Node(node.NodeConfig.from_context(nodes.contexts[1], nodes.cfg))
    assert opened.ledger.entries() == []
    assert 0 < opened.holdout_ledger.spent(1e-5).epsilon <= 2.0
    assert evaluated(nodes, server).codes == {"AEG-N012"}
    assert [len(opened.holdout_ledger.entries())] == [2]  # reserved, released
    (release,) = opened.vault.audit_records("release")
    assert release["decision"] == "allow"
    nodes.new_run(2)
    assert evaluated(nodes, Server(nodes.cfg, run_id=2)).codes == {""}


def test_the_operator_gives_a_run_more_evaluations_and_the_holdouts_terms_fewer(make: Make) -> None:
    nodes = make(node={"aegis-max-evaluations": 2})
    server = Server(nodes.cfg)
    assert [evaluated(nodes, server).codes for _ in range(3)] == [{""}, {""}, {"AEG-N012"}]
    nodes = make(node={"aegis-max-evaluations": 0})
    assert evaluated(nodes).codes == {"AEG-N012"}
    own = Terms(["research"], min_rows=2, min_subjects=2, budget_epsilon=100.0, max_evaluations=1)
    nodes = make(node={"aegis-max-evaluations": 5}, holdout=own)
    server = Server(nodes.cfg)
    assert [evaluated(nodes, server).codes for _ in range(2)] == [{""}, {"AEG-N012"}]


def test_held_out_rows_are_counted_with_an_update_only_when_that_is_asked(make: Make) -> None:
    nodes = make(node={"aegis-max-evaluations": 5})
    server = Server(nodes.cfg)
    plain = nodes.round_(server, [1, 2, 3], noise_multiplier=nodes.sigma)
    assert set(plain.total.metrics.values()) == {0}
    asked = nodes.round_(server, [1, 2, 3], noise_multiplier=nodes.sigma, evaluate=True)
    assert asked.codes == {""}
    assert asked.total.metrics["examples"] != 0 or asked.total.metrics["loss_milli"] != 0
    vault = nodes.vault(1)
    assert [len(r["parts"]) for r in vault.audit_records("release")] == [1, 2]


@pytest.mark.parametrize("task", ["train", "evaluate"])
def test_the_holdouts_own_terms_are_asked_on_every_path(make: Make, task: str) -> None:
    nodes = make(holdout=Terms(["research"], min_rows=50, min_subjects=50))
    sigma = nodes.sigma if task == "train" else 0.0
    found = nodes.round_(Server(nodes.cfg), [1, 2, 3], task=task, noise_multiplier=sigma, evaluate=task == "train")
    assert found.codes == {"AEG-P001"}
    assert events(nodes)["privacy.reserve"] == events(nodes)["release"] == 0


@pytest.mark.parametrize(("strict", "code"), [("terms", "AEG-N011"), ("holdout", "AEG-P001")])
def test_a_permit_that_is_refused_costs_the_budget_of_neither_data_set(make: Make, strict: str, code: str) -> None:
    few = {"min_rows": 2, "min_subjects": 2, "budget_epsilon": 12.0}
    terms = {"terms": Terms(["research"], **few), "holdout": Terms(["research"], **few)}
    terms[strict] = Terms(["research"], **(few | {"min_rows": 500, "min_subjects": 500}))
    nodes = make(**terms)
    found = nodes.round_(Server(nodes.cfg), [1, 2, 3], noise_multiplier=nodes.sigma, evaluate=True)
    assert found.codes == {code}
    assert events(nodes)["privacy.reserve"] == events(nodes)["release"] == 0


def test_a_holdout_whose_budget_is_spent_refuses_before_the_update_is_charged(make: Make) -> None:
    nodes = make(holdout=Terms(["research"], min_rows=2, min_subjects=2, budget_epsilon=0.1))
    found = nodes.round_(Server(nodes.cfg), [1, 2, 3], noise_multiplier=nodes.sigma, evaluate=True)
    assert found.codes == {"AEG-B001"}
    assert events(nodes) == NOTHING


def test_where_neither_run_nor_data_ask_for_privacy_counts_are_exact_and_not_limited(make: Make) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT)
    server = Server(nodes.cfg)
    for _ in range(2):
        found = evaluated(nodes, server)
        assert (found.total.metrics["examples"], found.total.metrics["loss_milli"]) == (36, 3 * 8318)
    assert events(nodes)["privacy.reserve"] == 0


def test_held_out_rows_that_a_rename_left_behind_are_named_in_the_nodes_log(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = make(config(*OFF), nodes=1, terms=LENIENT, holdout=LENIENT)
    vault = nodes.vault(1)
    vault.rename(vault.datasets()["patients"], "people")
    nodes.contexts[1].node_config["aegis-dataset"] = "people"
    caplog.set_level(logging.WARNING, "aegis")
    assert nodes.plain(1, "evaluate").content.metric_records["metrics"]["num-examples"] == 0
    assert "'people.holdout' is not in the vault, 'patients.holdout' is" in caplog.text
    caplog.clear()
    vault = nodes.vault(1)
    vault.rename(vault.datasets()["patients.holdout"], "people.holdout")
    close_nodes()
    assert nodes.plain(1, "evaluate").content.metric_records["metrics"]["num-examples"] == 12
    assert "held-out rows" not in caplog.text


# A number is predicted: the sum of the row's values.
NUMBER: dict[str, Any] = {
    "spec": Spec({"x": 4}, "y", 1),
    "app": {"model": lambda: nn.Linear(4, 1), "loss": lambda o, y: nn.functional.mse_loss(o[:, 0], y)},
    "columns": lambda i, n: {"x": rows(n, i)["x"], "y": rows(n, i)["x"].sum(1)},
}
NOTHING_YET = [np.zeros((1, 4), np.float32), np.zeros(1, np.float32)]


def test_a_model_that_predicts_a_number_has_a_loss_and_no_accuracy(make: Make) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT, **NUMBER)
    found = nodes.round_(Server(nodes.cfg, dim=5), [1, 2, 3], NOTHING_YET, task="evaluate")
    assert found.codes == {""}
    told = means(found.total.metrics)
    losses = [
        min(float(y) ** 2, nodes.cfg.evaluation.loss_max) for i in (101, 102, 103) for y in rows(12, i)["x"].sum(1)
    ]
    assert told == {"loss": pytest.approx(np.mean(losses), abs=1e-3), "test-rows": 36.0}
    reply = nodes.plain(1, "evaluate", NOTHING_YET)
    assert set(reply.content.metric_records["metrics"]) == {"num-examples", "loss"}


def test_a_noised_accuracy_of_a_model_that_predicts_a_number_is_refused_by_name(make: Make) -> None:
    class Near(VaultClient):
        """Counts for itself what is near enough."""

        predicts_classes = True  # type: ignore[assignment]

    nodes = make(**NUMBER)
    server = Server(nodes.cfg, dim=5)
    assert nodes.round_(server, [1, 2, 3], NOTHING_YET, task="evaluate").codes == {"AEG-N014"}
    assert "evaluation.rounds=never" in node.refusals(1, 1)[-1][3]
    assert events(nodes) == NOTHING
    assert nodes.round_(server, [1, 2, 3], NOTHING_YET, noise_multiplier=nodes.sigma).codes == {""}
    nodes = make(client=Near, **NUMBER)
    assert nodes.round_(Server(nodes.cfg, dim=5), [1, 2, 3], NOTHING_YET, task="evaluate").codes == {""}


def test_a_node_without_held_out_rows_gives_zeros_and_the_others_are_counted(make: Make, tmp_path: Path) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT, nodes=2)
    without = ByHand(tmp_path / "without", nodes.cfg, terms=LENIENT, holdout=None, nodes=1)
    nodes.contexts[3] = without.contexts[1]
    nodes.contexts[3].node_id = 3
    found = evaluated(nodes)
    assert found.codes == {""}
    assert found.total.metrics["examples"] == 24
    assert sorted(found.total.contributors) == [1, 2, 3]


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_an_evaluation_never_fails_on_data(make: Make, value: float) -> None:
    def spoiled(i: int, n: int) -> Any:
        columns = rows(n, i)
        if i > 100:
            columns["x"][0, 0] = value
        return columns

    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT, columns=spoiled)
    hard = [np.full((2, 4), 1e38, np.float32) * [[1], [-1]], START[1]]
    for arrays in (START, [hard[0].astype(np.float32), hard[1]]):
        found = nodes.round_(Server(nodes.cfg), [1, 2, 3], arrays, task="evaluate")
        assert found.codes == {""}
        assert found.total.metrics["examples"] == 36
        nodes.new_run(1)


def test_weights_that_overflow_on_some_rows_are_answered_like_any_other(make: Make) -> None:
    """Without DP such a row makes the whole update not finite; a refusal would be one bit about this node beside the sum."""

    def spoiled(i: int, n: int) -> Any:
        columns = rows(n, i)
        if i == 1:
            columns["x"][3] = 30.0  # the one node with such a row
        return columns

    nodes = make(config(*OFF, "privacy.sample_rate=1"), terms=LENIENT, holdout=None, columns=spoiled)
    above = [np.float32([[1e37] * 4, [-1e37] * 4]), START[1]]
    found = nodes.round_(Server(nodes.cfg), [1, 2, 3], above)
    assert found.codes == {""}
    assert np.isfinite(np.frombuffer(found.total.mean())).all()
    last = [nodes.vault(n).audit_records("release")[-1] for n in (1, 2)]
    assert [r["decision"] for r in last] == ["allow", "allow"]


def test_every_metric_of_the_gate_is_in_the_masked_sum(make: Make) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT)
    assert sorted(evaluated(nodes).total.metrics) == sorted(METRICS)
    assert sum(a.size for a in START) == DIM
    assert SPEC.features == 4
    assert STRICT.require_dp
    assert issubclass(AppError, Exception)


def test_a_server_that_sums_other_metrics_is_refused_before_a_row_is_read(make: Make) -> None:
    """What a node counts is its own configuration's; a plan with a name more, a name less or another order is none of it."""
    nodes = make()
    own = list(METRICS)
    for names in ([*own, "weight_of_patient_7"], own[:-1], own[::-1]):
        with pytest.raises(AssertionError, match="AEG-S023"):
            evaluated(nodes, Server(nodes.cfg, metrics=names))
        nodes.new_run(1)
    assert events(nodes) == NOTHING


MANY = Metric("own", (Statistic("many", lambda rows: rows.losses * 1e12, cap=3),), lambda sums: {"own": sums["many"]})


def test_an_apps_own_metric_leaves_with_the_noise_of_what_it_declares(make: Make) -> None:
    nodes = make(config("evaluation.metrics=[loss]", "evaluation.epsilon=9"), app={"metrics": [MANY]})
    names = ["examples", "loss_milli", "many"]
    found = evaluated(nodes, Server(nodes.cfg, metrics=names))
    assert found.codes == {""}
    (release,) = nodes.vault(1).audit_records("release")
    blocks = [(b["cap"], b["names"]) for b in release["counts"]["blocks"]]
    assert blocks == [(1, ["examples"]), (10_000, ["loss_milli"]), (3, ["many"])]
    z = float(release["counts"]["noise_multiplier"])
    sd = z * np.sqrt(3 * 3) * 3  # three nodes, three blocks, cap 3
    assert abs(found.total.metrics["many"] - 3 * 36) < 6 * sd  # each of 36 rows at its cap
    nodes.new_run(2)
    with pytest.raises(AssertionError, match="AEG-S023"):  # a server that was not given the app's own
        evaluated(nodes, Server(nodes.cfg, run_id=2, metrics=names[:2]))


def test_a_metric_that_mixes_records_is_refused_before_a_row_is_read(make: Make) -> None:
    mixes = Metric("own", (Statistic("mixed", lambda rows: rows.losses - rows.losses.mean()),), dict)
    nodes = make(config("evaluation.metrics=[loss]"), app={"metrics": [mixes]})
    found = evaluated(nodes, Server(nodes.cfg, metrics=["examples", "loss_milli", "mixed"]))
    assert found.codes == {AppError.code}
    assert "gives a record another number" in node.refusals(1, 1)[-1][3]
    assert events(nodes) == NOTHING


def test_sums_leave_in_clear_as_they_are_beside_what_flower_averages(make: Make) -> None:
    nodes = make(config(*OFF, "evaluation.metrics=[auroc,loss]"), terms=LENIENT, holdout=LENIENT)
    reply = nodes.plain(1, "evaluate").content
    assert set(reply.metric_records["metrics"]) == {"num-examples", "loss"}
    sums = reply.config_records["sums"]
    assert sums["examples"] == 12
    assert sum(n for name, n in sums.items() if name.startswith("score_")) == 12
