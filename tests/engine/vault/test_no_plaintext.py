"""No plaintext where it must not be: not in any byte that a whole life of a vault writes."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from secret_child import CONTROL, KEY, NAME, ROWS, STRACE, SUBJECT, child_of

WRITES = "write,pwrite64,writev,pwritev,pwritev2,sendto,sendmsg,sendmmsg"
# Ways for bytes to reach a file that no buffer in the trace shows.
HIDDEN = "sendfile,splice,tee,vmsplice,copy_file_range,io_uring_setup,memfd_create,mmap"


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
