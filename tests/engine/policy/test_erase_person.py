"""A person can be erased: their rows are unreadable, everybody else's are as they were, and a receipt says what was reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aegis_engine.errors import AegisError, InsufficientAssurance, ObjectShredded

from aegis_engine import ComplianceEngine, Request, Vault, audit_read
from aegis_flower.ingest import Terms, ingest

KEY = bytes(32)
N = 5000  # several chunks of 64 KiB


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault.create(str(tmp_path / "v"), key=KEY)
    made.govern("core")
    return made


def take_in(vault: Vault, name: str, people: list[str], **more: Any) -> str:
    columns = {"x": np.tile(np.arange(len(people), dtype=np.float32)[:, None], (1, 9)), "y": np.arange(len(people))}
    return ingest(vault, name, columns, people, Terms(purposes=["research"]), **more)


def read(vault: Vault, dataset: str) -> list[int]:
    permit = ComplianceEngine(vault).authorize(dataset, Request(action="train", purpose="research"))
    reader = vault.records(permit)
    out = np.zeros(permit.rows, np.dtype([("x", "<f4", (9,)), ("y", "<i8")]))
    ids = list(range(permit.rows)) if permit.rows else []
    reader.read_rows(np.array(ids, np.uint32), out)
    assert (out["x"] == out["y"][:, None]).all()
    return [int(value) for value in out["y"]]


def test_the_rows_are_gone_and_all_others_are_as_they_were(vault: Vault) -> None:
    people = [f"p{i % 50}" for i in range(N)]
    first, second = take_in(vault, "a", people), take_in(vault, "b", ["p7", "p99"])
    other = take_in(vault, "c", ["p98"])
    receipt = vault.erase_person(" p7 ")
    told = {entry["name"]: entry for entry in receipt["datasets"]}
    assert {name: entry["rows"] for name, entry in told.items()} == {"a": N // 50, "b": 1}
    assert receipt["epoch_after"] > receipt["epoch_before"]
    assert any("models" in caveat for caveat in receipt["caveats"])
    now = vault.datasets()
    assert now == {"a": told["a"]["now"], "b": told["b"]["now"], "c": other}
    assert read(vault, now["a"]) == [i for i in range(N) if i % 50 != 7]
    assert read(vault, now["b"]) == [1]
    for old in (first, second):
        with pytest.raises(ObjectShredded):
            vault.stat(old)
        assert not list((Path(vault.path) / "objects").rglob(f"{old}*"))
    with pytest.raises(AegisError) as error:
        take_in(vault, "d", ["p7"])
    assert error.value.code == "AEG-P016"
    assert Vault.fsck(vault.path, key=KEY)["clean"]
    assert Vault.open(vault.path, key=KEY).datasets() == now


def test_terms_and_spent_budget_stay_with_the_data_set(vault: Vault) -> None:
    dataset = take_in(vault, "a", ["p1", "p2", "p3"])
    before = ComplianceEngine(vault).terms(dataset)
    vault.erase_person("p1")
    assert ComplianceEngine(vault).terms(vault.datasets()["a"]) == before
    take_in(vault, "b", ["p2"])
    assert vault.lineage("b") == before["lineage"]


def test_a_data_set_of_that_person_alone_is_shredded(vault: Vault) -> None:
    dataset = take_in(vault, "a", ["p1", "p1"])
    about = vault.store_bytes(b"letter", "letter", subject="p1")
    receipt = vault.erase_person("p1")
    assert [entry["now"] for entry in receipt["datasets"]] == [None]
    assert receipt["objects"] == [str(about)]
    assert vault.list() == []
    with pytest.raises(ObjectShredded):
        vault.stat(dataset)


def test_a_holdout_is_reached_too(vault: Vault) -> None:
    take_in(vault, "a", ["p1", "p2"])
    take_in(vault, "a.holdout", ["p1", "p3"])
    assert len(vault.erase_person("p1")["datasets"]) == 2
    assert [read(vault, vault.datasets()[name]) for name in ("a", "a.holdout")] == [[1], [1]]


def test_the_decision_is_on_record_without_the_person(vault: Vault) -> None:
    take_in(vault, "a", ["patient-7", "p2"])
    vault.erase_person("patient-7")
    (record,) = vault.audit_records("erase")
    assert (record["datasets"], record["unreachable"]) == (1, 0)
    log = b"".join(f.read_bytes() for f in (Path(vault.path) / "audit").iterdir())
    assert b"patient-7" not in log
    assert audit_read(str(Path(vault.path) / "consent"))[-1]["event"] == "consent.erase"


def test_somebody_unknown_and_a_level_out_of_reach_change_nothing(vault: Vault) -> None:
    take_in(vault, "a", ["p1", "p2"])
    before = audit_read(str(Path(vault.path) / "consent"))
    with pytest.raises(AegisError, match="without a row") as error:
        vault.erase_person("P-nobody")
    assert error.value.code == "AEG-P014"
    with pytest.raises(InsufficientAssurance):
        vault.erase_person("p1", require="kms")
    assert audit_read(str(Path(vault.path) / "consent")) == before


def test_rows_in_tables_go_and_a_table_of_text_becomes_parquet(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n2\n3\n")
    facts = Terms(purposes=["research"]).facts(["a"], "t", "train")
    people = ["p1", "p2", "p3"]
    stored = str(
        vault.store_table(str(tmp_path / "t.csv"), subjects=people, classes=[("consent", None, False)], facts=facts)
    )
    vault.consent_grant(people, "research")
    receipt = vault.erase_person("p2")
    now = vault.datasets()["t.csv"]
    assert receipt["datasets"] == [{"dataset": stored, "now": now, "name": "t.csv", "rows": 1, "unreachable": False}]
    assert not any("table" in caveat for caveat in receipt["caveats"])
    permit = ComplianceEngine(vault).authorize(now, Request(action="train", purpose="research"))
    table = vault.table(now, permit=permit)
    assert (permit.rows, table.format) == (2, "parquet")
    assert table.to_numpy()["a"].tolist() == [1, 3]
    with pytest.raises(AegisError):
        vault.stat(stored)


def test_shredding_a_subject_points_to_the_erasure_of_their_rows(vault: Vault) -> None:
    take_in(vault, "a", ["p1", "p2"])
    with pytest.raises(AegisError, match="erase-person") as error:
        vault.shred_subject("p1")
    assert error.value.code == "AEG-V037"
    vault.store_bytes(b"letter", "letter", subject="p1")
    assert any("erase-person" in caveat for caveat in vault.shred_subject(" p1")["caveats"])
    assert read(vault, vault.datasets()["a"]) == [0, 1]


def test_no_bundle_brings_erased_rows_back(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    core = Path(__file__).parents[3] / "aegis_engine" / "crates" / "policy" / "policies" / "core"
    (folder / "schema.cedarschema").write_text((core / "schema.cedarschema").read_text())
    (folder / "all.cedar").write_text('@id("all") @advice("-") permit (principal, action, resource);')
    vault = Vault.create(str(tmp_path / "w"), key=KEY)
    vault.govern(str(folder))
    dataset = take_in(vault, "a", ["p1", "p2"])
    vault.consent_erase("p1")
    told = ComplianceEngine(vault).explain(dataset, Request(action="train", purpose="research"))
    assert (told["rows"], told["denied"]) == (1, {"engine.erased": 1})
