"""No plaintext and no key in a core dump, of whatever kind."""

from __future__ import annotations

import resource
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from reference import vault_decoder as decoder
from secret_child import CONTROL, GDB, KEY, ROWS, child_of

HOLDS = f"""
import os, resource, sys
from pathlib import Path

place = Path(sys.argv[1])
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

import numpy as np
from aegis import Vault
from aegis_engine import secret_buffer
from aegis_engine.records import Block, Fixed

control = "".join(chr(ord(c) ^ 1) for c in {"".join(chr(ord(c) ^ 1) for c in CONTROL)!r})
vault = Vault.create(place / "v", key_file=place / "key")
one = vault.store_file(place / "source", name="x", threads=2)
buffer = vault.load(one)
reader = vault.open_object(one)
part = secret_buffer(5000)
assert reader.readinto(memoryview(part)[:100]) == 100  # the rest of the chunk stays in the reader's scratch
facts = dict(purposes=["research"], columns=["x", "y"], approved_columns=["x", "y"], min_rows=1, min_subjects=1,
             require_dp=False, require_secure_aggregation=False, budget_micro_epsilon=1_000_000, controller="c")
rows = vault.store_records("r", [("x", "f32", 7), ("y", "f32", 1)], buffer, ["p"] * {ROWS}, [("contract", None, False)], facts)
records = vault.record_reader(rows)
out = secret_buffer(100 * records.record_len)
records.read_rows(np.arange(0, 1000, 10, dtype="<u4"), out)
dataset = vault.dataset([one], Fixed(dtype="<f4", shape=(8,)), shuffle=Block(window=1, seed=1), read_ahead=4)
batches = dataset.batches(64)
batch = next(batches)
writer = vault.create_object("half written")
writer.write(memoryview(buffer)[:150_000])
again = vault.reencrypt(vault.store_file(place / "source", name="y", threads=1))
vault.verify(again)
with vault.load(again):
    pass
LATE
sys.stdout.write("ready\\n")
sys.stdout.flush()
sys.stdin.readline()
os.abort()
"""


@pytest.fixture
def holder(place: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A child that holds plaintext in every kind of buffer of the engine, and aborts when it is told to."""
    command, env = child_of(place, HOLDS.replace("LATE", getattr(request, "param", "")))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, cwd=place / "work", stdin=pipe, stdout=pipe) as child:
        yield child
        child.kill()


def ready(child: subprocess.Popen[bytes]) -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"


def keys_of(place: Path) -> dict[str, bytes]:
    """Every key that opens the vault, by the independent decoder."""
    vault = decoder.Vault(place / "v", key=KEY)
    found = {
        "provider key": KEY,
        "epoch secret": vault.epoch_secret,
        "root": vault.chain["root"],
        "node secret": vault.body.node,
    }
    for record in vault.body.live.values():
        found[f"subject key of {record.object}"] = vault.body.subjects[record.subject]
        found[f"DEK of {record.object}"] = vault.dek(record)
    return found


def check_core(core: bytes, place: Path, marker: bytes) -> None:
    assert core[:4] == b"\x7fELF"
    # It would be seen: an ordinary Python string of the child.
    assert CONTROL.encode() in core
    places = {piece: count for piece in (marker[:16], marker[16:]) if (count := core.count(piece))}
    assert not places, f"plaintext at {[hex(core.index(piece)) for piece in places]}, {sum(places.values())} times"
    assert [name for name, key in keys_of(place).items() if key in core] == []


def core_of(child: subprocess.Popen[bytes], place: Path, *settings: str) -> bytes:
    """A core as gcore makes it, which heeds MADV_DONTDUMP unless told otherwise."""
    ready(child)
    core = place / "taken"
    commands = [part for setting in (*settings, f"gcore {core}") for part in ("-ex", setting)]
    gdb = [GDB or "", "-nx", "-batch", "-p", str(child.pid), *commands]
    run = subprocess.run(gdb, capture_output=True, check=False)
    if not core.exists():
        pytest.skip(f"gdb may not attach here: {run.stderr[-300:]!r}")
    return core.read_bytes()


@pytest.mark.skipif(GDB is None, reason="gdb is not installed")
def test_a_core_taken_from_outside_has_no_plaintext_and_no_key(
    holder: subprocess.Popen[bytes], place: Path, marker: bytes
) -> None:
    check_core(core_of(holder, place), place, marker)


@pytest.mark.skipif(GDB is None, reason="gdb is not installed")
def test_what_is_kept_out_of_cores_was_there(holder: subprocess.Popen[bytes], place: Path, marker: bytes) -> None:
    """The same child with the excluded pages in the dump: plaintext of every buffer, and the keys it uses."""
    core = core_of(holder, place, "set use-coredump-filter off", "set dump-excluded-mappings on")
    # Loaded whole, by the reader's scratch (a chunk), by the writer's, by what was read ahead.
    assert core.count(marker) >= 3 * ROWS
    alive = {name for name, key in keys_of(place).items() if key in core}
    assert {"provider key", "node secret"} <= alive
    assert any(name.startswith("subject key") for name in alive)


@pytest.mark.skipif(GDB is None, reason="gdb is not installed")
@pytest.mark.parametrize("holder", ["kept = reader.read_at(0, 4096)"], indirect=True)
def test_bytes_that_python_owns_are_in_a_core_as_the_document_says(
    holder: subprocess.Popen[bytes], place: Path, marker: bytes
) -> None:
    assert core_of(holder, place).count(marker) >= 4096 // 32


def kernel_cores(child: subprocess.Popen[bytes], place: Path) -> list[Path]:
    """What the kernel leaves when the child aborts."""
    if Path("/proc/sys/kernel/core_pattern").read_text().strip() != "core":
        pytest.skip("core_pattern is not 'core': the dump would go elsewhere")
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("core dumps are forbidden here (hard limit 0)")
    ready(child)
    assert child.stdin is not None
    child.stdin.write(b"\n")
    child.stdin.close()
    assert child.wait() == -signal.SIGABRT
    return list((place / "work").glob("core*"))


def test_a_core_of_the_kernel_has_no_plaintext_and_no_key(
    holder: subprocess.Popen[bytes], place: Path, marker: bytes
) -> None:
    (core,) = kernel_cores(holder, place)
    check_core(core.read_bytes(), place, marker)


HARDEN = """import aegis_engine, ctypes
aegis_engine.harden_process()
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0  # PR_GET_DUMPABLE"""


@pytest.mark.parametrize("holder", [HARDEN], indirect=True, ids=["hardened"])
def test_a_hardened_process_leaves_no_core(holder: subprocess.Popen[bytes], place: Path) -> None:
    assert kernel_cores(holder, place) == []


def test_the_marker_is_found_where_it_is(place: Path, marker: bytes) -> None:
    """The search itself: the source has it, 8192 times, at every alignment of 32."""
    data = (place / "source").read_bytes()
    assert data.count(marker) == ROWS
    assert struct.unpack("<8f", marker) == tuple(np.frombuffer(marker, "<f4").tolist())
