"""Files that chance wrote: an import takes the rows that are good, or ends in one error that tells places and no value."""

from __future__ import annotations

import io
import json
import os
import struct
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aegis_flower.data.schema import Column, Schema, Source
from aegis_flower.errors import AegisError, DataError
from aegis_flower.importer import draft
from aegis_flower.importer.add import Imported, bad_lines
from aegis_flower.importer.convert import convert
from aegis_flower.importer.reading.files import read

# In each value of a row; in no name of a column, so that it is in an error only where a value is.
SECRET: Final = "Qx7Zw9"
COLUMNS = {
    "who": Column(kind="text", role="subject"),
    "x": Column(kind="integer"),
    "t": Column(kind="text"),
    "d": Column(kind="date"),
}
FUZZ = settings(
    max_examples=int(os.environ.get("AEGIS_FUZZ_EXAMPLES", "150")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def told(path: Path, source: Source) -> str:
    """All that an import and a draft say of the file."""
    schema = Schema(columns=COLUMNS, source=source)
    done, said = Imported("set"), []
    try:
        for batch in read(path, source, done.malformed):
            found = convert(batch, schema, done.bad, str)
            assert found.table.num_rows == len(found.subjects)
            assert not any(one is None or not one.strip() for one in found.subjects.to_pylist())
    except DataError as error:
        said.append(str(error))
    said += bad_lines(done)
    try:
        drafted = draft(path, source=source, alone=True)
    except AegisError as error:
        said.append(str(error))
    else:
        # The first line of a file is a row, where the file has no names; who says it has names is believed.
        said.append(repr(drafted.notes) if drafted.schema.source.header else "")
    return "\n".join(said)


CELLS = st.one_of(
    st.sampled_from(
        [
            SECRET,
            f"={SECRET}+1",
            f"=cmd|' /C {SECRET}'!A0",
            f"@SUM({SECRET})",
            f'"{SECRET}',
            f'"{SECRET}""',
            f"{SECRET}\0",
            f"\ufeff{SECRET}",
            f"{SECRET}\r",
            "1",
            "",
            "2001-01-01",
            "-0",
            "1e999",
            "9" * 400,
            "NaN",
        ]
    ),
    st.text(max_size=6).map(lambda text: f"{SECRET}{text}"),
)
NAMES = st.one_of(
    st.sampled_from(["who", "x", "t", "d", "who ", "", "=1+1", "\ufeffwho", "a\0b", "a" * 9000, 'q"q', "x\nx"]),
    st.text(max_size=4),
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])


@FUZZ
@given(
    names=st.lists(NAMES, max_size=7),
    rows=st.lists(st.lists(CELLS, max_size=7), max_size=8),
    delimiter=st.sampled_from([",", ";", "\t"]),
    end=ENDS,
    written=ENCODINGS,
    said=ENCODINGS,
)
@example(names=["who", "x", "t", "d"], rows=[[SECRET] * 4] * 3, delimiter=",", end="\n", written="utf-16", said="utf-8")
@example(names=["who", "who"], rows=[[SECRET, SECRET]], delimiter=",", end="\n", written="utf-8", said="utf-8")
def test_any_csv_is_rows_or_an_error_without_a_value(
    tmp_path: Path, names: list[str], rows: list[list[str]], delimiter: str, end: str, written: str, said: str
) -> None:
    text = end.join(delimiter.join(cells) for cells in [["who", "x", "t", "d", *names], *rows])
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode(written, "replace"))
    assert SECRET not in told(path, Source(encoding=said, delimiter=delimiter))


@FUZZ
@given(raw=st.binary(max_size=400), form=st.sampled_from(["csv", "json", "parquet", "arrow"]))
@example(raw=b"\xef\xbb\xbf", form="csv")
@example(raw=b"\0" * 300, form="csv")
@example(raw=b"PAR1" + b"\xff" * 20 + b"PAR1", form="parquet")
@example(raw=b"PAR1" + struct.pack("<I", 0xFFFFFFF0) + b"PAR1", form="parquet")
def test_any_bytes_are_an_error_or_rows(tmp_path: Path, raw: bytes, form: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(raw)
    told(path, Source(format=form))


def _parquet() -> bytes:
    rows = {"who": ["a", "b"], "x": [1, 2], "t": [SECRET, SECRET], "d": [SECRET, SECRET]}
    file = io.BytesIO()
    pq.write_table(pa.table(rows), file)
    return file.getvalue()


def _arrow() -> bytes:
    rows = pa.table({"who": ["a", "b"], "x": [1, 2], "t": [SECRET, SECRET], "d": [SECRET, SECRET]})
    file = io.BytesIO()
    with pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    return file.getvalue()


WHOLE: dict[str, bytes] = {
    "parquet": _parquet(),
    "arrow": _arrow(),
    "json": "".join(json.dumps({"who": SECRET, "x": at, "t": SECRET, "d": SECRET}) + "\n" for at in range(4)).encode(),
    "csv": f"who,x,t,d\n{SECRET},1,{SECRET},{SECRET}\n".encode() * 2,
}


@FUZZ
@given(form=st.sampled_from(sorted(WHOLE)), data=st.data())
def test_a_damaged_file_is_an_error_or_rows_and_tells_no_value(tmp_path: Path, form: str, data: Any) -> None:
    raw = bytearray(WHOLE[form])
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.bin"
    path.write_bytes(raw[: data.draw(st.integers(len(raw) * 3 // 4, len(raw)))])
    said = told(path, Source(format=form))
    assert SECRET not in said


@pytest.mark.parametrize("end", ["csv", "parquet", "arrow", "jsonl"])
def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path, end: str) -> None:
    path = tmp_path / f"a.{end}"
    form = {"jsonl": "json"}.get(end, end)
    os.mkfifo(path)
    for target in (path, Path("/dev/zero"), tmp_path / "none", tmp_path / "loop"):
        if target.name == "loop":
            target.symlink_to(target)
        with pytest.raises(DataError):
            list(read(target, Source(format=form)))
    link = tmp_path / f"link.{end}"
    link.symlink_to(path)
    with pytest.raises(DataError, match="no file"):
        list(read(link, Source(format=form)))
