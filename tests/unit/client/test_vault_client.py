"""The client around the training: what it charges, what it releases, what stays at home."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from dp_training import assert_std, flat, nothing_to_learn, zeros
from flwr.app import Context, RecordDict
from torch import nn

from aegis_flower import train as training
from aegis_flower.client import VaultClient, apply_update, load, weights
from aegis_flower.configs import Config, from_dict
from aegis_flower.errors import AppError, BudgetExceeded, ConfigError, GateFailed, PolicyDenied
from aegis_flower.ledger import Ledger, RoundMechanism, mechanism_of
from aegis_flower.node.node import Node, NodeConfig


@pytest.fixture
def client(govern: Any) -> Callable[..., VaultClient]:
    def make(cfg: Config, **terms: Any) -> VaultClient:
        g = govern(**terms)
        node = Node(NodeConfig(g.folder, g.key_file, "tiny", "clinic"))
        context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
        made = VaultClient(node, cfg, context)
        made.spec, made.model_fn = g.spec, lambda: zeros(4, 2)
        return made

    return make


START = [np.zeros((2, 4), np.float32), np.zeros(2, np.float32)]


def test_the_same_config_and_seed_never_give_the_same_noise_or_batches(client: Any) -> None:
    trained = client(from_dict({"seed": 5}), budget_epsilon=100.0)
    first, second = (trained.train_round(START, 1, 2.0) for _ in range(2))
    assert first.dp == "secure"
    assert not np.intersect1d(first.update, second.update).size


def test_seeded_noise_repeats_and_says_so(client: Any) -> None:
    cfg = from_dict({"privacy": {"noise": "insecure_test"}, "policy": {"require_dp": False}})
    trained = client(cfg, budget_epsilon=100.0, require_dp=False)
    first, second = (trained.train_round(START, 1, 2.0) for _ in range(2))
    assert first.dp == "insecure_test"
    assert np.array_equal(first.update, second.update)
    assert not np.array_equal(first.update, trained.train_round(START, 2, 2.0).update)


def test_a_refused_budget_reads_nothing_and_leaves_no_entry(client: Any) -> None:
    """The model is built first, so that a mistake in it costs nothing; rows are not touched."""
    trained = client(from_dict({}), budget_epsilon=0.01)
    (enc,) = (trained.node.config.vault / "objects").rglob(f"{trained.node.dataset()}.enc")
    body = bytearray(enc.read_bytes())
    body[-1] ^= 1  # any decryption of the rows would now fail as tampered
    enc.write_bytes(body)
    with pytest.raises(BudgetExceeded):
        trained.train_round(START, 1, 2.0)
    assert trained.node.ledger.entries() == []


def test_a_delta_above_the_terms_is_refused_whatever_the_number_of_rows(client: Any) -> None:
    """δ is the steward's. A check against the rows there are would tell how many."""
    cfg = from_dict({"privacy": {"delta": 1e-4}})
    for rows in (40, 110):
        trained = client(cfg, rows=rows)
        with pytest.raises(BudgetExceeded, match="terms allow"):
            trained.train_round(START, 1, 5.0)
        assert trained.node.ledger.entries() == []


def test_the_very_object_that_is_charged_is_the_one_trained_with(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger gives back what it was given; the session is made of that reservation; the training gets the same object."""
    seen: dict[str, Any] = {}

    def watch(where: Any, name: str, place: int) -> None:
        real = getattr(where, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            seen[name] = args[place]
            return real(*args, **kwargs)

        monkeypatch.setattr(where, name, watched)

    watch(Ledger, "reserve_round", 1)
    watch(training, "session", 2)
    watch(training, "train", 2)
    cfg = from_dict({"privacy": {"clip": 0.5, "sample_rate": 0.25, "steps_per_round": 3, "expected_batch": 20.0}})
    c = client(cfg, budget_epsilon=100.0)
    made = c.train_round(START, 1, 2.0)
    charged = seen["reserve_round"]
    assert charged == RoundMechanism(
        private=True, noise_multiplier=2.0, clip=0.5, sample_rate=0.25, steps=3, expected_batch=20.0
    )
    assert seen["train"] is charged
    assert seen["session"] is made.reservation
    assert made.reservation.mechanism is charged
    (entry,) = c.node.ledger.entries()
    assert (mechanism_of(entry), entry["steps"]) == (charged.step, charged.steps)
    with pytest.raises(dataclasses.FrozenInstanceError):
        charged.noise_multiplier = 0.1


def test_a_mechanism_that_no_accountant_is_trusted_for_is_neither_charged_nor_trained(client: Any) -> None:
    c = client(from_dict({}), budget_epsilon=100.0)
    for sigma in (0.0, 1e-9, float("nan")):
        with pytest.raises(ConfigError, match="noise_multiplier"):
            c.train_round(START, 1, sigma)
    assert c.node.ledger.entries() == []


def test_the_noise_in_the_update_is_the_noise_in_the_ledger_and_in_the_record(client: Any) -> None:
    """σ, clip, rate, steps and divisor of the ledger's entry, found again in what would leave and in what the engine counted."""
    privacy = {"clip": 0.5, "sample_rate": 0.25, "steps_per_round": 3, "expected_batch": 20.0}
    c = client(from_dict({"privacy": privacy, "model": {"learning_rate": 0.7}}), rows=80, budget_epsilon=100.0)
    c.model_fn = lambda: nn.Sequential(nn.Linear(4, 3000), nn.Linear(3000, 2))
    c.loss_fn = nothing_to_learn
    start = weights(c.model())
    made = c.train_round(start, 1, 2.0)
    (entry,) = c.node.ledger.entries()
    std = 0.7 * entry["noise_multiplier"] * entry["clip"] * entry["steps"] ** 0.5 / 20.0
    assert_std(made.update.astype(np.float64), std)
    c.release(made, [(str(i), a.shape) for i, a in enumerate(start)], {}, secure_aggregation=True)
    record = c.node.vault.audit_records("release")[-1]
    said = record["mechanism"]
    assert {k: float(said[k]) for k in ("noise_multiplier", "clip", "sample_rate")} == {
        k: entry[k] for k in ("noise_multiplier", "clip", "sample_rate")
    }
    assert said["steps"] == said["steps_reserved"] == entry["steps"]
    assert said["coordinates_noised"] == entry["steps"] * made.update.size
    assert said["reservation"] == record["reservation"] == entry["id"]
    assert record["epsilon_micro_total"] == int(np.ceil(made.reservation.epsilon_total * 1e6)) > 0
    assert [e["kind"] for e in c.node.ledger.entries()] == ["reserve", "commit"]


def test_no_metric_beside_the_known_ones_may_leave(client: Any) -> None:
    c = client(from_dict({}), budget_epsilon=100.0)
    shapes = [(str(i), a.shape) for i, a in enumerate(START)]
    for metrics in ({"weight_of_patient_7": 81}, {"weight_of_patient_7": 0}, {"examples": 1}):
        made = c.train_round(START, 1, 2.0)
        with pytest.raises(GateFailed) as error:
            c.release(made, shapes, metrics, secure_aggregation=True)
        assert [g["name"] for g in error.value.gates if not g["passed"]] == ["metrics"]


def test_the_operators_norm_is_the_smaller(govern: Any) -> None:
    g = govern(rows=80, budget_epsilon=100.0, require_secure_aggregation=False)
    node = Node(NodeConfig(g.folder, g.key_file, "tiny", "clinic", max_norm=0.01))
    cfg = from_dict({"policy": {"require_secure_aggregation": False}, "secagg": {"enabled": False}})
    c = VaultClient(node, cfg, Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={}))
    c.spec, c.model_fn = g.spec, lambda: zeros(4, 2)
    made = c.train_round(START, 1, 2.0)
    freed = c.release(made, [(str(i), a.shape) for i, a in enumerate(START)], {}, secure_aggregation=False)
    assert np.linalg.norm(np.frombuffer(freed.update(), np.float32)) <= 0.01


def test_an_app_that_says_secure_is_not_believed(client: Any) -> None:
    """Weights of its own, a word and no session: the engine counts nothing, so it is an update without privacy."""
    c = client(from_dict({}), budget_epsilon=100.0)
    made = c.train_round(START, 1, 2.0)
    shapes = [(str(i), a.shape) for i, a in enumerate(START)]
    for forged in (dataclasses.replace(made, session=None), dataclasses.replace(made, session=None, reservation=None)):
        assert forged.dp == "secure"
        with pytest.raises((GateFailed, PolicyDenied)):
            c.release(forged, shapes, {}, secure_aggregation=True)
    assert c.node.vault.audit_records("release")[-1]["dp"] == "off"


def test_buffers_stay_at_home() -> None:
    model = nn.Linear(3, 2)
    model.register_buffer("seen", torch.ones(7))
    assert sum(a.size for a in weights(model)) == 8


def test_what_was_trained_is_the_same_noise_on_no_two_nodes(govern: Any) -> None:
    """Seeded noise that all nodes share does not average out, and a trial shows a worse model than the real one."""
    cfg = from_dict({"privacy": {"noise": "insecure_test"}, "policy": {"require_dp": False}})
    updates = []
    for number in (1, 2, 1):
        g = govern(budget_epsilon=100.0, require_dp=False)
        context = Context(run_id=1, node_id=number, node_config={}, state=RecordDict(), run_config={})
        c = VaultClient(Node(NodeConfig(g.folder, g.key_file, "tiny", "clinic")), cfg, context)
        c.spec, c.model_fn = g.spec, lambda: zeros(4, 2)
        updates.append(c.train_round(START, 1, 2.0).update)
    assert not np.intersect1d(updates[0], updates[1]).size
    assert np.array_equal(updates[0], updates[2])


def test_a_parameter_without_dimensions_stays_an_array_all_the_way() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))

    model = Scaled()
    (before,) = weights(model)
    (after,) = apply_update([before], np.array([0.5], np.float32))
    assert isinstance(after, np.ndarray)
    assert (after.shape, after.dtype) == ((), np.float32)
    load(model, [after])
    assert float(model.scale.detach()) == 2.5


def test_a_model_of_another_shape_is_refused_before_it_is_changed() -> None:
    model = nn.Linear(3, 2)
    before = flat(model)
    with pytest.raises(AppError, match="same model on both sides"):
        load(model, [np.ones((2, 4), np.float32), np.ones(2, np.float32)])
    assert np.array_equal(flat(model), before)
