"""Model files: the arrays of a model by name, as ``.npz`` or ``.safetensors``. A file may come from anybody; none is run.

Guarantees:
    - Reading gives arrays of numbers or a `DataError`; no pickle is opened.
    - No more memory than a few times the file's bytes: what says that it unpacks to much more is refused.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aegis_flower import archive
from aegis_flower.errors import DataError

Arrays = dict[str, npt.NDArray[Any]]
NPZ: Final = "model.npz"
SAFETENSORS: Final = "model.safetensors"
_ORDER: Final = "aegis.arrays"  # safetensors sorts its arrays; a model has an order
_MOST_ARRAYS: Final = 100_000
_RATIO, _SLACK = 16, 64 << 20  # how much larger a compressed file may become


def npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The arrays as an uncompressed ``.npz``."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:  # np.savez takes names for arguments, `file` among them
        for name, values in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, np.asarray(values), allow_pickle=False)
            made.writestr(zipfile.ZipInfo(f"{name}.npy"), part.getvalue())
    return data.getvalue()


def safetensors(arrays: Mapping[str, npt.NDArray[Any]], about: Mapping[str, str] | None = None) -> bytes:
    """The arrays as ``.safetensors``, with texts about them; ``format: pt`` lets torch's own readers take the file."""
    from safetensors.numpy import save

    whole = {name: np.array(values, order="C", copy=True) for name, values in arrays.items()}
    return bytes(save(whole, metadata={"format": "pt", _ORDER: json.dumps(list(whole)), **(about or {})}))


def read(path: Path, shapes: Mapping[str, tuple[int, ...]] | None = None, *, besides: tuple[str, ...] = ()) -> Arrays:
    """The arrays of a file, by what is in it rather than by its name.

    Args:
        path: the file.
        shapes: what each array must be, as floating-point numbers; None takes any.
        besides: names that may be in an ``.npz``, too.

    Raises:
        DataError: it is neither of both, is cut off, or holds something else than numbers.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise DataError(f"{path}: it cannot be read ({error.strerror})") from None
    if zipped or path.suffix == ".npz":
        return _npz(path) if shapes is None else archive.read(path, shapes, besides=besides)
    found = _safetensors(path)
    for name in [*(shapes or {}), *found] if shapes is not None else []:
        mine, its = shapes.get(name) if shapes else None, found.get(name)
        if its is None or its.shape != mine or its.dtype.kind != "f":
            there = "none" if its is None else f"{its.dtype} {its.shape}"
            wanted = "none" if mine is None else f"float {mine}"
            raise DataError(f"{path}: array {name!r:.200} is {there} there, {wanted} in the model")
    return found


def about(path: Path) -> dict[str, str]:
    """The texts of a ``.safetensors``.

    Raises:
        DataError: it is none.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise _none(path, error) from None


def in_folder(folder: Path) -> Path | None:
    """The model in a folder; None where there is none."""
    return next((folder / name for name in (SAFETENSORS, NPZ) if (folder / name).is_file()), None)


def _safetensors(path: Path) -> Arrays:
    from safetensors import SafetensorError, safe_open

    _no_repeats(path)
    try:
        with safe_open(path, framework="numpy") as file:
            found = {name: _numbers(path, name, file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - no mapping
            order = json.loads((file.metadata() or {}).get(_ORDER, "[]"))
            return {name: found[name] for name in (order if sorted(order) == sorted(found) else found)}
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, MemoryError) as error:
        raise _none(path, error) from None


def _no_repeats(path: Path) -> None:
    """Of two arrays of one name a reader takes either: another reader of the same file would see another model."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head = file.read(length) if length <= size - 8 else b""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a name is there twice")
        return dict(pairs)

    try:
        told = json.loads(head, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise _none(path, error) from None
    if not isinstance(told, dict) or len(told) > _MOST_ARRAYS:
        raise _none(path, ValueError())


def _npz(path: Path) -> Arrays:
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as opened:
            parts = opened.infolist()
            names = [part.filename.removesuffix(".npy") for part in parts]
            if len(parts) > _MOST_ARRAYS or len(set(names)) != len(names):
                raise DataError(f"{path}: a name is there twice, or there are more than {_MOST_ARRAYS} arrays")
            if sum(part.file_size for part in parts) > _RATIO * size + _SLACK:
                raise DataError(
                    f"{path}: its {size} bytes would unpack to more than {_RATIO} times as many; save it uncompressed"
                )
            return {
                name: _numbers(path, name, _array(opened.read(part))) for name, part in zip(names, parts, strict=True)
            }
    except (
        ValueError,
        EOFError,
        AttributeError,
        KeyError,
        OSError,
        zipfile.BadZipFile,
        MemoryError,
        RuntimeError,
        NotImplementedError,
        SyntaxError,
        TypeError,
    ) as error:
        raise _none(path, error) from None


def _array(data: bytes) -> npt.NDArray[Any]:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, order, kind = head(file)
    if kind.hasobject:
        raise ValueError("objects")
    if not math.prod(shape):
        return np.zeros(shape, kind)
    values = np.frombuffer(data, dtype=kind, offset=file.tell())
    return values.reshape(shape, order="F" if order else "C").copy()


def _numbers(path: Path, name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if values.dtype.kind not in "fiub":
        raise DataError(f"{path}: array {name!r:.80} is of {values.dtype}, not of numbers")
    return values


def _none(path: Path, error: BaseException) -> DataError:
    return DataError(f"{path}: it is no file of arrays, as a run leaves it ({type(error).__name__})")
