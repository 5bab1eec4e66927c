"""Feature plans: files, and first drafts from a schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from plan_examples import AGE, LABEL

from aegis_flower import compose, features
from aegis_flower.data import BREAST_CANCER_RANGES
from aegis_flower.data.schema import Column, Schema, described
from aegis_flower.errors import ConfigError, DataMismatch
from aegis_flower.features.categories import OneHot
from aegis_flower.features.columns import Number
from aegis_flower.features.read import packaged

# -- files ------------------------------------------------------------------------------------------------------------------

TOKENS = "version: 1\ncolumns: {t: {kind: list, as: ids, length: 3, low: 3, high: 9, pad: 2, unknown: 1}}\n"
NEXT = "label: {task: next-token, column: t, length: 3, low: 3, high: 9}\n"


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
        (AGE + NEXT, "columns.t: is to be a list as ids of length 3"),
        (TOKENS.replace("length: 3", "length: 4") + NEXT, "columns.t: is to be a list as ids of length 3"),
        (TOKENS + NEXT.replace("length: 3, ", ""), "label.length: is for next-token, and needed there"),
        (TOKENS + NEXT.replace("high: 9", "high: 9.5"), "label.high: low to high are whole numbers"),
        (TOKENS + NEXT.replace("high: 9", "high: .inf"), "label.high: low to high are whole numbers"),
        (
            TOKENS + NEXT.replace("high: 9", "missing: empty"),
            "label.high: is for regression and next-token, and needed",
        ),
        (AGE + LABEL.replace("column:", "length: 3, column:"), "label.length: is for next-token"),
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


def test_the_label_of_a_place_is_the_token_after_it() -> None:
    rows = [[3, 4, 5, 6, 7], [9, 3], [4], [], [3, 10, 2, 9], None]
    table = pa.table({"t": pa.array(rows, pa.list_(pa.int64()))})
    plan = features.parse(
        TOKENS.replace("unknown: 1", "unknown: 1, missing: empty") + NEXT.replace("low", "missing: empty, low")
    )
    made = plan.apply(table)
    assert made.inputs["x"].tolist() == [[3, 4, 5], [9, 3, 2], [4, 2, 2], [2, 2, 2], [3, 1, 1], [2, 2, 2]]
    assert made.label is not None
    assert made.label.tolist() == [[1, 2, 3], [0, -1, -1], [-1] * 3, [-1] * 3, [-1, -1, 6], [-1] * 3]
    assert (plan.spec.classes, plan.label.given, plan.label.width, plan.reads) == (7, (7, 3), 3, ("t",))
    assert plan.empty().label.shape == (0, 3)  # type: ignore[union-attr]
    with pytest.raises(DataMismatch, match="missing values"):
        features.parse(TOKENS + NEXT).apply(table)
    outputs = np.zeros((2, 7, 3))
    outputs[0, 6, 0] = outputs[1, 2, 2] = 1.0
    assert {k: v.tolist() for k, v in plan.label.decode(outputs).items()} == {
        "after 1": [9, 3],
        "after 2": [3, 3],
        "after 3": [3, 5],
    }
    assert features.parse(features.write(plan)).sha256 == plan.sha256
