"""Reading files and converting values: lines are exact, no value changes silently, and none is in a message."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_flower.data.schema import Column, Schema, Source
from aegis_flower.errors import DataError
from aegis_flower.importer.convert import Bad, convert
from aegis_flower.importer.reading.batches import Batch, Malformed
from aegis_flower.importer.reading.files import format_of, read

FIELDS = st.text(st.sampled_from('ab1;, "\n.é'), max_size=6)


def written(path: Path, rows: list[list[str]], **how: Any) -> list[int]:
    """Writes rows as CSV; gives the line on which each starts."""
    out, lines, line = io.StringIO(), [], 1
    for row in rows:
        before = out.tell()
        csv.writer(out, lineterminator="\n", **how).writerow(row)
        lines.append(line)
        line += out.getvalue()[before:].count("\n")
    path.write_text(out.getvalue(), encoding="utf-8", newline="")
    return lines


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(FIELDS, min_size=1, max_size=4), min_size=1, max_size=30))
def test_every_row_is_read_and_its_line_is_known(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    """Two columns; rows of other lengths are no rows, and said to be on the line where they start."""
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    # A row that is malformed and has line ends in its fields moves the lines after it: its fields are not known.
    rows = [row if len(row) == 2 else [field.replace("\n", " ") for field in row] for row in rows]
    lines = written(path, [["first", "second"], *rows], quoting=csv.QUOTE_ALL)[1:]
    malformed = Malformed()
    batches = list(read(path, Source(nulls=()), malformed))
    found = [
        (line, [column[row].as_py() for column in batch.columns.values()])
        for batch in batches
        for row, line in enumerate(batch.lines or [])
    ]
    wanted = [(line, row) for line, row in zip(lines, rows, strict=True) if len(row) == 2 and any(row)]
    assert found == [(line, [field or None for field in row]) for line, row in wanted]
    assert malformed.lines == [line for line, row in zip(lines, rows, strict=True) if len(row) != 2]
    assert malformed.count == len(malformed.lines)


def test_without_leave_to_skip_the_first_odd_line_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\nsecret,4,5\n")
    with pytest.raises(DataError) as refused:
        list(read(path, Source()))
    assert "secret" not in str(refused.value)
    assert "x.csv" in str(refused.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_other_encodings_read_as_what_they_say(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("naïve,b\nÄ,1\n".encode(encoding))
    (batch,) = read(path, Source(encoding=encoding))
    assert {name: column.to_pylist() for name, column in batch.columns.items()} == {"naïve": ["Ä"], "b": ["1"]}


@pytest.mark.parametrize("text", ["Ä,b\n1,2\n", "a,b\n1,Ä\n"])
def test_bytes_of_another_encoding_are_said_to_be_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="latin-1"):
        list(read(path, Source()))


def test_the_delimiter_that_a_file_seems_to_have_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a;b\n1;2\n")
    with pytest.raises(DataError, match="';'"):
        list(read(path, Source()))


def test_every_format_reads_the_same_rows(tmp_path: Path) -> None:
    table = pa.table({"n": [1, 2, 3], "word": ["x", None, "y"]})
    pq.write_table(table, tmp_path / "t.parquet")
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    with pa.OSFile(str(tmp_path / "s.arrow"), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    for name in ("t.parquet", "t.arrow", "s.arrow", "t.jsonl"):
        path = tmp_path / name
        (batch,) = read(path, Source(format=format_of(path)))
        assert pa.table(batch.columns).to_pylist() == table.to_pylist(), name


def test_json_objects_may_have_keys_that_the_first_has_not(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2, "b": [1, 2]}\n[1]\nno json\n{"a": "x"}\n')
    malformed = Malformed()
    (batch,) = read(path, Source(format="json"), malformed)
    assert batch.columns["b"].to_pylist() == [None, [1, 2], None]
    assert (list(batch.lines or []), malformed.lines) == ([1, 3, 6], [4, 5])


def test_a_folder_of_images_is_a_table(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for label, shade in (("cat", 10), ("dog", 200)):
        (tmp_path / "set" / label).mkdir(parents=True)
        image.new("L", (4, 3), shade).save(tmp_path / "set" / label / "one.png")
    image.new("L", (5, 5)).save(tmp_path / "set" / "dog" / "other-size.png")
    (tmp_path / "set" / "dog" / "broken.png").write_bytes(b"no image")
    malformed = Malformed()
    (batch,) = read(tmp_path / "set", Source(format="images"), malformed)
    assert batch.columns["label"].to_pylist() == ["cat", "dog"]
    assert batch.columns["image"].to_pylist() == [[10] * 12, [200] * 12]
    assert malformed.count == 2


def converted(kind: Any, values: list[Any], arrow: Any = None, source: Source | None = None, **about: Any) -> Any:
    """Values of good rows, and lines of bad ones by reason."""
    column = Column(kind=kind, **about)
    schema = Schema(columns={"who": Column(kind="text", role="subject"), "x": column}, source=source or Source())
    array = pa.array(values, arrow)
    who = pa.array([f"p{row}" for row in range(len(array))])
    bad = Bad()
    made = convert(Batch({"who": who, "x": array}, 0, len(array), range(1, len(array) + 1)), schema, bad, str)
    return made.table.column("x").to_pylist(), {reason: lines for (_, reason), lines in bad.places.items()}


NOON = dt.datetime(2020, 1, 31, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("kind", "values", "about", "good", "bad"),
    [
        ("number", ["1.5", " 2 ", "1e3", None, ""], {}, [1.5, 2.0, 1000.0, None, None], {}),
        ("number", ["x", "1,5", "0x10", "1_0"], {}, [], {"not a number": [1, 2, 3, 4]}),
        ("number", ["inf", "1"], {}, [1.0], {"not finite": [1]}),
        (
            "number",
            ["-1", "0", "9"],
            {"low": 0, "high": 5},
            [0.0],
            {"below its lowest value": [1], "above its highest value": [3]},
        ),
        ("integer", ["3", "+3", "3.0", "99999999999999999999"], {}, [3, 3], {"not a whole number": [3, 4]}),
        (
            "integer",
            ["9223372036854775807", "9223372036854775808", "x"],
            {},
            [2**63 - 1],
            {"not a whole number": [2, 3]},
        ),
        ("boolean", ["Yes", "no", "1", "F", "2"], {}, [True, False, True, False], {"neither true nor false": [5]}),
        ("category", ["a", " b ", "c", "A"], {"levels": ("a", "b")}, ["a", "b"], {"none of its levels": [3, 4]}),
        ("category", ["a", "  "], {"missing": False}, ["a"], {"missing": [2]}),
        ("text", ["a", " ", None], {}, ["a", " ", None], {}),
        ("date", ["2024-02-29", "2023-02-29", "29.02.2024"], {}, [dt.date(2024, 2, 29)], {"not a date": [2, 3]}),
        (
            "date",
            ["29.02.2024", "31.02.2024", "1.2.2024"],
            {"format": "%d.%m.%Y"},
            [dt.date(2024, 2, 29), dt.date(2024, 2, 1)],
            {"not a date": [2]},
        ),
        (
            "time",
            ["2020-01-31T12:00:00Z", "2020-01-31 12:00", "2020-01-31T14:00:00+02:00", "noon"],
            {},
            [NOON] * 3,
            {"not a time": [4]},
        ),
        (
            "tensor",
            ["1 2 3", "[4, 5, 6]", "1 2", "a b c"],
            {"shape": (3,)},
            [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
            {"not 3 numbers": [3, 4]},
        ),
        (
            "list",
            ["1 2", "[3]", "[]", "1 x", "1.5"],
            {"item": "i32"},
            [[1, 2], [3], []],
            {"not a list of numbers": [4, 5]},
        ),
    ],
)
def test_text_becomes_what_the_schema_says_or_a_bad_row(
    kind: str, values: list[str | None], about: dict[str, Any], good: list[Any], bad: dict[str, list[int]]
) -> None:
    assert converted(kind, values, pa.string(), **about) == (good, bad)


@pytest.mark.parametrize(
    ("kind", "array", "about", "good", "bad"),
    [
        ("integer", pa.array([1.0, 2.5, math.nan, None, 1e300]), {}, [1, None, None], [2, 5]),
        ("integer", pa.array([1, 2**63], pa.uint64()), {}, [1], [2]),
        ("number", pa.array([1, 2], pa.int8()), {}, [1.0, 2.0], []),
        ("number", pa.array([1.5, math.nan]), {}, [1.5, None], []),
        ("category", pa.array(["a", "b"]).dictionary_encode(), {}, ["a", "b"], []),
        ("date", pa.array([NOON.replace(tzinfo=None)]), {}, [dt.date(2020, 1, 31)], []),
        (
            "tensor",
            pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2)),
            {"shape": (2,), "item": "u8"},
            [[1, 2], None, [3, 4]],
            [],
        ),
        ("tensor", pa.array([[1, 300]], pa.list_(pa.int64())), {"shape": (2,), "item": "u8"}, [], [1]),
        ("list", pa.array([[1, 2], None, [], [3, None]]), {"item": "i64"}, [[1, 2], None, []], [4]),
        ("boolean", pa.array([True, None]), {}, [True, None], []),
    ],
)
def test_typed_columns_keep_their_values_or_are_bad_rows(
    kind: str, array: pa.Array, about: dict[str, Any], good: list[Any], bad: list[int]
) -> None:
    column = Column(kind=kind, **about)  # type: ignore[arg-type]
    schema = Schema(columns={"x": column}, each_row_a_person=True)
    noted = Bad()
    made = convert(Batch({"x": array}, 0, len(array)), schema, noted, str)
    assert made.table.column("x").to_pylist() == good
    assert sorted(line for lines in noted.places.values() for line in lines) == bad


@settings(deadline=None, max_examples=100)
@given(st.lists(st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=8)), min_size=1, max_size=40))
def test_a_number_is_the_one_that_the_text_says(values: list[Any]) -> None:
    texts = [None if value is None else str(value) for value in values]
    good, bad = converted("number", texts, pa.string())
    lines = {line for places in bad.values() for line in places}
    kept = [text for line, text in enumerate(texts, 1) if line not in lines]
    for text, found in zip(kept, good, strict=True):
        if text is None or not text.strip() or text == "nan":
            assert found is None
        else:
            assert found == float(text.strip())
            assert np.isfinite(found)


@pytest.mark.parametrize("who", [None, "", "  ", "a\u200bb", "x" * 300, "a\nb"])
def test_a_row_of_nobody_is_a_bad_row(who: str | None) -> None:
    schema = Schema(columns={"who": Column(kind="text", role="subject"), "x": Column(kind="number")})
    bad = Bad()
    batch = Batch({"who": pa.array([who, " p1 "], pa.string()), "x": pa.array([1.0, 2.0])}, 0, 2)
    made = convert(batch, schema, bad, str)
    assert (made.subjects.to_pylist(), bad.places) == (["p1"], {("who", "no identifier of a person"): [1]})


def test_a_schema_that_says_nothing_of_the_format_takes_no_other_file_for_csv(tmp_path: Path) -> None:
    for end, named in ((".jsonl", "json"), (".parquet", "parquet"), (".arrow", "arrow"), (".sql", "sql")):
        (tmp_path / f"a{end}").write_text('{"x": 1}\n')
        with pytest.raises(DataError, match=rf'by its name it is {named}.*write format = "{named}" below \[source\]'):
            list(read(tmp_path / f"a{end}", Source()))
    (tmp_path / "a.dat").write_text("x\n1\n")
    assert sum(batch.rows for batch in read(tmp_path / "a.dat", Source())) == 1


def test_orc_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.orc").write_bytes(b"ORC")
    with pytest.raises(DataError, match=r"a\.orc: ORC files are not read; write it as Parquet first"):
        format_of(tmp_path / "a.orc")
