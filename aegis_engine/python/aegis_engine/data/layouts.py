"""How records lie in an object: fixed sizes, offsets, ``.npy``, IDX, data sets. Headers are parsed strictly and bounded."""

from __future__ import annotations

import io
import operator
import struct
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from aegis_engine.errors import VaultError

if TYPE_CHECKING:
    from aegis_engine._native import Permit, Vault

_NPY_MAGIC: Final = b"\x93NUMPY"
_NPY_HEADER_MAX: Final = 65536
_IDX_TYPES: Final = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_COLUMN_TYPES: Final = {"f32": "<f4", "f64": "<f8", "i64": "<i8", "i32": "<i4", "u8": "u1"}


class DatasetError(VaultError, ValueError):
    """The object is not laid out as asked, or a state belongs to another dataset."""

    code = "AEG-V050"


class NotANumber(DatasetError, TypeError):
    """A record's number, or an offset, is no whole number."""


class NoSuchRecord(DatasetError, IndexError):
    """A number that no record has."""


def whole_number(value: Any, what: str = "a record's number") -> int:
    """An int, or what stands for one (numpy, torch); never a float or a truth value cut to one."""
    truth = isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")
    try:
        if not truth:
            return operator.index(value)
    except TypeError:
        pass
    raise NotANumber(f"{what} is a whole number, not {type(value).__name__}; take(range(...)) gives several records")


def place(index: Any, count: int) -> int:
    """The number of a record, counted from the end when negative."""
    number = whole_number(index)
    if not -count <= number < count:
        raise NoSuchRecord(f"record {number} of {count}")
    return number % count


@dataclass(frozen=True)
class Block:
    """Block shuffle: blocks (about a chunk of records each) are permuted, the records of `window` blocks are mixed.

    Attributes:
        window: blocks mixed at a time; two windows are in memory.
        seed: with the epoch, fixes the order.
    """

    window: int = 8
    seed: int = 0


@dataclass(frozen=True)
class Fixed:
    """Records of the same size, back to back.

    Attributes:
        nbytes: size of a record; follows from dtype and shape when they are given.
        dtype: numpy dtype of a record's values (text, such as "<f4"); None = plain bytes.
        shape: shape of a record.
        start: first byte of the first record.
    """

    nbytes: int | None = None
    dtype: str | None = None
    shape: tuple[int, ...] = ()
    start: int = 0


@dataclass(frozen=True)
class Offsets:
    """Records of different sizes: record i is bytes offsets[i] to offsets[i+1].

    Attributes:
        values: n + 1 byte offsets (a sequence or an array), or the id of an object that holds them as little-endian uint64.
    """

    values: Any


@dataclass(frozen=True)
class NpyRows:
    """The rows (first axis) of a ``.npy`` file (NEP 1, versions 1 to 3), C order."""


@dataclass(frozen=True)
class Idx:
    """The items (first axis) of an IDX file, the format of MNIST; big-endian, uncompressed."""


@dataclass(frozen=True)
class Rows:
    """The permitted rows and columns of a data set of records (`store_records`)."""


Record = Fixed | Offsets | NpyRows | Idx | Rows


@dataclass(frozen=True)
class Layout:
    """How the records of one object lie."""

    source: Any
    dtype: Any = None
    shape: tuple[int, ...] = ()


def _npy(reader: Any, name: str) -> tuple[int, Any, tuple[int, ...]]:
    """Start of the data, dtype, shape of a ``.npy`` file; strict, bounded."""
    head = reader.read_at(0, 12)
    if len(head) < 10 or head[:6] != _NPY_MAGIC:
        raise DatasetError(f"object {name} is no .npy file; store it with numpy.save, or name its layout with Fixed")
    major = head[6]
    if major == 1:
        (length,), start = struct.unpack("<H", head[8:10]), 10
    elif major in (2, 3) and len(head) == 12:
        (length,), start = struct.unpack("<I", head[8:12]), 12
    else:
        raise DatasetError(f"object {name} is a .npy file of version {major}; versions 1 to 3 are read")
    if length > _NPY_HEADER_MAX:
        raise DatasetError(f"object {name} claims a .npy header of {length} bytes; at most {_NPY_HEADER_MAX} are read")
    text = reader.read_at(start, length)
    fmt = numpy().lib.format
    # numpy reads it itself, Python 2's numbers among it. Version 3 differs from 2 by letters in names of fields only.
    read, size = (fmt.read_array_header_1_0, "<H") if major == 1 else (fmt.read_array_header_2_0, "<I")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, fortran, dtype = read(io.BytesIO(struct.pack(size, length) + text), max_header_size=_NPY_HEADER_MAX)
        if any(n < 0 for n in shape):
            raise ValueError(shape)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError, OverflowError):
        raise DatasetError(f"object {name} has a damaged .npy header; store it with numpy.save again") from None
    if dtype.hasobject:
        raise DatasetError(f"object {name} holds Python objects; store numbers")
    if dtype.names is not None or dtype.subdtype is not None:
        raise DatasetError(
            f"object {name}: a structured dtype is not supported; save each field as an array of its own, or a table"
        )
    if fortran and 0 not in shape and sum(n != 1 for n in shape) > 1:
        raise DatasetError(
            f"object {name} is in Fortran order, its rows are not in one piece; save numpy.ascontiguousarray(array)"
        )
    if not shape:
        raise DatasetError(f"object {name} holds a single value, no rows")
    return start + length, dtype, shape


def _idx(reader: Any, name: str) -> tuple[int, Any, tuple[int, ...]]:
    head = reader.read_at(0, 4)
    if head[:2] == b"\x1f\x8b":
        raise DatasetError(f"object {name} is compressed with gzip; store it unpacked (gunzip): the vault seeks in it")
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_TYPES or not head[3]:
        raise DatasetError(f"object {name} is no IDX file (two zeros, a type, the number of axes)")
    axes = head[3]
    raw = reader.read_at(4, 4 * axes)
    if len(raw) < 4 * axes:
        raise DatasetError(f"object {name} ends within its IDX header")
    return 4 + 4 * axes, _IDX_TYPES[head[2]], struct.unpack(f">{axes}I", raw)


def _whole(reader: Any, name: str, start: int, itemsize: int, shape: tuple[int, ...]) -> tuple[int, int]:
    """Stride and count, if the object has exactly that many bytes."""
    stride = itemsize
    for n in shape[1:]:
        stride *= n
    need, found = start + stride * shape[0], len(reader)
    if need != found:
        raise DatasetError(
            f"object {name} has {found} bytes, its header says {need}; it was cut off or extended: store it again"
        )
    if not 0 < stride < 2**31 or shape[0] >= 2**32:
        raise DatasetError(f"object {name} has rows of {stride} bytes, {shape[0]} of them; that is not streamed")
    return stride, shape[0]


def layout_of(vault: Vault, one: str, record: Record, permit_of: Callable[[str], Permit | None]) -> Layout:
    """Opens an object, under the permit it has, and finds its records."""
    permit = permit_of(one)
    if isinstance(record, Rows):
        rows = vault.record_reader(one, permit)
        return Layout(rows, _struct(rows.columns()))
    reader = vault.open_object(one, permit)
    if isinstance(record, Offsets):
        values = record.values
        if isinstance(values, (str, UUID)):
            values = vault.open_object(values, permit_of(str(values))).read()
        elif not isinstance(values, (bytes, bytearray, memoryview)):
            numbers = [whole_number(v, "an offset") for v in values]
            if any(not 0 <= n < 2**64 for n in numbers):
                raise DatasetError("an offset counts bytes: 0 or more")
            values = struct.pack(f"<{len(numbers)}Q", *numbers)
        return Layout((reader, values))
    if isinstance(record, Fixed):
        nbytes, dtype = record.nbytes, None
        if record.dtype is not None:
            dtype = numpy().dtype(record.dtype)
            nbytes = dtype.itemsize
            for n in record.shape:
                nbytes *= n
            if record.nbytes not in (None, nbytes):
                raise DatasetError(f"records of {record.nbytes} bytes do not hold {record.shape} of {record.dtype}")
        if record.start < 0:
            raise DatasetError("Fixed starts at a byte of the object: 0 or more")
        if not nbytes or nbytes < 1:
            raise DatasetError("Fixed needs nbytes of at least 1, or a dtype and a shape")
        count, rest = divmod(len(reader) - record.start, nbytes)
        if rest or count < 0:
            raise DatasetError(f"object {one} has {len(reader)} bytes, which are no whole records of {nbytes} bytes")
        return Layout((reader, record.start, nbytes, count), dtype, record.shape)
    parse = _npy if isinstance(record, NpyRows) else _idx
    start, descr, shape = parse(reader, one)
    dtype = numpy().dtype(descr)
    stride, count = _whole(reader, one, start, dtype.itemsize, shape)
    return Layout((reader, start, stride, count), dtype, shape[1:])


def _struct(columns: Sequence[tuple[str, str, int]]) -> Any:
    """The numpy dtype of a record: one field a column."""
    return numpy().dtype([(name, _COLUMN_TYPES[kind], (count,) if count > 1 else ()) for name, kind, count in columns])


def numpy() -> Any:
    """numpy, which the engine needs for typed records only."""
    try:
        import numpy as np
    except ImportError:
        raise ModuleNotFoundError(
            "records with a dtype need numpy: pip install numpy, or read plain bytes with Fixed(nbytes)"
        ) from None
    return np


__all__ = [
    "Block",
    "DatasetError",
    "Fixed",
    "Idx",
    "Layout",
    "NoSuchRecord",
    "NotANumber",
    "NpyRows",
    "Offsets",
    "Record",
    "Rows",
    "layout_of",
    "numpy",
    "place",
    "whole_number",
]
