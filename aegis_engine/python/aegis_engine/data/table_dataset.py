"""Rows of Parquet and CSV objects as a dataset: the face of `aegis_engine.data.dataset` over the columns of tables.

    dataset = vault.dataset(file_id, Parquet(("age", "dose")), shuffle=Block(window=4, seed=1))
    for batch in dataset.batches(256):   # {"age": array of 256, "dose": array of 256}

A block is a row group of Parquet, or a run of up to 65 536 lines of CSV; in memory are `window` blocks, mixed, and up to
`read_ahead` further ones, which a thread decodes meanwhile. Small row groups (10 000 to 100 000 rows) shuffle better and
take less memory. Columns left out are not decoded. Arrays lie outside core dumps and are cleared when freed.

The order is that of docs/ENCRYPTION.md, "Order of records", with row groups for blocks.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aegis_engine._native import Permit, Vault, secret_buffer, shuffle_order
from aegis_engine.data.dataset import VaultDataset
from aegis_engine.data.layouts import Block, DatasetError, numpy, place
from aegis_engine.data.tables import Csv, Parquet, TableBlocks
from aegis_engine.errors import AegisError

if TYPE_CHECKING:
    import numpy as np

Columns = dict[str, Any]


def _opened(vault: Vault, permit: Permit | None) -> tuple[Vault, Permit | None]:
    return vault, permit


def _secret(count: int, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array of `count` rows like those of `like`, in memory outside core dumps."""
    shape = (count, *like.shape[1:])
    size = like.dtype.itemsize
    for axis in shape:
        size *= axis
    np = numpy()
    if size == 0:
        return np.empty(shape, like.dtype)
    return np.frombuffer(secret_buffer(size), like.dtype).reshape(shape)


class _Group:
    """The rows of some blocks, mixed."""

    def __init__(self, blocks: list[Columns], counts: list[int], order: Any) -> None:
        np = numpy()
        self.order = np.arange(sum(counts)) if order is None else order
        self.used = 0
        self.columns: Columns = {}
        for name, first in list(blocks[0].items()):
            joined = _secret(sum(counts), first)
            at = 0
            for block, count in zip(blocks, counts, strict=True):
                # Freed at once: no more than one column is in memory twice.
                joined[at : at + count] = block.pop(name)
                at += count
            del first
            self.columns[name] = joined

    def left(self) -> int:
        return len(self.order) - self.used

    def take(self, into: Columns, at: int, count: int) -> None:
        chosen = self.order[self.used : self.used + count]
        for name, column in self.columns.items():
            # Another mode gathers into a copy first, on the plain heap.
            column.take(chosen, axis=0, out=into[name][at : at + count], mode="clip")
        self.used += count


class _Stream:
    """Rows of one epoch of one shard."""

    def __init__(
        self, rows: _Rows, epoch: int, position: int, window: int | None, seed: int, shard: tuple[int, int], ahead: int
    ) -> None:
        self._rows, self._shuffled, self._seed, self._epoch, self._shard = rows, window is not None, seed, epoch, shard
        self._window, self.position = window or 1, position
        order = rows.order(epoch, window, seed, shard)
        self._groups = [order[at : at + self._window] for at in range(0, len(order), self._window)]
        self._next, skip = 0, position
        while self._next < len(self._groups) and skip >= (size := sum(map(rows.count, self._groups[self._next]))):
            skip -= size
            self._next += 1
        self._group: _Group | None = None
        self._skip = skip
        self._pool = ThreadPoolExecutor(1, "aegis-rows")
        self._wanted = deque(block for group in self._groups[self._next :] for block in group)
        self._coming: deque[Future[Columns]] = deque()
        self._ahead = ahead
        self._submit()

    def _submit(self) -> None:
        while self._wanted and len(self._coming) < max(1, self._ahead):
            self._coming.append(self._pool.submit(self._rows.read, self._wanted.popleft()))

    def _advance(self) -> bool:
        self._group = None
        if self._next >= len(self._groups):
            return False
        blocks, counts = [], []
        for block in self._groups[self._next]:
            blocks.append(self._coming.popleft().result())
            counts.append(self._rows.count(block))
            self._submit()
        order = None
        if self._shuffled:
            number = self._next * self._shard[1] + self._shard[0]
            order = _numbers(shuffle_order(self._seed, self._epoch, 1 + number, sum(counts)))
        self._group = _Group(blocks, counts, order)
        self._group.used, self._skip = self._skip, 0
        self._next += 1
        return True

    def fill(self, size: int) -> Columns | None:
        """The next `size` rows, fewer at the end; None after it."""
        while self._group is None or not self._group.left():
            if not self._advance():
                return None
        assert self._group is not None
        batch = {name: _secret(size, column) for name, column in self._group.columns.items()}
        done = 0
        while done < size:
            count = min(size - done, self._group.left())
            self._group.take(batch, done, count)
            done += count
            self.position += count
            while done < size and not self._group.left():
                if not self._advance():
                    return {name: column[:done] for name, column in batch.items()}
        return batch

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._group = None
        self._coming.clear()


class _Rows:
    """The blocks of several tables, one after the other."""

    #: Not fixed bytes, but batches all the same.
    stride = 1

    def __init__(self, tables: list[TableBlocks], names: list[str]) -> None:
        # A block without a permitted row is none.
        self.blocks = [(table, at) for table in tables for at in range(len(table)) if table.rows(at)]
        self._counts = [table.rows(at) for table, at in self.blocks]
        self.columns: dict[str, tuple[str, tuple[int, ...]]] = {}
        for table, name in zip(tables, names, strict=True):
            filled = next((at for at in range(len(table)) if table.rows(at)), None)
            if filled is None:
                continue
            block = table.read(filled)
            if not block:
                raise DatasetError(f"object {name}: none of its columns holds numbers; name some, or read it as Arrow")
            found = _kinds(block)
            if self.columns and found != self.columns:
                raise DatasetError(
                    f"object {name} has other columns than the ones before it ({found}); make a dataset of each"
                )
            self.columns = found

    def __len__(self) -> int:
        return sum(self._counts)

    def count(self, block: int) -> int:
        return self._counts[block]

    def read(self, block: int) -> Columns:
        table, at = self.blocks[block]
        columns = table.read(at)
        if (found := _kinds(columns)) != self.columns:
            raise DatasetError(f"block {at} has other columns than the first one ({found}, there {self.columns})")
        return columns

    def order(self, epoch: int, window: int | None, seed: int, shard: tuple[int, int]) -> list[int]:
        count = len(self.blocks)
        every = range(count) if window is None else _numbers(shuffle_order(seed, epoch, 0, count)).tolist()
        return list(every[shard[0] :: shard[1]])

    def shard_len(self, epoch: int, window: int | None, seed: int, shard: tuple[int, int]) -> int:
        return sum(map(self.count, self.order(epoch, window, seed, shard)))

    def locate(self, row: int) -> tuple[int, int]:
        for block, count in enumerate(self._counts):
            if row < count:
                return block, row
            row -= count
        raise IndexError(row)


def _kinds(columns: Columns) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of a row's value, by column."""
    return {name: (array.dtype.str, array.shape[1:]) for name, array in columns.items()}


def _numbers(packed: bytes) -> Any:
    return numpy().frombuffer(packed, "<u4")


class TableDataset(VaultDataset):
    """Rows of tables of the same columns. `vault.dataset(ids, Parquet(...))` or ``Csv(...)`` makes it.

    A batch is a dictionary of arrays by column; iterating gives dictionaries of single values. Only columns of numbers
    (booleans, dates and fixed-size lists of numbers among them) are rows of numbers: name them, or the others are left out.

    Attributes:
        columns: dtype and shape of a row's value, by column.
    """

    _records: Any
    _stream: Any

    def __init__(
        self,
        vault: Vault,
        ids: str | UUID | Sequence[str | UUID],
        record: Parquet | Csv,
        *,
        shuffle: Block | None = None,
        read_ahead: int = 1,
        shard: tuple[int, int] | None = None,
        permit: Permit | Mapping[str, Permit] | None = None,
    ) -> None:
        self._table = record
        super().__init__(vault, ids, shuffle=shuffle, read_ahead=read_ahead, shard=shard, permit=permit)

    def _open(self) -> None:
        tables = [
            TableBlocks(functools.partial(_opened, self._vault, self._permit_of(one)), one, self._table)
            for one in self.ids
        ]
        self.dtype, self.shape = None, ()
        self._records = _Rows(tables, self.ids)
        self.columns = self._records.columns

    def _identity(self) -> dict[str, Any]:
        return {**super()._identity(), "columns": list(self.columns)}

    def _streamed(self, epoch: int, position: int) -> Any:
        return _Stream(self._records, epoch, position, self._window, self._seed, self.shard, self.read_ahead)

    def _fill(self, stream: Any, size: int) -> Any:
        # A block is decoded in one piece and given out in parts: each part redeems the permits again.
        self._redeem(stream)
        return stream.fill(size)

    def _redeem(self, stream: Any) -> None:
        permits = self._permit.values() if isinstance(self._permit, Mapping) else [self._permit]
        try:
            for permit in permits:
                if permit is not None:
                    self._vault.admit(permit)
        except AegisError:
            self.close()
            raise

    def _length(self, batch: Any) -> int:
        return len(next(iter(batch.values())))

    def _step(self) -> int:
        return 4096

    def _split(self, batch: Any) -> Iterator[Any]:
        return ({name: column[at] for name, column in batch.items()} for at in range(self._length(batch)))

    def take(self, indices: Sequence[int]) -> Any:
        """Rows by their numbers in the order of storage, as one batch; each block they lie in is decoded once."""
        count = len(self._records)
        wanted = [place(index, count) for index in indices]
        by_block: dict[int, list[tuple[int, int]]] = {}
        for at, index in enumerate(wanted):
            block, row = self._records.locate(index)
            by_block.setdefault(block, []).append((at, row))
        batch: Columns = {}
        np = numpy()
        for block, places in by_block.items():
            for name, column in self._records.read(block).items():
                into = batch.setdefault(name, _secret(len(wanted), column))
                for at, row in places:
                    into[at] = column[row]
        return batch or {name: np.empty((0, *shape), dtype) for name, (dtype, shape) in self.columns.items()}

    def __getitem__(self, index: int) -> Any:
        return {name: column[0] for name, column in self.take([index]).items()}

    def __repr__(self) -> str:
        told = ", ".join(f"{name}: {dtype}" for name, (dtype, _) in self.columns.items())
        return f"<TableDataset of {len(self._records)} rows ({told}) in {len(self.ids)} objects>"


__all__ = ["TableDataset"]
