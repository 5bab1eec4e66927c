"""Values: Arrow's columns as arrays of numpy, and which rows have none. The one file that knows pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from aegis_flower.errors import DataError, DataMismatch

if TYPE_CHECKING:
    import pyarrow as pa

Array = npt.NDArray[Any]
DAY: Final = 86_400_000_000  # microseconds
_DAYS_MAX: Final = 100_000_000  # as far as microseconds reach; every declared bound is nearer


@dataclass(frozen=True)
class Values:
    """One column of a batch.

    Attributes:
        data: a value per row (a code for categories, microseconds since 1970 for dates), a row of numbers for tensors; for texts
            all bytes and for lists all numbers, one row after the other.
        missing: shape (rows,), where a row has no value; what `data` holds there means nothing.
        ends: shape (rows + 1,): where each text or list begins and ends in `data`; None for other kinds.
    """

    data: Array
    missing: npt.NDArray[np.bool_]
    ends: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.missing)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Length of each text or list; 0 where there is none."""
        assert self.ends is not None
        return np.where(self.missing, 0, np.diff(self.ends))


def arrow() -> Any:
    """pyarrow, imported when the first batch comes: steps that do not train never need it.

    Raises:
        DataError: it is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.compute
    except ModuleNotFoundError:
        raise DataError("a feature plan reads tables with pyarrow: pip install pyarrow") from None
    return pa


def batch_of(batch: Any) -> pa.RecordBatch:
    """A table, record batch, pandas frame or anything that speaks Arrow's PyCapsule interface, as one record batch."""
    pa = arrow()
    if isinstance(batch, pa.RecordBatch):
        return batch
    if hasattr(batch, "__arrow_c_array__"):
        return pa.record_batch(batch)
    if hasattr(batch, "__arrow_c_stream__"):
        table = pa.table(batch)
    elif hasattr(batch, "iloc"):  # a pandas frame of a version without that interface
        table = pa.Table.from_pandas(batch, preserve_index=False)
    else:
        raise DataError(f"a plan is applied to a table of Arrow or pandas, not to a {type(batch).__name__}")
    whole = table.combine_chunks()
    columns = [c.chunk(0) if c.num_chunks else pa.array([], c.type) for c in whole.columns]
    return pa.RecordBatch.from_arrays(columns, schema=whole.schema)


def read(column: pa.Array, kind: str, name: str, *, levels: Sequence[str] = (), size: int = 0) -> Values:
    """A column as a kind of schema: number, integer, boolean, category, text, date, time, tensor or list.

    Args:
        column: of Arrow.
        kind: what the plan takes it for.
        name: for errors.
        levels: vocabulary of a category, whose codes are given; another value has code -1.
        size: numbers of a row of a tensor.

    Raises:
        DataMismatch: the column's type is of another kind; says which.
    """
    pa = arrow()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_null(column.type):  # a file in which nobody has the value
        column = column.cast(_EMPTY[kind](pa, size))
    found = _READERS[kind](pa, column, levels, size)
    if found is None:
        raise DataMismatch(f"column {name!r} holds {column.type}, which the plan cannot take for a {kind}")
    return found


def _nulls(column: pa.Array) -> npt.NDArray[np.bool_]:
    if not column.null_count:
        return np.zeros(len(column), dtype=bool)
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=bool)


def _plain(pa: Any, column: pa.Array, kind: Any) -> Array:
    """Numbers of a column; zero where there is none."""
    if column.null_count:
        column = column.fill_null(pa.scalar(0, column.type))
    return np.asarray(column.to_numpy(zero_copy_only=False)).astype(kind, copy=False)


def _number(pa: Any, column: pa.Array, _levels: Sequence[str], _size: int) -> Values | None:
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return None
    data, missing = _plain(pa, column, np.float64), _nulls(column)
    return Values(data, missing | np.isnan(data))


def _integer(pa: Any, column: pa.Array, _levels: Sequence[str], _size: int) -> Values | None:
    if not pa.types.is_integer(column.type) or column.type == pa.uint64():
        return None
    return Values(_plain(pa, column, np.int64), _nulls(column))


def _boolean(pa: Any, column: pa.Array, _levels: Sequence[str], _size: int) -> Values | None:
    if not pa.types.is_boolean(column.type):
        return None
    return Values(_plain(pa, column.cast(pa.uint8()), np.uint8), _nulls(column))


def _is_text(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _category(pa: Any, column: pa.Array, levels: Sequence[str], _size: int) -> Values | None:
    if pa.types.is_integer(column.type) or pa.types.is_boolean(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    if not _is_text(pa, column.type):
        return None
    codes = pa.compute.index_in(column, value_set=pa.array(levels, column.type))
    return Values(np.asarray(codes.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64), _nulls(column))


def _text(pa: Any, column: pa.Array, _levels: Sequence[str], _size: int) -> Values | None:
    if not _is_text(pa, column.type):
        return None
    if not pa.types.is_large_string(column.type):
        column = column.cast(pa.large_string())
    ends = _ends(column, np.int64)
    held = column.buffers()[2]
    data = np.frombuffer(held, dtype=np.uint8) if held is not None else np.zeros(0, np.uint8)
    return Values(data[ends[0] : ends[-1]], _nulls(column), ends - ends[0])


def _ends(column: pa.Array, kind: Any) -> npt.NDArray[np.int64]:
    held = column.buffers()[1]
    if held is None or not len(column):
        return np.zeros(len(column) + 1, dtype=np.int64)
    found = np.frombuffer(held, dtype=kind)[column.offset : column.offset + len(column) + 1]
    return found.astype(np.int64)


def _moment(pa: Any, column: pa.Array, _levels: Sequence[str], _size: int) -> Values | None:
    missing = _nulls(column)
    if pa.types.is_date(column.type):
        days = _plain(pa, column.cast(pa.date32()).view(pa.int32()), np.int64)
        return Values(np.clip(days, -_DAYS_MAX, _DAYS_MAX) * DAY, missing)
    if not pa.types.is_timestamp(column.type):
        return None
    ticks = _plain(pa, column.view(pa.int64()), np.int64)
    steps = {"s": 1_000_000, "ms": 1000, "us": 1}
    if column.type.unit == "ns":
        return Values(ticks // 1000, missing)
    step = steps[column.type.unit]
    return Values(np.clip(ticks, -_DAYS_MAX * DAY // step, _DAYS_MAX * DAY // step) * step, missing)


def _tensor(pa: Any, column: pa.Array, _levels: Sequence[str], size: int) -> Values | None:
    if not (pa.types.is_fixed_size_list(column.type) and column.type.list_size == size):
        return None
    inner = column.values[column.offset * size : (column.offset + len(column)) * size]
    numbers = _number(pa, inner, (), 0)
    if numbers is None:
        return None
    missing = _nulls(column) | numbers.missing.reshape(len(column), size).any(axis=1)
    return Values(numbers.data.reshape(len(column), size), missing)


def _list(pa: Any, column: pa.Array, _levels: Sequence[str], _size: int) -> Values | None:
    wide = pa.types.is_large_list(column.type)
    if not (wide or pa.types.is_list(column.type)):
        return None
    ends = _ends(column, np.int64 if wide else np.int32)
    inner = column.values[int(ends[0]) : int(ends[-1])]
    numbers = _integer(pa, inner, (), 0) or _number(pa, inner, (), 0)
    if numbers is None:
        return None
    data = numbers.data
    if numbers.missing.any():  # a gap inside a list: no number, and the encoder says what stands for it
        data = np.where(numbers.missing, np.nan, data.astype(np.float64))
    return Values(data, _nulls(column), ends - ends[0])


_READERS: Final[dict[str, Callable[[Any, Any, Sequence[str], int], Values | None]]] = {
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "category": _category,
    "text": _text,
    "date": _moment,
    "time": _moment,
    "tensor": _tensor,
    "list": _list,
}
_EMPTY: Final[dict[str, Callable[[Any, int], Any]]] = {
    "number": lambda pa, _: pa.float64(),
    "integer": lambda pa, _: pa.int64(),
    "boolean": lambda pa, _: pa.bool_(),
    "category": lambda pa, _: pa.string(),
    "text": lambda pa, _: pa.string(),
    "date": lambda pa, _: pa.date32(),
    "time": lambda pa, _: pa.timestamp("us"),
    "tensor": lambda pa, size: pa.list_(pa.float32(), size),
    "list": lambda pa, _: pa.list_(pa.int64()),
}
