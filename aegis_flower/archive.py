"""Arrays in a file that somebody else may have made: what an array says of itself is compared before memory is taken for it.

An ``.npz`` is a ZIP of ``.npy`` files. Numpy believes both: a few bytes can claim a shape of terabytes, or be deflated from
gigabytes of zeros. Here names, types and shapes are read first, and then exactly the bytes that they need.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from aegis_flower.errors import DataError

Arrays = dict[str, npt.NDArray[Any]]
Shape = tuple[int, ...]
_HEADER: Final = 1 << 16  # bytes of an .npy header, at most: numpy pads its own to a multiple of 64
_SLACK: Final = 1 << 24  # bytes of an archive besides its arrays
_MAGIC: Final = b"\x93NUMPY"
_START: Final = 8  # magic and version
_FLOAT: Final = 8  # bytes of a number, at most
_LENGTH: Final = {1: "<H", 2: "<I", 3: "<I"}  # of the header, by version of the format


class _Damaged(Exception):
    """Why the bytes are no archive of arrays."""


def read(path: Path, shapes: Mapping[str, Shape] | None = None, *, besides: tuple[str, ...] = ()) -> Arrays:
    """The arrays of an ``.npz``, by name.

    Args:
        path: the file.
        shapes: what each array must be, as floating-point numbers; None takes any shape, of an archive that is not compressed.
        besides: names that may be in the file, too: bytes (``uint8``), 16 MiB at most.

    Raises:
        DataError: it is no such file, or an array is another one: says which, what it is there and what is wanted.
    """
    try:
        if shapes is not None:
            most = _SLACK + sum(_FLOAT * _count(shape) + _HEADER for shape in shapes.values())
            if path.stat().st_size > most:
                raise _Damaged(f"it has {path.stat().st_size} bytes, and arrays of these shapes have {most} at most")
        with zipfile.ZipFile(path) as archive:
            return dict(_arrays(archive, path, shapes, besides))
    except _Damaged as error:
        raise DataError(f"{path}: it holds no arrays: {error}") from None
    except (
        OSError,
        ValueError,
        TypeError,
        SyntaxError,
        RecursionError,
        MemoryError,
        EOFError,
        NotImplementedError,  # a ZIP in an exotic compression
        RuntimeError,  # a ZIP under a password
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
    ) as error:
        raise DataError(f"{path}: it holds no arrays: {type(error).__name__}") from None


def _count(shape: Shape) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def _arrays(
    archive: zipfile.ZipFile, path: Path, shapes: Mapping[str, Shape] | None, besides: tuple[str, ...]
) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    members = archive.infolist()
    names = [member.filename.removesuffix(".npy") for member in members]
    if len(set(names)) != len(names):
        raise _Damaged("two arrays have one name")
    for name, shape in (shapes or {}).items():
        if name not in names:
            raise DataError(_other(path, name, "none", f"float {shape}"))
    for name, member in zip(names, members, strict=True):
        with archive.open(member) as file:
            shape, dtype, fortran = _header(file)
            if name in besides:
                if dtype != np.uint8 or _count(shape) > _SLACK:
                    raise _Damaged(f"{name!r:.80} is not what belongs there")
            elif shapes is None:
                _stored(name, min(member.compress_size, path.stat().st_size), member, shape, dtype)
            elif shapes.get(name) != shape or dtype.kind != "f" or dtype.itemsize > _FLOAT:
                wanted = f"float {shapes[name]}" if name in shapes else "none"
                raise DataError(_other(path, name, f"{dtype} {shape}", wanted))
            yield name, _body(file, shape, dtype, fortran=fortran)


def _stored(name: str, size: int, member: zipfile.ZipInfo, shape: Shape, dtype: np.dtype[Any]) -> None:
    """Refuses what takes more memory than it has bytes in the file."""
    if dtype.kind not in "fiu" or member.compress_type != zipfile.ZIP_STORED:
        raise _Damaged(f"array {name!r:.80} is of a type that no checkpoint has, or compressed")
    if _count(shape) * dtype.itemsize > size:
        raise _Damaged(f"array {name!r:.80} is cut off")


def _other(path: Path, name: str, there: str, wanted: str) -> str:
    return f"{path}: array {name!r:.200} is {there} there, {wanted} in the model"


def _header(file: IO[bytes]) -> tuple[Shape, np.dtype[Any], bool]:
    """Shape, type and order of an ``.npy``; the file is behind its header then."""
    start = file.read(_START)
    length_of = _LENGTH.get(start[6]) if len(start) == _START and start[:6] == _MAGIC else None
    if length_of is None:
        raise _Damaged("a part of it is no .npy")
    raw = file.read(struct.calcsize(length_of))
    (length,) = struct.unpack(length_of, raw)
    if length > _HEADER:  # numpy would read it first, and then complain
        raise _Damaged(f"a header of {length} bytes is none")
    rest = io.BytesIO(raw + file.read(length))
    reader = np.lib.format.read_array_header_1_0 if start[6] == 1 else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(rest, max_header_size=_HEADER)
    if dtype.hasobject or any(length < 0 for length in shape):
        raise _Damaged("an array of it has no values that are numbers")
    return tuple(int(length) for length in shape), dtype, bool(fortran)


def _body(file: IO[bytes], shape: Shape, dtype: np.dtype[Any], *, fortran: bool) -> npt.NDArray[Any]:
    wanted = _count(shape) * dtype.itemsize
    data = file.read(wanted)
    if len(data) != wanted or file.read(1):
        raise _Damaged("an array has more or fewer bytes than its shape")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C").copy()
