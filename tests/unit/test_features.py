"""Feature plans: files, first drafts from a schema, batches that are refused, and the stream of a plan."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from time import time
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
import torch
from aegis_engine.errors import PermitRevoked
from aegis_engine.tables import Csv
from torch import nn

from aegis_engine import ComplianceEngine, Request, Vault
from aegis_flower import compose, features, models
from aegis_flower.configs import ModelConfig
from aegis_flower.data import BREAST_CANCER_RANGES
from aegis_flower.data.schema import Column, Schema, described
from aegis_flower.errors import AppError, ConfigError, DataMismatch
from aegis_flower.features.categories import OneHot
from aegis_flower.features.columns import Boolean, Number
from aegis_flower.features.read import packaged
from aegis_flower.ingest import Terms
from aegis_flower.per_record.evaluation import by_record, evaluate
from aegis_flower.per_record.losses import loss_of, squared
from aegis_flower.per_record.probe import probe
from aegis_flower.stream import PermitDataset

LABEL = "label: {task: binary, column: ill, levels: ['no', 'yes']}\n"
AGE = "version: 1\ncolumns: {age: {kind: number, low: 0, high: 120}}\n"


# -- files ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version: 2\ncolumns: {}\n" + LABEL, "plan.yaml: version: 2 is not 1"),
        (AGE, "plan.yaml: label: is missing"),
        (AGE + "lable: {}\n" + LABEL, "plan.yaml: lable: no such key; did you mean label"),
        (AGE.replace("high", "hihg") + LABEL, "plan.yaml: columns.age.hihg: no such key; did you mean high"),
        (AGE.replace("number", "nubmer") + LABEL, "columns.age.kind: 'nubmer' is not one of .*; did you mean 'number'"),
        (AGE.replace(", high: 120", "") + LABEL, "columns.age.high: is missing, and needed"),
        (AGE.replace("120", "-1") + LABEL, "columns.age.low: 0 is not below high = -1"),
        (AGE.replace("120", "'120'") + LABEL, "columns.age.high: '120' is no number"),
        (AGE.replace("120", ".nan") + LABEL, "columns.age.low: low and high are finite"),
        (AGE.replace("120", "120, missing: 121") + LABEL, "columns.age.missing: 121"),
        (AGE.replace("kind: number", "kind: number, as: ids") + LABEL, "columns.age.as: 'ids' is one form too many"),
        (AGE.replace("age:", "ill:") + LABEL, "columns.ill: is the label"),
        (
            AGE + LABEL.replace("'no', 'yes'", "no, yes"),
            "label.levels: YAML takes this word for false; put it in quotes",
        ),
        (AGE + LABEL.replace(", 'yes'", ""), "label.levels: binary needs exactly 2"),
        (AGE + LABEL.replace("binary", "regression"), "label.levels: is for binary"),
        (AGE + LABEL.replace("binary", "guessing"), "label.task: 'guessing' is not one of"),
        (AGE + LABEL + "inputs: {n: [age, dose]}\n", "inputs.n: 'dose' is not one of the plan's columns"),
        (AGE + LABEL + "inputs: {label: [age]}\n", "inputs.label: is no name of an input"),
        (AGE + LABEL + LABEL, "the key 'label' is there twice"),
        (AGE + LABEL + "about: &a text\n", None),
        (AGE.replace("120", "*a") + LABEL, "plan.yaml: is no YAML of a plan: line 2 has an alias"),
        ("a: [", "plan.yaml: is no YAML of a plan"),
        ("[" * 3000, "plan.yaml: is no YAML of a plan"),
        ("", "plan.yaml: is missing"),
    ],
)
def test_a_file_is_refused_by_its_name_and_key(text: str, words: str | None) -> None:
    if words is None:
        assert features.parse(text, "plan.yaml").about == "text"
        return
    with pytest.raises(ConfigError, match=words):
        features.parse(text, "plan.yaml")


def test_ids_and_numbers_make_no_tensor_together() -> None:
    mixed = AGE.replace("}}", "}, ward: {kind: category, as: index, levels: [a, b]}}") + LABEL
    with pytest.raises(ConfigError, match=r"'ward' gives ids .* and 'age' numbers"):
        features.parse(mixed)
    split = features.parse(mixed + "inputs: {ids: [ward], numbers: [age]}\n")
    assert {at: (width, kind.name) for at, (width, kind) in split.shapes.items()} == {
        "ids": (1, "int64"),
        "numbers": (1, "float32"),
    }
    with pytest.raises(ConfigError, match="no input takes age"):
        features.parse(mixed + "inputs: {ids: [ward]}\n")


def test_a_plan_is_found_by_its_packaged_name_or_its_path(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(AGE + LABEL)
    assert features.load(str(tmp_path / "own.yaml")) == features.parse(AGE + LABEL)
    with pytest.raises(ConfigError, match="did you mean 'breast_cancer'"):
        features.load("breast_cancr")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: the plan cannot be read"):
        features.load(str(tmp_path / "nowhere.yaml"))
    (tmp_path / "own.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is no UTF-8"):
        features.load(str(tmp_path / "own.yaml"))


def test_packaged_plans_are_read_and_say_where_their_bounds_come_from() -> None:
    assert packaged() == ["breast_cancer"]
    for name in packaged():
        assert features.load(name).about
    bounds = {name: (c.low, c.high) for name, c in features.load("breast_cancer").columns.items()}  # type: ignore[attr-defined]
    assert bounds == BREAST_CANCER_RANGES


def test_a_configuration_names_a_plan_for_tables_and_only_there() -> None:
    cfg = compose(overrides=["data=table", "data.features=breast_cancer"])
    spec = features.spec_of(cfg.data)
    assert (spec.features, spec.classes, spec.plan) == (30, 2, features.load("breast_cancer"))
    with pytest.raises(ConfigError, match=r"data\.features: data=table needs a plan"):
        compose(overrides=["data=table"])
    with pytest.raises(ConfigError, match=r"data\.features: a feature plan goes with data=table"):
        compose(overrides=["data.features=breast_cancer"])


def test_reading_a_plan_imports_neither_pyarrow_nor_torch() -> None:
    code = "import sys; from aegis_flower import features; features.load('breast_cancer').spec; "
    code += "print(sorted({'pyarrow', 'torch', 'pandas', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- drafts -----------------------------------------------------------------------------------------------------------------

SCHEMA = Schema(
    columns={
        "who": Column(kind="text", role="subject"),
        "age": Column(low=0, high=120),
        "beds": Column(kind="integer", low=1, high=9, missing=False),
        "ward": Column(kind="category", levels=("north", "south")),
        "smokes": Column(kind="boolean"),
        "notes": Column(kind="text"),
        "sex": Column(kind="category", levels=("f", "m"), role="group"),
        "ill": Column(kind="category", role="label", levels=("no", "yes"), missing=False),
    }
)


def test_a_draft_takes_bounds_and_vocabularies_from_the_schema() -> None:
    found = features.draft(SCHEMA)
    assert not found.lacking
    assert list(found.plan.columns) == ["age", "beds", "ward", "smokes", "notes"]
    assert found.plan.columns["age"] == Number(low=0, high=120, missing=60)
    assert found.plan.columns["ward"] == OneHot(levels=("north", "south"), missing="slot")
    assert found.plan.label == features.Label(task="binary", column="ill", levels=("no", "yes"))
    assert features.parse(found.text()) == found.plan
    assert features.draft(described(SCHEMA.text())).plan == found.plan, "what is sealed with a data set is enough"
    features.check_promises(found.plan, SCHEMA.stored)


def test_a_draft_says_by_name_what_nobody_declared() -> None:
    columns = {
        **SCHEMA.columns,
        "dose": Column(low=0),
        "city": Column(kind="category"),
        "born": Column(kind="date"),
        "cost": Column(kind="number", role="label"),
    }
    del columns["ill"]
    found = features.draft(Schema(columns=columns))
    assert found.lacking == {
        "dose": ["high"],
        "city": ["levels"],
        "born": ["origin, low and high (time since it), or parts"],
        "cost": ["low of the label", "high of the label"],
    }
    with pytest.raises(ConfigError, match=r"dose: high; city: levels; .*cost: low of the label"):
        _ = found.plan
    text = found.text()
    assert "# TODO dose: declare high" in text
    with pytest.raises(ConfigError, match="label: is missing"):
        features.parse(text)
    done = features.parse(text + "label: {task: regression, column: cost, low: 0, high: 9}\n")
    assert list(done.columns) == ["age", "beds", "ward", "smokes", "notes"]


# -- batches ----------------------------------------------------------------------------------------------------------------

PLAN = features.parse(
    "version: 1\ncolumns:\n  age: {kind: number, low: 0, high: 120, missing: 60}\n"
    "  ward: {kind: category, levels: [north, '7']}\n  smokes: {kind: boolean}\n" + LABEL
)
TABLE = pa.table(
    {"age": [0.0, None, 240.0], "ward": ["north", "7", "x"], "smokes": [True, False, True], "ill": ["yes", "no", "yes"]}
)
WANTED = [[-1, 0, 1, 0, 0, 1], [0, 1, 0, 1, 0, 0], [1, 0, 0, 0, 1, 1]]


def test_the_same_plan_serves_training_and_inference_from_arrow_pandas_and_csv(tmp_path: Path) -> None:
    made = PLAN.apply(TABLE)
    np.testing.assert_array_equal(made.inputs["x"], WANTED)
    assert made.label is not None
    assert made.label.tolist() == [1, 0, 1]
    assert PLAN.names["x"][:2] == ["age", "age is missing"]
    blind = TABLE.drop_columns(["ill"])
    pc.write_csv(blind, tmp_path / "new.csv")
    for batch in (
        blind,
        blind.to_batches()[0],
        blind.to_pandas(),
        pd.read_csv(tmp_path / "new.csv"),
        pc.read_csv(tmp_path / "new.csv"),
    ):
        again = PLAN.apply(batch, label=False)
        np.testing.assert_array_equal(again.inputs["x"], WANTED)
        assert again.label is None


def test_whole_numbers_are_categories_by_their_text() -> None:
    plan = features.parse("version: 1\ncolumns: {n: {kind: category, levels: [1, 7]}}\n" + LABEL)
    np.testing.assert_array_equal(
        plan.apply(pa.table({"n": [7, 1, 2]}), label=False).inputs["x"], [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"age": ["a", "b", "c"]}, "column 'age' holds string, which the plan cannot take for a number"),
        ({"ward": [1.0, 2.0, 3.0]}, "column 'ward' holds double, which the plan cannot take for a category"),
        ({"ward": ["north", None, "7"]}, "column 'ward' has missing values"),
        ({"smokes": [1, 0, 1]}, "column 'smokes' holds int64, which the plan cannot take for a boolean"),
        ({"ill": ["yes", None, "no"]}, "column 'ill' has missing values"),
        ({"ill": ["yes", "secret", "no"]}, "column 'ill' has values that its plan does not know"),
        ({"age": None}, "the batch has no column 'age'"),
    ],
)
def test_a_batch_is_refused_by_the_name_of_its_column_and_without_a_value(change: dict[str, Any], words: str) -> None:
    columns = {**{name: TABLE[name] for name in TABLE.column_names}, **change}
    with pytest.raises(DataMismatch, match=words) as refused:
        PLAN.apply(pa.table({name: values for name, values in columns.items() if values is not None}))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("label", "values", "wanted"),
    [
        ("{task: multiclass, column: y, levels: [a, b, c]}", ["b", "a", "c"], [1, 0, 2]),
        ("{task: multiclass, column: y, levels: [a, b, c], missing: c, unknown: a}", ["b", None, "?"], [1, 2, 0]),
        ("{task: ordinal, column: y, levels: [a, b, c]}", ["b", "a", "c"], [[1, 0], [0, 0], [1, 1]]),
        ("{task: binary, column: y, levels: ['false', 'true']}", [True, False, True], [1, 0, 1]),
        ("{task: binary, column: y, levels: [0, 1]}", [1, 0, 1], [1, 0, 1]),
        ("{task: regression, column: y, low: 0, high: 10}", [0.0, 5.0, 99.0], [-1, 0, 1]),
        ("{task: regression, column: y, low: 0, high: 10, missing: 10}", [0, None, 5], [-1, 1, 0]),
    ],
)
def test_labels_by_task(label: str, values: list[Any], wanted: list[Any]) -> None:
    plan = features.parse(AGE + f"label: {label}\n")
    made = plan.apply(pa.table({"age": [1.0, 2.0, 3.0], "y": values})).label
    assert made is not None
    assert made.tolist() == wanted
    assert made.dtype.name == plan.spec.label_dtype
    empty = plan.empty().label
    assert empty is not None
    assert (made.shape[1:], made.dtype) == (empty.shape[1:], empty.dtype)


def test_several_flags_are_one_label() -> None:
    plan = features.parse(AGE + "label: {task: multilabel, columns: [a, b], missing: 0}\n")
    made = plan.apply(pa.table({"age": [1.0, 2.0], "a": [True, None], "b": [0, 1]})).label
    assert made is not None
    assert made.tolist() == [[1, 0], [0, 1]]
    assert (plan.spec.classes, plan.reads) == (2, ("age", "a", "b"))


# -- models and losses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", features.TASKS)
def test_the_built_in_models_fit_every_task_with_its_loss(task: str) -> None:
    label = {
        "binary": "column: y, levels: [a, b]",
        "multiclass": "column: y, levels: [a, b, c]",
        "ordinal": "column: y, levels: [a, b, c]",
        "multilabel": "columns: [y, z]",
        "regression": "column: y, low: 0, high: 1",
    }[task]
    spec = features.parse(AGE + f"label: {{task: {task}, {label}}}\n").spec
    for cfg in (ModelConfig(), ModelConfig("mlp", [4])):
        assert (
            probe(lambda cfg=cfg: models.build(cfg, spec, 1), loss_of(task), spec, torch.device("cpu")).functorch
            is False
        )


def test_the_built_in_models_refuse_inputs_that_they_cannot_take() -> None:
    ids = features.parse("version: 1\ncolumns: {w: {kind: category, as: index, levels: [a, b]}}\n" + LABEL)
    with pytest.raises(ConfigError, match="gives ids"):
        models.build(ModelConfig(), ids.spec, 1)
    two = features.parse(
        "version: 1\ncolumns: {w: {kind: category, levels: [a, b]}, n: {kind: boolean}}\ninputs: {a: [w], b: [n]}\n"
        + LABEL
    )
    with pytest.raises(ConfigError, match="takes one input, the feature plan has a, b"):
        models.build(ModelConfig(), two.spec, 1)


def test_a_picture_alone_is_an_image_to_a_model() -> None:
    plan = features.parse("version: 1\ncolumns: {scan: {kind: tensor, shape: [28, 28], low: 0, high: 255}}\n" + LABEL)
    assert plan.spec.image == (28, 28)
    models.build(ModelConfig("cnn"), plan.spec, 1)


class Mixing(nn.Module):
    """Takes two inputs, and centres one over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.of_all = nn.Linear(3, 2)

    def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.of_all(torch.cat([x["numbers"] - x["numbers"].mean(0), x["ids"].float()], 1))


def test_a_model_of_several_inputs_that_mixes_records_is_found_on_made_up_rows() -> None:
    spec = features.parse(
        "version: 1\ncolumns: {n: {kind: boolean}, a: {kind: integer, as: ids, low: 0, high: 4}, "
        "b: {kind: integer, as: ids, low: 0, high: 1}}\ninputs: {numbers: [n], ids: [a, b]}\n" + LABEL
    ).spec
    with pytest.raises(AppError, match="moves when other records change"):
        probe(Mixing, loss_of("binary"), spec, torch.device("cpu"))


class Bare(nn.Module):
    """Has parameters of its own, and takes the dict."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 2))

    def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
        return x["numbers"] @ self.weight


def test_a_module_with_parameters_takes_tensors_and_the_refusal_says_so() -> None:
    spec = features.parse(
        "version: 1\ncolumns: {n: {kind: boolean}, a: {kind: integer, as: ids, low: 0, high: 4}}\n"
        "inputs: {numbers: [n], ids: [a]}\n" + LABEL
    ).spec
    with pytest.raises(AppError, match="the dict only to modules that hold others"):
        probe(Bare, loss_of("binary"), spec, torch.device("cpu"))

    class Holds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(1, 2)

        def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.inner(x["numbers"])

    probe(Holds, loss_of("binary"), spec, torch.device("cpu"))


def test_the_squared_error_is_each_records_own() -> None:
    out, y = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0])
    assert squared(out, y).tolist() == [1, 4]
    assert by_record(squared)(out, y).tolist() == [1, 4]


# -- the stream of a plan -----------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Vault, str, pa.Table]:
    vault = Vault.create(tmp_path / "vault", bytes(range(32)))
    vault.govern("core")
    count = 500
    table = pa.table(
        {
            "age": pa.array([None if i % 7 == 0 else float(i % 150) for i in range(count)], pa.float64()),
            "ward": pa.array([("north", "7", "elsewhere")[i % 3] for i in range(count)]),
            "smokes": pa.array([i % 2 == 0 for i in range(count)]),
            "ill": pa.array([("no", "yes")[i % 5 == 0] for i in range(count)]),
            "private": pa.array([f"secret {i}" for i in range(count)]),
        }
    )
    made = vault.create_table("patients")
    with pq.ParquetWriter(made, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=90):
            writer.write_batch(batch)
    vault.table_rows(made, [f"person-{i}" for i in range(count)])
    facts = Terms(purposes=["research"]).facts(table.column_names, "patients", "train")
    classes = [("consent", int(time() // 86400) + 9, False)]
    ((dataset, *_), _) = vault.store_tables([(made, classes, facts, None)], grant={"research": None})
    vault.consent_withdraw_many(["person-0", "person-250"], "research")
    return vault, dataset, table


def permit(vault: Vault, dataset: str, columns: list[str] | None = None) -> Any:
    return ComplianceEngine(vault).authorize(
        dataset, Request(action="train", purpose="research", columns=columns or list(PLAN.reads))
    )


def test_rows_of_a_table_are_what_the_plan_makes_of_them(stored: tuple[Vault, str, pa.Table]) -> None:
    vault, dataset, table = stored
    data = PermitDataset(vault, permit(vault, dataset), PLAN.spec)
    left = [i for i in range(500) if i not in (0, 250)]
    whole = PLAN.apply(table.take(left))
    x, y = data.__getitems__(np.arange(len(data)))
    assert isinstance(x, torch.Tensor)
    np.testing.assert_array_equal(x.numpy(), whole.inputs["x"], strict=True)
    np.testing.assert_array_equal(y.numpy(), whole.label, strict=True)
    chosen = [497, 3, 3, 120]
    some, _ = data.__getitems__(chosen)
    assert isinstance(some, torch.Tensor)
    np.testing.assert_array_equal(some.numpy(), whole.inputs["x"][chosen])
    some.zero_()
    again, _ = data.__getitems__(chosen)
    assert isinstance(again, torch.Tensor)
    np.testing.assert_array_equal(again.numpy(), whole.inputs["x"][chosen], err_msg="a batch is a copy of what is kept")
    assert data.features == 6
    assert len(data.__getitems__([])[1]) == 0
    with pytest.raises(IndexError):
        data.__getitems__([498])


def test_what_is_kept_of_a_table_are_numbers_and_it_goes_with_the_permit(stored: tuple[Vault, str, pa.Table]) -> None:
    vault, dataset, _ = stored
    data = PermitDataset(vault, permit(vault, dataset), PLAN.spec)
    data.__getitems__(np.arange(len(data)))
    kept = dict(data._rows._kept)
    assert len(kept) == 6
    arrays = [a for one in kept.values() for a in (*one.inputs.values(), one.label)]
    assert {a.dtype.name for a in arrays} == {"float32", "int64"}
    assert any(a.any() for a in arrays)
    vault.consent_withdraw("person-7", "research")
    with pytest.raises(PermitRevoked):
        data.__getitems__([0])
    assert not data._rows._kept
    assert not any(a.any() for a in arrays), "cleared, not only let go"


def test_a_permit_without_the_label_gives_inputs_alone(stored: tuple[Vault, str, pa.Table]) -> None:
    vault, dataset, _ = stored
    data = PermitDataset(vault, permit(vault, dataset, list(PLAN.columns)), PLAN.spec)
    assert not data.labelled
    x, y = data.__getitems__([0, 1])
    assert isinstance(x, torch.Tensor)
    assert (x.shape, y.tolist()) == ((2, 6), [0, 0])


def test_a_model_is_evaluated_on_several_inputs_row_by_row(stored: tuple[Vault, str, pa.Table]) -> None:
    vault, dataset, table = stored
    plan = features.parse(
        "version: 1\ncolumns: {age: {kind: number, low: 0, high: 120, missing: 60}, "
        "ward: {kind: category, as: index, levels: [north]}}\n"
        "inputs: {numbers: [age], ids: [ward]}\n" + LABEL
    )

    class Picky(nn.Module):
        """Fails on a batch in which a ward is unknown."""

        def __init__(self) -> None:
            super().__init__()
            self.of_ward = nn.Embedding(1, 2)

        def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.of_ward(x["ids"][:, 0]) + 0 * x["numbers"]

    data = PermitDataset(vault, permit(vault, dataset, list(plan.reads)), plan.spec)
    found = evaluate(Picky(), loss_of("binary"), data, torch.device("cpu"), loss_max=7.0)
    unknown = sum(one != "north" for one in table["ward"].to_pylist()) - 1
    assert (found.confidence == 0).sum() == unknown
    assert 7.0 * unknown < found.loss < 7.0 * unknown + 3 * len(data)


def test_a_governed_csv_is_read_by_a_plan_too(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "vault", bytes(range(32)))
    vault.govern("core")
    lines = [f"{i if i % 4 else ''},{('north', '7')[i % 2]},2020-02-{1 + i % 29:02},no" for i in range(200)]
    (tmp_path / "p.csv").write_text("\n".join(["age,ward,seen,ill", *lines]) + "\n")
    people = [f"person-{i}" for i in range(200)]
    dataset = vault.store_table(
        tmp_path / "p.csv",
        subjects=people,
        classes=[("consent", int(time() // 86400) + 9, False)],
        facts=Terms(purposes=["research"]).facts(["age", "ward", "seen", "ill"], "p", "train"),
        name="p",
        csv=Csv(types={"age": "f64", "ward": "text", "seen": "date", "ill": "text"}),
    )
    vault.consent_grant_many(people, "research")
    plan = features.parse(
        "version: 1\ncolumns: {age: {kind: number, low: 0, high: 120, missing: 60}, ward: {kind: category, levels: [north, 7]}, "
        "seen: {kind: date, origin: 2020-01-01, low: 0, high: 366, parts: [weekday], missing: 0}}\n" + LABEL
    )
    x, y = PermitDataset(vault, permit(vault, str(dataset), list(plan.reads)), plan.spec).__getitems__(np.arange(200))
    wanted = plan.apply(pc.read_csv(tmp_path / "p.csv"))
    assert isinstance(x, torch.Tensor)
    np.testing.assert_array_equal(x.numpy(), wanted.inputs["x"])
    np.testing.assert_array_equal(y.numpy(), wanted.label)


def test_a_column_of_another_kind_is_refused_before_a_row_is_read(stored: tuple[Vault, str, pa.Table]) -> None:
    vault, dataset, _ = stored
    wrong = features.Plan(columns={"private": Boolean()}, label=PLAN.label)
    with pytest.raises(
        DataMismatch, match="column 'private' holds Utf8, which the feature plan cannot take for a boolean"
    ):
        PermitDataset(vault, permit(vault, dataset, list(wrong.reads)), wrong.spec)
