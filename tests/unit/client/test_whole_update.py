"""Whole updates under noise: what is charged, what leaves, what an app or a server cannot change of that."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dp_training import assert_std, nothing_to_learn, zeros
from flwr.app import Context, RecordDict
from torch import nn

from aegis_flower import whole_update
from aegis_flower.accountant import epsilon, person_epsilon
from aegis_flower.client import VaultClient, admission, weights
from aegis_flower.client.vault_client import Trained
from aegis_flower.configs import Config, PrivacyConfig, compose, from_dict
from aegis_flower.errors import BudgetExceeded, ConfigError, OutsideTerms, PolicyDenied
from aegis_flower.experiment import run_experiment
from aegis_flower.ledger import Mechanism, RoundMechanism
from aegis_flower.node.node import Node, NodeConfig
from aegis_flower.report import plain, words

START = [np.zeros((2, 4), np.float32), np.zeros(2, np.float32)]
SHAPES = [("0", (2, 4)), ("1", (2,))]


@pytest.fixture
def client(govern: Any) -> Callable[..., VaultClient]:
    def make(cls: type[VaultClient] = VaultClient, privacy: dict[str, Any] | None = None, **terms: Any) -> VaultClient:
        g = govern(**{"budget_epsilon": 100.0, **terms})
        node = Node(NodeConfig(g.folder, g.key_file, "tiny", "clinic"))
        context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
        made = cls(node, config(**(privacy or {})), context)
        made.spec, made.model_fn = g.spec, lambda: zeros(4, 2)
        return made

    return make


def config(**privacy: Any) -> Config:
    return from_dict({"privacy": {"mode": "update", **privacy}, "strategy": {"max_norm": 1e6}})


def test_the_noise_of_an_update_is_that_of_the_ledger_and_of_the_record_and_its_unit_is_the_node(client: Any) -> None:
    c = client(privacy={"clip": 0.5, "steps_per_round": 3})
    c.model_fn, c.loss_fn = lambda: nn.Sequential(nn.Linear(4, 3000), nn.Linear(3000, 2)), nothing_to_learn
    start = weights(c.model())
    made = c.train_round(start, 1, 2.0)
    (entry,) = c.node.ledger.entries()
    assert (entry["mechanism"], entry["unit"], entry["relation"]) == ("update", "node", "replace_one")
    assert (entry["steps"], entry["sample_rate"], entry["clip"], entry["noise_multiplier"]) == (1, 1.0, 0.5, 2.0)
    assert_std(made.update.astype(np.float64), 2.0 * 2 * 0.5)
    c.release(made, [(str(i), a.shape) for i, a in enumerate(start)], {}, secure_aggregation=True)
    record = c.node.vault.audit_records("release")[-1]
    assert record["dp"] == "secure"
    counted = record["mechanism"]
    assert (counted["steps"], counted["steps_noised"], counted["coordinates_noised"]) == (1, 1, made.update.size)
    assert (float(counted["clip"]), float(counted["sample_rate"])) == (1.0, 1.0)  # the sensitivity, over all rows


def test_however_far_the_training_went_two_updates_are_within_twice_the_clip(client: Any) -> None:
    """Opposite updates of any length, by an app that does what it likes."""
    c = client(privacy={"clip": 2.0})
    mechanism = RoundMechanism.of(c.config.privacy, 0.05)
    found = []
    for round_, sign in ((1, 1.0), (2, -1.0), (3, math.nan)):
        permit = c.authorize("train", round_)
        taken = c.node.ledger.reserve_round(mechanism, run="1", round_=round_, delta=1e-5, budget=1e9)
        session = whole_update.session(permit, taken, 10)
        after = [a + np.float32(sign) * np.float32(1e30) for a in START]
        found.append(whole_update.noised(START, after, [True, True], session, mechanism.clip).astype(np.float64))
        assert session.spent == (1, 1, 10, True)
    room = 6 * 0.05 * 4.0 * math.sqrt(10)  # of the noise
    up, down, broken = found
    assert 2.0 - room < np.linalg.norm(up) < 2.0 + room
    assert np.linalg.norm(up - down) < 4.0 + math.sqrt(2) * room
    assert np.linalg.norm(broken) < room  # zeros and noise


def test_what_is_not_trained_gets_no_noise(client: Any) -> None:
    c = client()

    def model() -> nn.Module:
        made = zeros(4, 2)
        made.weight.requires_grad_(False)
        return made

    c.model_fn = model
    update = c.train_round(START, 1, 1.0).update
    assert not update[:8].any()
    assert update[8:].all()


def test_an_app_that_trains_by_itself_is_released_as_unprotected(client: Any) -> None:
    class Boasting(VaultClient):
        def train_round(self, parameters: Any, round_: int, noise_multiplier: float) -> Trained:
            whole = super().train_round(parameters, round_, noise_multiplier)
            return Trained(parameters, parameters, whole.permit, whole.result, "secure", None, noised=whole.update)

    c = client(Boasting)
    made = c.train_round(START, 1, 1.0)
    with pytest.raises(PolicyDenied):  # the terms demand privacy, and no session of the engine vouches for it
        c.release(made, SHAPES, {}, secure_aggregation=True)
    assert c.node.vault.audit_records("release")[-1]["dp"] == "off"


def test_a_message_may_not_ask_for_less_noise_than_the_node_has(client: Any) -> None:
    for privacy in ({"noise_multiplier": 4.0}, {"epsilon": 1.0}):
        c = client(privacy=privacy)
        with pytest.raises(OutsideTerms, match="less noise"):
            admission.admit(c, "train", 1.0, evaluates=False, masked=True)
        assert c.node.ledger.entries() == []


def test_a_refused_budget_trains_nothing(client: Any) -> None:
    c = client(budget_epsilon=0.01)
    c.loss_fn = nothing_to_learn
    with pytest.raises(BudgetExceeded):
        c.train_round(START, 1, 2.0)
    assert c.node.ledger.entries() == []


def test_an_update_costs_a_person_what_it_costs_the_node() -> None:
    """Whatever number of rows are the person's: their removal is one of the replacements that the sensitivity is for."""
    update, record = Mechanism(3.0, 1.0, kind="update"), Mechanism(3.0, 1.0)
    whole = epsilon({update: 4}, 1e-5)
    assert whole == epsilon({record: 4}, 1e-5)  # both are Gaussians in units of what their neighbours differ by
    for rows in (1, 5, 10_000):
        assert person_epsilon({update: 4}, 1e-5, rows) == pytest.approx(whole, rel=2e-2)
    assert person_epsilon({record: 4}, 1e-5, 5) > 4 * whole


def test_a_mechanism_of_updates_has_no_rate_and_half_the_largest_clip() -> None:
    with pytest.raises(ConfigError, match="sample_rate"):
        Mechanism(1.0, 0.5, kind="update")
    with pytest.raises(ConfigError, match="clip"):
        RoundMechanism.of(PrivacyConfig(mode="update", clip=6e5), 1.0).step  # noqa: B018 - it is made there


def test_a_run_of_updates_is_charged_once_a_round_and_keeps_rows_to_itself() -> None:
    cfg = compose(None, ["privacy=update", "strategy.rounds=7", "privacy.steps_per_round=20"])
    assert (cfg.privacy.mode, cfg.total_steps) == ("update", 7)
    with pytest.raises(ConfigError, match=r"secagg\.weighting"):
        compose(None, ["privacy=update", "secagg.weighting=rows"])


def test_a_report_says_per_node_and_for_which_neighbours(tmp_path: Path) -> None:
    cfg = compose(
        "quickstart",
        ["privacy=update", "strategy.rounds=1", "data.clients=3", "evaluation.rounds=never", "tracking.progress=false"],
    )
    report = run_experiment(cfg, tmp_path / "run")
    assert (report.run.status, report.run.private) == ("finished", True)
    for each in report.clients:
        assert (each.unit, each.neighbouring, each.steps, each.sample_rate) == ("node", "replace_one", 1, 1.0)
        assert each.epsilon == pytest.approx(each.epsilon_person, rel=2e-2)
        assert 0 < each.epsilon <= 3.0
    worst = words.most_spent(report.clients)
    assert worst is not None
    assert words.per(worst) == "per node"
    assert "unit node" in words.guarantee(worst)
    assert "any others, or by none" in words.guarantee(worst)
    said = " ".join((*plain.meaning(report), *plain.summary(report)))
    assert "all data of one node together" in said
    assert "one record" not in said
    assert "ε of a node, this run" in (tmp_path / "run" / "MODEL_CARD.md").read_text()
