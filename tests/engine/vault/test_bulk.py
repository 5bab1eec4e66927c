"""Streams in and out: writers, readers, buffers, as Python's own libraries use them."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from aegis import Vault
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_engine import ObjectReader, errors

KEY = bytes(32)
CHUNK = 2**20
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK + 1, 5 * CHUNK + 17]


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.create(tmp_path / "v", KEY)


def reads(vault: Vault, stored: object) -> bytes:
    with vault.open_object(str(stored)) as reader:
        return reader.read()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("threads", [1, 3, None])
def test_every_source_stores_the_same_content(vault: Vault, tmp_path: Path, size: int, threads: int | None) -> None:
    data = noise(size)
    path = tmp_path / "source"
    path.write_bytes(data)

    class OnlyRead:
        def __init__(self) -> None:
            self.inner = io.BytesIO(data)

        def read(self, count: int) -> bytes:
            return self.inner.read(min(count, 77_777))

    with path.open("rb") as opened, path.open("rb") as raw:
        sources = [
            opened,
            raw.fileno(),
            io.BytesIO(data),
            OnlyRead(),
            (data[at : at + 300_001] for at in range(0, size, 300_001)),
            [memoryview(data), bytearray(), np.frombuffer(data, np.uint8)][: 1 if size else 2],
        ]
        for source in sources:
            stored = vault.store_stream(source, "n", threads=threads, verify=size < CHUNK)
            assert reads(vault, stored) == data
    assert reads(vault, vault.store_file(path, threads=threads, verify=True)) == data
    with vault.create_object("n") as writer:
        for at in range(0, size, 123_457):
            assert writer.write(data[at : at + 123_457]) == len(data[at : at + 123_457])
    assert reads(vault, writer.id) == data


def test_a_socket_is_stored_to_its_end(vault: Vault) -> None:
    data = noise(3 * CHUNK + 5)
    here, there = socket.socketpair()
    sender = threading.Thread(target=lambda: (there.sendall(data), there.close()))
    sender.start()
    with here:
        assert reads(vault, vault.store_stream(here, "n")) == data
    sender.join()


def test_a_failing_source_or_callback_leaves_nothing(vault: Vault, tmp_path: Path) -> None:
    def dies() -> object:
        yield noise(3 * CHUNK)
        raise ConnectionResetError("peer is gone")

    with pytest.raises(ConnectionResetError, match="peer is gone"):
        vault.store_stream(dies(), "n")
    with pytest.raises(TypeError, match="mode 'rb'"):
        vault.store_stream(42.0, "n")
    path = tmp_path / "source"
    path.write_bytes(noise(4 * CHUNK))

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vault.store_file(path, progress=stop)

    def interrupted() -> None:
        with vault.create_object("n") as writer:
            writer.write(noise(2 * CHUNK))
            raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError, match="changed my mind"):
        interrupted()
    assert vault.list() == []
    assert not list(Path(vault.path).glob("objects/*/*"))
    assert not list(Path(vault.path).glob("journal/*"))


def test_a_reader_is_a_raw_stream_for_the_standard_library(vault: Vault) -> None:
    pd = pytest.importorskip("pandas")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inner.txt", "hello")
    reader = vault.open_object(vault.store_bytes(packed.getvalue(), "a.zip"))
    assert isinstance(reader, io.RawIOBase)
    with zipfile.ZipFile(reader) as archive:
        assert archive.read("inner.txt") == b"hello"
    text = "".join(f"{n},{n * n}\n" for n in range(100_000))
    stored = vault.store_bytes(("a,b\n" + text).encode(), "t.csv")
    with io.TextIOWrapper(io.BufferedReader(vault.open_object(stored))) as lines:
        assert next(lines) == "a,b\n"
        assert sum(1 for _ in lines) == 100_000
    assert len(list(vault.open_object(stored))) == 100_001
    assert pd.read_csv(vault.open_object(stored))["b"].iloc[-1] == 99_999**2
    reader = vault.open_object(stored)
    reader.close()
    assert reader.closed
    for use in (reader.read, reader.tell, lambda: reader.seek(0), reader.readable):
        with pytest.raises(ValueError, match="closed file"):
            use()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_sequence_of_reads_is_what_a_file_gives(data: st.DataObject) -> None:
    reader, content = shared()
    like = io.BytesIO(content)
    for _ in range(data.draw(st.integers(1, 8))):
        match data.draw(st.sampled_from(["read", "readinto", "seek", "read_at", "read_into"])):
            case "read":
                size = data.draw(st.integers(-1, 3 * CHUNK))
                assert reader.read(size) == like.read(size)
            case "readinto":
                mine, theirs = (bytearray(data.draw(st.integers(0, 2 * CHUNK))) for _ in range(2))
                theirs = bytearray(len(mine))
                assert reader.readinto(mine) == like.readinto(theirs)
                assert mine == theirs
            case "seek":
                place = data.draw(st.integers(0, len(content) + 10))
                assert reader.seek(place) == like.seek(place)
            case "read_at":
                at, size = data.draw(st.integers(0, len(content) + 5)), data.draw(st.integers(0, 2 * CHUNK))
                assert reader.read_at(at, size) == content[at : at + size]
            case "read_into":
                at, size = data.draw(st.integers(0, len(content) + 5)), data.draw(st.integers(0, 3 * CHUNK))
                buffer = bytearray(size)
                got = reader.read_into(buffer, at, threads=data.draw(st.integers(1, 4)))
                assert buffer[:got] == content[at : at + size]
        assert reader.tell() == like.tell()


_SHARED: list[object] = []


def shared() -> tuple[ObjectReader, bytes]:
    if not _SHARED:
        import tempfile

        folder = tempfile.TemporaryDirectory()
        vault = Vault.create(folder.name + "/v", KEY)
        content = noise(3 * CHUNK + 1234)
        _SHARED.extend([folder, vault, content, vault.open_object(vault.store_bytes(content, "n"))])
    reader, content = _SHARED[3], _SHARED[2]
    reader.seek(0)
    return reader, content


def test_bytes_go_straight_into_the_callers_buffer(vault: Vault) -> None:
    data = noise(3 * CHUNK + 5)
    stored = vault.store_bytes(data, "n")
    array = np.zeros(len(data), np.uint8)
    assert vault.read_into(stored, array) == len(data)
    assert array.tobytes() == data
    with pytest.raises(BufferError, match="read-only"):
        vault.read_into(stored, bytes(len(data)))
    with pytest.raises(ValueError, match="large enough"):
        vault.read_into(stored, bytearray(len(data) - 1))
    floats = np.zeros((3, 7), np.float64)
    held = vault.store_bytes(np.arange(21.0), "f")
    vault.read_into(held, floats)
    assert floats.tolist() == np.arange(21.0).reshape(3, 7).tolist()


def test_a_secret_buffer_is_memory_for_numpy_and_torch_and_closes_after_them(vault: Vault) -> None:
    import torch

    values = np.arange(1_000_000, dtype=np.float32)
    stored = vault.store_bytes(values, "f")
    buffer = vault.load(stored, threads=2)
    assert len(buffer) == values.nbytes
    assert "4000000 bytes" in repr(buffer)
    array = np.frombuffer(buffer, np.float32)
    assert array.ctypes.data % 64 == 0
    assert np.array_equal(array, values)
    tensor = torch.frombuffer(buffer, dtype=torch.float32)
    tensor.mul_(2)  # writable: torch would warn otherwise
    assert array[3] == 6.0
    with pytest.raises(BufferError, match="still in use"):
        buffer.close()
    del array, tensor
    gc.collect()
    buffer.close()
    assert buffer.closed
    with pytest.raises(ValueError, match="closed"):
        memoryview(buffer)
    with vault.load(vault.store_bytes(b"", "empty")) as empty:
        assert bytes(empty) == b""


def _flags_of(address: int) -> str:
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split(" ", 1)[0]
        if "-" in head and not head.endswith(":"):
            start, end = (int(part, 16) for part in head.split("-"))
            inside = start <= address < end
        elif inside and line.startswith("VmFlags"):
            return line
    return ""


def test_the_kernel_leaves_a_secret_buffer_out_of_core_dumps(vault: Vault) -> None:
    buffer = vault.load(vault.store_bytes(noise(CHUNK), "n"))
    assert " dd" in _flags_of(np.frombuffer(buffer, np.uint8).ctypes.data)


def test_a_reader_of_a_shredded_object_fails_in_another_process(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "v", KEY)
    stored = vault.store_bytes(noise(3 * CHUNK), "n")
    script = f"""
import sys
from aegis import Vault
from aegis_engine import errors
reader = Vault.open({str(tmp_path / "v")!r}, bytes(32)).open_object({str(stored)!r})
reader.read(10)
print("ready", flush=True)
sys.stdin.readline()
try:
    reader.read(10)
except errors.ObjectShredded as error:
    print(error.code)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "ready\n"
        vault.shred(stored)
        assert child.communicate("\n", timeout=60)[0] == "AEG-V014\n"


def test_a_forked_child_is_told_and_its_parent_goes_on(vault: Vault) -> None:
    stored = vault.store_bytes(noise(1000), "n")
    reader = vault.open_object(stored)
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        seen = []
        for use in (vault.list, lambda: reader.read(10), lambda: vault.store_bytes(b"x", "n")):
            try:
                use()
                seen.append("went on")
            except errors.ForkedProcess as error:
                seen.append(error.code)
        os.write(tell, " ".join(seen).encode())
        os._exit(0)
    os.close(tell)
    with os.fdopen(told) as answer:
        assert answer.read() == "AEG-V029 AEG-V029 AEG-V029"
    os.waitpid(child, 0)
    assert reader.read() == noise(1000)


def _length(vault: Vault, stored: str) -> int:
    return len(vault.open_object(stored).read())


def test_a_spawned_worker_opens_the_vault_it_is_sent(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "v", key_file=tmp_path / "key", make_key=True)
    stored = str(vault.store_bytes(noise(CHUNK + 1), "n"))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_length, (vault, stored)) == CHUNK + 1


def test_the_gil_is_free_while_bytes_are_decrypted(vault: Vault) -> None:
    stored = vault.store_bytes(noise(64 * CHUNK), "n")
    reader, buffer = vault.open_object(stored), bytearray(64 * CHUNK)
    counted, stop = 0, threading.Event()

    def work() -> None:
        while not stop.is_set():
            reader.read_into(buffer, threads=1)

    sys.setswitchinterval(100)  # a thread that keeps the GIL keeps it
    try:
        worker = threading.Thread(target=work)
        worker.start()
        for _ in range(100_000):
            counted += 1
        stop.set()
        worker.join(timeout=60)
    finally:
        sys.setswitchinterval(0.005)
    assert counted == 100_000
    assert not worker.is_alive()


def test_a_load_tells_how_far_it_is_and_stops_where_the_callback_raises(vault: Vault) -> None:
    content = noise(65 * CHUNK)
    stored = vault.store_bytes(content, "n")
    told: list[int] = []
    assert bytes(vault.load(stored, progress=told.append)) == content
    assert told == [32 * 2**20, 64 * 2**20, 65 * CHUNK]

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vault.load(stored, progress=stop)
