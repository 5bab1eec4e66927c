"""What pyarrow reads is read equally, or refused by name: made-up files of several writers and options."""

from __future__ import annotations

import csv as stdlib
import datetime as dt
import decimal
import io
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from aegis_engine.dataset import Block
from aegis_engine.errors import AegisError, TableError
from aegis_engine.tables import Csv, Parquet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aegis_engine import ComplianceEngine, Request, Vault

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pc = pytest.importorskip("pyarrow.csv")

_KEPT: list[Any] = []


def vault() -> Vault:
    if not _KEPT:
        folder = tempfile.TemporaryDirectory()
        _KEPT.extend([folder, Vault.create(folder.name + "/v", bytes(32))])
    return _KEPT[1]


def scratch() -> Path:
    vault()
    return Path(_KEPT[0].name)


WORDS = st.text(max_size=9) | st.just("long " * 300)
SECONDS = st.integers(-(10**9), 4 * 10**9)
NAIVE = SECONDS.map(lambda s: dt.datetime.fromtimestamp(s, dt.UTC).replace(tzinfo=None))
TYPES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    *((kind, st.integers(-128, 127)) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *((kind, st.integers(0, 255)) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.float32(), st.integers(-99, 99).map(float)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.bool_(), st.booleans()),
    *((kind, WORDS) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    *((kind, st.binary(max_size=9)) for kind in (pa.binary(), pa.large_binary())),
    (pa.binary(3), st.binary(min_size=3, max_size=3)),
    (pa.date32(), st.dates()),
    *((pa.timestamp(unit), NAIVE) for unit in ("ms", "us", "ns")),
    (pa.timestamp("us", "Europe/Paris"), SECONDS.map(lambda s: dt.datetime.fromtimestamp(s, dt.UTC))),
    (pa.time64("us"), st.times()),
    (pa.decimal128(9, 2), st.integers(-(10**8), 10**8).map(lambda n: decimal.Decimal(n).scaleb(-2))),
    (pa.list_(pa.int32()), st.lists(st.integers(-9, 9), max_size=4)),
    (pa.large_list(pa.string()), st.lists(WORDS, max_size=3)),
    (pa.list_(pa.list_(pa.string())), st.lists(st.lists(WORDS, max_size=2), max_size=2)),
    (pa.list_(pa.float32(), 2), st.lists(st.integers(-9, 9).map(float), min_size=2, max_size=2)),
    (pa.struct([("x", pa.int32()), ("y", pa.string())]), st.fixed_dictionaries({"x": st.integers(0, 9), "y": WORDS})),
    (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "bb", ""])),
    (pa.null(), st.none()),
]  # fmt: skip


@st.composite
def tables(draw: Any) -> Any:
    rows = draw(st.integers(0, 30))
    columns = {}
    for at in range(draw(st.integers(1, 4))):
        kind, values = draw(st.sampled_from(TYPES))
        some = values if draw(st.booleans()) else st.none() | values
        columns[f"c{at}"] = pa.array(draw(st.lists(some, min_size=rows, max_size=rows)), kind)
    return pa.table(columns)


OPTIONS = st.fixed_dictionaries(
    {
        "compression": st.sampled_from(["none", "snappy", "gzip", "zstd", "lz4", "brotli"]),
        "row_group_size": st.integers(1, 40),
        "use_dictionary": st.booleans(),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
        "data_page_size": st.sampled_from([64, 2**20]),
        "store_schema": st.booleans(),
        "write_page_index": st.booleans(),
        "use_deprecated_int96_timestamps": st.booleans(),
    }
)


def write(table: Any, path: Path, how: dict[str, Any], writer: str) -> None:
    if writer == "polars":
        import polars as pl

        codec = "uncompressed" if how["compression"] == "none" else how["compression"]
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        frame.write_parquet(path, compression=codec, row_group_size=how["row_group_size"])
    elif writer == "pandas":
        table.to_pandas().to_parquet(path, compression=None if how["compression"] == "none" else how["compression"])
    else:
        pq.write_table(table, path, **how)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    tables(),
    OPTIONS,
    st.sampled_from(["pyarrow", "pyarrow", "pandas", "polars"]),
    st.integers(1, 3),
    st.integers(1, 40),
)
def test_parquet_is_read_as_pyarrow_reads_it(table: Any, how: Any, writer: str, threads: int, batch_rows: int) -> None:
    path = scratch() / "t.parquet"
    try:
        write(table, path, how, writer)
        want = pq.ParquetFile(path).read()
        want.to_pylist()
    except Exception:  # noqa: BLE001 - not every writer has every type, nor pyarrow every value
        return
    stored = vault().store_file(path)
    found = pa.table(vault().table(stored, threads=threads, batch_rows=batch_rows))
    assert found.column_names == want.column_names
    for mine, theirs in zip(found.columns, want.columns, strict=True):
        if pa.types.is_timestamp(theirs.type) and mine.type != theirs.type:
            # INT96: microseconds where pyarrow has nanoseconds, with the zone that Arrow's schema names.
            assert how["use_deprecated_int96_timestamps"]
            mine, theirs = (column.cast(pa.timestamp("us")) for column in (mine, theirs))  # noqa: PLW2901
        elif not pa.types.is_dictionary(theirs.type):
            # Of a dictionary the types are those of Arrow's schema; pyarrow narrows them.
            assert mine.type == theirs.type
        assert mine.to_pylist() == theirs.to_pylist()
    for batch in vault().table(stored, batch_rows=batch_rows):
        assert 0 < len(batch) <= batch_rows


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(st.text(max_size=6), min_size=n, max_size=n), min_size=1, max_size=8)),
    st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]), st.sampled_from([stdlib.QUOTE_MINIMAL, stdlib.QUOTE_ALL]),
)  # fmt: skip
def test_csv_is_read_as_pyarrow_reads_it(rows: list[list[str]], delimiter: str, end: str, quoting: Any) -> None:
    out = io.StringIO()
    writer = stdlib.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)
    names = [f"c{n}" for n in range(len(rows[0]))]
    writer.writerow(names)
    writer.writerows(rows)
    data = out.getvalue().encode("utf-8", "surrogatepass")
    text = pc.ConvertOptions(
        column_types={name: pa.string() for name in names}, null_values=[""], strings_can_be_null=True
    )
    shape = pc.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    try:
        want = pc.read_csv(io.BytesIO(data), parse_options=shape, convert_options=text).to_pylist()
    except pa.ArrowInvalid:
        return
    how = Csv(delimiter=delimiter, types=dict.fromkeys(names, "text"))
    try:
        found = pa.table(vault().table(vault().store_bytes(data, "t.csv"), csv=how)).to_pylist()
    except pa.ArrowInvalid as refused:
        assert "[AEG-V06" in str(refused)  # noqa: PT017
        return
    assert found == want


FACES = ["table", "batches", "numpy", "block", "dataset"]


def through(face: str, stored: Any) -> int:
    """Rows as each face counts them."""
    reader = vault().table(stored)
    if face == "table":
        return pa.table(reader).num_rows
    if face == "batches":
        return sum(len(batch) for batch in reader)
    if face == "numpy":
        return len(next(iter(reader.to_numpy().values())))
    if face == "block":
        return sum(len(batch) for at in range(len(reader.blocks())) for batch in reader.block(at))
    record = Csv() if reader.format == "csv" else Parquet()
    return sum(len(next(iter(batch.values()))) for batch in vault().dataset(stored, record).batches(7))


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("columns", [1, 2, 8])
@pytest.mark.parametrize("groups", [(), (0,), (0, 5), (5, 0), (5, 0, 5), (0, 5, 0, 0, 5, 0)])
def test_groups_without_rows_are_read(face: str, columns: int, groups: tuple[int, ...], tmp_path: Path) -> None:
    schema = pa.schema([(f"c{n}", pa.int64()) for n in range(columns)])
    with pq.ParquetWriter(tmp_path / "t.parquet", schema) as writer:
        for rows in groups:
            writer.write_table(pa.table({name: np.arange(rows) for name in schema.names}, schema=schema))
    stored = vault().store_file(tmp_path / "t.parquet")
    if face == "numpy" and columns == 8:
        for threads in (1, 2, 3, 9):
            assert len(vault().table(stored, threads=threads).to_numpy()["c7"]) == sum(groups)
    assert through(face, stored) == sum(groups)


@pytest.mark.parametrize("face", FACES)
def test_a_header_alone_is_a_table_of_no_rows(face: str) -> None:
    stored = vault().store_bytes(b"a,b\n", "t.csv")
    if face == "numpy":
        assert vault().table(stored).to_numpy() == {}  # columns of text: nothing says otherwise
    elif face == "dataset":
        assert len(vault().dataset(stored, Csv())) == 0
        assert list(vault().dataset(stored, Csv()).batches(3)) == []
    else:
        assert through(face, stored) == 0


def test_a_part_without_rows_of_a_dataset_is_passed(tmp_path: Path) -> None:
    parts = []
    for at, rows in enumerate((0, 10, 0, 5)):
        table = pa.table({name: pa.array(range(rows), pa.int64()) for name in "abc"})
        pq.write_table(table, tmp_path / f"{at}.parquet")
        parts.append(str(vault().store_file(tmp_path / f"{at}.parquet")))
    dataset = vault().dataset(parts, Parquet(), shuffle=Block(2, 1))
    assert sorted(int(n) for batch in dataset.batches(4) for n in batch["a"]) == sorted([*range(10), *range(5)])


def int96(days: list[int], folder: Path, *, store_schema: bool) -> str:
    """A file whose dates are the given Julian days: what Spark writes."""
    dates = pa.array(
        np.datetime64("2024-01-01", "ns") + np.arange(len(days)) * np.timedelta64(1, "D"), pa.timestamp("ns")
    )
    path = folder / "x.parquet"
    pq.write_table(
        pa.table({"until": dates}), path, use_deprecated_int96_timestamps=True, use_dictionary=False, compression="none",
        write_statistics=False, store_schema=store_schema,
    )  # fmt: skip
    raw = path.read_bytes()
    for n, day in enumerate(days):
        known = struct.pack("<qi", 0, 2460311 + n)
        assert known in raw
        raw = raw.replace(known, struct.pack("<qi", 0, day))
    path.write_bytes(raw)
    return str(vault().store_file(path))


@pytest.mark.parametrize("face", ["table", "numpy", "dataset"])
def test_far_dates_of_int96_are_right_or_an_error_by_name(face: str, tmp_path: Path) -> None:
    # The ends of time for Spark, and the days about the ends of nanoseconds.
    want = [np.datetime64(text, "us") for text in ("9999-12-31", "0001-01-01", "2262-04-12", "1677-09-20")]
    days = [2440588 + int(date.astype("M8[D]").astype(int)) for date in want]

    def read(stored: str) -> list[Any]:
        if face == "dataset":
            return [row["until"] for row in vault().dataset(stored, Parquet())]
        if face == "numpy":
            return list(vault().table(stored).to_numpy()["until"])
        column = pa.table(vault().table(stored)).column(0)
        return list(column.cast(pa.timestamp("us")).to_numpy().astype("M8[us]"))

    assert read(int96(days, tmp_path, store_schema=False)) == want
    # Arrow's own nanoseconds keep them; what they cannot say is an error.
    near = int96([2460311, 2460312], tmp_path, store_schema=True)
    assert pa.table(vault().table(near)).schema.field(0).type == pa.timestamp("ns")
    assert read(near) == [np.datetime64("2024-01-01"), np.datetime64("2024-01-02")]
    with pytest.raises((AegisError, pa.ArrowException), match=r"\"until\" has dates out of range"):
        read(int96(days, tmp_path, store_schema=True))


def test_metadata_that_is_no_text_does_not_hide_the_data(tmp_path: Path) -> None:
    table = pa.table(
        {
            "a": pa.array([1, 2]),
            "b": pa.array(["x", "y"]).dictionary_encode(),
            "c": pa.array([1], pa.duration("ms")).take([0, 0]),
        }
    )
    field = table.schema.field(0).with_metadata({b"\xff": b"\xfe\x80"})
    schema = pa.schema([field, *list(table.schema)[1:]], {b"stats": b"\x80\x04\x95\xff", b"kept": "é".encode()})
    pq.write_table(table.cast(schema), tmp_path / "m.parquet")
    found = pa.table(vault().table(vault().store_file(tmp_path / "m.parquet")))
    assert found.schema.types == table.schema.types
    assert found.to_pylist() == table.to_pylist()
    # What is no UTF-8 of it is marked, and the rest stays.
    assert found.schema.metadata == {b"stats": b"?\x04??", b"kept": "é".encode()}


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_category_without_a_value_is_nulls(rows: int) -> None:
    """pandas writes it as a dictionary of nulls."""
    out = io.BytesIO()
    category = pd.Series(pd.Categorical([None] * rows, categories=pd.Index([], dtype=object)))
    pd.DataFrame({"c": category, "n": range(rows)}).to_parquet(out)
    found = pa.table(vault().table(vault().store_bytes(out.getvalue(), "x.parquet")))
    assert found.schema.field("c").type == pa.null()
    assert found.to_pylist() == [{"c": None, "n": n} for n in range(rows)]


def test_files_of_old_writers_are_read_or_refused_by_name() -> None:
    """What apache/parquet-testing keeps of them, made by hand: rows that the footer does not count, lists of another element type
    (old fastparquet), chunks whose size leaves out the header of the dictionary (PARQUET-816).
    """
    out = io.BytesIO()
    plain: dict[str, Any] = {"store_schema": False, "compression": "none", "write_statistics": False}
    pq.write_table(pa.table({"a": [7, 7, 8]}), out, **plain)
    raw = out.getvalue()
    (length,) = struct.unpack("<I", raw[-8:-4])

    def with_footer(*changes: tuple[bytes, bytes]) -> str:
        footer = raw[-8 - length : -8]
        for old, new in changes:
            assert footer.count(old) == 1, (old, footer)
            footer = footer.replace(old, new)
        return str(
            vault().store_bytes(raw[: -8 - length] + footer + struct.pack("<I", len(footer)) + b"PAR1", "x.parquet")
        )

    uncounted = with_footer((b"\x16\x06\x19", b"\x16\x00\x19"))
    assert pa.table(vault().table(uncounted)).to_pylist() == [{"a": 7}, {"a": 7}, {"a": 8}]
    with pytest.raises(TableError, match="old versions of fastparquet") as caught:
        vault().table(with_footer((b"\x195\x00\x06\x10", b"\x196\x00\x06\x10")))
    assert caught.value.code == "AEG-V064"
    by = pq.ParquetFile(io.BytesIO(raw)).metadata.created_by.encode()
    mr = b"parquet-mr version 1.2.8"
    for short in (1, 2, 4, 10, 14, 20):
        cut = with_footer(
            (bytes([len(by)]) + by, bytes([len(mr)]) + mr),
            (b"\x16t\x16t&D&\x08", b"\x16t\x16" + bytes([116 - 2 * short]) + b"&D&\x08"),
        )
        with pytest.raises(TableError, match="PARQUET-816") as caught:
            vault().table(cut).to_numpy()
        assert caught.value.code == "AEG-V064", short


def test_a_name_that_is_there_twice_is_two_columns(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([1, 2]), pa.array([3, 4]), pa.array(["x", "y"])], ["a", "a", "a"])
    pq.write_table(twice, tmp_path / "t.parquet")
    stored = vault().store_file(tmp_path / "t.parquet")
    assert pa.table(vault().table(stored)).equals(twice)
    columns = vault().table(stored).to_numpy()
    assert {name: list(column) for name, column in columns.items()} == {"a": [1, 2], "a_2": [3, 4]}
    with pytest.raises(TableError, match="twice"):
        vault().table(stored, columns=["a"])
    stored = vault().store_bytes(b",a,a\n7,1,2\n", "t.csv")
    assert pa.table(vault().table(stored)).to_pylist() == [{"column_0": 7, "a": 1, "a_2": 2}]


def test_the_kind_of_a_file_is_found_by_all_that_says_so(tmp_path: Path) -> None:
    one = vault()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "t")
    raw = (tmp_path / "t").read_bytes()
    assert one.table(one.store_bytes(raw, "x")).format == "parquet"
    assert one.table(one.store_bytes(b"PAR1,gene\n1,2\n", "x.csv")).columns == ["PAR1", "gene"]
    for kind, data, found in (("Text/CSV; charset=utf-8", b"a\n1\n", "csv"), ("Application/X-Parquet", raw, "parquet")):
        assert one.table(one.store_bytes(data, "x", media_type=kind)).format == found


def test_missing_numbers_are_an_error_of_this_package(tmp_path: Path) -> None:
    pq.write_table(pa.table({"i": pa.array([1, None])}), tmp_path / "t.parquet")
    with pytest.raises(TableError, match='"i" has missing values') as caught:
        vault().table(vault().store_file(tmp_path / "t.parquet")).to_numpy()
    assert caught.value.code == "AEG-V089"


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
