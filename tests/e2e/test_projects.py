"""What `aegis init` makes runs as it is made: each template in this process, two by Ray, one on SuperLink and SuperNodes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fabs import built

from aegis_flower import compose, project, projects
from aegis_flower.cli import simulate
from aegis_flower.inference import load
from aegis_flower.report import load_report
from aegis_flower.simulations.flower.deployment import Deployment, NodeSpec
from aegis_flower.simulations.provision import provision

QUICK = ["strategy.rounds=1", "privacy.steps_per_round=2", "tracking.html=false"]
# Shapes of the first array of each template's model, which the packaged models do not have.
FIRST = {
    "torch": (32, 30),
    "tabular": (2, 60),
    "images": (16, 1, 3, 3),
    "sklearn": (1, 30),
    "jax": (32,),
    "keras": (30, 32),
}


@pytest.mark.parametrize("name", list(projects.templates()))
def test_a_new_project_runs_as_made_and_its_model_comes_back(aegis, tmp_path, name):
    if lacking := projects.templates()[name].lacking:
        pytest.skip(f"{', '.join(lacking)} is not installed; `make test-keras` brings Keras")
    made = aegis("init", f"my_{name}", "--template", name)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / f"my_{name}"
    done = aegis("run", *QUICK, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (folder / "outputs" / f"my_{name}").iterdir()
    report = load_report(run)
    assert (report.run.name, report.run.status) == (f"my_{name}", "finished")
    assert all(client.epsilon > 0 for client in report.clients)
    assert {"MODEL_CARD.md", "model.safetensors", "model.npz"} <= {file.name for file in run.iterdir()}
    shapes = [value.shape for value in load(run).weights.values()]
    assert shapes[0] == FIRST[name]
    shown = aegis("model", "show", run, cwd=folder)
    assert shown.returncode == 0, shown.stderr
    own = "kind: logistic" if name == "tabular" else "kind: the app's own"
    assert own in shown.stdout


def test_rows_vaults_and_reports_do_not_travel_to_server_and_nodes(tmp_path):
    made = projects.make(tmp_path / "clinics", projects.template("tabular"))
    for file in ("outputs/clinics/1/report.json", "data/more.jsonl", "vault.json", "clinics.yaml", "notes.md"):
        (made.folder / file).parent.mkdir(parents=True, exist_ok=True)
        (made.folder / file).write_text("{}")
    inside = {name for name in built(made.folder) if not name.startswith(".info")}
    assert inside == {
        "pyproject.toml",
        "aegis.toml",
        "README.md",
        "clinics/__init__.py",
        "clinics/app.py",
        "clinics/plan.yaml",
        "clinics/conf/experiment/clinics.yaml",
    }


@pytest.mark.deployment
@pytest.mark.timeout(600)
def test_a_project_trains_on_supernodes_with_the_plan_that_came_with_it(tmp_path):
    """Its owner's machine is elsewhere: no path of it is any use at the nodes."""
    made = projects.make(tmp_path / "clinics", projects.template("tabular"))
    overrides = [*QUICK, "data.clients=3", "runtime.round_deadline=300"]
    experiment = project.read(made.folder)
    cfg = compose(experiment.experiment, overrides, experiment.config)
    before = Path.cwd()
    os.chdir(made.folder)
    try:
        nodes = provision(cfg, tmp_path / "vaults")
    finally:
        os.chdir(before)
    for file in ("schema.toml", "data/patients.csv"):
        (made.folder / file).unlink()
    out = tmp_path / "out"
    config = {"aegis-overrides": " ".join(overrides), "aegis-output": str(out)}
    with Deployment(
        tmp_path / "deployment", [NodeSpec(n.node_config) for n in nodes], startup_timeout=180
    ) as deployment:
        done = deployment.run(made.folder, config, timeout=420)
    assert done.ok, done.log[-3000:]
    report = load_report(out)
    assert (report.run.name, report.run.status, report.run.runtime) == ("clinics", "finished", "deployment")
    assert len(report.rounds[0].participants) == 3
    assert load(out).plan is not None


@pytest.mark.deployment
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_project_trains_its_own_model_by_ray(tmp_path, monkeypatch, name):
    made = projects.make(tmp_path / "clinics", projects.template(name))
    monkeypatch.chdir(made.folder)
    done = subprocess.run(
        [sys.executable, "-m", "aegis", "run", "runtime=ray", "data.clients=3", *QUICK, "hydra.run.dir=out"],
        cwd=made.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with np.load(made.folder / "out" / "model.npz") as model:
        assert model[model.files[0]].shape == FIRST[name]
    assert load_report(made.folder / "out").run.runtime == "ray"


def test_a_sweep_of_a_project_is_of_its_own_model(aegis, tmp_path):
    projects.make(tmp_path / "clinics", projects.template("torch"))
    folder = tmp_path / "clinics"
    done = aegis("run", "-m", "privacy.epsilon=2,4", *QUICK, "hydra.sweep.dir=sweep", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is not known before it ends" not in done.stdout
    for trial in ("0", "1"):
        assert load_report(folder / "sweep" / trial).run.name == "clinics"
        with np.load(folder / "sweep" / trial / "model.npz") as model:
            assert model[model.files[0]].shape == FIRST["torch"]


def test_the_packaged_experiments_still_run_from_a_script(tmp_path):
    assert simulate("quickstart", ["strategy.rounds=1", "tracking.html=false"], tmp_path) == 0
