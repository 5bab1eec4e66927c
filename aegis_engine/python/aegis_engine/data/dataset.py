"""Records of a vault as a dataset: shuffled, resumable, sharded, decrypted ahead by threads of the engine.

    dataset = vault.dataset(file_id, NpyRows(), shuffle=Block(window=8, seed=1))
    for epoch in range(3):
        dataset.set_epoch(epoch)
        for batch in dataset.batches(256):   # one numpy array a batch, filled by one call
            ...

Plain iteration, so that any library can read it; `aegis_engine.data.torch` has the classes for a `DataLoader`. The order follows
from (seed, epoch) alone (docs/ENCRYPTION.md, "Order of records"); every record comes once an epoch. Every block that is read
redeems the permit again.

An iteration is an epoch from its start, and the next one is the next epoch, whether or not the one before came to its end
(`next(iter(...))`, `break`, `zip`): missing rows would be silent otherwise. `set_epoch` says which epoch comes next. Where an
interrupted epoch stopped says `state()`; after `resume(state)` the next iteration goes on there. A state taken after the last
batch is the start of the next epoch. The workers of a loader count together (`aegis_engine.data.epochs`).

What is pickled, for worker processes started by spawn or forkserver, says where the vault and its key are; a forked worker
gets `ForkedProcess`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from aegis_engine._native import Permit, Records, RecordStream, SecretBuffer, Vault, secret_buffer
from aegis_engine.data.epochs import Epochs, worker
from aegis_engine.data.layouts import (
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
    place,
    whole_number,
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
        #: Counts iterations; copies of the dataset in a loader's workers share it.
        self.epochs = Epochs()
        #: Epoch and place that the next iteration goes on from, and those where the last one stopped.
        self._pending: tuple[int, int] | None = None
        self._stopped: tuple[int, int] | None = None
        self._inherited = False
        self._idle()
        self._open()

    def _idle(self) -> None:
        """No iteration is under way."""
        self._stream: RecordStream | None = None
        #: Of the iteration under way: its epoch, records held for its next steps, records of its least batch.
        self._epoch, self._held, self._least = 0, 0, 1

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
        """Records of this shard in the epoch under way, else in the next one (shards of an epoch differ by a block)."""
        if self._stream is not None:
            return self._count(self._epoch)
        return self._count(self.epochs.following)

    def _count(self, epoch: int) -> int:
        if self.shard == (0, 1):
            return len(self._records)
        return self._records.shard_len(epoch, self._window, self._seed, self.shard)

    @property
    def _window(self) -> int | None:
        return self.shuffle.window if self.shuffle else None

    @property
    def _seed(self) -> int:
        return self.shuffle.seed if self.shuffle else 0

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is epoch `epoch`, from its start; the one after it `epoch + 1`."""
        if whole_number(epoch, "an epoch") < 0:
            raise DatasetError("epochs are numbered from 0")
        self.close()
        self._pending = self._stopped = None
        self.epochs.set(int(epoch))

    def of_shard(self, shard: tuple[int, int]) -> VaultDataset:
        """The same dataset, other shard. Shards are disjoint, and together exact, in the same epoch."""
        other: VaultDataset = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._idle()
        other.shard, other._pending, other._stopped = self._checked(shard), None, None
        if worker() is None:
            # Each counts for itself: shards are iterated one after the other, or by several processes.
            other.epochs = Epochs(self.epochs.following)
        elif (pending := self._due()) and pending[1] and other.shard != self.shard:
            raise DatasetError(
                "a state taken without workers goes on without workers: num_workers=0, or torchdata's StatefulDataLoader, "
                "which keeps a state of each worker"
            )
        return other

    def state(self) -> dict[str, Any]:
        """Where iteration stands, for `resume`: plain values, no secrets. After the last batch: the next epoch's start."""
        epoch, position = self._position()
        return {**self._identity(), "epoch": epoch, "position": position}

    def _position(self) -> tuple[int, int]:
        """Epoch and records given out: of a stream, those it gave less those that a plain iteration holds."""
        if self._stream is None:
            return self._stopped or self._due() or (self.epochs.following, 0)
        given = self._stream.position - self._held
        return self._whole(self._epoch, given, self._least)

    def _whole(self, epoch: int, position: int, least: int = 1) -> tuple[int, int]:
        """The place, or the next epoch's start when no batch is left in this one."""
        return (epoch, position) if self._count(epoch) - position >= least else (epoch + 1, 0)

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
        epoch, position = (whole_number(state.get(name), name) for name in ("epoch", "position"))
        if epoch < 0 or position < 0:
            raise DatasetError("the state is of no dataset (epoch and position are 0 or more); start anew")
        self.close()
        self._pending, self._stopped, self._inherited = self._whole(epoch, position), None, False
        self.epochs.set(self._pending[0])

    def close(self) -> None:
        """Ends the iteration under way: stops reading ahead, clears what was decrypted. `state()` says where it stood."""
        if self._stream is not None:
            stream, self._stopped = self._stream, self._position()
            self._idle()
            stream.close()

    # -- reading ----------------------------------------------------------------------------------------------------

    def _begin(self, least: int = 1) -> Any:
        """A stream of the next epoch, or of the one that `resume` named."""
        pending, self._pending = self._due(), None
        epoch = self.epochs.begin(self.shard, pending[0] if pending else None)
        stream = self._streamed(epoch, pending[1] if pending else 0)
        # An iteration before it goes on by itself; `state` speaks of the newest.
        self._stream, self._stopped, self._epoch, self._held, self._least = stream, None, epoch, 0, least
        return stream

    def _due(self) -> tuple[int, int] | None:
        """What `resume` asked for, unless another copy of the dataset has gone on there already."""
        alone = self._inherited or worker() is None
        if self._pending and alone and self.epochs.following > self._pending[0]:
            return None
        return self._pending

    def _streamed(self, epoch: int, position: int) -> Any:
        return self._records.stream(epoch, position, self._window, self._seed, self.shard, self.read_ahead)

    def _leave(self, stream: Any, *, ended: bool) -> None:
        """After an iteration: its threads stop, and what they read ahead is cleared."""
        if self._stream is not stream:
            stream.close()
            return
        self.close()
        if ended:
            self._stopped = None

    def __iter__(self) -> Iterator[Any]:
        stream, ended = self._begin(), False
        try:
            if self._records.stride is None:
                while (record := stream.next_record()) is not None:
                    yield memoryview(record)
            else:
                while (batch := self._fill(stream, self._step())) is not None:
                    left = first = self._length(batch)
                    for record in self._split(batch):
                        left -= 1
                        # Another iteration may have begun meanwhile.
                        if self._stream is stream:
                            self._held = left
                        if left + 1 < first and self._permit is not None:
                            self._redeem(stream)  # `_fill` did for the first
                        yield record
            ended = True
        finally:
            self._leave(stream, ended=ended)

    def _redeem(self, stream: Any) -> None:
        """Once more, for the records that a plain iteration holds."""
        stream.redeem()

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
        if whole_number(size, "the size of a batch") < 1:
            raise DatasetError("a batch has at least one record")
        if self._records.stride is None:
            raise DatasetError("records of different sizes make no batch in one piece; iterate over them, or collate")
        return self._batches(int(size), drop_last)

    def _batches(self, size: int, drop_last: bool) -> Iterator[Any]:
        stream, ended = self._begin(size if drop_last else 1), False
        try:
            while (batch := self._fill(stream, size)) is not None:
                if drop_last and self._length(batch) < size:
                    break
                yield batch
            ended = True
        finally:
            self._leave(stream, ended=ended)

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
        wanted = [place(index, count) for index in indices]
        buffer = secret_buffer(len(wanted) * stride)
        self._records.take(struct.pack(f"<{len(wanted)}Q", *wanted), buffer)
        return self._shaped(buffer, len(wanted), stride)

    def __getitem__(self, index: int) -> Any:
        index = place(index, len(self._records))
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
        if self._stream is not None:
            kept["_stopped"] = self._position()
        kept.update(_stream=None, _epoch=0, _held=0, _least=1)
        for opened in ("_records", "dtype", "columns"):
            kept.pop(opened, None)
        return kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._inherited = True
        self._open()

    def __repr__(self) -> str:
        what = f"{self.dtype} {self.shape}" if self.dtype is not None else f"{self._records.stride or 'varying'} bytes"
        return f"<VaultDataset of {len(self._records)} records ({what}) in {len(self.ids)} objects>"


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
]
