"""Flower's own examples, moved: each runs as its README says, learns, and spends what its nodes' ledgers hold it to."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from aegis_engine import ComplianceEngine, Vault, keys
from aegis_flower import Ledger, run_inprocess
from aegis_flower.configs import from_run_config
from aegis_flower.node.keys import DATASET, KEY_FILE, VAULT
from aegis_flower.node.node import close_nodes
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
def test_an_example_is_a_flower_app_that_sends_no_rows(folder):
    app = _said(folder)
    assert set(app["components"]) == {"serverapp", "clientapp"}
    assert not [pattern for pattern in app["fab-include"] if not pattern.endswith((".py", ".md", ".yaml", ".toml"))]
    assert "simulate.py" not in app["fab-include"]
