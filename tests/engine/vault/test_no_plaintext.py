"""No plaintext where it must not be: not in any byte that a whole life of a vault writes, not in a core dump.

The marker is 32 random bytes, made here and never given to the child process but inside the file it stores: what a core dump of
the child contains of it comes from the engine. Each test shows first that it would find something.
"""

from __future__ import annotations

import hashlib
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from reference import vault_decoder as decoder

# Looks like nothing else: a run of small numbers is in many libraries' tables.
KEY = hashlib.sha256(b"the key of this test").digest()
ROWS = 8192
# As UTF-8 in names and values of attributes; as numbers in records.
NAME = b"name-of-somebody-7c1e5f02a94be83d"
SUBJECT = b"subject-who-is-named-0b44c3d9e6f1"
CONTROL = "control-text-that-must-be-found-5e"

STRACE, GDB = shutil.which("strace"), shutil.which("gdb")
WRITES = "write,pwrite64,writev,pwritev,pwritev2,sendto,sendmsg,sendmmsg"
# Ways for bytes to reach a file that no buffer in the trace shows.
HIDDEN = "sendfile,splice,tee,vmsplice,copy_file_range,io_uring_setup,memfd_create,mmap"


@pytest.fixture(scope="module")
def marker() -> bytes:
    """Eight finite float32, no two alike."""
    values = np.random.default_rng(int.from_bytes(os.urandom(8), "little")).normal(size=8).astype("<f4")
    assert len(set(values.tolist())) == 8
    return values.tobytes()


@pytest.fixture
def place(tmp_path: Path, marker: bytes) -> Iterator[Path]:
    """Source, table and key of the child; `scratch` is its TMPDIR and home."""
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "source").write_bytes(marker * ROWS)
    text = marker[:16].hex()
    (tmp_path / "table.csv").write_text("text,n\n" + "".join(f"{text},{n}\n" for n in range(500)))
    for folder in ("scratch", "work"):
        (tmp_path / folder).mkdir()
    yield tmp_path
    # pytest keeps the folders of its last runs; dumps and traces are hundreds of megabytes.
    for large in (*tmp_path.glob("trace.*"), *tmp_path.glob("taken"), *tmp_path.glob("work/core*")):
        large.unlink()


def child_of(place: Path, script: str) -> tuple[list[str], dict[str, str]]:
    (place / "child.py").write_text(script)
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG") if name in os.environ}
    env = {**kept, "TMPDIR": str(place / "scratch"), "HOME": str(place / "scratch"), "PYTHONDONTWRITEBYTECODE": "1"}
    # Library caches (torch, matplotlib) go to HOME when they are made; nothing else may.
    return [sys.executable, str(place / "child.py"), str(place)], env


# -- every byte written ----------------------------------------------------------------------------------------------

LIFE = f"""
import sys
from pathlib import Path

place = Path(sys.argv[1])
NAME, SUBJECT, ROWS = {NAME.decode()!r}, {SUBJECT.decode()!r}, {ROWS}

import numpy as np
import torch
from aegis import Vault
from aegis_engine import keys, secret_buffer
from aegis_engine.records import Block, Fixed
from aegis_engine.torch import VaultIterable

source = place / "source"
vault = Vault.create(place / "v", key_file=place / "key")
one = vault.store_file(source, name=NAME, subject=SUBJECT, attrs={{"key": NAME}}, verify=True)
with source.open("rb") as stream:
    two = vault.store_stream(stream, NAME, subject=SUBJECT)
with vault.create_object(NAME) as writer:
    writer.write(source.read_bytes()[:100_000])

with vault.load(one) as buffer:
    assert len(buffer) == 32 * ROWS
with vault.open_object(one) as reader:
    part = secret_buffer(1000)
    assert reader.readinto(part) == 1000
    assert len(reader.read_at(77, 5000)) == 5000
    assert len(reader.readall()) == 32 * ROWS - 1000

facts = dict(purposes=["research"], columns=["x", "y"], approved_columns=["x", "y"], min_rows=1, min_subjects=1,
             require_dp=False, require_secure_aggregation=False, budget_micro_epsilon=1_000_000, controller="c")
people = [SUBJECT] * ROWS
rows = vault.store_records(NAME + " rows", [("x", "f32", 7), ("y", "f32", 1)], source.read_bytes(), people,
                           [("contract", None, False)], facts)
records = vault.record_reader(rows)
out = secret_buffer(100 * records.record_len)
records.read_rows(np.arange(0, 1000, 10, dtype="<u4"), out)

dataset = vault.dataset([one, two], Fixed(dtype="<f4", shape=(8,)), shuffle=Block(window=2, seed=1))
model = torch.nn.Linear(7, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for step, batch in enumerate(VaultIterable(dataset, batch_size=256)):
    loss = torch.nn.functional.mse_loss(model(batch[:, :7]), batch[:, 7:])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
assert step == 2 * ROWS // 256 - 1
dataset.close()

table = vault.store_table(place / "table.csv", subjects=[SUBJECT] * 500, classes=[("contract", None, False)],
                          name=NAME + " table", format="csv",
                          facts=dict(facts, columns=["text", "n"], approved_columns=["text", "n"]))
seen = 0
for read in vault.table(table, columns=["n"]):
    seen += read.num_rows
assert seen == 500
try:
    import pyarrow
except ImportError:
    pass
else:
    assert pyarrow.table(vault.table(table)).num_rows == 500

vault.rename(two, NAME + "!")
two = vault.reencrypt(two)
vault.verify(two)
assert vault.scrub()["damaged"] == []
vault.backup_keystore(place / "work/backup", keys.passphrase("recovery"))
vault.rotate()
vault.govern("core")
vault.shred_subject(SUBJECT)
try:
    vault.open_object(rows)
except Exception:
    pass
else:
    raise SystemExit("the vault is governed")
del vault
report = Vault.fsck(place / "v", key_file=place / "key")
assert report["clean"], report
(place / "work/control").write_text({CONTROL!r})
"""


@dataclass
class Trace:
    """What a traced program wrote."""

    written: dict[str, bytearray] = field(default_factory=dict)
    opened: set[str] = field(default_factory=set)
    hidden: list[str] = field(default_factory=list)
    cut: int = 0


BELOW = "a folder that was opened/"
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


def plain(found: re.Match[str]) -> bytes:
    return bytes.fromhex(found[1].replace("\\x", ""))


def writes_file(line: str) -> bool:
    return line.startswith("creat(") or bool(re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC|TMPFILE)", line))


def read_line(trace: Trace, line: str) -> None:
    call, _, rest = line.partition("(")
    texts = list(TEXT.finditer(line))
    if call in WRITES.split(","):
        trace.cut += sum(bool(found[2]) for found in texts)
        for found in texts:
            trace.written.setdefault(rest.partition(",")[0], bytearray()).extend(plain(found))
    elif call in ("open", "openat", "openat2", "creat"):
        # What failed wrote nothing.
        if texts and writes_file(line) and "= -1 " not in line:
            path = os.fsdecode(plain(texts[0]))
            # The engine reaches what is in a vault's folder from the folder, which it opened once.
            below = call in ("openat", "openat2") and not path.startswith("/") and not rest.startswith("AT_FDCWD")
            trace.opened.add(BELOW + path if below else path)
    elif call == "mmap":
        # Memory shared with a file reaches the file without a write.
        if "MAP_SHARED" in line and "PROT_WRITE" in line and "MAP_ANONYMOUS" not in line:
            trace.hidden.append(line)
    elif call in HIDDEN.split(","):
        trace.hidden.append(line)


def read_trace(files: Iterator[Path]) -> Trace:
    trace = Trace()
    for file in files:
        for line in file.read_text().splitlines():
            read_line(trace, line)
    return trace


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_no_written_byte_of_a_vaults_life_is_plaintext_or_a_name(place: Path, marker: bytes) -> None:
    command, env = child_of(place, LIFE)
    traced = [STRACE or "", "-ff", "-qq", "-xx", "-s", "4000000", "-o", str(place / "trace")]
    calls = f"trace=open,openat,openat2,creat,{WRITES},{HIDDEN}"
    run = subprocess.run(
        [*traced, "-e", calls, *command], env=env, cwd=place / "work", capture_output=True, check=False
    )
    if b"ptrace" in run.stderr and run.returncode:
        pytest.skip(f"strace may not trace here: {run.stderr[:200]!r}")
    assert run.returncode == 0, run.stderr.decode()
    trace = read_trace(place.glob("trace.*"))
    # It would be seen: the control text, and the ciphertext of five objects.
    everything = b"\0".join(trace.written.values())
    assert trace.cut == 0
    assert CONTROL.encode() in everything
    assert len(everything) > 5 * 32 * ROWS // 2
    assert b"\x89AEGV\r\n\x1a" in everything
    for what, secret in (
        ("the data", marker),
        ("a name", NAME),
        ("a subject", SUBJECT),
        ("text", marker[:16].hex().encode()),
    ):
        for piece in (secret, secret[:16], secret[-16:]):
            assert bytes(piece) not in everything, f"{what} was written"
    for what, secret in (("vault key", KEY), ("vault key as hex", KEY.hex().encode())):
        assert secret not in everything, f"the {what} was written"
    assert trace.hidden == []
    # Python's tempfile tries the folder with a file of four bytes when torch is imported.
    ours = rf"{BELOW}.*|{place}/(v|work)/.*|{place}/scratch/[a-z0-9_]{{8}}|/dev/null|/proc/self/.*"
    assert [path for path in sorted(trace.opened) if not re.fullmatch(ours, path)] == []
    assert {Path(path).name for path in trace.opened if path.startswith(str(place / "work"))} == {"backup", "control"}
    patterns = r"(objects/../[0-9a-f-]{36}\.enc\.tmp|journal/[0-9a-f-]{36}\.(store|shred|reencrypt)(\.tmp)?|lock"
    patterns += r"|(keystore\.akv|vault\.json|epoch\.key)(\.tmp)?|epoch\.key\.next|(audit|consent|lineage)/[\w.]+)"
    inside = [path.removeprefix(BELOW) for path in trace.opened if path.startswith(BELOW)]
    assert len(inside) > 10
    assert [path for path in trace.opened if path.startswith(str(place / "v"))] == []
    assert [path for path in sorted(inside) if not re.fullmatch(patterns, path)] == []
    # And at rest; torch leaves an empty folder in the temporary one.
    for file in (place / "v").rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not any(secret in content for secret in (marker, NAME, SUBJECT, KEY)), file
    assert [file for file in (place / "scratch").rglob("*") if file.is_file()] == []


# -- core dumps ------------------------------------------------------------------------------------------------------

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
