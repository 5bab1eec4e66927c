"""The vaults of a simulation: made once, reused, never met silently."""

from __future__ import annotations

import fcntl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aegis_engine import ComplianceEngine, Request, Vault
from aegis_flower import data as datasets
from aegis_flower.configs import Config, compose
from aegis_flower.errors import DataError
from aegis_flower.ledger import Ledger, Mechanism
from aegis_flower.report.collect import majority
from aegis_flower.simulations import provision as provisioning
from aegis_flower.simulations.provision import provision


def small(*overrides: str) -> Config:
    return compose("quickstart", ["data.clients=3", "data.limit=240", "data.withdrawn=0.1", *overrides])


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    root = tmp_path_factory.mktemp("hospitals") / "vaults"
    return root, provision(small(), root)


def opened(node: Any) -> Vault:
    return Vault.open(str(node.node_config["aegis-vault"]), key_file=str(node.node_config["aegis-key-file"]))


def test_each_node_has_its_own_vault_key_rows_and_withdrawals(hospitals: tuple[Path, list[Any]]) -> None:
    root, nodes = hospitals
    assert [n.name for n in nodes] == ["hospital-1", "hospital-2", "hospital-3"]
    keys = {(root / "keys" / f"{n.name}.key").read_bytes() for n in nodes}
    assert len(keys) == 3
    stored, allowed = 0, 0
    for node in nodes:
        vault = opened(node)
        engine, found = ComplianceEngine(vault), vault.datasets()
        assert set(found) == {"breast_cancer", "breast_cancer.holdout"}
        for name, dataset in found.items():
            action = "evaluate" if name.endswith("holdout") else "train"
            seen = engine.explain(dataset, Request(action=action, purpose="research"))
            stored += seen["rows"] + sum(seen["denied"].values())
            allowed += seen["rows"]
    assert stored == 240
    assert allowed == pytest.approx(216, abs=6)  # a tenth of each set's people, rounded


def test_keys_can_be_read_by_their_owner_alone(hospitals: tuple[Path, list[Any]]) -> None:
    root, nodes = hospitals
    assert (root / "keys").stat().st_mode & 0o077 == 0
    assert all((root / "keys" / f"{n.name}.key").stat().st_mode & 0o077 == 0 for n in nodes)


def test_provisioning_twice_reuses_vaults_consents_and_spent_budget(hospitals: tuple[Path, list[Any]]) -> None:
    root, nodes = hospitals
    vault = opened(nodes[0])
    Ledger(vault, "breast_cancer").reserve(
        run="1", round_=1, mechanism=Mechanism(2.0, 0.1), steps=1, delta=1e-5, budget=10.0
    )
    before = {f: f.stat().st_mtime_ns for f in root.rglob("*.enc")}
    assert provision(small("strategy.rounds=3", "privacy.epsilon=1"), root) == nodes
    assert {f: f.stat().st_mtime_ns for f in root.rglob("*.enc")} == before
    assert Ledger(opened(nodes[0]), "breast_cancer").spent(1e-5).steps == 1


@pytest.mark.parametrize(
    "other", ["data.limit=230", "seed=1", "data.withdrawn=0.2", "policy.budget_epsilon=99", "policy.basis=contract"]
)
def test_vaults_of_other_data_or_terms_are_not_met_silently(hospitals: tuple[Path, list[Any]], other: str) -> None:
    with pytest.raises(DataError, match=r"vault\.root"):
        provision(small(other), hospitals[0])


def test_lifting_a_requirement_does_not_reuse_vaults_that_have_it(hospitals: tuple[Path, list[Any]]) -> None:
    with pytest.raises(DataError, match=r"vault\.root"):
        provision(small("policy.require_dp=false"), hospitals[0])


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(DataError, match="not empty"):
        provision(small(), tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_runs_that_make_the_same_vaults_at_once_make_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "vaults"
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: provision(small(), root), range(2)))
    assert made[0] == made[1]
    assert all("breast_cancer" in opened(node).datasets() for node in made[0])
    monkeypatch.setattr(provisioning, "_WAIT", 0.0)
    with (root / provisioning._LOCK).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another run is making these vaults"):
            provision(small(), root)


def test_the_largest_class_is_that_of_the_rows_that_accuracy_is_of(hospitals: tuple[Path, list[Any]]) -> None:
    """It was that of all rows, beside an accuracy over the held-out ones."""
    cfg = small()
    source, _ = datasets.load(cfg.data)
    whole = np.bincount(source.labels).max() / len(source)
    parts = datasets.partition(source.labels, cfg.data, cfg.seed, provisioning.minimum_rows(cfg))
    chosen = [part[datasets.split(len(part), cfg.data, cfg.seed, i).holdout] for i, part in enumerate(parts)]
    rows = [len(one) for one in chosen]
    for node, count in zip(hospitals[1], rows, strict=True):
        vault = opened(node)
        seen = ComplianceEngine(vault).explain(
            vault.datasets()["breast_cancer.holdout"], Request(action="evaluate", purpose="research")
        )
        assert seen["rows"] + sum(seen["denied"].values()) == count
    held = source.labels[np.concatenate(chosen)]
    assert majority(cfg) == pytest.approx(np.bincount(held).max() / len(held))
    assert majority(cfg) != pytest.approx(whole)
