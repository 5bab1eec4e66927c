"""Tables in a vault: how Parquet and CSV objects are read, and their blocks as dictionaries of numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aegis_engine._native import Permit, TableReader, Vault
from aegis_engine.data.layouts import DatasetError, NoSuchRecord

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Parquet:
    """Rows of a Parquet object.

    Attributes:
        columns: columns to read, in this order; all that are permitted when None. Others are not decoded.
    """

    columns: tuple[str, ...] | None = None

    @property
    def format(self) -> str:
        """The name `Vault.table` knows it by."""
        return "parquet"


@dataclass(frozen=True)
class Csv:
    """Rows of a CSV object (RFC 4180), and how it is written. A governed table brings its own description; another one
    here is an error.

    The second column ``a`` of a header is ``a_2``; a column without a name is ``column_0``, by its place. A byte order mark
    counts at the first byte of the file only. A quote that nothing closes is an error with the line where it opens.

    Attributes:
        columns: columns to read, in this order; all that are permitted when None. Others are split off, never parsed.
        delimiter: between fields, one ASCII character.
        quote: around fields that hold a delimiter, a quote or a line end; doubled inside.
        header: whether the first line names the columns; without, they are ``column_0``, ``column_1``, ...
        nulls: fields that mean "no value", apart from the empty one.
        types: types by column: ``bool i32 i64 f32 f64 date text``. The others are inferred from the first 1000 lines,
            up to 10 000 within 1 MiB: ``bool``, ``i64``, ``f64``, ``date`` or ``text``. A later field that does not fit is
            an error with its line. Whole numbers beyond 64 bits (ids, mostly) make a column of text: as floats they would
            be other numbers.
        longest_line: bytes; a longer line is an error.
    """

    columns: tuple[str, ...] | None = None
    delimiter: str = ","
    quote: str = '"'
    header: bool = True
    nulls: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    longest_line: int = 1 << 20

    @property
    def format(self) -> str:
        """The name `Vault.table` knows it by."""
        return "csv"


class TableBlocks:
    """The blocks of a table: row groups of Parquet, runs of up to 65 536 lines of CSV.

    A pickle holds ``opener``, the object's id and ``record``, never a key or a value: ``opener`` must say where a key comes
    from (a module-level function, or a partial of one with a path), and is called again where it is unpickled.

    Args:
        opener: gives the vault and the permit (None: the owner's).
        object_id: id of the object.
        record: which columns, and how the file is written.
        threads: threads that decode a block.

    Raises:
        aegis_engine.errors.TableError: the object does not read as such a table.
    """

    def __init__(
        self, opener: Callable[[], tuple[Vault, Permit | None]], object_id: Any, record: Parquet | Csv, threads: int = 1
    ) -> None:
        self._opener, self._object, self._record, self._threads = opener, str(object_id), record, threads
        self._reader: TableReader | None = None
        self._rows: list[int] | None = None

    @property
    def reader(self) -> TableReader:
        """The table, opened when it is first needed."""
        if self._reader is None:
            vault, permit = self._opener()
            record = self._record
            self._reader = vault.table(
                self._object,
                format=record.format,
                columns=None if record.columns is None else list(record.columns),
                permit=permit,
                threads=self._threads,
                csv=record if isinstance(record, Csv) else None,
            )
        return self._reader

    def _blocks(self) -> list[int]:
        if self._rows is None:
            self._rows = self.reader.blocks()
        return self._rows

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._blocks())

    def rows(self, i: int) -> int:
        """Permitted rows of block ``i``; may be 0."""
        return self._blocks()[i]

    def read(self, i: int) -> dict[str, np.ndarray[Any, Any]]:
        """Block ``i``: a writable array a column of numbers, its first axis the permitted rows in the order of the file.

        Raises:
            DatasetError: a column holds no numbers (text, for instance).
            aegis_engine.errors.TableError: a column has missing values and is not floating: found in the block that has one.
            aegis_engine.errors.PermitError: the permit has ended.
        """
        if not 0 <= i < len(self):
            raise NoSuchRecord(f"block {i} of {len(self)}")
        columns = self.reader.block_to_numpy(i)
        if self._record.columns is not None and (other := [c for c in self._record.columns if c not in columns]):
            raise DatasetError(f"columns {other} hold no numbers; leave them out, or read the table as Arrow")
        return columns

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None, "_rows": None}


def read_parquet(
    vault: Vault,
    object: str | UUID,
    columns: Sequence[str] | None = None,
    permit: Permit | None = None,
    *,
    threads: bool = True,
) -> Any:
    """A Parquet object as a `pyarrow.Table`, decoded by pyarrow: the fast way for whole objects that fit into memory.

    The object is decrypted into memory outside core dumps and decoded from there; the table itself is pyarrow's memory.
    For a table under a permit for rows, or larger than memory, use `Vault.table`.

    Args:
        vault: an open vault.
        object: id of the object.
        columns: columns to decode; all when None.
        permit: for the whole object; the owner's when None.
        threads: whether pyarrow decodes on several threads.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ModuleNotFoundError("read_parquet needs pyarrow: pip install pyarrow, or use vault.table") from None
    buffer = pa.py_buffer(vault.load(object, permit))
    return pq.read_table(pa.BufferReader(buffer), columns=columns, use_threads=threads)


__all__ = ["Csv", "Parquet", "TableBlocks", "read_parquet"]
