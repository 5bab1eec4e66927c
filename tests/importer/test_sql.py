"""A query as a file of rows: SQLite here, and PostgreSQL where the machine has a server of it."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aegis_engine import Vault
from aegis_flower.data.schema import Source
from aegis_flower.errors import DataError
from aegis_flower.importer import add, draft
from aegis_flower.importer.reading.files import format_of, read
from aegis_flower.importer.reading.sql import DATABASE
from aegis_flower.terms import Terms

pytest.importorskip("adbc_driver_sqlite", reason="SQL: pip install 'aegis-flower[sql]'")
ROWS = 70_000
_SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a database of patients, which the environment names."""
    with sqlite3.connect(tmp_path / "clinic.db") as database:
        database.execute("create table patients (patient_id text, age integer, weight real, ill integer)")
        rows = [(f"P{at}", at % 90 if at % 7 else None, at / 3, at % 2) for at in range(ROWS)]
        database.executemany("insert into patients values (?, ?, ?, ?)", rows)
    monkeypatch.setenv(DATABASE, f"sqlite:///{tmp_path}/clinic.db")
    return tmp_path


def query(folder: Path, text: str) -> Path:
    path = folder / "cohort.sql"
    path.write_text(text)
    return path


def rows(path: Path) -> int:
    return sum(batch.rows for batch in read(path, Source(format="sql")))


def test_a_query_becomes_a_governed_data_set(clinic: Path) -> None:
    path = query(clinic, "-- whom the study is about\nselect * from patients where age > 20 limit 500")
    assert format_of(path) == "sql"
    schema = draft(path).schema
    assert {name: (c.kind, c.role) for name, c in schema.columns.items()} == {
        "patient_id": ("text", "subject"),
        "age": ("integer", "feature"),
        "weight": ("number", "feature"),
        "ill": ("integer", "label"),
    }
    vault = Vault.create(clinic / "vault", bytes(32))
    vault.govern("core")
    done = add(vault, path, "patients", schema, Terms(purposes=["research"]), consent_given=True)
    assert sum(done.rows.values()) == sum(done.people.values()) == 500
    assert clinic.joinpath("vault").exists()
    assert "sqlite" not in vault.card(done.datasets["train"])["about"]


def test_rows_come_in_batches_and_in_the_order_of_the_query(clinic: Path) -> None:
    batches = list(
        read(query(clinic, "select patient_id from patients order by age, patient_id"), Source(format="sql"))
    )
    assert [batch.first for batch in batches] == [sum(b.rows for b in batches[:at]) for at in range(len(batches))]
    assert sum(batch.rows for batch in batches) == ROWS
    assert batches[0].columns["patient_id"][0].as_py() == "P0"


@pytest.mark.parametrize(
    "text",
    [
        "delete from patients",
        "insert into patients values ('x', 1, 1, 1)",
        "drop table patients",
        "attach 'other.db' as other",
        "vacuum into 'other.db'",
        "pragma writable_schema = 1",
        "with gone as (select 1) delete from patients",
        "/* select */ delete from patients",
        "select 1 as a; delete from patients",
        "explain select 1",
    ],
)
def test_nothing_but_reading(clinic: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(clinic)
    before = (clinic / "clinic.db").read_bytes()
    try:
        assert rows(query(clinic, text)) == 1  # the first of two statements, where the second is not looked at
        assert text.startswith("select")
    except DataError:
        pass
    assert (clinic / "clinic.db").read_bytes() == before
    assert {path.name for path in clinic.iterdir()} == {"clinic.db", "cohort.sql"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no query in it"),
        ("-- nothing", "no query in it"),
        ("selec 1", "begins with select"),
        ("select agee from patients", "no such column: agee"),
        ("select 1 as a, 2 as a", "two columns 'a'"),
    ],
)
def test_a_query_that_says_nothing_is_told(clinic: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        rows(query(clinic, text))


def test_values_of_several_types_are_told_without_a_value(clinic: Path) -> None:
    text = "select case when rowid > 60000 then 'Secret' else age end as age from patients order by rowid"
    with pytest.raises(DataError, match=r"stopped after row \d+.*CAST") as error:
        rows(query(clinic, text))
    assert "Secret" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (None, "Set AEGIS_DATABASE, such as sqlite"),
        ("mysql://h/d", "begins with 'mysql'"),
        ("sqlite:///no/such.db", "no file 'no/such.db'"),
        ("postgresql://reader:hunter2@127.0.0.1:1/d", r"cannot be opened \("),
    ],
)
def test_a_database_that_is_not_there_is_told_without_its_password(
    clinic: Path, monkeypatch: pytest.MonkeyPatch, address: str | None, said: str
) -> None:
    if address is None:
        monkeypatch.delenv(DATABASE)
    else:
        monkeypatch.setenv(DATABASE, address)
    with pytest.raises(DataError, match=said) as error:
        rows(query(clinic, "select 1"))
    assert "hunter2" not in str(error.value)


@pytest.fixture
def server() -> Iterator[str]:
    """A PostgreSQL of this test's own, on a socket in its folder, run by nobody where this is root: it refuses root."""
    if not _SERVERS:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    tools = _SERVERS[-1].parent
    run = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(
        prefix="aegis-pg-", dir="/tmp"
    ) as name:  # short: a socket's path is; and nobody gets there
        data = Path(name)
        if run:
            shutil.chown(data, "nobody", "nogroup")
        subprocess.run(
            [*run, tools / "initdb", "-D", data, "-U", "aegis", "-A", "trust"], check=True, capture_output=True
        )
        options = f"-c listen_addresses='' -c unix_socket_directories={data}"
        subprocess.run(
            [*run, tools / "pg_ctl", "-D", data, "-w", "-l", data / "log", "-o", options, "start"], check=True
        )
        try:
            yield f"postgresql:///postgres?host={data}&user=aegis"
        finally:
            subprocess.run([*run, tools / "pg_ctl", "-D", data, "-m", "immediate", "stop"], check=True)


def test_postgresql_gives_its_rows_and_lets_nothing_be_written(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(server) as connection, connection.cursor() as cursor:
        cursor.execute(
            "create table t as select 'P' || n as patient_id, n % 90 as age, n::numeric / 4 as w "
            "from generate_series(1, 1000) n"
        )
        connection.commit()
    monkeypatch.setenv(DATABASE, server)
    assert rows(query(tmp_path, "select * from t order by patient_id")) == 1000
    kinds = {name: column.kind for name, column in draft(query(tmp_path, "select * from t")).schema.columns.items()}
    assert kinds == {"patient_id": "text", "age": "integer", "w": "number"}
    for text in ("delete from t", "with gone as (delete from t returning *) select * from gone", "select nextval('s')"):
        with pytest.raises(DataError):
            rows(query(tmp_path, text))
    with pytest.raises(DataError, match='column "agee" does not exist'):
        rows(query(tmp_path, "select agee from t"))
    with pytest.raises(DataError, match="stopped after row 0") as error:
        rows(query(tmp_path, "select 1 / (age - 5), 'Secret' as s from t"))
    assert "Secret" not in str(error.value)
    assert rows(query(tmp_path, "select * from t")) == 1000
