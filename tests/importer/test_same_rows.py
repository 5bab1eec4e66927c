"""What makes imports fast changes nothing of them: the same rows, types, people, sides and reports of bad rows."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aegis_engine.errors import PolicyError

from aegis_engine import ComplianceEngine, Request, Vault
from aegis_flower.data.schema import Column, Schema, Source
from aegis_flower.importer import add
from aegis_flower.importer.add import bad_lines
from aegis_flower.importer.convert import Bad, convert
from aegis_flower.importer.reading.batches import Batch
from aegis_flower.importer.sides import open_sides, split
from aegis_flower.terms import Terms

ROWS = 9000
SCHEMA = Schema(
    columns={
        "who": Column(kind="text", role="subject"),
        "n": Column(kind="integer", missing=False),
        "age": Column(kind="integer", low=0, high=120),
        "size": Column(kind="number", high=2.5),
        "ward": Column(kind="category", levels=("a", "b")),
        "seen": Column(kind="date"),
        "at": Column(kind="time"),
        "note": Column(kind="text"),
        "ill": Column(kind="boolean", role="label", missing=False),
    },
    source=Source(format="csv"),
)
# By column: what comes again and again, the odd ones rarely.
USUAL = {
    "age": (["30", "41", " 7", "+5", ""], ["130", "x", "4.0", "99999999999999999999"]),
    "ward": (["a", "b", " a", "b "], ["c", " "]),
    "seen": (["2020-02-29", " 1999-12-31", ""], ["2021-02-30", "today"]),
    "at": (["2020-02-29T10:11:12Z", "2020-02-29 10:11"], ["2020-02-29T25:00:00", "noon"]),
    "note": (["", " seen", 'it said "no"', "two\nlines", "Grüße"], ["x" * 300]),
    "ill": (["yes", "no", "TRUE", " 0"], ["", "maybe"]),
}
PEOPLE = ["P{}", "P{}", " P{}", "{}.0", "{}", "{}", "Jos\u00e9 {}"]
# Of rows and report, as imports stored them when each value of each row was converted by itself.
DIGEST = "817c5e40f4afa06264a7a597243799208b5cb3f8c80d53b7382a2d9589fb5427"


def texts() -> dict[str, list[str]]:
    """Columns of text, the same ones each time."""
    drawn = random.Random(17)
    made: dict[str, list[str]] = {"who": [], "n": [], "size": [], **{name: [] for name in USUAL}}
    for row in range(ROWS):
        number = drawn.randrange(ROWS // 3)
        odd = drawn.random() < 0.02
        made["who"].append(
            drawn.choice(["", "a\u200bb"]) if drawn.random() < 0.002 else drawn.choice(PEOPLE).format(number)
        )
        made["n"].append(str(row))
        made["size"].append(drawn.choice(["inf", "1,5", "-"]) if odd else f"{drawn.uniform(-3, 2.52):.6f}")
        for name, (usual, rare) in USUAL.items():
            made[name].append(drawn.choice(rare if drawn.random() < 0.003 else usual))
    return made


def written(path: Path) -> Path:
    made = texts()
    quoted = [['"' + made[name][row].replace('"', '""') + '"' for name in SCHEMA.columns] for row in range(ROWS)]
    quoted[4000] = ['"short"']
    path.write_text("\n".join([",".join(SCHEMA.columns), *(",".join(row) for row in quoted)]) + "\n")
    return path


def batch(first: int, rows: int) -> Batch:
    columns = {name: pa.array([t or None for t in made[first : first + rows]]) for name, made in texts().items()}
    return Batch(columns, first, rows, range(first + 2, first + 2 + rows))


def permitted(vault: Vault, name: str) -> pa.Table:
    action = "evaluate" if name.endswith(".holdout") else "train"
    request = Request(action=action, purpose="research", columns=list(SCHEMA.stored))
    dataset = vault.datasets()[name]
    return pa.table(vault.table(dataset, permit=ComplianceEngine(vault).authorize(dataset, request)))


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault.create(tmp_path / "vault", os.urandom(32))
    made.govern("core")
    return made


def test_rows_and_the_report_are_those_of_slow_imports(tmp_path: Path, vault: Vault) -> None:
    done = add(
        vault, written(tmp_path / "p.csv"), "patients", SCHEMA, Terms(["research"]), on_bad="skip", consent_given=True
    )
    tables = [permitted(vault, name) for name in ("patients", "patients.holdout")]
    rows = sorted((row for table in tables for row in table.to_pylist()), key=lambda row: row["n"])
    told = [str(tables[0].schema), rows, sorted(bad_lines(done)), done.left_out, sum(done.people.values())]
    assert hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest() == DIGEST


def test_everybody_is_on_the_side_that_the_vault_draws(tmp_path: Path, vault: Vault) -> None:
    add(vault, written(tmp_path / "p.csv"), "patients", SCHEMA, Terms(["research"]), on_bad="skip", consent_given=True)
    people = texts()["who"]
    for name, side in (("patients", False), ("patients.holdout", True)):
        mine = [people[row].strip().removesuffix(".0") for row in permitted(vault, name).column("n").to_pylist()]
        assert vault.held_out(mine, 0.2) == [side] * len(mine)


def test_a_large_batch_is_converted_as_its_parts_are() -> None:
    whole, parts = Bad(shown=ROWS), Bad(shown=ROWS)
    one = convert(batch(0, ROWS), SCHEMA, whole, str)
    # Parts too small for a value to be worth converting once for all.
    few = [convert(batch(first, 500), SCHEMA, parts, str) for first in range(0, ROWS, 500)]
    assert one.table.equals(pa.concat_tables([part.table for part in few]).combine_chunks())
    assert one.subjects.to_pylist() == [who for part in few for who in part.subjects.to_pylist()]
    assert (whole.count, whole.places, whole.rows) == (parts.count, parts.places, parts.rows)
    assert 0 < whole.rows < ROWS // 10


def test_nobody_is_in_the_dictionary_of_people_who_has_no_row() -> None:
    found = convert(batch(0, ROWS), SCHEMA, Bad(), str)
    assert sorted(found.subjects.dictionary.to_pylist()) == sorted(set(found.subjects.to_pylist()))


def test_a_split_knows_the_people_that_rows_of_their_own_know(vault: Vault) -> None:
    names = [f"P{row % 700}" for row in range(2000)]
    table = pa.table({name: pa.nulls(2000, kind) for name, kind in zip(SCHEMA.stored, _types(), strict=True)})
    with open_sides(vault, {"train": "t", "holdout": "h"}, SCHEMA) as sides:
        # A slice: its offsets do not start at nought.
        split(vault, sides, table, pa.array(["nobody", *names])[1:].dictionary_encode(), 0.3)
        out = np.array(vault.held_out(names, 0.3))
        assert (sides["train"].rows, sides["holdout"].rows) == ((~out).sum(), out.sum())
        for side, mine in (("train", ~out), ("holdout", out)):
            draft = sides[side].draft
            assert (draft.rows, draft.people) == (mine.sum(), len({n for n, m in zip(names, mine, strict=True) if m}))


def _types() -> list[pa.DataType]:
    found: list[pa.DataType] = list(convert(batch(0, 100), SCHEMA, Bad(), str).table.schema.types)
    return found


WRONG: dict[str, tuple[Any, Any, type[Exception]]] = {
    "an offset beyond the text": (([0, 9], b"ab"), [0], ValueError),
    "offsets that go back": (([2, 0], b"ab"), [0], ValueError),
    "an offset below nought": (([-1, 2], b"ab"), [0], ValueError),
    "no UTF-8": (([0, 2], b"\xff\xff"), [0], ValueError),
    "half a character": (([0, 1], "\u00e9".encode()), [0], ValueError),
    "a person who was not given": (([0, 2], b"ab"), [0, 1], ValueError),
    "a person below nought": (([0, 2], b"ab"), [-1], ValueError),
    "no identifier": (([0, 2, 2], b"ab"), [0, 1], PolicyError),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_split_that_does_not_fit_takes_no_row(vault: Vault, what: str) -> None:
    (starts, text), rows, error = WRONG[what]
    train, holdout = vault.create_table("t"), vault.create_table("h")
    with pytest.raises(error):
        vault.split_rows(
            (train, holdout), 0.5, (text, np.array(starts, dtype=np.int32)), np.array(rows, dtype=np.int32)
        )
    assert (train.rows, holdout.rows) == (0, 0)
    train.abort()
    holdout.abort()


def test_parquet_with_dictionaries_and_slices_is_read_as_plain_columns(tmp_path: Path, vault: Vault) -> None:
    plain = pa.table(texts())
    coded = pa.table({name: plain.column(name).dictionary_encode() for name in plain.column_names})
    schema = Schema(columns=SCHEMA.columns, source=Source(format="parquet"))
    found = []
    for name, table in (("plain", plain), ("coded", coded)):
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=3500)
        add(vault, tmp_path / f"{name}.parquet", name, schema, Terms(["research"]), on_bad="skip", consent_given=True)
        found.append(permitted(vault, name))
    assert found[0].equals(found[1])
