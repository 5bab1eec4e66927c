"""The README's own model on own data: it runs as it stands, and ends with what one wants to know."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from aegis_flower import VaultClient, aegis_client_app, aegis_server_app, compose, run_experiment, run_inprocess
from aegis_flower.cli import simulate
from aegis_flower.errors import RunFailed
from aegis_flower.importer import started
from aegis_flower.inference import load
from aegis_flower.node.node import close_nodes
from aegis_flower.report import load_report
from aegis_flower.simulations.provision import provision

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def levels():
    """What a project's script sets for its own process."""
    loggers = [logging.getLogger(name) for name in ("aegis", "flwr")]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def _run(folder, name, script):
    (folder / name).write_text(script)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AEGIS_", "FLWR_", "HYDRA_"))}
    done = subprocess.run(
        [sys.executable, name],
        cwd=folder,
        env={**environment, "FLWR_TELEMETRY_ENABLED": "0", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "", "nothing of Flower's, and nothing twice"
    rounds = [
        line for line in done.stdout.splitlines() if re.match(r"(round +\d+|final evaluation): 3 in the sum", line)
    ]
    assert len(rounds) == 6, "a line for each round, and one for the evaluation"
    assert re.search(r"^accuracy +\d+\.\d % ± \d+\.\d %", done.stdout.replace("\u202f", " "), re.MULTILINE), done.stdout
    *_, model, report, last = done.stdout.splitlines()
    assert model.startswith("model: ")
    assert report.startswith("report: ")
    assert "accuracy" in last and "ε" in last, last  # noqa: PT018 - the line that people copy
    return (folder / model.removeprefix("model: ")).parent


def _block(page, head):
    (script,) = re.findall(rf'```python\n("""{head}.*?)```', (ROOT / page).read_text(), re.DOTALL)
    return script


def test_the_readmes_own_model_ends_with_accuracy_epsilon_and_a_saved_model(tmp_path):
    draw = np.random.default_rng(7)
    lines = ["patient_id,age,crp,ill"]
    for at in range(900):
        age, crp = draw.integers(18, 91), draw.integers(0, 91)
        lines.append(f"P{at:04d},{age},{crp},{'ill' if age + crp > 100 else 'well'}")
    (tmp_path / "patients.csv").write_text("\n".join(lines) + "\n")
    schema = started.schema_text(tmp_path / "patients.csv", show_ranges=True)
    (tmp_path / "schema.toml").write_text(schema)
    started.drafts(tmp_path / "patients.csv", tmp_path / "schema.toml", tmp_path / "plan.yaml")
    script = _block("README.md", "Three clinics train an own model on a file")
    assert len([line for line in script.splitlines()[2:] if line.strip()]) <= 10
    folder = _run(tmp_path, "own_model.py", script)
    assert folder.parent == tmp_path / "outputs" / "clinics"
    written = load_report(folder)
    assert (written.run.status, written.run.runtime) == ("finished", "inprocess")
    assert written.results.accuracy > 0.7
    assert 2 < written.results.epsilon_max <= 3
    assert [value.shape for value in load(folder).weights.values()] == [(16, 4), (16,), (2, 16), (2,)]
    assert "| `age` | integer |" in (folder / "MODEL_CARD.md").read_text()


def test_an_own_model_trains_on_vaults_that_are_there(tmp_path):
    folder = _run(
        tmp_path, "own_vaults.py", _block("docs/how-to/own-model.md", "Three clinics train an own model on vaults")
    )
    written = load_report(folder)
    assert (written.run.status, written.run.runtime) == ("finished", "inprocess")
    assert written.results.accuracy > 0.75, "half of the clinics' rows are ill"
    assert 2 < written.results.epsilon_max <= 3
    denied = [sum(client.rows_denied.values()) for client in written.clients]
    assert denied == [1, 1, 1], "one person of each withdrew"
    assert [value.shape for value in load(folder).weights.values()] == [(16, 4), (16,), (2, 16), (2,)]


def test_a_model_that_the_client_builds_itself_is_the_one_the_server_starts_from_in_one_process(tmp_path):
    class Own(VaultClient):
        def model(self):
            return nn.Sequential(nn.Linear(30, 8), nn.Tanh(), nn.Linear(8, 2))

    cfg = compose("quickstart", ["strategy.rounds=1", "privacy.noise_multiplier=20", "tracking.html=false"])
    report = run_experiment(cfg, tmp_path / "run", client_app=aegis_client_app(Own))
    assert report.run.status == "finished"
    with np.load(tmp_path / "run" / "model.npz") as model:
        assert [model[k].shape for k in model.files] == [(8, 30), (8,), (2, 8), (2,)]


REFUSED = ["strategy.rounds=2", "privacy.noise_multiplier=20", "tracking.html=false", "policy.purpose=marketing"]


def test_a_projects_run_without_a_model_ends_with_the_exit_code_of_aegis_run(tmp_path, capsys):
    assert simulate("quickstart", REFUSED, tmp_path) == 3
    assert "core.purpose" in capsys.readouterr().err
    (report,) = tmp_path.glob("*/report.json")
    assert load_report(report).run.status == "refused"
    assert simulate("quickstart", ["privacy.epsilom=3"], tmp_path) == 2


def test_an_app_whose_rounds_gave_no_model_fails_and_leaves_its_report(tmp_path):
    cfg = compose("quickstart", REFUSED)
    nodes = [dict(n.node_config) for n in provision(cfg, tmp_path / "vaults")]
    out = tmp_path / "out"
    with pytest.raises(RunFailed, match="no round gave a model"):
        run_inprocess(aegis_server_app(cfg), aegis_client_app(config=cfg), nodes, run_config={"aegis-output": str(out)})
    close_nodes()
    assert load_report(out / "report.json").run.status == "refused"
