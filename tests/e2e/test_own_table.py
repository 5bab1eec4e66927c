"""A file of one's own in a simulation, and its model on new rows: no line of Python for the data."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn import datasets

from aegis_engine import ComplianceEngine, Request, Vault
from aegis_flower import compose, features, run_experiment
from aegis_flower.data import schema as schemas
from aegis_flower.errors import BadRows, ConfigError, DataError
from aegis_flower.importer import draft
from aegis_flower.inference import load
from aegis_flower.simulations import own_table
from aegis_flower.simulations.provision import provision

# Name, task, and the number or word that a row's label is, of sets that come with scikit-learn.
SETS = {
    "iris": ("multiclass", lambda bunch: [str(bunch.target_names[t]) for t in bunch.target]),
    "wine": ("multiclass", lambda bunch: [f"cultivar {t}" for t in bunch.target]),
    "breast_cancer": ("binary", lambda bunch: [str(bunch.target_names[t]) for t in bunch.target]),
    "diabetes": ("regression", lambda bunch: [float(t) for t in bunch.target]),
}


def written(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """The set as a CSV file of people with two rows each, with a schema and a plan as the commands draft them."""
    bunch = getattr(datasets, f"load_{name}")()
    task, labels_of = SETS[name]
    labels = labels_of(bunch)
    columns = [str(column).replace(" ", "_").split("(")[0].strip("_") for column in bunch.feature_names]
    path = folder / f"{name}.csv"
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["person_id", *columns, "target"])
        for at, (row, label) in enumerate(zip(bunch.data, labels, strict=True)):
            out.writerow([f"p{at // 2}", *row, label])
    # Ranges of a published set are public.
    found = draft(path, label="target", show_ranges=True)
    (folder / "schema.toml").write_text(schemas.write(found.schema))
    made = features.draft(schemas.read(folder / "schema.toml"))
    (folder / "plan.yaml").write_text(made.text())
    assert made.plan.label.task == task
    return path, folder / "schema.toml", folder / "plan.yaml"


def configured(folder: Path, files: tuple[Path, Path, Path], *more: str) -> object:
    path, schema, plan = files
    return compose(
        overrides=[
            "data=table",
            f"data.path={path}",
            f"data.schema={schema}",
            f"data.features={plan}",
            "data.clients=3",
            "data.partition=iid",
            "strategy.rounds=2",
            f"vault.root={folder / 'vaults'}",
            *more,
        ]
    )


@pytest.mark.parametrize("name", SETS)
def test_a_file_trains_and_its_model_predicts_new_rows(tmp_path, name):
    files = written(tmp_path, name)
    cfg = configured(tmp_path, files)
    report = run_experiment(cfg, tmp_path / "run")
    assert report.run.status == "finished"
    assert all(client.epsilon > 0 and client.rows_per_person == 2 for client in report.clients)
    assert report.files["features"] == "features.yaml"
    trained = load(tmp_path / "run")
    schema = schemas.read(files[1])
    table, _ = own_table.rows_of(files[0], schema)
    # Labels need not be there, and the order of columns does not count.
    new = table.drop_columns(["target"]).select(sorted(trained.plan.columns)).slice(0, 7)
    said = trained.predict(new)
    assert all(len(values) == 7 for values in said.values())
    # A row alone and a row among others: the same but for the order of float sums.
    assert np.allclose(trained.outputs(new.slice(2, 1)), trained.outputs(new)[2:3], atol=1e-5)
    label = trained.plan.label
    if label.task == "regression":
        assert ((said["prediction"] >= label.low) & (said["prediction"] <= label.high)).all()
    else:
        assert set(said["prediction"]) <= set(label.levels)
        chances = np.column_stack([said[f"p({level})"] for level in label.levels])
        assert np.allclose(chances.sum(axis=1), 1)
        assert [label.levels[at] for at in chances.argmax(axis=1)] == list(said["prediction"])


def test_a_person_is_at_one_node_and_on_one_side(tmp_path):
    files = written(tmp_path, "wine")
    cfg = configured(tmp_path, files, "data.partition=dirichlet", "data.withdrawn=0.1")
    nodes = provision(cfg, tmp_path / "vaults")
    whole, who = own_table.rows_of(files[0], schemas.read(files[1]))
    people, rows, granted = [], 0, 0
    for node in nodes:
        vault = Vault.open(node.node_config["aegis-vault"], key_file=node.node_config["aegis-key-file"])
        sides = {}
        for name, dataset in vault.datasets().items():
            known = np.array(vault.consent_known(sorted(set(who.to_pylist()))))
            sides[name] = vault.card(dataset)
            rows += sides[name]["rows"]
            granted += sides[name]["consent"]["research"]["consented"]
        people.append(known)
        assert sum(card["people"] for card in sides.values()) == known.sum()
        action = {"table": "train", "table.holdout": "evaluate"}
        for name, dataset in vault.datasets().items():
            permit = ComplianceEngine(vault).authorize(dataset, Request(action=action[name], purpose="research"))
            assert set(pa.table(vault.table(dataset, permit=permit)).column_names) == set(whole.column_names)
    assert (np.sum(people, axis=0) == 1).all()
    assert rows == whole.num_rows == 178
    assert 89 - 3 * 3 <= granted < 89
    # The same configuration meets the same vaults; another one does not.
    assert [node.name for node in provision(cfg, tmp_path / "vaults")] == [node.name for node in nodes]
    with pytest.raises(DataError, match="another data configuration"):
        provision(configured(tmp_path, files, "data.limit=100"), tmp_path / "vaults")


def test_vaults_are_those_of_the_files_contents_wherever_it_lies(tmp_path, monkeypatch):
    files = written(tmp_path, "iris")
    root = tmp_path / "vaults"
    provision(configured(tmp_path, files), root)
    monkeypatch.chdir(tmp_path)
    relative = tuple(Path(file.name) for file in files)
    provision(configured(tmp_path, relative), root)
    whole = files[0].read_bytes()
    files[0].write_bytes(whole + b"p0,1,1,1,1,setosa\n")
    with pytest.raises(DataError, match="vaults of other rows"):
        provision(configured(tmp_path, files), root)
    files[0].write_bytes(whole)
    provision(configured(tmp_path, files), root)
    schema = files[1].read_text()
    files[1].write_text(schema + "# a remark\n")
    with pytest.raises(DataError, match=r"data\.schema has changed"):
        provision(configured(tmp_path, files), root)
    files[1].write_text(schema)
    files[0].unlink()  # its rows are in the vaults
    provision(configured(tmp_path, files), root)


def test_a_file_that_changes_while_vaults_are_made_of_it_is_not_met_as_theirs(tmp_path, monkeypatch):
    files = written(tmp_path, "iris")
    read = own_table.read

    def changed_after(cfg):
        own = read(cfg)
        files[0].write_bytes(files[0].read_bytes() + b"p0,1,1,1,1,setosa\n")
        return own

    monkeypatch.setattr(own_table, "read", changed_after)
    provision(configured(tmp_path, files), tmp_path / "vaults")
    with pytest.raises(DataError, match="vaults of other rows"):
        provision(configured(tmp_path, files), tmp_path / "vaults")


@pytest.mark.timeout(60)
def test_a_device_is_refused_rather_than_read_without_end(tmp_path):
    files = written(tmp_path, "iris")
    with pytest.raises(DataError, match="pipe or a device"):
        provision(configured(tmp_path, (Path("/dev/zero"), *files[1:])), tmp_path / "vaults")


def test_what_is_missing_is_said_before_a_vault_is_made(tmp_path):
    files = written(tmp_path, "iris")
    root = tmp_path / "vaults"
    for override, told in (("data.path=null", "data.path"), ("data.schema=null", "data.schema")):
        with pytest.raises(ConfigError, match=told):
            provision(configured(tmp_path, files, override), root)
    files[0].write_text(files[0].read_text() + "p99,many,1,1,1,setosa\n")
    with pytest.raises(BadRows):
        provision(configured(tmp_path, files), root)
    assert [path.name for path in root.iterdir() if path.name != ".lock"] == []


def test_the_commands_lead_from_a_file_to_predictions(tmp_path):
    """As a user types them, in an own process each."""
    path, _, _ = written(tmp_path, "iris")
    (tmp_path / "schema.toml").unlink()
    (tmp_path / "plan.yaml").unlink()
    script = f"""
set -eu
aegis data schema {path.name} --show-ranges --label target > schema.toml
aegis data features schema.toml > plan.yaml
aegis run data=table data.path={path.name} data.schema=schema.toml data.features=plan.yaml \\
    data.partition=iid strategy.rounds=2 name=iris hydra.run.dir=out
aegis model show out
head -20 {path.name} | cut -d, -f1-5 > new.csv
aegis model predict out new.csv --schema schema.toml --out predictions.csv
"""
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "task: multiclass" in done.stdout
    assert "19 predictions in predictions.csv" in done.stdout
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["person_id"] for row in rows] == [f"p{at // 2}" for at in range(19)]
    assert {row["prediction"] for row in rows} <= {"setosa", "versicolor", "virginica"}
