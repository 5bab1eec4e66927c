"""Imports: all or nothing, split by person, constant in memory, and nothing in clear on a disk."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from aegis_engine.errors import AegisError

from aegis_engine import ComplianceEngine, Request, Vault
from aegis_flower.data import schema as schemas
from aegis_flower.data.schema import Column, Schema, Source
from aegis_flower.errors import BadRows, ConfigError, DataError
from aegis_flower.importer import add, draft, extend, mock
from aegis_flower.importer.consents import Decision, apply, read
from aegis_flower.importer.draft import sniff
from aegis_flower.importer.mock import save
from aegis_flower.terms import Terms

SCHEMA = Schema(
    columns={
        "who": Column(kind="text", role="subject"),
        "age": Column(kind="integer", low=0, high=120),
        "ward": Column(kind="category", levels=("a", "b")),
        "ill": Column(kind="boolean", role="label", missing=False),
    }
)
TERMS = Terms(purposes=["research"])


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault.create(tmp_path / "vault", os.urandom(32))
    made.govern("core")
    return made


def lines(first: int, count: int, rows: int = 2) -> list[str]:
    drawn = random.Random(first)
    return [
        f"person-{first + at},{drawn.randint(0, 99)},{drawn.choice('ab')},{drawn.choice(['yes', 'no'])}"
        for at in range(count)
        for _ in range(rows)
    ]


def written(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["who,age,ward,ill", *rows]) + "\n")
    return path


def permitted(vault: Vault, name: str) -> pa.Table:
    dataset = vault.datasets()[name]
    action = "evaluate" if name.endswith(".holdout") else "train"
    permit = ComplianceEngine(vault).authorize(
        dataset, Request(action=action, purpose="research", columns=["age", "ward", "ill"])
    )
    return pa.table(vault.table(dataset, permit=permit))


def test_rows_are_split_by_person_and_keep_their_values(tmp_path: Path, vault: Vault) -> None:
    rows = lines(0, 300)
    done = add(vault, written(tmp_path / "p.csv", rows), "patients", SCHEMA, TERMS, consent_given=True)
    assert done.rows["train"] + done.rows["holdout"] == 600
    assert done.people["train"] + done.people["holdout"] == 300
    assert done.granted == {"research": 300}
    out = vault.held_out([row.split(",")[0] for row in rows], 0.2)
    for name, side in (("patients", False), ("patients.holdout", True)):
        wanted = [row.split(",")[1:] for row, held in zip(rows, out, strict=True) if held is side]
        found = permitted(vault, name).to_pylist()
        assert [[str(r["age"]), r["ward"], "yes" if r["ill"] else "no"] for r in found] == wanted
    # The schema goes with the data.
    assert schemas.described(vault.card(done.datasets["train"])["about"]) == SCHEMA.stored


BAD_ROWS = {
    "line 2 is short": "person-1,5,a",
    "not a number": "person-1,many,a,yes",
    "out of bounds": "person-1,130,a,yes",
    "no level": "person-1,5,c,yes",
    "no label": "person-1,5,a,",
    "nobody": ",5,a,yes",
}


@pytest.mark.parametrize("fault", BAD_ROWS)
def test_a_bad_row_stores_nothing_or_is_left_out(tmp_path: Path, vault: Vault, fault: str) -> None:
    path = written(tmp_path / "p.csv", [*lines(0, 100), BAD_ROWS[fault], *lines(100, 50)])
    with pytest.raises(BadRows) as refused:
        add(vault, path, "patients", SCHEMA, TERMS)
    assert "202" in " ".join(refused.value.lines)
    told = " ".join([str(refused.value), *refused.value.lines])
    assert not any(value in told for value in ("many", "130", "person-1"))
    assert vault.list() == []
    done = add(vault, path, "patients", SCHEMA, TERMS, on_bad="skip")
    assert sum(done.rows.values()) == 300
    assert done.left_out == 1


def test_a_dry_run_tells_the_same_and_stores_nothing(tmp_path: Path, vault: Vault) -> None:
    path = written(tmp_path / "p.csv", [*lines(0, 100), "x,y,z,w"])
    tried = add(vault, path, "patients", SCHEMA, TERMS, on_bad="skip", dry_run=True)
    assert vault.list() == []
    done = add(vault, path, "patients", SCHEMA, TERMS, on_bad="skip")
    assert (tried.rows, tried.people, tried.bad) == (done.rows, done.people, done.bad)
    assert tried.datasets == {}


def test_an_import_that_stops_in_the_middle_leaves_nothing(tmp_path: Path, vault: Vault) -> None:
    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add(vault, written(tmp_path / "p.csv", lines(0, 100)), "patients", SCHEMA, TERMS, progress=stop)
    assert vault.list() == []
    leftover = [path for path in (Path(vault.path) / "objects").rglob("*") if path.is_file()]
    assert leftover == []
    assert add(vault, tmp_path / "p.csv", "patients", SCHEMA, TERMS).rows["train"]


def test_no_plaintext_is_on_a_disk_while_it_is_imported(tmp_path: Path, vault: Vault) -> None:
    """Looked for in every file of the vault and of the folder for temporary files, in the middle of the import."""
    path = written(tmp_path / "p.csv", [*lines(0, 50), "person-secret-name,7,a,yes"])
    seen: list[Path] = []

    def look(rows: int) -> None:
        for file in Path(vault.path).rglob("*"):
            if file.is_file():
                seen.append(file)
                assert b"person-secret-name" not in file.read_bytes()

    add(vault, path, "patients", SCHEMA, TERMS, progress=look)
    assert seen
    for file in Path(vault.path).rglob("*"):
        assert not (file.is_file() and b"person-secret-name" in file.read_bytes())


def test_a_delivery_goes_to_the_sides_its_people_are_on(tmp_path: Path, vault: Vault) -> None:
    add(vault, written(tmp_path / "1.csv", lines(0, 200)), "patients", SCHEMA, TERMS, holdout=0.3, consent_given=True)
    vault.consent_withdraw("person-7", "research")
    spent = vault.lineages(vault.datasets()["patients"])
    done = extend(vault, written(tmp_path / "2.csv", lines(150, 100)), "patients", SCHEMA, consent_given=True)
    assert sum(done.rows.values()) == 200
    assert done.granted == {"research": 50}
    assert vault.lineages(vault.datasets()["patients"]) == spent
    cards = [vault.card(one) for one in vault.datasets().values()]
    assert sum(card["people"] for card in cards) == 250  # nobody is on both sides
    assert sum(card["rows"] for card in cards) == 600
    assert vault.consent_of("person-7")[1]["research"]["consent"] is False


def test_a_delivery_of_another_schema_changes_nothing(tmp_path: Path, vault: Vault) -> None:
    add(vault, written(tmp_path / "1.csv", lines(0, 100)), "patients", SCHEMA, TERMS)
    before = vault.datasets()
    other = Schema(columns={**SCHEMA.columns, "age": Column(kind="number")})
    with pytest.raises(DataError, match="'age'"):
        extend(vault, tmp_path / "1.csv", "patients", other)
    with pytest.raises(DataError, match="no such data set; there are patients"):
        extend(vault, tmp_path / "1.csv", "patient", SCHEMA)
    assert vault.datasets() == before


def test_rows_of_erased_people_are_refused_or_dropped(tmp_path: Path, vault: Vault) -> None:
    path = written(tmp_path / "p.csv", lines(0, 100))
    add(vault, path, "patients", SCHEMA, TERMS)
    vault.erase_person("person-3")
    with pytest.raises(AegisError) as refused:
        add(vault, path, "again", SCHEMA, TERMS)
    assert refused.value.code == "AEG-P016"
    done = add(vault, path, "again", SCHEMA, TERMS, erased="drop")
    assert (done.erased, sum(done.rows.values())) == (2, 198)


@pytest.mark.parametrize("name", ["", "a/b", ".a", "a.holdout", "x" * 2000])
def test_names_that_are_none_are_refused(tmp_path: Path, vault: Vault, name: str) -> None:
    with pytest.raises(DataError):
        add(vault, written(tmp_path / "p.csv", lines(0, 20)), name, SCHEMA, TERMS)


def test_a_column_that_the_file_lacks_is_named(tmp_path: Path, vault: Vault) -> None:
    path = tmp_path / "p.csv"
    path.write_text("who,age,ward\np,1,a\n")
    with pytest.raises(DataError, match="no column 'ill'; its columns are who, age, ward"):
        add(vault, path, "patients", SCHEMA, TERMS)


# Schemas ----------------------------------------------------------------------------------------------------------


def test_a_draft_names_kinds_roles_and_what_looks_like_somebody(tmp_path: Path) -> None:
    drawn = random.Random(1)
    rows = ["patient_id;Nachname;e_mail;age;sex;admitted;crp;note;codes;ill"]
    rows += [
        f"P{at // 2:04d};{drawn.choice(['Maier', 'Huber'])};p{at}@example.org;{drawn.randint(1, 99) if at % 20 else ''};"
        f"{drawn.choice('fm')};{at % 28 + 1:02d}.{at % 12 + 1:02d}.2024;{f'{drawn.random():.2f}'.replace('.', ',')};"
        f"came in with a bad cough at {at};1 {at} 3;{drawn.choice(['yes', 'no'])}"
        for at in range(400)
    ]
    path = tmp_path / "p.csv"
    path.write_text("\n".join(rows))
    found = draft(path)
    kinds = {name: (column.kind, column.role) for name, column in found.schema.columns.items()}
    assert kinds == {
        "patient_id": ("text", "subject"),
        "Nachname": ("category", "leave out"),
        "e_mail": ("text", "leave out"),
        "age": ("integer", "feature"),
        "sex": ("category", "feature"),
        "admitted": ("date", "feature"),
        "crp": ("number", "feature"),
        "note": ("text", "leave out"),
        "codes": ("list", "feature"),
        "ill": ("boolean", "label"),
    }
    assert (found.schema.source.delimiter, found.schema.source.decimal) == (";", ",")
    assert found.schema.columns["admitted"].format == "%d.%m.%Y"
    # A row without its label teaches nothing: it is a bad row.
    assert [name for name, column in found.schema.columns.items() if not column.missing] == ["ill"]
    assert any("free text" in note for note in found.notes["note"])
    text = schemas.write(found.schema, found.notes)
    # A schema is public: no value of a row is in it, unless the steward asked for bounds.
    assert not any(value in text for value in ("Maier", "@", "cough"))
    (tmp_path / "schema.toml").write_text(text)
    assert schemas.read(tmp_path / "schema.toml") == found.schema
    shown = draft(path, show_ranges=True).schema.columns
    assert shown["sex"].levels == ("f", "m")
    assert 1 <= (shown["age"].low or 0) < (shown["age"].high or 0) <= 99


def test_a_draft_that_finds_nobody_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    found = draft(path)
    assert found.schema.each_row_a_person
    assert any("whom a row is about" in note for note in found.notes["a"])
    assert draft(path, subject="a").schema.subject == "a"
    with pytest.raises(DataError, match="no column 'c'"):
        draft(path, label="c")


@pytest.mark.parametrize(("head", "delimiter"), [("a,b\n", ","), ("a;b;c\n", ";"), ("a\tb\n", "\t"), ("a|b\n", "|")])
def test_delimiters_are_found(tmp_path: Path, head: str, delimiter: str) -> None:
    (tmp_path / "x.csv").write_text(head)
    assert sniff(tmp_path / "x.csv").delimiter == delimiter


SCHEMA_FAULTS = [
    ('[columns.a]\nkind = "numbr"', "columns.a.kind"),
    ('[columns.a]\nrole = "lable"', "columns.a.role"),
    ("[columns.a]\nlow = 2\nhigh = 1", "columns.a.low"),
    ('[columns.a]\nlow = "1"', "columns.a.low"),
    ('[columns.a]\nkind = "text"\nlow = 1', "columns.a.low"),
    ('[columns.a]\nlevels = ["x"]', "columns.a.levels"),
    ('[columns.a]\nkind = "category"\nlevels = ["x", "x"]', "columns.a.levels"),
    ('[columns.a]\nkind = "tensor"', "columns.a.shape"),
    ('[columns.a]\nkind = "list"\nitem = "f16"', "columns.a.item"),
    ("[columns.a]\nmissing = 1", "columns.a.missing"),
    ("[columns.a]\nsiz = 1", "columns.a.siz"),
    ('[columns.a]\nkind = "text"\nrole = "weight"', "columns.a.role"),
    ('[source]\nformat = "xls"\n[columns.a]', "source.format"),
    ('[source]\ndelimiter = ";;"\n[columns.a]', "source.delimiter"),
    ('[source]\nencoding = "utf-99"\n[columns.a]', "source.encoding"),
    ('[source]\ntrue = ["x"]\nfalse = ["X"]\n[columns.a]', "source.true"),
    ("nonsense = 1\n[columns.a]", "nonsense"),
    ("version = 9\n[columns.a]", "version"),
    ("", "columns"),
]


@pytest.mark.parametrize(("text", "key"), SCHEMA_FAULTS)
def test_a_schema_that_means_nothing_names_the_key(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text("each_row_a_person = true\n" + text if not text.startswith("version") else text)
    with pytest.raises(ConfigError) as refused:
        schemas.read(path)
    assert key in str(refused.value)


def test_whom_a_row_is_about_must_be_said_once() -> None:
    with pytest.raises(ConfigError, match="nothing says whom"):
        Schema(columns={"a": Column()})
    subject = Column(kind="text", role="subject")
    with pytest.raises(ConfigError, match="one person"):
        Schema(columns={"a": subject, "b": subject, "c": Column()})
    with pytest.raises(ConfigError, match="take one of both"):
        Schema(columns={"a": subject, "c": Column()}, each_row_a_person=True)


@pytest.mark.parametrize("end", ["csv", "parquet"])
def test_a_mock_of_a_schema_can_be_imported_by_it(tmp_path: Path, vault: Vault, end: str) -> None:
    """Rows of every kind, written and read again: none is a bad one."""
    columns: dict[str, Any] = {
        kind: Column(kind=kind, shape=(2, 2) if kind == "tensor" else (), item="u8" if kind == "tensor" else "i64")  # type: ignore[arg-type]
        for kind in schemas.KINDS
    }
    columns["who"] = Column(kind="text", role="subject")
    columns["few"] = Column(kind="integer", low=3, high=5, missing=False)
    schema = Schema(columns=columns, source=Source(format=end))
    path = tmp_path / f"mock.{end}"
    save(mock(schema, 200, seed=3), path)
    done = add(vault, path, "mock", schema, TERMS)
    assert (sum(done.rows.values()), done.left_out) == (200, 0)
    assert mock(schema, 200, seed=3).equals(mock(schema, 200, seed=3))
    assert not mock(schema, 200, seed=4).equals(mock(schema, 200, seed=3))


# Consent lists -----------------------------------------------------------------------------------------------------


def decided(*entries: tuple[str, str, str]) -> list[Decision]:
    return [Decision(at + 2, who, "research", what, when) for at, (who, what, when) in enumerate(entries)]


def consents(vault: Vault, who: str) -> bool:
    return vault.consent_of(who)[1]["research"]["consent"]


def test_the_last_decision_by_its_date_counts(tmp_path: Path, vault: Vault) -> None:
    add(vault, written(tmp_path / "p.csv", lines(0, 30)), "patients", SCHEMA, TERMS)
    done = apply(
        vault,
        decided(
            ("person-1", "withdrawn", "2024-03-01"),
            ("person-1", "given", "2024-01-01"),
            ("person-2", "given", "2024-01-01"),
            ("person-2", "given", "2024-01-02"),
        ),
    )
    assert (consents(vault, "person-1"), consents(vault, "person-2")) == (False, True)
    assert done.superseded == 2


def test_an_old_list_never_undoes_a_withdrawal(tmp_path: Path, vault: Vault) -> None:
    add(vault, written(tmp_path / "p.csv", lines(0, 30)), "patients", SCHEMA, TERMS, consent_given=True)
    vault.consent_withdraw("person-1", "research")
    monthly = decided(*[(f"person-{at}", "given", "2024-01-01") for at in range(30)])
    done = apply(vault, monthly)
    assert (done.withheld, consents(vault, "person-1")) == (1, False)
    apply(vault, monthly[1:2], renew=True)
    assert consents(vault, "person-1")


def test_people_without_a_row_are_told_by_line_and_nothing_is_recorded(tmp_path: Path, vault: Vault) -> None:
    add(vault, written(tmp_path / "p.csv", lines(0, 30)), "patients", SCHEMA, TERMS)
    list_of = decided(("person-1", "given", ""), ("nobody", "given", ""))
    with pytest.raises(DataError, match="line 3"):
        apply(vault, list_of)
    assert not consents(vault, "person-1")
    assert apply(vault, list_of, unknown="skip").unknown == [3]
    assert consents(vault, "person-1")


LIST_FAULTS = {
    "who,decision\n": "person, purpose, decision",
    "person,purpose,decision\np,research,agreed\n": "line 2",
    "person,purpose,decision\n\n,research,given\n": "line 3",
    "person,purpose,decision\np,,given\n": "line 2",
    "person,purpose,decision,date\np,research,given,1.2.2024\n": "line 2",
    "person,purpose,decision\np,research\n": "line 2",
    "": "empty",
}


@pytest.mark.parametrize("text", LIST_FAULTS)
def test_a_list_that_means_nothing_names_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(DataError) as refused:
        read(path)
    assert LIST_FAULTS[text] in str(refused.value)
