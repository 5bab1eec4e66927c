"""What comes out of a vault: readers, records, tables."""

import builtins
from typing import Any, Self, TypeAlias, final

import numpy as np
from typing_extensions import CapsuleType

# Anything with the buffer protocol. numpy arrays have it, but their stubs say so from Python 3.12 on only.
Buffer: TypeAlias = Any

@final
class SecretBuffer:
    """Plaintext in pages of its own: kept out of core dumps, page-aligned, cleared when closed.

    Has the buffer protocol (writable): `memoryview(b)`, `numpy.frombuffer(b, dtype)`, `torch.frombuffer(b, dtype=...)` work
    without a copy; copies that numpy or torch make are ordinary memory.
    """

    def __len__(self) -> int:
        """Bytes of the memory."""

    def __buffer__(self, flags: int, /) -> memoryview:
        """A view of the memory."""

    def __release_buffer__(self, buffer: memoryview, /) -> None:
        """Gives the view back."""

    @property
    def closed(self) -> bool:
        """Whether the memory is cleared and gone."""

    def close(self) -> None:
        """Clears and frees the memory.

        Raises:
            BufferError: a view, array or tensor still uses it.
        """

    def __enter__(self) -> Self:
        """Itself."""

    def __exit__(self, *_args: object) -> None:
        """Closes it."""

def secret_buffer(size: int) -> SecretBuffer:
    """`size` zeroed bytes outside core dumps."""

@final
class ObjectReader:
    """A seekable reader over one object's plaintext, registered as `io.RawIOBase`; every call redeems the permit again.

    It has the methods of `io.RawIOBase` and `io.BufferedIOBase`: `pickle.load`, `numpy.load`, `joblib.load` and
    `pandas.read_pickle` take it as it is. Wrap it in `io.BufferedReader` for many small reads, in `io.TextIOWrapper` for text.
    """

    def __len__(self) -> int:
        """Bytes of the object."""

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes from the current place; all that is left with a negative size or None."""

    def readall(self) -> bytes:
        """All that is left."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer only at the end. Does not move the place."""

    def read_into(self, buffer: Buffer, offset: int = 0, *, threads: int | None = None) -> int:
        """Fills `buffer` from `offset`, without a copy; gives the number of bytes. Does not move the place."""

    def readinto(self, buffer: Buffer) -> int:
        """Fills `buffer` from the current place, without a copy; 0 at the end."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to a place, counted from the start, the place or the end (0, 1, 2)."""

    def tell(self) -> int:
        """The current place."""

    def readable(self) -> bool:
        """Whether it can be read from."""

    def seekable(self) -> bool:
        """Whether it has a place that can be moved."""

    def writable(self) -> bool:
        """Whether it can be written to."""

    def isatty(self) -> bool:
        """False: it is no terminal."""

    def flush(self) -> None:
        """Does nothing: there is no buffer."""

    def readline(self, size: int | None = ..., /) -> bytes:
        """Up to and with the next line end, `size` bytes at most; nothing at the end."""

    def readlines(self, hint: int | None = ..., /) -> builtins.list[bytes]:
        """The lines that are left; no more once they have `hint` bytes."""

    def __iter__(self) -> Self:
        """Itself."""

    def __next__(self) -> bytes:
        """The next line."""

    def read1(self, size: int | None = ..., /) -> bytes:
        """As `read`; a part of at most 1 MiB without a size."""

    def readinto1(self, buffer: Buffer, /) -> int:
        """As `readinto`."""

    def fileno(self) -> int:
        """Unsupported (`io.UnsupportedOperation`), as are the four below: there is no file of the plaintext."""

    def truncate(self, _size: int | None = None, /) -> int:
        """Unsupported."""

    def write(self, _data: Buffer, /) -> int:
        """Unsupported."""

    def writelines(self, _lines: object, /) -> None:
        """Unsupported."""

    def detach(self) -> None:
        """Unsupported."""

    @property
    def closed(self) -> bool:
        """Whether it is closed."""

    def close(self) -> None:
        """Drops the key and the buffers."""

    def __enter__(self) -> Self:
        """Itself."""

    def __exit__(self, *_args: object) -> None:
        """Closes it."""

def shuffle_order(seed: int, epoch: int, stream: int, count: int) -> bytes:
    """The permutation of the numbers below `count` by docs/ENCRYPTION.md, "Order of records": u32, little-endian."""

@final
class Records:
    """Records of one or several objects. `aegis_engine.data.VaultDataset` is the face of it."""

    def __new__(cls, sources: builtins.list[Any]) -> Self:
        """`sources`: `(reader, start, stride, count)`, `(reader, offsets)` with offsets as uint64, or a `RecordReader`."""

    def __len__(self) -> int:
        """Number of records."""

    @property
    def stride(self) -> int | None:
        """Bytes of a record; None when they differ."""

    def take(self, wanted: Buffer, out: Buffer) -> None:
        """Copies the records of those numbers (uint64, in the order of storage) into `out`."""

    def get(self, record: int) -> SecretBuffer:
        """One record."""

    def shard_len(self, epoch: int, window: int | None, seed: int, shard: tuple[int, int]) -> int:
        """Records that a shard gives out in an epoch."""

    def stream(
        self, epoch: int, position: int, window: int | None, seed: int, shard: tuple[int, int], read_ahead: int
    ) -> RecordStream:
        """Starts an epoch of a shard at `position`; `window` None = in order."""

@final
class RecordStream:
    """The records of one epoch of one shard, decrypted ahead by threads of the engine."""

    def fill(self, stride: int, out: Buffer) -> int:
        """Fills `out` with records of `stride` bytes; gives how many, fewer only at the end."""

    def redeem(self) -> None:
        """Redeems the permits of what `fill` gave last once more: it is handed on record by record."""

    def next_record(self) -> SecretBuffer | None:
        """The next record of any size; None at the end."""

    @property
    def position(self) -> int:
        """Records given out or skipped so far."""

    def close(self) -> None:
        """Stops the threads and clears what they decrypted."""

@final
class RecordReader:
    """Reads the rows and columns a permit opens; every call checks the permit again."""

    def columns(self) -> list[tuple[str, str, int]]:
        """Permitted columns: name, dtype, values a record."""

    @property
    def record_len(self) -> int:
        """Bytes of one record as read."""

    def rows(self) -> bytes:
        """Permitted row numbers, little-endian u32."""

    def read_rows(self, rows: Buffer, out: Buffer) -> None:
        """Fills `out` with the permitted columns of `rows` (little-endian u32).

        Raises:
            PermitScope, PermitExpired, PermitRevoked: `out` is cleared.
        """

@final
class TableSchema:
    """Names and types of the columns that are read."""

    @property
    def names(self) -> list[str]:
        """Names, in order."""
    @property
    def types(self) -> list[str]:
        """Arrow's names of the types."""
    def __arrow_c_schema__(self) -> CapsuleType:
        """Arrow PyCapsule interface."""

@final
class TableReader:
    """A table under a permit, which is redeemed again at each read of the object and at each batch.

    Consumers of the Arrow PyCapsule interface take it as it is: ``pyarrow.table(reader)``, ``polars.DataFrame(reader)``,
    ``pandas.DataFrame.from_arrow(reader)``. Arrow carries errors as text: in a consumer, an ended permit is the consumer's own
    error with a text that starts with the code, such as ``[AEG-P007]``. Iterating over the reader raises this package's.
    """

    @property
    def format(self) -> str:
        """``parquet`` or ``csv``."""
    @property
    def schema(self) -> TableSchema:
        """The columns that are read."""
    @property
    def columns(self) -> list[str]:
        """Their names."""
    @property
    def num_rows(self) -> int | None:
        """Rows that are read; None for a CSV object whose lines were not counted yet (`blocks` does)."""
    def blocks(self) -> list[int]:
        """Rows that are read of each block: a row group of Parquet, a run of up to 65 536 lines of CSV."""
    def block(self, at: int) -> TableBatches:
        """Batches of one block."""
    def block_to_numpy(self, at: int) -> dict[str, np.ndarray[Any, Any]]:
        """As `to_numpy`, of one block."""
    def to_numpy(self) -> dict[str, np.ndarray[Any, Any]]:
        """Columns of numbers (dates, times and fixed-size lists of numbers among them) as writable arrays; columns of other
        types are left out. Missing values become NaN or NaT; the arrays lie outside core dumps and are cleared when freed.

        A name that is there twice gets a number: the second ``a`` is ``a_2``.

        Raises:
            TableError: a column of whole numbers or booleans has missing values.
        """
    def __iter__(self) -> TableBatches:
        """Batches of the whole table."""

    def __arrow_c_schema__(self) -> CapsuleType:
        """Arrow PyCapsule interface."""
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> CapsuleType:
        """Arrow PyCapsule interface; each call starts a new pass."""

@final
class TableBatches:
    """Iterates over the batches of a table. Ends at the first error."""

    def __iter__(self) -> Self:
        """Itself."""

    def __next__(self) -> TableBatch:
        """The next batch."""

@final
class TableBatch:
    """Some rows of a table."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
    @property
    def num_rows(self) -> int:
        """Number of rows."""
    def __len__(self) -> int:
        """Number of rows."""

    def to_numpy(self) -> dict[str, np.ndarray[Any, Any]]:
        """As `TableReader.to_numpy`, of these rows."""
    def __arrow_c_schema__(self) -> CapsuleType:
        """Arrow PyCapsule interface."""
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[CapsuleType, CapsuleType]:
        """Arrow PyCapsule interface: schema and a struct array."""

@final
class ColumnBuffer:
    """Memory of one column of numbers, behind the arrays of `TableReader.to_numpy`."""

    def __len__(self) -> int:
        """Bytes of the column."""
