"""Rows of a permit as arrays for a jail: numbers as they are, texts as texts, a form that depends on no row."""

from __future__ import annotations

from pathlib import Path
from time import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from aegis_engine.tables import Csv

from aegis_engine import ComplianceEngine, Request, Vault
from aegis_flower.data import Spec
from aegis_flower.errors import DataMismatch
from aegis_flower.ingest import Terms
from aegis_flower.jail import Ended
from aegis_flower.jail.inputs import Work
from aegis_flower.jailed import blocks, rows
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


def test_a_text_is_cut_at_a_length_that_no_other_moves() -> None:
    long = "ä" * (rows.TEXT_MOST + 5)
    found = columns(pa.table({"note": ["b", long]}))
    assert found["note"].tolist() == ["b", "ä" * rows.TEXT_MOST]
    assert rows.of_block(found, np.array([0]))["note"].dtype == np.dtype("<U1")


def test_a_list_that_is_missing_or_has_a_gap_ends_no_round() -> None:
    """A refusal would tell that somebody has one."""
    kind = pa.list_(pa.float32(), 2)
    whole = columns(pa.table({"t": pa.array([[1, 2], [3, 4], [5, 6]], kind)}))
    gaps = columns(pa.table({"t": pa.array([[9, 9], [1, 2], None, [5, None]], kind).slice(1)}))
    assert whole["t"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert gaps["t"].tolist() == [[1, 2], [0, 0], [0, 0]]
    assert gaps["t.missing"].tolist() == [False, True, True]
    assert {n: v.dtype for n, v in whole.items()} == {n: v.dtype for n, v in gaps.items()}


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


def test_a_governed_table_is_read_under_its_permit_texts_and_gaps_too(tmp_path: Path) -> None:
    """Rows of people who withdrew, and columns that the permit does not open, are not among them."""
    vault = Vault.create(tmp_path / "vault", bytes(range(32)))
    vault.govern("core")
    lines = [f"{i if i % 4 else ''},{('north', 'ü')[i % 2]},no" for i in range(100)]
    (tmp_path / "p.csv").write_text("\n".join(["age,ward,private", *lines]) + "\n")
    people = [f"person-{i // 2}" for i in range(100)]
    dataset = vault.store_table(
        tmp_path / "p.csv",
        subjects=people,
        classes=[("consent", int(time()) // 86400 + 9, False)],
        facts=Terms(purposes=["research"]).facts(["age", "ward", "private"], "p", "train"),
        name="p",
        csv=Csv(types={"age": "i64", "ward": "text", "private": "text"}),
    )
    vault.consent_grant_many(sorted(set(people)), "research")
    vault.consent_withdraw("person-0", "research")
    asked = Request(action="train", purpose="research", columns=["age", "ward"])
    permit = ComplianceEngine(vault).authorize(str(dataset), asked)
    found = rows.read(vault, permit, Spec({"age": 1}, "ward", 2))
    assert set(found) == {"age", "age.missing", "ward", "ward.missing"}
    assert found["age"].tolist() == [i if i % 4 else 0 for i in range(2, 100)]
    assert found["age.missing"].tolist() == [i % 4 == 0 for i in range(2, 100)]
    assert found["ward"].tolist() == [("north", "ü")[i % 2] for i in range(2, 100)]
    places = blocks.places(vault, permit, 5)
    assert sorted(np.concatenate(places).tolist()) == list(range(98))


def test_a_vaults_rows_are_read_column_by_column(world: Any) -> None:
    client = world.client("app:sums")
    found = rows.read(client.node.vault, client.authorize("train", 1), client.spec)
    for name, values in world.governed.columns.items():
        np.testing.assert_array_equal(found[name], values)
