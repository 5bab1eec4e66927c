"""SQL: the rows of a query, which is a file that people review and commit. ADBC (Apache Arrow) asks the database.

The address of the database is no part of the file: it stands in `AEGIS_DATABASE`, since a password may be in it. The session
is read-only: a query that writes is refused by the database itself.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from aegis_flower.data.schema import Source
from aegis_flower.errors import DataError
from aegis_flower.importer.reading.batches import Batch, Malformed

DATABASE: Final = "AEGIS_DATABASE"
_ROWS, _QUERY = 1 << 16, 1 << 20
_READS: Final = ("select", "with", "values", "table")  # others may make files beside a database that is only read
_COMMENTS: Final = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def read_sql(path: Path, source: Source, _: Malformed | None) -> Iterator[Batch]:
    """The rows of the query in the file, as the database gives them; a row's number is its place in that order.

    Raises:
        DataError: no database is named, it cannot be reached, or it refuses the query. Addresses and rows are not told.
    """
    import pyarrow as pa

    query = _query(path, source)
    first = 0
    with contextlib.closing(_connected(path)) as connection, connection.cursor() as cursor:
        try:
            cursor.execute(query)
            batches = cursor.fetch_record_batch()
        except Exception as error:  # noqa: BLE001 - each driver has errors of its own
            raise DataError(f"{path.name}: the database refuses the query{_said(error)}") from None
        names = batches.schema.names
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{path.name}: it gives two columns {twice!r:.80}; name one of them by AS")
        while True:
            try:
                batch = batches.read_next_batch()
            except StopIteration:
                return
            except Exception as error:  # noqa: BLE001 - as above
                raise DataError(
                    f"{path.name}: the database stopped after row {first}{_said(error)}; where a column has values of several "
                    "types, give it one by CAST"
                ) from None
            batch.validate(full=True)
            for at in range(0, batch.num_rows, _ROWS):
                part = batch.slice(at, _ROWS)
                # PostgreSQL's numeric comes as text under a type of its own name.
                plain = [column.storage if isinstance(column, pa.ExtensionArray) else column for column in part.columns]
                yield Batch(dict(zip(names, plain, strict=True)), first, part.num_rows)
                first += part.num_rows


def _query(path: Path, source: Source) -> str:
    if path.stat().st_size > _QUERY:
        raise DataError(f"{path.name}: a query of more than {_QUERY >> 20} MiB; is it a dump of a database?")
    query = path.read_text(source.encoding).strip()
    first = _COMMENTS.sub(" ", query).split(maxsplit=1)
    if not first:
        raise DataError(f"{path.name}: there is no query in it")
    if first[0].lower().rstrip("(") not in _READS:
        raise DataError(f"{path.name}: a query that reads begins with {', '.join(_READS)}; this one does not")
    return query


def _connected(path: Path) -> Any:
    """A read-only session."""
    address = os.environ.get(DATABASE, "")
    if not address:
        raise DataError(
            f"{path.name}: which database is it for? Set {DATABASE}, such as sqlite:///clinic.db or "
            "postgresql://reader@host/clinic (its password: PGPASSFILE)"
        )
    kind = urlsplit(address).scheme
    opens = {"sqlite": _sqlite, "postgresql": _postgresql, "postgres": _postgresql}
    if kind not in opens:
        raise DataError(f"{DATABASE}: it begins with {kind!r:.20}; sqlite and postgresql are known")
    try:
        return opens[kind](address)
    except ModuleNotFoundError:
        raise DataError("SQL needs ADBC: pip install 'aegis-flower[sql]'") from None
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - each driver has errors of its own
        raise DataError(f"{DATABASE}: the database cannot be opened ({type(error).__name__})") from None


def _sqlite(address: str) -> Any:
    """``sqlite:///relative.db`` or ``sqlite:////absolute.db``."""
    from adbc_driver_sqlite import dbapi

    file = Path(unquote(urlsplit(address).path.removeprefix("/")))
    if not file.is_file():
        raise DataError(f"{DATABASE}: there is no file {str(file)!r}")
    return dbapi.connect(f"{file.resolve().as_uri()}?mode=ro")


def _postgresql(address: str) -> Any:
    from adbc_driver_postgresql import dbapi

    connection = dbapi.connect(address)
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    connection.commit()
    return connection


def _said(error: Exception) -> str:
    """What a database said, where that quotes the query alone: before it looks at a row. Later it may quote a value."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else ""
    state = getattr(error, "sqlstate", None) or ""
    if state.startswith("42") or "Failed to prepare query" in text:  # syntax, names, rights (SQL standard, class 42)
        return f": {text[:300]}"
    return f" (SQLSTATE {state})" if state else f" ({type(error).__name__})"
