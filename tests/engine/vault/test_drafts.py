"""Governed tables that are written piece by piece: together or not at all, extended, and written anew without a person."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aegis_engine.errors import AegisError
from aegis_engine.types import DatasetCard

from aegis_engine import ComplianceEngine, Request, TableDraft, Vault

CLASSES = [("consent", 60_000, False)]


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    vault = Vault.create(tmp_path / "vault", os.urandom(32))
    vault.govern("core")
    return vault


def facts(columns: Sequence[str], role: str = "train") -> dict[str, Any]:
    return {
        "purposes": ["research"],
        "columns": list(columns),
        "approved_columns": list(columns),
        "min_rows": 1,
        "min_subjects": 1,
        "require_dp": True,
        "require_secure_aggregation": True,
        "budget_micro_epsilon": 10_000_000,
        "controller": "clinic",
        "role": role,
    }


def people(first: int, count: int) -> list[str]:
    return [f"patient-{first + at}" for at in range(count)]


def rows(first: int, count: int) -> pa.Table:
    numbers = range(first, first + count)
    return pa.table(
        {
            "age": pa.array([float(n) for n in numbers], pa.float64()),
            "ward": pa.array([None if n % 7 == 0 else f"ward {n % 3}" for n in numbers], pa.string()),
            "codes": pa.array([[n, n + 1][: n % 3] for n in numbers], pa.list_(pa.int32())),
        }
    )


def draft(vault: Vault, name: str, table: pa.Table, subjects: list[str]) -> TableDraft:
    made = vault.create_table(name)
    with pq.ParquetWriter(made, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=40):
            writer.write_batch(batch)
    vault.table_rows(made, subjects)
    return made


def stored(vault: Vault, name: str, first: int, count: int, **grant: Any) -> str:
    table = rows(first, count)
    made = draft(vault, name, table, people(first, count))
    terms = (made, CLASSES, facts(table.column_names), '{"columns": {}}')
    ids, _ = vault.store_tables([terms], grant=grant or {"research": None})
    return ids[0]


def permitted(vault: Vault, dataset: str) -> pa.Table:
    permit = ComplianceEngine(vault).authorize(
        dataset, Request(action="train", purpose="research", columns=["age", "ward", "codes"])
    )
    return pa.table(vault.table(dataset, permit=permit))


def test_what_is_written_is_read_under_a_permit(vault: Vault) -> None:
    dataset = stored(vault, "patients", 0, 100)
    assert permitted(vault, dataset).equals(rows(0, 100))
    card: DatasetCard = vault.card(dataset)
    assert (card["kind"], card["rows"], card["people"], card["about"]) == ("table", 100, 100, '{"columns": {}}')
    assert card["consent"] == {
        "research": {"consented": 100, "without": 0, "objected": 0, "restricted": 0, "erased": 0}
    }


def test_nothing_is_visible_before_the_tables_are_stored(vault: Vault) -> None:
    made = draft(vault, "patients", rows(0, 50), people(0, 50))
    assert vault.datasets() == {}
    made.abort()
    assert made.closed
    assert vault.list() == []
    with pytest.raises(AegisError) as refused:
        vault.store_tables([(made, CLASSES, facts(["age", "ward", "codes"]), None)])
    assert refused.value.code == "AEG-V030"


@pytest.mark.parametrize("fault", ["too few people", "no table", "erased", "other columns"])
def test_two_tables_appear_together_or_neither(vault: Vault, fault: str) -> None:
    table = rows(0, 40)
    if fault == "erased":
        stored(vault, "before", 0, 40)
        vault.consent_erase("patient-3")
    before = vault.datasets()
    good = draft(vault, "patients", rows(100, 40), people(100, 40))
    if fault == "no table":
        bad = vault.create_table("patients.holdout")
        bad.write(b"PAR1 this is no table PAR1")
        vault.table_rows(bad, people(0, 40))
    else:
        bad = draft(vault, "patients.holdout", table, people(0, 39 if fault == "too few people" else 40))
    names = ["age", "ward"] if fault == "other columns" else table.column_names
    with pytest.raises(AegisError):
        vault.store_tables(
            [(good, CLASSES, facts(table.column_names), None), (bad, CLASSES, facts(names, "holdout"), None)],
            grant={"research": None},
        )
    assert vault.datasets() == before
    with pytest.raises(AegisError):
        vault.consent_of("patient-100")


def test_consent_comes_for_those_named_and_never_over_a_withdrawal(vault: Vault) -> None:
    first = stored(vault, "first", 0, 30)
    vault.consent_withdraw("patient-3", "research")
    table = rows(0, 20)
    made = draft(vault, "second", table, people(0, 20))
    named = people(0, 10)
    _, told = vault.store_tables(
        [(made, CLASSES, facts(table.column_names), None)], grant={"research": [*named, *named]}
    )
    assert told == [("research", 0, 1)]
    assert vault.card(first)["consent"]["research"]["consented"] == 29
    assert vault.consent_of("patient-3") == (
        2,
        {"research": {"consent": False, "objected": False, "restricted": False, "erased": False}},
    )


def test_a_delivery_goes_behind_the_rows_there_are(vault: Vault) -> None:
    old = stored(vault, "patients", 0, 90)
    lineages = vault.lineages(old)
    table = rows(90, 60)
    made = draft(vault, "patients.new", table, people(80, 60))
    terms = (made, [("public_task", 60_001, True)], facts(table.column_names), None)
    (new,), told = vault.extend_tables([(old, terms)], grant={"research": None}, reason="a new law")
    assert told == [("research", 50, 0)]
    assert new != old
    assert vault.datasets() == {"patients": new}
    assert vault.lineages(new) == lineages
    assert permitted(vault, new).equals(rows(0, 150))
    card = vault.card(new)
    assert (card["rows"], card["people"], card["about"]) == (150, 140, '{"columns": {}}')
    assert [(one["basis"], one["rows"]) for one in card["classes"]] == [("consent", 90), ("public_task", 60)]
    with pytest.raises(AegisError) as gone:
        vault.card(old)
    assert gone.value.code == "AEG-V014"


def test_a_delivery_of_other_columns_changes_nothing(vault: Vault) -> None:
    old = stored(vault, "patients", 0, 30)
    table = rows(30, 30).drop_columns(["ward"])
    made = draft(vault, "patients.new", table, people(30, 30))
    terms = (made, CLASSES, facts(table.column_names), None)
    with pytest.raises(AegisError, match='in place 1 it has "ward"'):
        vault.extend_tables([(old, terms)])
    assert vault.datasets() == {"patients": old}
    assert permitted(vault, old).equals(rows(0, 30))


def test_an_erased_person_is_gone_from_a_table(vault: Vault) -> None:
    table = pa.concat_tables([rows(0, 50), rows(0, 50)])
    made = draft(vault, "patients", table, people(0, 50) * 2)
    (old,), _ = vault.store_tables([(made, CLASSES, facts(table.column_names), None)], grant={"research": None})
    receipt = vault.erase_person("patient-7")
    (entry,) = receipt["datasets"]
    assert (entry["rows"], entry["unreachable"]) == (2, False)
    new = vault.datasets()["patients"]
    assert new == entry["now"] != old
    left = pa.concat_tables([rows(0, 7), rows(8, 42)] * 2)
    assert permitted(vault, new).equals(left)
    assert vault.card(new)["rows"] == 98


def test_people_erased_by_name_only_are_dropped_on_the_way(vault: Vault) -> None:
    old = stored(vault, "patients", 0, 30)
    vault.consent_erase("patient-3")
    made = draft(vault, "more", rows(30, 10), people(30, 10))
    terms = (made, CLASSES, facts(["age", "ward", "codes"]), None)
    (new,), _ = vault.extend_tables([(old, terms)], grant={"research": None})
    assert permitted(vault, new).equals(pa.concat_tables([rows(0, 3), rows(4, 36)]))


def test_the_holdout_is_drawn_by_person_and_grows_with_its_share(vault: Vault) -> None:
    names = people(0, 4000)
    fifth, half = vault.held_out(names, 0.2), vault.held_out(names, 0.5)
    assert fifth == vault.held_out(names, 0.2)
    assert all(later for earlier, later in zip(fifth, half, strict=True) if earlier)
    assert 650 < sum(fifth) < 950
    assert vault.held_out(["patient-1", " patient-1 "], 0.5)[0] == vault.held_out([" patient-1 "], 0.5)[0]
    assert vault.held_out(names, 0.0) == [False] * 4000
    assert vault.held_out(names, 1.0) == [True] * 4000
