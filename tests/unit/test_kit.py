"""`aegis_app`: one object for both sides. What does not go together is said when it is made, what is lacking before a run."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from aegis_flower import aegis_app, compose
from aegis_flower.configs import CARRIED, carry
from aegis_flower.data import Spec
from aegis_flower.data.spec import built
from aegis_flower.errors import AppError, ConfigError, DataError, RunFailed
from aegis_flower.report import load_report

QUICK = ["strategy.rounds=1", "privacy.steps_per_round=2", "tracking.html=false"]
SPEC = Spec({"x": 4}, "y", 3)


def linear(spec):
    return nn.Linear(spec.features, spec.classes)


class Net:
    def __init__(self, hidden=16):
        self.hidden = hidden


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        (lambda: "none", "none"),
        (lambda spec: spec, SPEC),
        (lambda data: data, SPEC),
        (lambda hidden=8: hidden, 8),
        (lambda hidden=8, *, spec: (hidden, spec), (8, SPEC)),
        (partial(lambda spec, hidden: (spec, hidden), hidden=2), (SPEC, 2)),
        (dict, {}),
    ],
)
def test_a_model_is_given_the_spec_where_it_asks_for_it(model, takes):
    assert built(model, lambda: SPEC) == takes
    assert built(Net, lambda: SPEC).hidden == 16


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"config": "quickstart", "name": "x"}, AppError, "leave name= out"),
        ({"model": nn.Linear(3, 2).weight}, AppError, "give the function or class that builds it"),
        ({"overrides": "a=1"}, AppError, r"overrides=\['a=1'\]"),
        ({"schema": "schema.toml"}, AppError, "go with data="),
        ({"data": "digits", "features": "plan.yaml"}, AppError, "go with data="),
        ({"client": dict, "model": linear}, AppError, "is no VaultClient"),
        ({"client": lambda context: None, "model": linear}, AppError, "builds its own"),
        ({"project": __file__}, ConfigError, "no folder above"),
        ({"losss": None}, TypeError, "losss"),
    ],
)
def test_what_does_not_go_together_is_said_when_the_app_is_made(options, error, told):
    if options.get("config") == "quickstart":
        options = {**options, "config": compose("quickstart")}
    with pytest.raises(error, match=told):
        aegis_app(**options)


def test_what_a_run_config_carries_goes_before_what_the_app_says():
    app = aegis_app(linear, experiment="quickstart", name="it's mine", overrides=["strategy.rounds=3"])
    assert (app.config().name, app.config("strategy.rounds=4").strategy.rounds) == ("it's mine", 4)
    told = compose("digits", ["strategy.rounds=7"])
    app = aegis_app(linear, experiment="quickstart", overrides=["strategy.rounds=3"])
    for carried, name, rounds in (
        ({}, "quickstart", 3),
        ({"aegis-overrides": "strategy.rounds=5"}, "quickstart", 5),
        ({CARRIED: carry(told, [], "")}, "digits", 7),
        ({"aegis-experiment": "digits"}, "digits", 3),
    ):
        cfg = app._composed(carried)
        assert (cfg.name, cfg.strategy.rounds) == (name, rounds)
    fixed = aegis_app(config=told)
    with pytest.raises(ConfigError, match="no run config changes"):
        fixed._composed({"aegis-overrides": "strategy.rounds=5"})
    with pytest.raises(ConfigError, match="which nothing changes"):
        fixed.run("strategy.rounds=5")


def test_an_app_goes_to_a_worker_by_pickle_whatever_it_was_made_of():
    """Flower loads an app once and sends it to Ray's workers, as it does in `aegis run runtime=ray` of a project."""
    from ray import cloudpickle

    app = aegis_app(
        lambda spec: nn.Linear(spec.features, 3),
        spec=SPEC,
        loss=lambda out, label: nn.functional.cross_entropy(out, label).mean(),
        optimizer=partial(torch.optim.SGD, lr=0.5),
        class_weights=[1.0, 2.0, 1.0],
        experiment="quickstart",
        overrides=["data.clients=3"],
    )
    assert app.config().data.clients == 3
    (there,) = cloudpickle.loads(cloudpickle.dumps([app.client]))
    assert set(there.handlers) == set(app.client.handlers)
    made = cloudpickle.loads(cloudpickle.dumps(app))
    assert made.model().weight.shape == (3, 4)
    assert made.config() == app.config()


def test_an_app_is_made_without_torch():
    script = (
        "import sys; from aegis_flower import aegis_app; app = aegis_app(lambda spec: spec, data='a.csv');"
        "app.client, app.server;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def _table(folder):
    rng = np.random.default_rng(1)
    lines = ["patient_id,age,crp,ill"]
    for at in range(400):
        age, crp = rng.integers(18, 90), rng.uniform(0, 90)
        lines.append(f"P{at:04d},{age},{crp:.1f},{'yes' if crp + age > 100 else 'no'}")
    (folder / "patients.csv").write_text("\n".join(lines) + "\n")


def test_missing_schema_and_plan_are_drafted_for_review_and_nothing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _table(tmp_path)
    app = aegis_app(linear, data="patients.csv", name="clinics", overrides=QUICK)
    with pytest.raises(
        ConfigError, match=r"now drafted from patients\.csv\. Review every line; nobody declared age: low, high"
    ):
        app.run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["patients.csv", "plan.yaml", "schema.toml"]
    schema = tmp_path / "schema.toml"
    schema.write_text(schema.read_text() + "# reviewed\n")
    with pytest.raises(ConfigError, match=r"plan\.yaml is a draft, and 2 of its columns .* such as age: low, high"):
        app.run()  # the draft is no plan yet
    assert schema.read_text().endswith("# reviewed\n")
    assert not (tmp_path / "outputs").exists()
    with pytest.raises(DataError, match="no such file"):
        aegis_app(linear, data="none.csv", schema="s.toml", features="p.yaml", overrides=QUICK).run()


def test_a_model_of_ones_own_trains_on_a_file_of_ones_own_and_goes_on_after_a_stop(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _table(tmp_path)
    (tmp_path / "schema.toml").write_text(
        'version = 1\n[columns.patient_id]\nkind = "text"\nrole = "subject"\n'
        '[columns.age]\nkind = "integer"\nlow = 0\nhigh = 120\n[columns.crp]\nlow = 0\nhigh = 100\n'
        '[columns.ill]\nkind = "boolean"\nrole = "label"\nmissing = false\n'
    )
    (tmp_path / "plan.yaml").write_text(
        "version: 1\ncolumns:\n  age: {kind: integer, low: 0, high: 120, missing: 60}\n"
        "  crp: {kind: number, low: 0, high: 100, missing: 50}\nlabel: {task: binary, column: ill, levels: ['false', 'true']}\n"
    )

    def model(spec):
        return nn.Sequential(nn.Linear(spec.features, 5), nn.Tanh(), nn.Linear(5, spec.classes))

    app = aegis_app(model, data="patients.csv", name="clinics", overrides=[*QUICK, "strategy.rounds=2"])

    def stop(record):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        app.run(folder="first", on_round=stop)
    report = app.run(resume="first", folder="second")
    assert report.run.status == "finished"
    assert report.clients[0].epsilon_total > report.clients[0].epsilon
    shown = capsys.readouterr().out
    assert "accuracy" in shown
    assert "model: second/model.safetensors" in shown
    trained = app.load("second")
    assert [value.shape for value in trained.weights.values()] == [(5, 4), (5,), (2, 5), (2,)]
    import pyarrow as pa

    said = trained.predict(pa.table({"age": [20, 80], "crp": [1.0, 90.0]}))
    assert set(said["prediction"]) <= {"false", "true"}
    with pytest.raises(DataError, match="not empty"):
        app.run(folder="second")
    with pytest.raises(ConfigError, match="goes on as it was"):
        app.run("strategy.rounds=3", resume="first")

    # A model with wrong outputs is refused before a row is read or anything is charged.
    wrong = aegis_app(lambda spec: nn.Linear(spec.features, 7), data="patients.csv", name="w", overrides=QUICK)
    with pytest.raises(RunFailed, match=r"7.*the report is in bad"):
        wrong.run(folder="bad")
    refused = load_report(tmp_path / "bad")
    assert all(not client.epsilon for client in refused.clients)
    assert wrong.main([]) == 1


def test_an_app_trains_on_vaults_that_are_there(tmp_path, monkeypatch):
    from aegis import Vault

    from aegis_flower import Terms
    from aegis_flower.ingest import ingest

    monkeypatch.chdir(tmp_path)
    nodes = []
    for at in range(3):
        rng = np.random.default_rng(at)
        vault = Vault.create(tmp_path / f"v{at}", key_file=f"v{at}.key", make_key=True)
        vault.govern("core")
        blood = rng.normal(size=(120, 4)).astype(np.float32)
        ill = (blood.sum(axis=1) > 0).astype(np.int64)
        ingest(
            vault, "blood", {"blood": blood, "ill": ill}, [f"p{i}" for i in range(120)], Terms(purposes=["research"])
        )
        nodes.append(
            {
                "aegis-vault": f"v{at}",
                "aegis-key-file": f"v{at}.key",
                "aegis-dataset": "blood",
                "aegis-trust-server": True,
            }
        )
    app = aegis_app(linear, spec=Spec({"blood": 4}, "ill", 2), name="blood", overrides=QUICK)
    report = app.run(folder="out", nodes=nodes)
    assert (report.run.status, len(report.clients)) == ("finished", 3)
    assert report.results.majority_class_accuracy is None, "nobody knows the rows of these vaults"
    with np.load(tmp_path / "out" / "model.npz") as model:
        assert [model[name].shape for name in model.files] == [(2, 4), (2,)]
