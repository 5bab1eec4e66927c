"""Records of a vault as a dataset: shuffled, resumable, sharded, decrypted ahead by threads of the engine.

    dataset = vault.dataset(file_id, NpyRows(), shuffle=Block(window=8, seed=1))
    for epoch in range(3):
        dataset.set_epoch(epoch)
        for batch in dataset.batches(256):   # one numpy array a batch, filled by one call
            ...

Plain iteration, so that any library can read it; `aegis_engine.torch` has the classes for a `DataLoader`. The order follows
from (seed, epoch) alone (docs/ENCRYPTION.md, "Order of records"); every record comes once an epoch; `state()` and `resume()`
go on where an interrupted epoch stopped. Every block that is read redeems the permit again.

What is pickled, for worker processes started by spawn or forkserver, says where the vault and its key are; a forked worker
gets `ForkedProcess`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from aegis_engine._native import Permit, Records, RecordStream, SecretBuffer, Vault, secret_buffer
from aegis_engine.records import (
    Block,
    DatasetError,
    Fixed,
    Idx,
    NpyRows,
    Offsets,
    Record,
    Rows,
    layout_of,
    numpy,
)


class VaultDataset:
    """Records of objects of one layout. `vault.dataset(...)` makes it.

    Iterating gives each record: a numpy array (a scalar's for shape ``()``) when the layout has a dtype, else a memoryview.
    """

    def __init__(
        self,
        vault: Vault,
        ids: str | UUID | Sequence[str | UUID],
        record: Record | None = None,
        *,
        shuffle: Block | None = None,
        read_ahead: int = 8,
        shard: tuple[int, int] | None = None,
        permit: Permit | Mapping[str, Permit] | None = None,
    ) -> None:
        self._vault, self._record, self._permit = vault, record or Rows(), permit
        self.ids = [str(ids)] if isinstance(ids, (str, UUID)) else [str(one) for one in ids]
        if not self.ids:
            raise DatasetError("a dataset needs at least one object")
        if shuffle is not None and not (shuffle.window >= 1 and 0 <= shuffle.seed < 2**64):
            raise DatasetError("a shuffle has a window of at least 1 block and a seed of 0 to 2^64-1")
        if read_ahead < 0:
            raise DatasetError("read_ahead is a number of blocks, 0 or more")
        self.shuffle, self.read_ahead = shuffle, read_ahead
        self.shard = self._checked(shard or (0, 1))
        self._epoch = self._start = self._held = 0
        self._stream: RecordStream | None = None
        self._open()

    @staticmethod
    def _checked(shard: tuple[int, int]) -> tuple[int, int]:
        if not 0 <= shard[0] < shard[1]:
            raise DatasetError(f"shard {shard[0]} of {shard[1]}: shards are numbered from 0")
        return shard

    def _open(self) -> None:
        layouts = [layout_of(self._vault, one, self._record, self._permit_of) for one in self.ids]
        kinds = {(str(layout.dtype), layout.shape) for layout in layouts}
        if len(kinds) > 1:
            raise DatasetError(
                f"the objects have different records ({', '.join(map(str, sorted(kinds)))}); make a dataset of each"
            )
        self.dtype, self.shape = layouts[0].dtype, layouts[0].shape
        self._records = Records([layout.source for layout in layouts])

    def _permit_of(self, one: str) -> Permit | None:
        return self._permit.get(one) if isinstance(self._permit, Mapping) else self._permit

    # -- sizes and places -------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Records of this shard in the current epoch."""
        if self.shard == (0, 1):
            return len(self._records)
        return self._records.shard_len(self._epoch, self._window, self._seed, self.shard)

    @property
    def _window(self) -> int | None:
        return self.shuffle.window if self.shuffle else None

    @property
    def _seed(self) -> int:
        return self.shuffle.seed if self.shuffle else 0

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is epoch `epoch`, from its start."""
        if epoch < 0:
            raise DatasetError("epochs are numbered from 0")
        self.close()
        self._epoch, self._start = epoch, 0

    def of_shard(self, shard: tuple[int, int]) -> VaultDataset:
        """The same dataset, other shard. Shards are disjoint, and together exact."""
        other: VaultDataset = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.shard, other._stream, other._held = self._checked(shard), None, 0
        return other

    def state(self) -> dict[str, Any]:
        """Where iteration stands, for `resume`: plain values, no secrets."""
        return {**self._identity(), "epoch": self._epoch, "position": self._position()}

    def _position(self) -> int:
        """Records given out: of a stream, those it gave less those that a plain iteration holds for its next steps."""
        return self._stream.position - self._held if self._stream else self._start

    def _identity(self) -> dict[str, Any]:
        return {
            "version": 1,
            "objects": list(self.ids),
            "records": len(self._records),
            "window": self._window,
            "seed": self._seed,
            "shard": list(self.shard),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """The next iteration goes on where `state` was taken.

        Raises:
            DatasetError: the state is of another dataset, shuffle or shard; names what differs.
        """
        mine = self._identity()
        different = [name for name, value in mine.items() if state.get(name) != value]
        if different:
            told = ", ".join(f"{name}: {state.get(name)!r}, here {mine[name]!r}" for name in different)
            raise DatasetError(f"the state is of another dataset ({told}); make the dataset as it was, or start anew")
        self.close()
        self._epoch, self._start = int(state["epoch"]), int(state["position"])

    def close(self) -> None:
        """Stops reading ahead and clears what was decrypted."""
        if self._stream is not None:
            self._start = self._position()
            self._stream.close()
            self._stream, self._held = None, 0

    # -- reading ----------------------------------------------------------------------------------------------------

    def _begin(self) -> RecordStream:
        self.close()
        self._stream = self._records.stream(
            self._epoch, self._start, self._window, self._seed, self.shard, self.read_ahead
        )
        self._start = 0
        return self._stream

    def _end(self, stream: RecordStream) -> None:
        """After a whole epoch the next one is on."""
        if self._stream is stream:
            stream.close()
            self._stream, self._start, self._held = None, 0, 0
            self._epoch += 1

    def __iter__(self) -> Iterator[Any]:
        stream = self._begin()
        if self._records.stride is None:
            while (record := stream.next_record()) is not None:
                yield memoryview(record)
        else:
            while (batch := self._fill(stream, self._step())) is not None:
                left = self._length(batch)
                for record in self._split(batch):
                    left -= 1
                    # Another iteration may have begun meanwhile; this one's stream is closed then.
                    if self._stream is stream:
                        self._held = left
                    yield record
        self._end(stream)

    def _step(self) -> int:
        """Records that a plain iteration takes from the stream at once."""
        return max(1, min(4096, 2**20 // (self._records.stride or 1)))

    def _split(self, batch: Any) -> Any:
        # A memoryview of two axes cannot be cut into rows: flat, then by size.
        return batch if self.dtype is not None else _rows(batch, self._records.stride or 1)

    def batches(self, size: int, *, drop_last: bool = False) -> Iterator[Any]:
        """Batches of `size` records, each in one piece of memory outside core dumps, filled by one call of the engine.

        Yields:
            A numpy array of shape (size, *shape) when the layout has a dtype; else a memoryview of (size, bytes).
        """
        if size < 1:
            raise DatasetError("a batch has at least one record")
        if self._records.stride is None:
            raise DatasetError("records of different sizes make no batch in one piece; iterate over them, or collate")
        stream = self._begin()
        while (batch := self._fill(stream, size)) is not None:
            if drop_last and self._length(batch) < size:
                break
            yield batch
        self._end(stream)

    def _length(self, batch: Any) -> int:
        return len(batch)

    def _fill(self, stream: RecordStream, size: int) -> Any:
        stride = self._records.stride or 1
        buffer = secret_buffer(size * stride)
        count = stream.fill(stride, buffer)
        return self._shaped(buffer, count, stride) if count else None

    def _shaped(self, buffer: SecretBuffer, count: int, stride: int) -> Any:
        if self.dtype is None:
            return memoryview(buffer)[: count * stride].cast("B", (count, stride))
        array = numpy().frombuffer(buffer, self.dtype, count * stride // self.dtype.itemsize)
        return array.reshape(count, *self.shape)

    def take(self, indices: Sequence[int]) -> Any:
        """Records by their numbers in the order of storage, as one batch."""
        stride = self._records.stride
        if stride is None:
            raise DatasetError("records of different sizes make no batch in one piece; take them one by one")
        count = len(self._records)
        wanted = [index + count if index < 0 else index for index in map(int, indices)]
        for index in wanted:
            if not 0 <= index < count:
                raise IndexError(f"record {index} of {count}")
        buffer = secret_buffer(len(wanted) * stride)
        self._records.take(struct.pack(f"<{len(wanted)}Q", *wanted), buffer)
        return self._shaped(buffer, len(wanted), stride)

    def __getitem__(self, index: int) -> Any:
        count = len(self._records)
        index = index + count if index < 0 else index
        if not 0 <= index < count:
            raise IndexError(f"record {index} of {count}")
        if self._records.stride is None:
            return memoryview(self._records.get(index))
        one = self.take([index])
        return one[0] if self.dtype is not None else one.cast("B")

    # -- to other processes -----------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        if self._permit is not None:
            raise TypeError(
                "a permit does not travel to another process; read in this one (num_workers=0: the engine's threads read "
                "ahead), or open the vault and ask for a permit in the worker"
            )
        kept = self.__dict__.copy()
        kept.update(_stream=None, _start=self._position(), _held=0)
        for opened in ("_records", "dtype", "columns"):
            kept.pop(opened, None)
        return kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __repr__(self) -> str:
        what = f"{self.dtype} {self.shape}" if self.dtype is not None else f"{self._records.stride or 'varying'} bytes"
        return f"<VaultDataset of {len(self._records)} records ({what}) in {len(self.ids)} objects>"


def dataset_of(
    vault: Vault, ids: Any, record: Any = None, *, read_ahead: int | None = None, **options: Any
) -> VaultDataset:
    """What `vault.dataset` gives: a `VaultDataset`, or for `Parquet` and `Csv` a `TableDataset`."""
    from aegis_engine.tables import Csv, Parquet

    if read_ahead is not None:
        options["read_ahead"] = read_ahead
    if isinstance(record, (Parquet, Csv)):
        from aegis_engine.table_dataset import TableDataset

        return TableDataset(vault, ids, record, **options)
    return VaultDataset(vault, ids, record, **options)


def _rows(batch: memoryview, stride: int) -> Iterator[memoryview]:
    flat = batch.cast("B")
    return (flat[at : at + stride] for at in range(0, len(flat), stride))


__all__ = [
    "Block",
    "DatasetError",
    "Fixed",
    "Idx",
    "NpyRows",
    "Offsets",
    "Record",
    "Rows",
    "VaultDataset",
    "dataset_of",
]
