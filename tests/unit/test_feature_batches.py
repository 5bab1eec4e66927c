"""Feature plans on batches: the same in training and inference, labels by task, batches that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
import pytest
from plan_examples import AGE, LABEL, PLAN

from aegis_flower import features
from aegis_flower.errors import DataMismatch

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
