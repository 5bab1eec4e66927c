"""Made-up rows of a schema: for whoever writes a model without access to the data. No row is, or is drawn from, anybody's."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aegis_flower.data.schema import ITEMS, Column, Schema
from aegis_flower.importer.kinds import arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

_MISSING: Final = 0.05  # share of missing values where they are allowed
_LEVELS: Final = ("a", "b", "c")  # of a category whose vocabulary nobody declared
_WORDS: Final = ("made", "up", "text", "of", "a", "mock", "row")
_LONGEST: Final = 12  # numbers of a list
_FIRST, _DAYS = dt.date(2020, 1, 1), 2000


def mock(schema: Schema, rows: int, seed: int = 0) -> pa.Table:
    """Rows that fit a schema, uniform within its bounds and vocabularies; people are ``mock-0`` and on, about two rows each."""
    import pyarrow as pa

    drawn = np.random.default_rng(seed)
    columns: dict[str, pa.Array] = {}
    for name, column in schema.columns.items():
        if column.role == "leave out":
            continue
        if column.role == "subject":
            columns[name] = pa.array([f"mock-{person}" for person in drawn.integers(0, max(1, rows // 2), rows)])
            continue
        values = _values(column, rows, drawn)
        if column.missing and column.role == "feature":
            gone = drawn.random(rows) < _MISSING
            values = [None if out else value for value, out in zip(values, gone, strict=True)]
        columns[name] = pa.array(values, arrow_type(column))
    return pa.table(columns)


def _values(column: Column, rows: int, drawn: np.random.Generator) -> list[Any]:
    """One value per row, of the column's kind."""
    low = column.low if column.low is not None else (column.high - 1 if column.high is not None else 0.0)
    high = column.high if column.high is not None else low + (100 if column.kind == "integer" else 1)
    size = int(np.prod(column.shape))
    start = dt.datetime.combine(_FIRST, dt.time(), dt.UTC)
    made: dict[str, Callable[[], Any]] = {
        "number": lambda: drawn.uniform(low, high, rows),
        "integer": lambda: drawn.integers(int(np.ceil(low)), int(max(np.ceil(low), np.floor(high))) + 1, rows),
        "boolean": lambda: drawn.random(rows) < 0.5,  # noqa: PLR2004 - a fair coin
        "category": lambda: [str(level) for level in drawn.choice(column.levels or _LEVELS, rows)],
        "text": lambda: [" ".join(drawn.choice(_WORDS, drawn.integers(1, 8))) for _ in range(rows)],
        "date": lambda: [_FIRST + dt.timedelta(days=int(day)) for day in drawn.integers(0, _DAYS, rows)],
        "time": lambda: [start + dt.timedelta(seconds=int(s)) for s in drawn.integers(0, _DAYS * 86400, rows)],
        "tensor": lambda: _numbers(column.item, rows * size, drawn).reshape(rows, size),
        "list": lambda: [_numbers(column.item, int(n), drawn).tolist() for n in drawn.integers(0, _LONGEST, rows)],
    }
    values = made[column.kind]()
    return values if isinstance(values, list) else list(values.tolist())


def _numbers(item: str, count: int, drawn: np.random.Generator) -> np.ndarray[Any, Any]:
    kind = np.dtype(ITEMS[item])
    return drawn.integers(0, 256, count).astype(kind) if kind.kind in "iu" else drawn.random(count).astype(kind)


def save(table: pa.Table, path: Path) -> None:
    """Writes a table in the format of the file's name: CSV or Parquet."""
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    if path.suffix.lower() in (".parquet", ".pq"):
        pq.write_table(table, path)
        return
    import pyarrow as pa

    plain = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        nested = pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)
        texts = [None if row is None else " ".join(map(str, row)) for row in column.to_pylist()] if nested else None
        plain[name] = pa.array(texts, pa.string()) if nested else column
    pc.write_csv(pa.table(plain), path)
