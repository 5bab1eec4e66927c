"""Hostile files and hostile orders of events: a clear error without a value, bounded memory, nobody on two sides."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aegis.cli import main
from PIL import Image

from aegis_engine import Vault
from aegis_flower.data.schema import Column, Schema, Source
from aegis_flower.errors import ConfigError, DataError
from aegis_flower.importer import add, draft, extend, mock
from aegis_flower.importer.consents import apply, read
from aegis_flower.importer.convert import Bad, convert
from aegis_flower.importer.reading.batches import Malformed
from aegis_flower.importer.reading.files import read as read_file
from aegis_flower.importer.sides import HOLDOUT
from aegis_flower.inference import load
from aegis_flower.terms import Terms

COLUMNS = {
    "who": Column(kind="text", role="subject"),
    "x": Column(kind="integer"),
    "t": Column(kind="text"),
}
TERMS = Terms(purposes=["research"])
SECRET = "Anna-Schmidt"


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault.create(tmp_path / "vault", bytes(range(32)))
    made.govern("core")
    return made


def imported(path: Path, form: str = "csv", columns: dict[str, Column] = COLUMNS) -> tuple[list[str], Bad, Malformed]:
    """Identifiers of the good rows, and what was bad."""
    schema = Schema(columns=columns, source=Source(format=form))
    bad, malformed, people = Bad(), Malformed(), list[str]()
    for batch in read_file(path, schema.source, malformed):
        people += convert(batch, schema, bad, str).subjects.to_pylist()
    return people, bad, malformed


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(who: Any, x: Any = None, t: Any = None) -> pa.Table:
    count = len(who)
    return pa.table({"who": who, "x": [1] * count if x is None else x, "t": ["p"] * count if t is None else t})


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_by_each_kind_of_line_end(tmp_path: Path, end: str) -> None:
    rows = ["who,x,t", "a,1,p", f'b,z,"q{end}r"', "c,w,s", f'd,1,"1{end}2",9', "e,v,s", ""]
    _, bad, malformed = imported(written(tmp_path / "a.csv", end.join(rows)))
    assert bad.places["x", "not a whole number"] == [3, 5, 8]
    assert malformed.lines == [6]


def test_a_name_of_a_column_may_span_lines(tmp_path: Path) -> None:
    people, bad, malformed = imported(
        written(tmp_path / "a.csv", 'who,x,t,"more\nwords"\na,1,p,q\nb,z,p,q\n'),
    )
    assert (people, bad.places["x", "not a whole number"], malformed.count) == (["a"], [4], 0)


@pytest.mark.parametrize(
    "text",
    ['who,x,t\na,1,"p\nb,2,q\nc,3,s\n', 'who,x,t\n"a,1,p\nb,2,q\n', 'who,x,"t\na,1,p\nb,2,q\n', 'who,x,t\na,1,"p'],
)
def test_a_quote_that_is_never_closed_swallows_no_rows(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="never closed"):
        imported(written(tmp_path / "a.csv", text))


@pytest.mark.parametrize("end", ["", "\n", "\r", "\r\n", "\n\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_the_last_row_is_read_whatever_the_file_ends_in(tmp_path: Path, end: str, encoding: str) -> None:
    path = written(tmp_path / "a.csv", f'who,x,t\na,1,p\nb,2,"q"{end}'.encode(encoding))
    schema = Schema(columns=COLUMNS, source=Source(encoding=encoding))
    found = [convert(batch, schema, Bad(), str).table.to_pylist() for batch in read_file(path, schema.source)]
    assert found == [[{"x": 1, "t": "p"}, {"x": 2, "t": "q"}]]


@pytest.mark.parametrize("quote", ['"', ""])
def test_a_row_longer_than_a_block_is_an_error_that_says_where(tmp_path: Path, quote: str) -> None:
    path = written(tmp_path / "a.csv", f"who,x,t\na,1,{quote}{'z' * (9 << 20)}{quote}\n")
    with pytest.raises(DataError, match="behind line 1, a row is longer than 4 MiB"):
        imported(path)


def test_many_columns_of_one_name_are_read_in_time(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", ",".join(["who", *["a"] * 99_999]) + "\n" + ",".join(["1"] * 100_000) + "\n")
    (batch,) = read_file(path, Source())
    assert list(batch.columns)[-1] == "a_99999"
    with pytest.raises(DataError, match="at most 100000"):
        list(read_file(written(path, "a," * 200_000 + "\n"), Source()))


HOSTILE: dict[str, Any] = {
    "bytes": pa.array([b"\xff" + SECRET.encode()]),
    "objects": pa.array([{SECRET: 1}]),
    "lists": pa.array([[SECRET]]),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("column", ["who", "t"])
def test_types_that_are_no_text_are_an_error_without_a_value(tmp_path: Path, kind: str, column: str) -> None:
    pq.write_table(table(["a"]).set_column({"who": 0, "t": 2}[column], column, HOSTILE[kind]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=f"column '{column}'") as refused:
        imported(tmp_path / "a.parquet", "parquet")
    assert SECRET not in str(refused.value)
    found = draft(tmp_path / "a.parquet", alone=True)
    assert SECRET not in repr((found.notes, found.schema))


def test_bytes_that_are_no_text_are_found_in_parquet_and_arrow(tmp_path: Path) -> None:
    odd = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    pq.write_table(table(["a"], t=odd), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no utf-8"):
        imported(tmp_path / "a.parquet", "parquet")


def test_offsets_that_point_behind_the_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    rows = table(["abc"], t=["SENTINEL"])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    raw = bytearray(path.read_bytes())
    at = raw.rfind(struct.pack("<ii", 0, 8))
    raw[at + 4 : at + 8] = struct.pack("<i", 1 << 12)
    path.write_bytes(raw)
    with pytest.raises(DataError):
        imported(path, "arrow")


def test_columns_of_one_name_are_refused_where_one_would_hide_the_other(tmp_path: Path) -> None:
    rows = pa.Table.from_arrays(
        [pa.array(["a"]), pa.array([1]), pa.array(["p"]), pa.array([2])], ["who", "x", "t", "x"]
    )
    pq.write_table(rows, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="two columns 'x'"):
        imported(tmp_path / "a.parquet", "parquet")


def test_text_of_any_arrow_type_is_text(tmp_path: Path) -> None:
    for kind in (pa.large_string(), pa.string_view()):
        pq.write_table(table(["a", "b"], pa.array([" 1", ""], kind)), tmp_path / "a.parquet")
        people, bad, _ = imported(tmp_path / "a.parquet", "parquet")
        assert (people, bad.rows) == (["a", "b"], 0)


@pytest.mark.parametrize(
    "line",
    [
        '{"who":"b","x":1,"t":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"who":"\\ud800","x":1,"t":"p"}',
        "\0\0",
        "[1]",
    ],
    ids=["deep", "half a character", "NUL", "no object"],
)
def test_a_line_that_is_no_object_is_a_bad_row(tmp_path: Path, line: str) -> None:
    path = written(tmp_path / "a.jsonl", f'{{"who":"a","x":1,"t":"p"}}\n{line}\n')
    people, _, malformed = imported(path, "json")
    assert (people, malformed.lines) == (["a"], [2])


def test_a_line_and_the_keys_of_objects_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 1 is longer than 16 MiB"):
        imported(written(tmp_path / "a.jsonl", '{"who":"' + "a" * (17 << 20)), "json")
    many = "\n".join(json.dumps({f"k{row}-{at}": 1 for at in range(500)}) for row in range(300))
    with pytest.raises(DataError, match="more than 100000 keys"):
        list(read_file(written(tmp_path / "b.jsonl", many), Source(format="json")))


def test_a_draft_reads_values_of_several_types(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"who": f"p{n}", "x": n if n < 16_384 else "a"}) + "\n" for n in range(17_000))
    assert draft(written(tmp_path / "a.jsonl", lines)).rows == 17_000


@pytest.mark.parametrize("value", ["9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00"])
def test_a_time_outside_the_calendar_is_a_bad_row(tmp_path: Path, value: str) -> None:
    columns = {"who": COLUMNS["who"], "x": Column(kind="time")}
    people, bad, _ = imported(written(tmp_path / "a.csv", f"who,x\na,{value}\nb,2020-01-01\n"), columns=columns)
    assert (people, bad.places["x", "not a time"]) == (["b"], [2])


def test_a_file_without_names_tells_no_row(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", f"17,{SECRET},2001-01-01\n18,Bo,2002-01-01\n")
    for call in (lambda: imported(path), lambda: draft(path)):
        with pytest.raises(DataError) as refused:
            call()
        assert SECRET not in str(refused.value)
    assert list(draft(path, header=False, alone=True).schema.columns) == ["column_0", "column_1", "column_2"]
    assert SECRET in draft(path, header=True, alone=True).schema.columns


def test_what_cannot_be_read_twice_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    for call in (lambda: imported(tmp_path / "a.csv"), lambda: draft(tmp_path / "a.csv")):
        with pytest.raises(DataError, match="no file"):
            call()


@pytest.mark.parametrize("key", [{"delimiter": "§"}, {"delimiter": ""}, {"quote": ","}, {"encoding": "undefined"}])
def test_a_source_that_no_parser_takes_is_refused(key: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(key))):
        Source(**key)  # type: ignore[arg-type]


def test_a_bound_that_no_float_is_near_is_refused() -> None:
    with pytest.raises(ConfigError, match="no finite number"):
        Schema(columns={"x": Column(kind="integer", low=10**400)}, each_row_a_person=True)


def pictures(folder: Path, count: int, side: int) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(folder / f"{number:03}.png")
    return folder


def test_images_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    folder, other = pictures(tmp_path / "set", 1, 4), pictures(tmp_path / "other", 1, 4)
    (folder / "link.png").symlink_to(other / "000.png")
    with pytest.raises(DataError, match="image 2 of 2 is a link"):
        list(read_file(folder, Source(format="images"), Malformed()))


@pytest.mark.parametrize("side", [11_000, 60_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_that_says_it_is_huge_is_a_bad_row(tmp_path: Path, side: int) -> None:
    def part(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    folder = pictures(tmp_path / "set", 1, 4)
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    bomb = part(b"IHDR", head) + part(b"IDAT", zlib.compress(bytes(side * (side + 1) if side < 20_000 else 99)))
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bomb + part(b"IEND", b""))
    (pictures(tmp_path / "odd", 1, 4) / "000.png").rename(folder / os.fsdecode(b"\xff.png"))
    malformed = Malformed()
    (batch,) = read_file(folder, Source(format="images"), malformed)
    assert (batch.rows, malformed.count) == (1, 2)
    assert draft(folder).rows == 1


def test_batches_of_large_rows_are_small(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set", 8, 2000)
    assert max(batch.rows for batch in read_file(folder, Source(format="images"))) == (64 << 20) // 12_000_000
    pq.write_table(
        pa.table({f"c{at}": np.random.default_rng(at).random(5000) for at in range(4000)}), tmp_path / "a.parquet"
    )
    assert max(batch.rows for batch in read_file(tmp_path / "a.parquet", Source(format="parquet"))) < 3000


NUMBERED: dict[str, Any] = {
    "floats": pa.array([17.0, 18.5]),
    "decimals": pa.array([17, 18], pa.decimal128(10, 2)),
    "text": pa.array(["17.0", " 17 "]),
    "numbers": pa.array([17, 18]),
}


@pytest.mark.parametrize("kind", NUMBERED)
def test_a_number_is_one_person_however_it_is_written(tmp_path: Path, kind: str) -> None:
    pq.write_table(table(NUMBERED[kind]), tmp_path / "a.parquet")
    assert imported(tmp_path / "a.parquet", "parquet")[0][0] == "17"


def test_no_number_is_nobody(tmp_path: Path) -> None:
    pq.write_table(table(pa.array([1.0, float("nan"), float("inf"), 1e300, 2.0**53 + 2])), tmp_path / "a.parquet")
    people, bad, _ = imported(tmp_path / "a.parquet", "parquet")
    assert (people, bad.places["who", "no identifier of a person"]) == (["1"], [2, 3, 4, 5])


def patients(folder: Path, first: int = 0, count: int = 60) -> Path:
    rows = "".join(f"{n},{n},p\n" for n in range(first, first + count))
    return written(folder / f"{first}.csv", f"who,x,t\n{rows}é,1,p\n")


def test_a_delivery_for_the_holdout_alone_is_refused(tmp_path: Path, vault: Vault) -> None:
    """It would put people to be learnt from on the other side, too."""
    schema = Schema(columns=COLUMNS)
    add(vault, patients(tmp_path), "set", schema, TERMS)
    with pytest.raises(DataError, match="it is a holdout"):
        extend(vault, patients(tmp_path), "set" + HOLDOUT, schema)
    vault.shred(vault.datasets()["set" + HOLDOUT])
    with pytest.raises(DataError, match="its holdout is gone"):
        extend(vault, patients(tmp_path, 60), "set", schema)


LISTS = {
    "both stand": ("17,research,objected,2024-01-01\n17,research,restricted,2025-01-01", {"objected", "restricted"}),
    "an older lift": ("17,,lifted,2020-01-01\n17,research,objected,2025-01-01", {"objected"}),
    "a lift of one": (
        "17,research,objected,2020-01-01\n17,,restricted,2020-01-01\n17,research,lifted,2021-01-01",
        {"restricted"},
    ),
    "a lift of all": ("17,research,objected,2020-01-01\n17,,restricted,2020-01-01\n17,,lifted,2021-01-01", set()),
    "other spelling": ("é,research,given,2020-01-01\ne\u0301,research,withdrawn,2025-01-01", set()),
    "as a float": ("17,research,given,2020-01-01\n17.0,research,withdrawn,2025-01-01", set()),
}


@pytest.mark.parametrize("case", LISTS)
def test_no_older_line_of_a_list_undoes_what_a_later_one_forbids(tmp_path: Path, vault: Vault, case: str) -> None:
    add(vault, patients(tmp_path), "set", Schema(columns=COLUMNS), TERMS)
    text, wanted = LISTS[case]
    apply(vault, read(written(tmp_path / "c.csv", f"person,purpose,decision,date\n{text}\n")), renew=True)
    _, said = vault.consent_of("é" if "é" in text else "17")
    assert {what for what, flag in said["research"].items() if flag} == wanted


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("person,purpose,decision,date\n17,research,withdrawn,\n17,research,given,2020-01-01\n", "lines 2 and 3"),
        ("person,purpose,decision\n18,research,withdrawn\n17,typo,given\n", "line 3: no live data set"),
        ("person,purpose,decision,decision\n17,research,withdrawn,given\n", "two columns"),
        ('person,purpose,decision,note\n17,research,withdrawn,"a\nb"\n18,research,foo,x\n', "line 4"),
        ('person,purpose,decision,note\n17,research,given,"a\n18,research,withdrawn,x\n', "from line 2 on"),
    ],
)
def test_a_list_that_may_mean_something_else_puts_nothing_on_record(
    tmp_path: Path, vault: Vault, text: str, told: str
) -> None:
    add(vault, patients(tmp_path), "set", Schema(columns=COLUMNS), TERMS)
    before = vault.audit_head()
    with pytest.raises(DataError, match=told):
        apply(vault, read(written(tmp_path / "c.csv", text)))
    assert vault.audit_head() == before


def aegis(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["aegis", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_amended_terms_reach_both_sides_after_a_stop_in_the_middle(
    tmp_path: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(vault, patients(tmp_path), "set", Schema(columns=COLUMNS), TERMS)
    key = written(tmp_path / "key", bytes(range(32)))
    key.chmod(0o600)
    call = ("data", "terms", tmp_path / "vault", "set", "--key-file", key, "--yes", "--amend", tmp_path / "t.toml")
    text = 'purposes = ["research"]\nbudget_epsilon = 5.0\n'
    written(tmp_path / "t.toml", text)
    card = vault.card(vault.datasets()["set"])
    vault.amend(card["id"], facts={**card["facts"], "budget_micro_epsilon": 5_000_000})
    assert aegis(monkeypatch, *call) == 0
    found = {vault.card(one)["facts"]["budget_micro_epsilon"] for one in vault.datasets().values()}
    assert found == {5_000_000}
    assert aegis(monkeypatch, *call) == 1
    assert "already" in capsys.readouterr().err
    written(tmp_path / "t.toml", text + f'lineage = "{"0" * 32}"\n')
    assert aegis(monkeypatch, *call) == 2


def test_a_mock_fits_bounds_without_a_whole_number_between() -> None:
    schema = Schema(columns={"x": Column(kind="integer", low=0.2, high=0.8)}, each_row_a_person=True)
    assert mock(schema, 5).num_rows == 5


def test_a_model_that_is_no_file_of_arrays_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"x", b"PK\x03\x04"):
        written(tmp_path / "model.npz", content)
        with pytest.raises(DataError, match="no file of arrays"):
            load(tmp_path)
