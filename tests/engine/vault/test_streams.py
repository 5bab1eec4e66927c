"""Readers and writers are streams of the standard library: every method of its classes is there and does what it says."""

from __future__ import annotations

import atexit
import functools
import io
import pickle
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_engine import Vault

METHODS = sorted({name for kind in (io.RawIOBase, io.BufferedIOBase) for name in dir(kind) if name[0] != "_"})


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return Vault.create(tmp_path_factory.mktemp("streams") / "v", bytes(32))


def reader(vault: Vault, data: bytes) -> Any:
    return vault.open_object(vault.store_bytes(data, "x"))


def called(stream: Any, name: str, data: bytes) -> Any:
    """A call that the method takes."""
    arguments: dict[str, tuple[Any, ...]] = {
        "readinto": (bytearray(3),), "readinto1": (bytearray(3),), "seek": (0,), "write": (data,), "writelines": ([data],)
    }  # fmt: skip
    found = getattr(stream, name)
    return found(*arguments.get(name, ())) if callable(found) else found


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_a_reader_does_what_a_file_does_or_is_unsupported(
    vault: Vault, name: str, tmp_path: Path
) -> None:
    data = b"one\ntwo\n\nthree"
    (tmp_path / "f").write_bytes(data)
    mine = reader(vault, data)
    assert isinstance(mine, io.RawIOBase)
    if name in ("fileno", "truncate", "write", "writelines", "detach"):
        with pytest.raises(io.UnsupportedOperation):
            called(mine, name, data)
        return
    with (tmp_path / "f").open("rb") as theirs:
        other: Any = theirs.raw if name == "readall" else theirs
        assert called(mine, name, data) == called(other, name, data)
    mine.close()
    if name not in ("closed", "close"):
        with pytest.raises(ValueError, match="closed"):
            called(mine, name, data)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_a_writer_does_what_a_pipe_does_or_is_unsupported(vault: Vault, name: str) -> None:
    writer: Any = vault.create_object("w")
    assert isinstance(writer, io.RawIOBase)
    unsupported = ("read", "read1", "readall", "readinto", "readinto1", "readline", "readlines", "seek", "truncate",
                   "fileno", "detach")  # fmt: skip
    try:
        if name in unsupported:
            with pytest.raises(io.UnsupportedOperation):
                called(writer, name, b"x")
        else:
            want = {"readable": False, "seekable": False, "writable": True, "isatty": False, "tell": 0, "write": 1,
                    "closed": False}  # fmt: skip
            assert called(writer, name, b"x") == want.get(name)
    finally:
        writer.abort()


@functools.cache
def _shared() -> Vault:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Vault.create(folder + "/v", bytes(32))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40) | st.just(b"z" * 9000), max_size=8), st.lists(st.integers(-1, 12), max_size=12))
def test_lines_are_those_of_bytesio(parts: list[bytes], sizes: list[int]) -> None:
    data = b"\n".join(parts)
    mine, theirs = reader(_shared(), data), io.BytesIO(data)
    for size in sizes:
        assert (mine.readline(size), mine.tell()) == (theirs.readline(size), theirs.tell())
    assert mine.readlines(5) == theirs.readlines(5)
    assert list(mine) == list(theirs)
    mine.seek(0)
    theirs.seek(0)
    assert mine.readlines() == theirs.readlines()


def test_other_libraries_read_from_it(vault: Vault) -> None:
    things = {"a": [1, 2.5, "x" * 100_000], "b": np.arange(1000)}
    again = pickle.load(reader(vault, pickle.dumps(things)))
    assert again["a"] == things["a"]
    out = io.BytesIO()
    np.save(out, np.array([{"k": 1}, None], object), allow_pickle=True)
    assert np.load(reader(vault, out.getvalue()), allow_pickle=True)[0] == {"k": 1}
    assert io.TextIOWrapper(reader(vault, "grün\nblau\n".encode()), "utf-8").readlines() == ["grün\n", "blau\n"]
    joblib = pytest.importorskip("joblib")
    out = io.BytesIO()
    joblib.dump(things, out)
    assert np.array_equal(joblib.load(reader(vault, out.getvalue()))["b"], things["b"])
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert pandas.read_pickle(reader(vault, pickle.dumps(frame))).equals(frame)


def test_other_libraries_write_to_it(vault: Vault) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    with vault.create_object("t.csv") as writer:
        frame.to_csv(writer, index=False)
        assert writer.tell() == len(b"a,b\n1,x\n2,y\n")
    assert vault.open_object(writer.id).read() == b"a,b\n1,x\n2,y\n"
    with vault.create_object("n.npz") as writer:
        np.savez(writer, x=np.arange(5))
    assert np.load(reader(vault, vault.open_object(writer.id).read()))["x"].tolist() == [0, 1, 2, 3, 4]
