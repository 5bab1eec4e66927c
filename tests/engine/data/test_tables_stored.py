"""Tables that are stored under terms: what cannot be read is refused then, and a column that is not there tells nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aegis_engine.errors import AegisError, TableError
from one_vault import pa, pq, vault

from aegis_engine import ComplianceEngine, Request, Vault


def facts(columns: list[str]) -> dict[str, Any]:
    return {
        "purposes": ["research"], "columns": columns, "approved_columns": columns[:1], "min_rows": 1, "min_subjects": 1,
        "require_dp": False, "require_secure_aggregation": False, "budget_micro_epsilon": 10_000_000, "controller": "clinic",
    }  # fmt: skip


def store(data: bytes, columns: list[str], rows: int, folder: Path, file: str = "t.csv", **more: Any) -> Any:
    path = folder / file
    path.write_bytes(data)
    return vault().store_table(
        path, subjects=[f"p{n}" for n in range(rows)], classes=[("consent", None, False)], facts=facts(columns), **more
    )


LATE = b"1\n" * 20_000


@pytest.mark.parametrize(
    ("data", "columns", "rows", "told"),
    [
        (b"a\n" + LATE + b"x\n", ["a"], 20_001, r'line 20002: the field of column "a" is no i64'),
        (b"a,b\n1,x\n2,\xe9\n", ["a", "b"], 2, r'line 3: the field of column "b" is not UTF-8'),
        (b"\xe9,b\n1,2\n", ["a", "b"], 1, "line 1: a column name is not UTF-8"),
        (b"a,b\n1,2\n3\n", ["a", "b"], 2, "line 3: it has 1 fields"),
        (b'a,b\n1,2\n3,"4\n5,6\n', ["a", "b"], 3, "line 3: a quote opens here"),
        (b"a;b\n1;2\n", ["a", "b"], 1, r"Csv\(delimiter=';'\)"),
        (b"a;b\n1,5;2\n", ["a", "b"], 1, r'Csv\(delimiter=";"\)'),
        (b"a,b\n", ["a", "b"], 0, "no rows"),
        (b"", ["a"], 0, "it is empty"),
        (b"PAR1 nonsense PAR1", ["a"], 0, "cannot be read as Parquet"),
    ],
)
def test_what_could_not_be_read_is_not_stored(
    data: bytes, columns: list[str], rows: int, told: str, tmp_path: Path
) -> None:
    before = vault().list()
    with pytest.raises(AegisError, match=told):
        store(data, columns, rows, tmp_path)
    assert vault().list() == before


def test_a_damaged_page_is_found_when_the_file_is_stored(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": np.arange(10_000)}), tmp_path / "t.parquet", compression="zstd", use_dictionary=False)
    raw = bytearray((tmp_path / "t.parquet").read_bytes())
    raw[4:40] = bytes(36)
    with pytest.raises(TableError, match=r"file .*t.parquet: it cannot be read as Parquet.*nothing was stored"):
        store(bytes(raw), ["a"], 10_000, tmp_path, "t.parquet")


def test_the_files_own_name_says_what_it_is(tmp_path: Path) -> None:
    stored = store(b"a,b\n1,2\n", ["a", "b"], 1, tmp_path, name="clinic")
    assert [one["media_type"] for one in vault().list() if one["id"] == str(stored)] == ["text/csv"]


def test_a_column_that_is_not_there_is_answered_as_one_that_is_not_approved(tmp_path: Path) -> None:
    one = Vault.create(tmp_path / "v", bytes(32))
    one.govern("core")
    one.consent_grant(["p0"], "research", unknown_ok=True)
    (tmp_path / "t.csv").write_bytes(b"a,b\n1,2\n")
    stored = one.store_table(
        tmp_path / "t.csv", subjects=["p0"], classes=[("consent", None, False)], facts=facts(["a", "b"])
    )
    engine = ComplianceEngine(one)
    answers = []
    for column in ("b", "nothing"):
        with pytest.raises(AegisError) as caught:
            engine.authorize(str(stored), Request(action="train", purpose="research", run="1", columns=["a", column]))
        answers.append((type(caught.value), caught.value.code, str(caught.value)))
    assert answers[0] == answers[1]
    # So does a table opened with a permit.
    permit = engine.authorize(str(stored), Request(action="train", purpose="research", run="1"))
    told = []
    for column in ("b", "nothing"):
        with pytest.raises(AegisError) as caught:
            one.table(stored, permit=permit, columns=[column])
        told.append((type(caught.value), caught.value.code))
    assert told[0] == told[1]
