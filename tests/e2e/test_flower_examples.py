"""Flower's own examples, moved: each runs as its README says, learns, and spends what its nodes' ledgers hold it to."""

import importlib
import re
import runpy
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from fabs import built

from aegis_engine import ComplianceEngine, Vault, keys
from aegis_flower import Ledger, run_inprocess
from aegis_flower.configs import from_run_config
from aegis_flower.inference import load
from aegis_flower.node.keys import DATASET, KEY_FILE, VAULT
from aegis_flower.node.node import close_nodes
from aegis_flower.report import load_report
from aegis_flower.simulations.provision import provision

EXAMPLES = Path(__file__).parents[2] / "examples" / "flower"
FOLDERS = sorted(folder.name for folder in EXAMPLES.iterdir() if (folder / "pyproject.toml").is_file())


def _said(folder):
    return tomllib.loads((EXAMPLES / folder / "pyproject.toml").read_text("utf-8"))["tool"]["flwr"]["app"]


def _apps(folder, monkeypatch):
    """Server app and client app, as `flwr run` finds them."""
    monkeypatch.syspath_prepend(str(EXAMPLES / folder))
    components = _said(folder)["components"]
    found = []
    for component in ("serverapp", "clientapp"):
        module, _, name = components[component].partition(":")
        found.append((importlib.import_module(module), name))
    return [getattr(module, name) for module, name in found], found[0][0]


def _spent(node, delta):
    """ε that a node's own ledger says of its training rows."""
    vault = Vault.open(node.node_config[VAULT], keys.file(node.node_config[KEY_FILE]))
    dataset = next(str(each["id"]) for each in vault.list() if each["name"] == node.node_config[DATASET])
    terms = ComplianceEngine(vault).terms(dataset)
    return Ledger(vault, dataset, delta=terms["delta"], lineages=terms["lineages"]).spent(delta).epsilon


def test_pytorch_learns_within_the_epsilon_that_its_nodes_hold_it_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (server, client), module = _apps("pytorch", monkeypatch)
    run_config = _said("pytorch")["config"]
    cfg, *_ = from_run_config(run_config)
    nodes = provision(cfg, tmp_path / "vaults")
    measured = {}
    evaluate = module.global_evaluate
    monkeypatch.setattr(module, "global_evaluate", lambda r, arrays: measured.setdefault(r, evaluate(r, arrays)))
    try:
        run_inprocess(server, client, [node.node_config for node in nodes], run_config=run_config)
    finally:
        close_nodes()
    assert sorted(measured) == list(range(cfg.strategy.rounds + 1))
    assert measured[0]["accuracy"] < 0.3, "ten digits"
    assert measured[cfg.strategy.rounds]["accuracy"] > 0.45
    assert (tmp_path / "final_model.pt").stat().st_size > 0
    for node in nodes:
        assert 4 < _spent(node, cfg.privacy.delta) <= cfg.privacy.epsilon


def _simulated(folder, monkeypatch, where, *more):
    """A run of an example by its own ``simulate.py``: the exit code, and the report."""
    monkeypatch.chdir(where)
    monkeypatch.syspath_prepend(str(EXAMPLES / folder))
    monkeypatch.setattr(sys, "argv", ["simulate.py", "tracking.html=false", *more])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLES / folder / "simulate.py"), run_name="__main__")
    report = max((where / "aegis-runs").glob("*/report.json"))
    return ended.value.code, load_report(report.parent), report.parent


def test_jax_learns_with_dp_of_each_record(tmp_path, monkeypatch):
    code, report, folder = _simulated("jax", monkeypatch, tmp_path)
    assert (code, report.run.status) == (0, "finished")
    assert report.results.accuracy > 0.45, "ten digits"
    assert all(4 < client.epsilon <= 8 and client.unit == "record" for client in report.clients)
    assert {"conv1/kernel", "dense3/bias"} <= set(load(folder).weights)


def test_a_keras_model_of_flowers_tensorflow_example_learns_with_dp_of_each_record(tmp_path, monkeypatch):
    pytest.importorskip("keras", reason="Keras is in no lock: make test-keras")
    code, report, folder = _simulated("tensorflow", monkeypatch, tmp_path)
    assert (code, report.run.status) == (0, "finished")
    assert report.results.accuracy > 0.6, "ten digits"
    assert all(4 < client.epsilon <= 8 and client.unit == "record" for client in report.clients)
    assert [value.shape for value in load(folder).weights.values()] == [(3, 3, 1, 32), (32,), (288, 10), (10,)]


def test_scikit_learn_learns_under_masks_and_says_that_it_has_no_dp(tmp_path, monkeypatch):
    code, report, folder = _simulated("sklearn", monkeypatch, tmp_path)
    assert (code, report.run.status) == (0, "finished")
    assert report.results.accuracy > 0.85, "two of three biopsies are of the larger class"
    assert [client.epsilon for client in report.clients] == [None] * 3
    assert all(len(one.participants) == 3 for one in report.rounds)
    assert {name: value.shape for name, value in load(folder).weights.items()} == {"coef": (1, 30), "intercept": (1,)}


def test_scikit_learn_has_dp_per_node_and_is_refused_dp_per_record_before_anything_is_charged(tmp_path, monkeypatch):
    quick = ["strategy.rounds=1", "privacy.epsilon=8", "policy.budget_epsilon=20"]
    code, report, _ = _simulated("sklearn", monkeypatch, tmp_path, "privacy.mode=update", *quick)
    assert (code, report.run.status) == (0, "finished")
    assert all(4 < client.epsilon <= 8 and client.unit == "node" for client in report.clients)
    code, report, _ = _simulated("sklearn", monkeypatch, tmp_path, "privacy.mode=example", *quick)
    assert (code, report.run.status) == (1, "failed")
    assert "set privacy=update" in report.run.reason
    assert {client.epsilon for client in report.clients} == {0.0}


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_lines_that_a_readme_shows_are_those_of_the_example(folder):
    code = "\n".join(file.read_text() for file in (EXAMPLES / folder).rglob("*.py"))
    lines = {re.sub(r"\s+", " ", line).strip() for line in code.splitlines()}
    readme = (EXAMPLES / folder / "README.md").read_text()
    shown = [line for block in re.findall(r"```diff\n(.*?)```", readme, re.DOTALL) for line in block.splitlines()]
    added = [re.sub(r"\s+", " ", line[1:]).strip() for line in shown if line.startswith("+")]
    gone = [re.sub(r"\s+", " ", line[1:]).strip() for line in shown if line.startswith("-")]
    assert added
    assert not [line for line in added if line and line not in lines]
    assert not [line for line in gone if line and line in lines]


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_travels_of_an_example_is_its_package_and_no_rows(folder, tmp_path):
    copied = shutil.copytree(EXAMPLES / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (copied / "aegis-runs" / "001").mkdir(parents=True)
    (copied / "aegis-runs" / "001" / "report.json").write_text("{}")
    inside = {name for name in built(copied) if not name.startswith(".info")}
    package = _said(folder)["components"]["serverapp"].partition(".")[0]
    files = {f"{package}/{name}.py" for name in ("__init__", "client_app", "server_app", "task")}
    assert inside == {"pyproject.toml", "README.md", *files}
