"""Rows of a permit as arrays for a jail: numbers as they are, texts as texts, a form that depends on no row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from aegis_flower.errors import DataMismatch
from aegis_flower.jail import Ended
from aegis_flower.jail.inputs import Work
from aegis_flower.jailed import rows
from aegis_flower.jailed.pool import jail_of


def columns(table: pa.Table) -> dict[str, np.ndarray]:
    found = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        values, missing = rows._column(name, column.type, column)
        found[name] = values
        if missing is not None:
            found[name + rows.MISSING] = missing
    return found


def table(*, gaps: bool) -> pa.Table:
    return pa.table(
        {
            "age": pa.array([30, None if gaps else 31, 32], pa.int32()),
            "bmi": pa.array([20.5, None if gaps else 21.0, 22.0], pa.float64()),
            "sex": pa.array(["f", None if gaps else "m", "f"]).dictionary_encode(),
            "note": pa.array(["ü", None if gaps else "", "long text"]),
            "born": pa.array([0, None if gaps else 1, 2], pa.date32()),
            "smokes": pa.array([True, None if gaps else False, True]),
            "scan": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6.0, dtype=np.float32)), 2),
        }
    )


def test_values_and_what_is_missing_arrive_as_they_are() -> None:
    found = columns(table(gaps=True))
    assert found["age"].tolist() == [30, 0, 32]
    assert found["age.missing"].tolist() == [False, True, False]
    assert np.isnan(found["bmi"]).tolist() == [False, True, False]
    assert found["note"].tolist() == ["ü", "", "long text"]
    assert found["sex"].tolist() == ["f", "", "f"]
    assert found["born"].tolist() == [0, 0, 2]
    assert found["smokes.missing"].tolist() == [False, True, False]
    assert found["scan"].shape == (3, 2)
    assert all(values.dtype.kind in "biufU" for values in found.values())


def test_the_form_of_a_column_does_not_depend_on_whether_somebody_has_no_value() -> None:
    """Else one person's gap would change what the tasks on other people's rows get."""
    with_gaps, without = columns(table(gaps=True)), columns(table(gaps=False))
    assert {name: v.dtype for name, v in with_gaps.items()} == {name: v.dtype for name, v in without.items()}
    places = np.array([0])
    one, other = rows.of_block(with_gaps, places), rows.of_block(without, places)
    assert {name: (v.dtype, v.tolist()) for name, v in one.items()} == {
        n: (v.dtype, v.tolist()) for n, v in other.items()
    }


def test_the_width_of_a_blocks_texts_is_that_of_its_own() -> None:
    found = columns(table(gaps=False))
    assert rows.of_block(found, np.array([0]))["note"].dtype == np.dtype("<U1")
    assert rows.of_block(found, np.array([2]))["note"].dtype == np.dtype("<U9")
    assert rows.of_block(found, np.array([1]))["note"].dtype == np.dtype("<U1")  # an empty text


def test_what_no_array_holds_is_refused_by_name() -> None:
    for values in ([b"x"], [[1, 2], [3]], [{"a": 1}]):
        with pytest.raises(DataMismatch, match="'odd'"):
            columns(pa.table({"odd": values}))


def test_texts_that_take_too_much_memory_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "TEXT_BYTES", 4 * 9 * 3 - 1)
    with pytest.raises(DataMismatch, match="'note'"):
        columns(table(gaps=False))


def test_texts_arrive_in_a_jail_as_they_are(world: Any, tmp_path: Any) -> None:
    (tmp_path / "reads.py").write_text(
        "import numpy as np\n"
        "def train(parameters, rows, settings):\n"
        "    assert rows['note'].tolist() == ['ü', '', 'long text'], rows\n"
        "    assert rows['age.missing'].tolist() == [False, True, False]\n"
        "    return list(parameters.values())\n"
    )
    client = world.client("reads:train", app=tmp_path)
    with jail_of(client._place) as jail:
        result = jail.run(Work("reads:train", {"w": np.zeros(2, np.float32)}, columns(table(gaps=True))))
    assert result.ended is Ended.DONE, result.log


def test_cleared_rows_hold_nothing() -> None:
    found = columns(table(gaps=False))
    rows.clear(found)
    assert not any(np.asarray(v if v.dtype.kind != "U" else v != "").any() for v in found.values())


def test_a_vaults_rows_are_read_column_by_column(world: Any) -> None:
    client = world.client("app:sums")
    found = rows.read(client.node.vault, client.authorize("train", 1), client.spec)
    for name, values in world.governed.columns.items():
        np.testing.assert_array_equal(found[name], values)
