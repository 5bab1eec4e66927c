"""Tables through the vault: what arrives, what never leaves, what is refused."""

from __future__ import annotations

import gc
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aegis_engine.errors import (
    ObjectShredded,
    PermitExpired,
    PermitRevoked,
    PermitScope,
    TableError,
    VaultError,
    VaultTampered,
)
from aegis_engine.tables import Csv, Parquet, TableBlocks

from aegis_engine import ComplianceEngine, Request, Vault

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
csv = pytest.importorskip("pyarrow.csv")

KEY = b"SUPER_SECRET_32_BYTE_KEY_1234567"
ROWS = 3000
WITHDRAWN = range(7, ROWS, 10)


def table() -> Any:
    """Every row of every column tells its row; ``secret`` and ``name`` carry it as text."""
    rows = np.arange(ROWS)
    names = [f"<<row{n:05d}>>" for n in rows]
    return pa.table(
        {
            "age": rows.astype(np.int32),
            "dose": rows.astype(np.float32) / 2,
            "name": pa.array(names),
            "category": pa.array(names).dictionary_encode(),
            "view": pa.array(names, pa.string_view()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(rows, 4).astype(np.float32)), 4),
            "tags": pa.array([[n, f"{n}#"] for n in names]),
            "secret": pa.array([f"SECRET{n:05d}" for n in rows]),
        }
    )


APPROVED = ["age", "dose", "name", "category", "view", "embedding", "tags"]


def facts(columns: list[str], approved: list[str]) -> dict[str, Any]:
    return {
        "purposes": ["research"], "columns": columns, "approved_columns": approved, "min_rows": 1, "min_subjects": 1,
        "require_dp": False, "require_secure_aggregation": False, "budget_micro_epsilon": 10_000_000, "controller": "clinic",
    }  # fmt: skip


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.create(str(tmp_path / "vault"), key=KEY)


def governed(vault: Vault, path: Path, columns: list[str], approved: list[str], **more: Any) -> str:
    """A data set by consent, in which each row is about a person of its own."""
    vault.govern("core")
    subjects = [f"person {n}" for n in range(ROWS)]
    vault.consent_grant(subjects, "research", unknown_ok=True)
    terms = facts(columns, approved)
    return str(vault.store_table(path, subjects=subjects, classes=[("consent", None, False)], facts=terms, **more))


def permit(vault: Vault, oid: str, **asked: Any) -> Any:
    return ComplianceEngine(vault).authorize(
        oid, Request(**{"action": "train", "purpose": "research", "run": "1", **asked})
    )


def parquet(folder: Path, **how: Any) -> Path:
    path = folder / "clinic.parquet"
    pq.write_table(table(), path, **{"row_group_size": 700, "data_page_size": 2000, **how})
    return path


def commas(folder: Path) -> Path:
    path = folder / "clinic.csv"
    csv.write_csv(table().select(["age", "dose", "name", "secret"]), path)
    return path


def memory(found: Any) -> bytes:
    """Every byte that the arrays of a table can reach."""
    return b"".join(
        buffer.to_pybytes()
        for column in found.columns
        for chunk in column.chunks
        for array in (chunk, *([chunk.dictionary] if hasattr(chunk, "dictionary") else []))
        for buffer in array.buffers()
        if buffer is not None
    )


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "lz4", "gzip"])
def test_parquet_arrives_as_pyarrow_reads_it(vault: Vault, tmp_path: Path, threads: int, compression: str) -> None:
    path = parquet(tmp_path, compression=compression)
    oid = vault.store_file(str(path))
    plain = pq.read_table(path)
    found = pa.table(vault.table(oid, threads=threads, batch_rows=501))
    assert found.schema == plain.schema
    assert found.to_pylist() == plain.to_pylist()
    some = ["name", "age"]
    assert pa.table(vault.table(oid, columns=some, threads=threads)).equals(plain.select(some))


def test_csv_arrives_as_pyarrow_reads_it(vault: Vault, tmp_path: Path) -> None:
    path = commas(tmp_path)
    reader = vault.table(vault.store_file(str(path)))
    assert reader.num_rows is None
    found = pa.table(reader)
    assert found.to_pylist() == csv.read_csv(path).to_pylist()
    assert (sum(reader.blocks()), reader.num_rows) == (ROWS, ROWS)


def test_polars_and_pandas_take_a_reader(vault: Vault, tmp_path: Path) -> None:
    reader = vault.table(vault.store_file(str(parquet(tmp_path))), columns=["age", "name"])
    polars = pytest.importorskip("polars")
    assert polars.DataFrame(reader)["age"].to_list() == list(range(ROWS))
    pandas = pytest.importorskip("pandas")
    if hasattr(pandas.DataFrame, "from_arrow"):
        assert list(pandas.DataFrame.from_arrow(reader)["age"]) == list(range(ROWS))


def test_batches_and_numpy_columns_are_the_rows(vault: Vault, tmp_path: Path) -> None:
    reader = vault.table(vault.store_file(str(parquet(tmp_path))), batch_rows=256)
    batches = [pa.record_batch(batch) for batch in reader]
    assert max(batch.num_rows for batch in batches) <= 256
    assert pa.Table.from_batches(batches)["age"].to_pylist() == list(range(ROWS))
    columns = reader.to_numpy()
    assert set(columns) == {"age", "dose", "embedding"}
    assert columns["embedding"].shape == (ROWS, 4)
    assert columns["age"].dtype == np.int32
    assert columns["dose"].flags.writeable
    assert (columns["embedding"][:, 2] == np.arange(ROWS)).all()
    assert (next(iter(reader)).to_numpy()["age"] == np.arange(256)).all()


def test_missing_numbers_are_nan_or_an_error(vault: Vault, tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    days = pa.array([1, None], pa.date32())
    pq.write_table(pa.table({"f": pa.array([1.5, None]), "d": days, "i": pa.array([1, None])}), path)
    oid = vault.store_file(str(path))
    found = vault.table(oid, columns=["f", "d"]).to_numpy()
    assert np.isnan(found["f"]).tolist() == [False, True]
    assert np.isnat(found["d"]).tolist() == [False, True]
    with pytest.raises(ValueError, match='"i" has missing values'):
        vault.table(oid, columns=["i"]).to_numpy()


def test_capsules_are_freed_used_or_not(vault: Vault, tmp_path: Path) -> None:
    path = tmp_path / "large.parquet"
    pq.write_table(pa.table({"x": np.zeros(1 << 20)}), path, use_dictionary=False)  # 8 MiB
    reader = vault.table(vault.store_file(str(path)))
    batch = next(iter(vault.table(reader_id(reader), batch_rows=1 << 20)))

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def use() -> None:
        for _ in range(10):
            reader.__arrow_c_stream__()
            reader.__arrow_c_schema__()
            batch.__arrow_c_array__()
            pa.table(reader)
            pa.record_batch(batch)
            reader.to_numpy()
        gc.collect()

    use()
    before = resident()
    for _ in range(4):
        use()
    assert resident() - before < 64 << 20  # 40 leaked tables would be 320 MiB


def reader_id(reader: Any) -> str:
    return str(re.search(r"object ([0-9a-f-]+)", repr(reader))[1])  # type: ignore[index]


@pytest.mark.parametrize("every", [10, 2])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_withdrawn_row_never_leaves(vault: Vault, tmp_path: Path, every: int, threads: int) -> None:
    oid = governed(vault, parquet(tmp_path), table().column_names, APPROVED)
    gone = range(1, ROWS, every)
    for n in gone if every == 10 else gone[:200]:
        vault.consent_withdraw(f"person {n}", "research")
    gone = set(gone if every == 10 else gone[:200])
    reader = vault.table(oid, permit=permit(vault, oid), threads=threads, batch_rows=400)
    found = pa.table(reader)
    left = [n for n in range(ROWS) if n not in gone]
    assert found["age"].to_pylist() == left
    assert found["name"].to_pylist() == [f"<<row{n:05d}>>" for n in left]
    assert found["category"].to_pylist() == found["view"].to_pylist() == found["name"].to_pylist()
    assert (reader.num_rows, sum(reader.blocks())) == (len(left), len(left))
    raw = memory(found)
    assert {int(n) for n in re.findall(rb"<<row(\d{5})>>", raw)} == set(left)
    assert reader.to_numpy()["embedding"][:, 0].tolist() == left


def test_an_unapproved_column_is_never_seen(vault: Vault, tmp_path: Path) -> None:
    oid = governed(vault, parquet(tmp_path), table().column_names, APPROVED)
    granted = permit(vault, oid)
    reader = vault.table(oid, permit=granted)
    assert reader.columns == reader.schema.names == APPROVED
    found = pa.table(reader)
    assert found.column_names == APPROVED
    assert b"SECRET" not in memory(found)
    assert found.schema.metadata is None
    with pytest.raises(PermitScope, match="secret"):
        vault.table(oid, permit=granted, columns=["age", "secret"])
    with pytest.raises(PermitScope, match="only rows of it"):
        vault.open_object(oid, granted)


def test_governed_csv_keeps_its_rows_columns_and_types(vault: Vault, tmp_path: Path) -> None:
    how = Csv(types={"age": "f32"})
    oid = governed(vault, commas(tmp_path), ["age", "dose", "name", "secret"], ["age", "name"], csv=how)
    for n in WITHDRAWN:
        vault.consent_withdraw(f"person {n}", "research")
    granted = permit(vault, oid)
    # another description would shift the rows: it is refused, not passed over
    for other in ({"csv": Csv(header=False)}, {"csv": Csv(types={"age": "f64"})}, {"format": "parquet"}):
        with pytest.raises(TableError, match="governed table"):
            vault.table(oid, permit=granted, **other)
    found = pa.table(vault.table(oid, permit=granted, csv=how, format="csv"))
    left = [n for n in range(ROWS) if n not in WITHDRAWN]
    assert found["age"].type == pa.float32()
    assert found["age"].to_pylist() == left
    assert {int(n) for n in re.findall(rb"<<row(\d{5})>>", memory(found))} == set(left)
    assert b"SECRET" not in memory(found)


def test_a_permit_that_ends_stops_the_stream(vault: Vault, tmp_path: Path) -> None:
    oid = governed(vault, parquet(tmp_path), table().column_names, APPROVED)
    batches = iter(vault.table(oid, permit=permit(vault, oid), batch_rows=100))
    assert len(next(batches)) == 100
    stream = pa.RecordBatchReader.from_stream(vault.table(oid, permit=permit(vault, oid), batch_rows=100))
    assert stream.read_next_batch().num_rows == 100
    vault.consent_withdraw("person 5", "research")
    with pytest.raises(PermitRevoked):
        next(batches)
    assert list(batches) == []
    with (
        pytest.raises(pa.ArrowException, match="AEG-P008") if hasattr(pa, "ArrowException") else pytest.raises(OSError)
    ):
        stream.read_next_batch()
    short = permit(vault, oid, minutes=1 / 60)
    batches = iter(vault.table(oid, permit=short, batch_rows=10))
    assert len(next(batches)) == 10
    time.sleep(1.1)
    with pytest.raises(PermitExpired):
        next(batches)


def test_a_shredded_object_stops_the_stream(vault: Vault, tmp_path: Path) -> None:
    oid = vault.store_file(str(parquet(tmp_path)))
    batches = iter(vault.table(oid, batch_rows=100, threads=2))
    next(batches)
    vault.shred(oid)
    with pytest.raises(ObjectShredded):
        list(batches)


def test_a_tampered_chunk_is_named(vault: Vault, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": np.random.default_rng(0).random(1 << 19)}), path, use_dictionary=False)  # 4 MiB
    oid = str(vault.store_file(str(path)))
    (stored,) = Path(vault.path).glob(f"objects/*/{oid}.enc")
    raw = bytearray(stored.read_bytes())
    raw[len(raw) // 2 + (1 << 19)] ^= 1
    stored.write_bytes(raw)
    with pytest.raises(VaultTampered, match=f"chunk 2 of object {oid}"):
        list(vault.table(oid))


def test_files_that_are_no_tables_are_told_apart(vault: Vault) -> None:
    oid = vault.store_bytes(b"PAR1 and nothing else PAR1", "x.parquet")
    with pytest.raises(TableError, match="cannot be read as Parquet"):
        vault.table(oid)
    with pytest.raises(TableError, match="name the format"):
        vault.table(vault.store_bytes(b"\x00\x01", "x.bin"))
    oid = vault.store_bytes(b"a,b\n1,2\n3,private\n", "x.csv")
    with pytest.raises(TableError, match=r'line 3.*"b"') as caught:
        list(vault.table(oid, csv=Csv(types={"b": "i64"})))
    assert "private" not in str(caught.value)
    assert caught.value.code == "AEG-V062"
    oid = vault.store_bytes(b"a,b\n1,2\n3\n", "x.csv")
    with pytest.raises(TableError, match="line 3: it has 1 fields"):
        vault.table(oid)
    with pytest.raises(TableError, match='no column "c"'):
        vault.table(vault.store_bytes(b"a,b\n1,2\n", "x.csv"), columns=["c"])


def test_a_table_that_does_not_fit_its_subjects_is_not_stored(vault: Vault, tmp_path: Path) -> None:
    path, columns = parquet(tmp_path), table().column_names
    one = {"classes": [("consent", None, False)], "facts": facts(columns, APPROVED)}
    with pytest.raises(VaultError, match="3000 rows, 2 have a subject"):
        vault.store_table(path, subjects=["a", "b"], **one)
    one["facts"] = facts(columns[1:], APPROVED[1:])
    with pytest.raises(VaultError, match="columns of the facts"):
        vault.store_table(path, subjects=["a"] * ROWS, **one)
    assert vault.list() == []


def opener(path: str) -> tuple[Vault, None]:
    return Vault.open(path, key=KEY), None


@pytest.mark.parametrize("record", [Parquet(("dose", "age")), Csv(("dose", "age"))])
def test_blocks_are_the_rows_and_survive_pickling(vault: Vault, tmp_path: Path, record: Parquet | Csv) -> None:
    import functools
    import pickle

    path = parquet(tmp_path) if isinstance(record, Parquet) else commas(tmp_path)
    oid = vault.store_file(str(path))
    blocks = TableBlocks(functools.partial(opener, str(vault.path)), oid, record)
    assert sum(blocks.rows(i) for i in range(len(blocks))) == ROWS
    pickled = pickle.dumps(blocks)
    assert KEY not in pickled
    again = pickle.loads(pickled)
    read = [again.read(i) for i in range(len(again))]
    assert [list(one) for one in read] == [["dose", "age"]] * len(blocks)
    assert np.concatenate([one["age"] for one in read]).tolist() == list(range(ROWS))
    with pytest.raises(IndexError):
        blocks.read(len(blocks))


def test_a_whole_parquet_object_is_decoded_by_pyarrow_from_memory_outside_core_dumps(tmp_path):
    import io

    from aegis_engine.tables import read_parquet

    table = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    out = io.BytesIO()
    pq.write_table(table, out)
    vault = Vault.create(tmp_path / "whole", bytes(32))
    stored = vault.store_bytes(out.getvalue(), "t.parquet")
    assert read_parquet(vault, stored).equals(table)
    assert read_parquet(vault, str(stored), ["b"], threads=False).equals(table.select(["b"]))
