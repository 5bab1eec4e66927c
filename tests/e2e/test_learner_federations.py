"""Federations of models of other frameworks: trained under masks, with the privacy that each can have, and used afterwards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_own_table import written

from aegis_flower import aegis_app
from aegis_flower.data import schema as schemas
from aegis_flower.errors import ModelMismatch, RunFailed
from aegis_flower.inference import load
from aegis_flower.simulations import own_table

OFF = ["privacy=off", "policy.require_dp=false"]


def scikit(spec: Any) -> Any:
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.3, random_state=0)


def jax_model(spec: Any) -> Any:
    import jax.numpy as jnp

    from aegis_flower.learners import Jax

    def init(key: Any) -> Any:
        return {"w": jnp.zeros((spec.features, spec.classes)), "b": jnp.zeros(spec.classes)}

    return Jax(init, affine, spec)


def affine(params: Any, x: Any) -> Any:
    return x @ params["w"] + params["b"]


MODELS = {"scikit-learn": scikit, "jax": jax_model}


def app_of(model: Any, folder: Path, *more: str) -> Any:
    path, schema, plan = written(folder, "iris")
    few = [
        "data.clients=3",
        "data.partition=iid",
        "strategy.rounds=4",
        "privacy.sample_rate=0.5",
        "tracking.progress=false",
    ]
    return aegis_app(model, data=path, schema=schema, features=plan, name="iris", overrides=[*few, *more])


@pytest.mark.parametrize("name", MODELS)
def test_a_federation_trains_and_its_model_predicts_new_rows(tmp_path, name):
    app = app_of(MODELS[name], tmp_path, *OFF)
    report = app.run(folder=tmp_path / "run")
    assert report.secagg.enabled
    assert report.results.accuracy > 0.7  # three classes of equal size
    trained = app.load(tmp_path / "run")
    table, _ = own_table.rows_of(tmp_path / "iris.csv", schemas.read(tmp_path / "schema.toml"))
    said = trained.predict(table)
    assert np.mean(said["prediction"] == np.array(table["target"].to_pylist())) > 0.7
    folder = tmp_path / "export"
    trained.export(folder)
    again = load(folder, model=MODELS[name])
    assert np.array_equal(again.outputs(table), trained.outputs(table))
    with pytest.raises(ModelMismatch):  # without the app nothing says what the arrays are
        load(folder).outputs(table)
    for array in trained.weights.values():
        assert array.dtype == np.float32


@pytest.mark.parametrize(("name", "mode", "unit"), [("scikit-learn", "update", "node"), ("jax", "example", "record")])
def test_each_has_its_privacy_and_the_report_says_of_what(tmp_path, name, mode, unit):
    app = app_of(MODELS[name], tmp_path, f"privacy={mode}", "evaluation.rounds=never")
    report = app.run(folder=tmp_path / "run")
    assert (report.run.status, report.run.private) == ("finished", True)
    assert {client.unit for client in report.clients} == {unit}
    assert all(0 < client.epsilon <= 3.0 and client.noise == "secure" for client in report.clients)


def test_dp_by_record_of_an_estimator_ends_the_run_and_charges_nothing(tmp_path):
    with pytest.raises(RunFailed, match="not example"):
        app_of(scikit, tmp_path, "privacy=example").run(folder=tmp_path / "run")
    (record,) = {c.epsilon_total for c in aegis_report(tmp_path / "run").clients}
    assert not record


def aegis_report(folder: Path) -> Any:
    from aegis_flower.report import JSON_NAME, load_report

    return load_report(folder / JSON_NAME)
