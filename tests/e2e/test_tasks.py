"""Every kind of label trains with noise and masks on small published sets, is measured by declared metrics, and predicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from lifelines.datasets import load_rossi
from sklearn import datasets

from aegis_engine import Vault
from aegis_flower import compose, run_experiment
from aegis_flower.data import schema as schemas
from aegis_flower.data.schema import Column, Schema
from aegis_flower.inference import load
from aegis_flower.report import RunReport, load_report

LOUD = ["evaluation.epsilon=60", "policy.budget_epsilon=100"]  # little noise, so that small sets say something
NUMBER = "{kind: number, low: %g, high: %g}"


class Made:
    """A table as a file with its schema and plan."""

    def __init__(self, folder: Path, table: pa.Table, schema: Schema, plan: str) -> None:
        self.folder, self.table = folder, table
        pyarrow.csv.write_csv(table, folder / "rows.csv")
        (folder / "schema.toml").write_text(schemas.write(schema))
        (folder / "plan.yaml").write_text(plan)

    def run(self, *more: str) -> RunReport:
        cfg = compose(
            overrides=[
                "data=table",
                f"data.path={self.folder / 'rows.csv'}",
                f"data.schema={self.folder / 'schema.toml'}",
                f"data.features={self.folder / 'plan.yaml'}",
                "data.clients=3",
                "data.partition=iid",
                "data.holdout=0.3",
                "strategy.rounds=2",
                "model.learning_rate=0.5",
                f"vault.root={self.folder / 'vaults'}",
                *more,
            ]
        )
        return run_experiment(cfg, self.folder / "run")


def planned(columns: dict[str, tuple[float, float]], label: str) -> str:
    lines = [f"  {name}: {NUMBER % bounds}" for name, bounds in columns.items()]
    return "\n".join(["version: 1", "columns:", *lines, f"label: {label}", ""])


def numbers(columns: dict[str, np.ndarray]) -> tuple[dict[str, tuple[float, float]], dict[str, Column]]:
    bounds = {name: (float(values.min()), float(values.max())) for name, values in columns.items()}
    return bounds, {name: Column(low=low, high=high, missing=False) for name, (low, high) in bounds.items()}


def of(folder: Path, columns: dict[str, np.ndarray], labels: dict[str, tuple[Column, list]], label: str) -> Made:
    bounds, schema = numbers(columns)
    table = pa.table({**columns, **{name: values for name, (_, values) in labels.items()}})
    whole = Schema(columns={**schema, **{name: column for name, (column, _) in labels.items()}}, each_row_a_person=True)
    return Made(folder, table, whole, planned(bounds, label))


def word(levels: tuple[str, ...]) -> Column:
    return Column(kind="category", role="label", levels=levels, missing=False)


def iris(folder: Path) -> Made:
    bunch = datasets.load_iris()
    names = tuple(str(n) for n in bunch.target_names)
    columns = {f"x{i}": bunch.data[:, i] for i in range(4)}
    told = [names[t] for t in bunch.target]
    return of(folder, columns, {"kind": (word(names), told)}, f"{{task: multiclass, column: kind, levels: {[*names]}}}")


def cancer(folder: Path) -> Made:
    bunch = datasets.load_breast_cancer()
    columns = {f"x{i}": bunch.data[:, i] for i in range(10)}
    told = [("malignant", "benign")[t] for t in bunch.target]
    label = "{task: binary, column: kind, levels: [malignant, benign]}"
    return of(folder, columns, {"kind": (word(("malignant", "benign")), told)}, label)


def diabetes(folder: Path) -> Made:
    bunch = datasets.load_diabetes()
    columns = {name: bunch.data[:, i] for i, name in enumerate(bunch.feature_names)}
    target = Column(role="label", low=0, high=400, missing=False)
    label = "{task: regression, column: target, low: 0, high: 400}"
    return of(folder, columns, {"target": (target, bunch.target.tolist())}, label)


def steps(folder: Path) -> Made:
    bunch = datasets.load_diabetes()
    columns = {name: bunch.data[:, i] for i, name in enumerate(bunch.feature_names)}
    names = ("low", "middle", "high")
    told = [names[int(t > 100) + int(t > 200)] for t in bunch.target]
    return of(folder, columns, {"step": (word(names), told)}, f"{{task: ordinal, column: step, levels: {[*names]}}}")


def flags(folder: Path) -> Made:
    bunch = datasets.load_linnerud()
    columns = {name: np.tile(bunch.target[:, i], 9) for i, name in enumerate(bunch.target_names)}
    flag = Column(kind="boolean", role="label", missing=False)
    median = np.median(bunch.data, axis=0)
    told = {
        name: (flag, np.tile(bunch.data[:, i] > median[i], 9).tolist()) for i, name in enumerate(bunch.feature_names)
    }
    return of(folder, columns, told, f"{{task: multilabel, columns: {[*told]}}}")


def rossi(folder: Path) -> Made:
    """Weeks to the next arrest after a release from prison, censored after a year (Rossi, Berk and Lenihan 1980)."""
    frame = load_rossi()
    columns = {name: frame[name].to_numpy(float) for name in ("age", "prio", "fin", "wexp", "mar", "paro")}
    label = "{task: time-to-event, column: week, event: arrest, edges: [13, 26, 39, 52]}"
    week = Column(role="label", low=0, high=60, missing=False)
    arrest = Column(kind="boolean", role="label", missing=False)
    told = {"week": (week, frame.week.astype(float).tolist()), "arrest": (arrest, (frame.arrest == 1).tolist())}
    return of(folder, columns, told, label)


TASKS: dict[str, tuple[Callable[[Path], Made], list[str], set[str]]] = {
    "binary": (cancer, ["auroc", "f1", "brier", "loss"], {"auroc", "f1", "brier", "loss"}),
    "multiclass": (iris, ["accuracy", "recall"], {"accuracy", "recall"}),
    "multilabel": (flags, ["f1", "loss"], {"f1", "loss"}),
    "ordinal": (steps, ["accuracy", "precision"], {"accuracy", "precision"}),
    "regression": (diabetes, ["mae", "rmse", "loss"], {"mae", "rmse", "loss"}),
    "time-to-event": (rossi, ["auroc", "brier", "c-index", "loss"], {"auroc", "brier", "c-index", "loss"}),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_trains_is_measured_with_noise_and_masks_and_predicts(tmp_path: Path, task: str) -> None:
    make, names, wanted = TASKS[task]
    made = make(tmp_path)
    report = made.run(f"evaluation.metrics=[{','.join(names)}]", *LOUD)
    assert report.run.status == "finished"
    assert report.run.private
    told = {m.name: m for m in report.results.metrics}
    assert wanted <= told.keys()
    assert all(told[name].sd is not None and told[name].sd > 0 for name in wanted)
    assert load_report(tmp_path / "run").results.metrics == report.results.metrics
    assert all(client.evaluation is not None and client.evaluation.epsilon > 0 for client in report.clients)
    trained = load(tmp_path / "run")
    assert trained.plan is not None
    assert trained.plan.label.task == task
    said = trained.predict(made.table.slice(0, 9))
    assert all(len(values) == 9 for values in said.values())


def test_what_a_task_tells_without_noise_is_what_the_model_says_of_the_rows(tmp_path: Path) -> None:
    """The sums of three nodes' held-out rows against the model on those rows, by scikit-learn's own arithmetic."""
    made = rossi(tmp_path)
    report = made.run("privacy=off", "policy.require_dp=false", "strategy.rounds=12")
    told = {m.name: m.value for m in report.results.metrics}
    assert set(told) == {"test-rows", "auroc", "loss"}
    assert told["auroc"] > 0.52
    assert 0.3 < told["loss"] < 2.0


def test_a_number_without_a_list_is_told_by_its_mean_absolute_error(tmp_path: Path) -> None:
    report = diabetes(tmp_path).run(*LOUD)
    told = {m.name: m for m in report.results.metrics}
    assert set(told) == {"test-rows", "loss", "mae"}
    assert abs(told["mae"].value - 65) < 6 * (told["mae"].sd or 0) + 40
    assert report.results.accuracy is None


def grouped(folder: Path, role: str = "group") -> Made:
    made = cancer(folder)
    part = ["f" if i % 3 else "m" for i in range(made.table.num_rows)]
    table = made.table.append_column("sex", pa.array(part))
    old = schemas.read(folder / "schema.toml")
    sex = Column(kind="category", role=role, levels=("f", "m"), missing=False)  # type: ignore[arg-type]
    schema = Schema(columns={**old.columns, "sex": sex}, each_row_a_person=True)
    return Made(folder, table, schema, (folder / "plan.yaml").read_text())


BY_SEX = ["evaluation.group=sex", "evaluation.groups=[f,m]"]


def test_metrics_by_group_are_told_with_the_noise_of_their_own(tmp_path: Path) -> None:
    made = grouped(tmp_path)
    report = made.run(*BY_SEX, "privacy=off", "policy.require_dp=false")
    rows = {m.group: m.value for m in report.results.metrics if m.name == "test-rows"}
    assert set(rows) == {None, "f", "m"}  # of all others there are none
    assert rows["f"] + rows["m"] == rows[None] == report.results.test_rows
    assert 1.4 < rows["f"] / rows["m"] < 2.9


def test_a_group_is_told_only_with_its_column_in_the_permit(tmp_path: Path) -> None:
    made = grouped(tmp_path)
    report = made.run(*BY_SEX, *LOUD)
    assert {m.group for m in report.results.metrics} >= {None, "f", "m"}
    assert all(m.sd for m in report.results.metrics if m.name == "accuracy")
    from aegis_flower.simulations.provision import provision

    (node, *_) = provision(compose_again(made), tmp_path / "vaults")
    vault = Vault.open(str(node.node_config["aegis-vault"]), key_file=str(node.node_config["aegis-key-file"]))
    asked = {r["action"]: set(r["columns"]) for r in vault.audit_records("authorize")}
    assert "sex" in asked["evaluate"]
    assert "sex" not in asked["train"]
    (release,) = [r for r in vault.audit_records("release") if r.get("counts")]
    blocks = release["counts"]["blocks"]
    assert [b["cap"] for b in blocks] == [1, 1, 10_000]
    assert blocks[0]["names"] == ["examples@0", "examples@1", "examples@2"]


def compose_again(made: Made) -> object:
    from aegis_flower.configs import from_dict

    return from_dict(load_report(made.folder / "run").config.resolved)


@pytest.mark.parametrize(
    ("role", "more", "told"),
    [
        ("feature", BY_SEX, 'it needs role = "group"'),
        ("group", ["evaluation.group=sex", "evaluation.groups=[f,x]"], "which the schema does not declare"),
        ("group", ["evaluation.group=age", "evaluation.groups=[f]"], "do not approve"),
    ],
)
def test_a_group_that_is_none_is_refused_before_a_row_is_read(
    tmp_path: Path, role: str, more: list[str], told: str
) -> None:
    made = grouped(tmp_path, role)
    report = made.run(*more, "evaluation.rounds=every")
    assert report.run.status == "failed"
    assert any(told in r.reason for c in report.clients for r in c.refusals)
    assert all(not c.mechanisms for c in report.clients)
