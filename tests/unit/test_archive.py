"""A file of arrays that somebody else made: no claim of it takes memory, and every fault is one clear error."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_flower import archive, checkpoint
from aegis_flower.errors import ConfigError, DataError

OWN = {"weight": np.zeros((2, 30), np.float32), "bias": np.zeros(2, np.float32)}
SHAPES = {name: array.shape for name, array in OWN.items()}
MIB = 1 << 20


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def header(shape: str, descr: str = "'<f4'", version: int = 1, length: int | None = None) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + text


def zipped(path: Path, parts: dict[str, bytes], *, deflated: bool = True) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as made:
        for name, data in parts.items():
            made.writestr(name, data)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f8", "<f2"])
def test_what_numpy_writes_is_read(tmp_path: Path, save: Callable[..., None], order: str, kind: str) -> None:
    weight = np.asarray(np.arange(60).reshape(2, 30), dtype=kind, order=order)  # type: ignore[call-overload]
    save(tmp_path / "a.npz", weight=weight, bias=np.ones(2, kind))
    found = checkpoint.initial(str(tmp_path / "a.npz"), OWN)
    assert {name: a.dtype for name, a in found.items()} == {name: np.dtype("f4") for name in OWN}
    assert np.array_equal(found["weight"], np.arange(60).reshape(2, 30))


GOOD = {"weight.npy": npy(OWN["weight"]), "bias.npy": npy(OWN["bias"])}
HOSTILE: dict[str, Callable[[Path], Path]] = {
    "a shape of terabytes": lambda p: zipped(p, {**GOOD, "weight.npy": header("(2, 1099511627776)")}),
    "an array of terabytes that nobody asked for": lambda p: zipped(
        p, {**GOOD, "more.npy": header("(1099511627776,)")}
    ),
    "a shape that overflows": lambda p: zipped(p, {**GOOD, "weight.npy": header("(4611686018427387904, 4)")}),
    "a negative shape": lambda p: zipped(p, {**GOOD, "weight.npy": header("(-2, -30)")}),
    "more bytes than the shape": lambda p: zipped(p, {**GOOD, "weight.npy": GOOD["weight.npy"] + bytes(128 * MIB)}),
    "fewer bytes than the shape": lambda p: zipped(p, {**GOOD, "weight.npy": GOOD["weight.npy"][:-1]}),
    "a header of gigabytes": lambda p: zipped(
        p, {**GOOD, "weight.npy": header("(2, 30)", version=2, length=1 << 31) + bytes(128 * MIB)}
    ),
    "a deep header": lambda p: zipped(p, {**GOOD, "weight.npy": header("(" * 20_000 + ")" * 20_000)}),
    "a header that runs": lambda p: zipped(p, {**GOOD, "weight.npy": header("__import__('os').getpid()")}),
    "objects": lambda p: zipped(p, {**GOOD, "weight.npy": header("(2, 30)", "'|O'") + b"cos\nsystem\n"}),
    "numbers of sixteen bytes": lambda p: zipped(p, {**GOOD, "weight.npy": npy(np.zeros((2, 30), np.longdouble))}),
    "whole numbers": lambda p: zipped(p, {**GOOD, "weight.npy": npy(np.zeros((2, 30), np.int64))}),
    "records": lambda p: zipped(p, {**GOOD, "weight.npy": npy(np.zeros((2, 30), [("a", "f4"), ("b", "f4")]))}),
    "a number that float32 cannot hold": lambda p: zipped(p, {**GOOD, "bias.npy": npy(np.full(2, 1e300))}),
    "a hundred thousand arrays": lambda p: zipped(p, {**GOOD, **{f"{n}.npy": b"" for n in range(100_000)}}),
    "no archive": lambda p: p.write_bytes(b"\0" * 999) and p,  # type: ignore[func-returns-value, return-value]
    "no .npy": lambda p: zipped(p, {**GOOD, "weight.npy": b"\x93NUM"}),
    "a later version": lambda p: zipped(p, {**GOOD, "weight.npy": header("(2, 30)", version=9)}),
    "bytes where a checkpoint has its words": lambda p: zipped(
        p, {**GOOD, "aegis.checkpoint.npy": header("(1099511627776,)", "'|u1'")}
    ),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_start_is_one_error_in_bounded_memory(tmp_path: Path, fault: str) -> None:
    path = HOSTILE[fault](tmp_path / "a.npz")
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=r"model\.init"):
            checkpoint.initial(str(path), OWN)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The list of a hundred thousand names is the most that a small file makes us keep.
    assert peak < 100 * MIB, peak


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    zipped(tmp_path / "a.npz", {**GOOD, "bias.npz": GOOD["bias.npy"]}, deflated=False)
    raw = (tmp_path / "a.npz").read_bytes().replace(b"bias.npz", b"bias.npy")
    (tmp_path / "a.npz").write_bytes(raw)
    with pytest.raises(ConfigError, match="two arrays have one name"):
        checkpoint.initial(str(tmp_path / "a.npz"), OWN)


def test_a_huge_file_is_not_searched_for_its_directory(tmp_path: Path) -> None:
    """The end of a ZIP says how long its list of names is; python reads that much."""
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, 0xFFFFFFF0, 0, 0)
    with (tmp_path / "a.npz").open("wb") as file:
        file.truncate(0xFFFFFFF0)
        file.seek(0, io.SEEK_END)
        file.write(end)
    with pytest.raises(ConfigError, match="bytes, and arrays of these shapes have"):
        checkpoint.initial(str(tmp_path / "a.npz"), OWN)


def test_a_checkpoint_is_read_without_shapes_and_only_as_it_is_written(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **OWN)
    assert set(archive.read(tmp_path / "a.npz")) == set(OWN)
    np.savez_compressed(tmp_path / "b.npz", **OWN)
    with pytest.raises(DataError, match="compressed"):
        archive.read(tmp_path / "b.npz")
    zipped(tmp_path / "c.npz", {"weight.npy": header("(1099511627776,)")}, deflated=False)
    with pytest.raises(DataError, match="cut off"):
        archive.read(tmp_path / "c.npz")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_archive_is_read_as_it_was_or_is_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    np.savez_compressed(path, **OWN)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(len(raw) // 2, len(raw)))])
    try:
        found = archive.read(path, SHAPES)
    except DataError:
        return
    assert {name: array.shape for name, array in found.items()} == SHAPES
