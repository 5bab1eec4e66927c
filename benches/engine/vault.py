"""``python benches/engine/vault.py``: a vault beside age, cp, plain reads, the raw cipher and pyarrow.

Every figure is the median of ratios of neighbouring runs, interleaved, in this one process and machine; absolute speeds are
medians and for scale only. References that are not installed are named, not guessed.

Where new files are written, each timed run follows an untimed one of the same kind, so that it finds memory which the machine
has. Memory that was free for a while may have gone back to the hypervisor (free page reporting); its first touch then costs a
fault of the host, many times what it takes to seal a page. How much went back meanwhile stands in the row's note.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aegis.cli.bench import CHUNK, ROUNDS, Row, cipher, row, table

from aegis_engine import Vault

MIB: Final = 2**20


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _compare(
    name: str,
    ours: Callable[[], object],
    reference: Callable[[], object],
    *,
    goal: float,
    speed: bool,
    size: int,
    note: str = "",
    rounds: int = ROUNDS,
) -> Row:
    """Alternates the two; the ratio is of speeds (reference time to ours) or of times (ours to the reference's)."""
    mine, theirs = [], []
    ours(), reference()
    for turn in range(rounds):
        for work, into in ((ours, mine), (reference, theirs)) if turn % 2 else ((reference, theirs), (ours, mine)):
            into.append(_seconds(work))
    return row(name, mine, theirs, goal=goal, speed=speed, size=size, note=note)


def _given_back() -> int:
    """Bytes of free memory that the kernel has returned to its hypervisor so far; 0 where it does not say."""
    try:
        return int(Path("/sys/module/page_reporting/parameters/reported_kib").read_text()) * 1024
    except (OSError, ValueError):
        return 0


def _missing(name: str, goal: float, at_least: bool, note: str) -> Row:
    return Row(name, None, None, "", None, None, None, goal, at_least, note)


def _into_memory(vault: Vault, stored: str, source: Path, size: int) -> Row:
    """Both into the same memory, one thread, from the page cache."""
    out = bytearray(size)
    view = memoryview(out)
    reader = vault.open_object(stored)
    file = os.open(source, os.O_RDONLY)

    def plain() -> None:
        for at in range(0, size, CHUNK):
            os.preadv(file, [view[at : at + CHUNK]], at)

    try:
        return _compare(
            "page cache into memory, decrypting / plain pread",
            lambda: reader.read_into(out, threads=1),
            plain,
            goal=1.0,
            speed=True,
            size=size,
            note="1 thread each, same destination, pread of 1 MiB",
        )
    finally:
        os.close(file)


def _stream(vault: Vault, stored: str) -> Callable[[], None]:
    buffer = bytearray(16 * CHUNK)

    def work() -> None:
        with vault.open_object(stored) as reader:
            while reader.readinto(buffer):
                pass

    return work


def _age(folder: Path, source: Path) -> tuple[str, list[str]] | None:
    """Path of the ciphertext, and the key to decrypt it with."""
    if not (shutil.which("age") and shutil.which("age-keygen")):
        return None
    key = folder / "age.key"
    made = subprocess.run(["age-keygen", "-o", str(key)], capture_output=True, text=True, check=True)
    recipient = made.stderr.split()[-1]
    target = folder / "source.age"
    subprocess.run(["age", "-r", recipient, "-o", str(target), str(source)], check=True)
    return str(target), ["-i", str(key), recipient]


def _run(*command: str) -> Callable[[], None]:
    def work() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return work


def _files(vault: Vault, stored: str, folder: Path, source: Path, size: int) -> list[Row]:
    def only_store() -> float:
        start = time.perf_counter()
        made = vault.store_file(source)
        spent = time.perf_counter() - start
        vault.shred(made)
        return spent

    copy = folder / "copy"

    def against(name: str, reference: Callable[[], float], goal: float, note: str) -> Row:
        before = _given_back()
        mine: list[float] = []
        theirs: list[float] = []
        for turn in range(ROUNDS):
            for work, into in ((reference, theirs), (only_store, mine))[:: 1 if turn % 2 else -1]:
                work()
                into.append(work())
        if gone := _given_back() - before:
            note += f"; {gone / 2**30:.1f} GiB of freed memory went back to the hypervisor meanwhile"
        return row(name, mine, theirs, goal=goal, speed=True, size=size, note=note)

    def fresh_copy() -> float:
        copy.unlink(missing_ok=True)
        return _seconds(_run("cp", str(source), str(copy)))

    rows = [
        against(
            "file to file, encrypting / cp",
            fresh_copy,
            1.0,
            "new files in the same folder; the store syncs, cp does not",
        )
    ]
    copy.unlink(missing_ok=True)
    found = _age(folder, source)
    if found is None:
        why = "age is not installed (Debian: age)"
        return [
            *rows,
            _missing("file to file, encrypting / age", 1.8, True, why),
            _missing("decrypting stream / age", 4, True, why),
        ]
    target, (flag, key, recipient) = found
    encrypted = folder / "again.age"

    def age() -> float:
        encrypted.unlink(missing_ok=True)
        return _seconds(_run("age", "-r", recipient, "-o", str(encrypted), str(source)))

    rows.append(against("file to file, encrypting / age", age, 1.8, "new files in the same folder"))
    encrypted.unlink(missing_ok=True)
    rows.append(
        _compare(
            "decrypting stream / age",
            _stream(vault, stored),
            _run("age", "-d", flag, key, target),
            goal=4,
            speed=True,
            size=size,
            note="to nowhere: 16 MiB buffer, /dev/null",
        )
    )
    Path(target).unlink()
    return rows


def _random(vault: Vault, stored: str, size: int) -> Row:
    reader = vault.open_object(stored)
    small, large = bytearray(4096), bytearray(CHUNK)
    drawn = random.Random(0)
    count = 200

    def records() -> None:
        for _ in range(count):
            reader.read_into(small, drawn.randrange(size // 4096) * 4096, threads=1)

    def chunks() -> None:
        for _ in range(count):
            reader.read_into(large, drawn.randrange(size // CHUNK) * CHUNK, threads=1)

    row = _compare(
        "random 4 KiB record / a whole chunk",
        records,
        chunks,
        goal=1.3,
        speed=False,
        size=count,
        note="1 thread, page cache",
    )
    return dataclasses.replace(row, ours=row.ours / count if row.ours else None, reference=(row.reference or 0) / count)


_PEAK = """
import sys
from aegis_engine import Vault
def peak():  # not ru_maxrss, which a child inherits from its parent
    line = next(l for l in open("/proc/self/status") if l.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
folder, source, step = sys.argv[1:]
vault = Vault.open(folder, bytes(32))
base = peak()
if step == "store":
    print(vault.store_file(source), end=" ")
elif step == "verify":
    vault.verify(source)
else:
    buffer = bytearray(2**20)
    with vault.open_object(source) as reader:
        while reader.readinto(buffer):
            pass
print(base, peak())
"""


def peaks(folder: Path, source: Path) -> dict[str, tuple[int, int]]:
    """Resident bytes of a fresh process before and at the peak of storing, verifying and streaming `source`."""
    vault = folder / "peak"
    Vault.create(vault, bytes(32))
    found, stored = {}, ""
    for step in ("store", "verify", "stream"):
        what = str(source) if step == "store" else stored
        ran = subprocess.run(
            [sys.executable, "-c", _PEAK, str(vault), what, step], capture_output=True, text=True, check=True
        )
        *ids, base, peak = ran.stdout.split()
        stored = ids[0] if ids else stored
        found[step] = int(base), int(peak)
    shutil.rmtree(vault)
    return found


def _memory(folder: Path, source: Path) -> Row:
    found = peaks(folder, source)
    threads = min(os.cpu_count() or 1, 4)
    limit = (32 + 2 * threads) * MIB
    worst = max(peak for _, peak in found.values())
    told = ", ".join(
        f"{step} {peak / MIB:.1f} MiB (+{(peak - base) / MIB:.1f})" for step, (base, peak) in found.items()
    )
    return Row(
        "peak resident memory / (32 MiB + 2 MiB a thread)",
        worst / MIB, limit / MIB, "MiB", worst / limit, None, None, 1.0, False,
        f"whole process, Python included, and above its start: {told}",
    )  # fmt: skip


def _parquet(folder: Path) -> Row:
    name, goal = "Parquet through the vault / plain pyarrow", 0.9
    try:
        from parquet import parquet_times

        mine, theirs, size, note = parquet_times(folder, 3 * ROUNDS)
    except ModuleNotFoundError as error:
        return _missing(name, goal, True, str(error))
    return row(name, mine, theirs, goal=goal, speed=True, size=size, note=note)


def _training() -> Row:
    name, goal = "training epoch from the vault / from memory", 1.02
    try:
        from training import epoch_times
    except ModuleNotFoundError as error:
        return _missing(name, goal, False, f"{error}: pip install torch")
    mine, theirs, note = epoch_times(limit=10_000, pairs=2 * ROUNDS)
    found = row(name, mine, theirs, goal=goal, speed=False, size=1, note=note)
    return dataclasses.replace(found, unit="s", ours=(found.ours or 0) / 1e6, reference=(found.reference or 0) / 1e6)


def place(size: int) -> Path:
    """A tmpfs with room for five times `size`, else the current folder."""
    for folder in (Path("/dev/shm"), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            if os.access(folder, os.W_OK) and _is_tmpfs(folder) and shutil.disk_usage(folder).free > 5 * size:
                return folder
    return Path.cwd()


def _is_tmpfs(folder: Path) -> bool:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    return any(kind == "tmpfs" and point == str(folder) for point, kind in mounts)


def run(size: int, directory: Path | None = None, *, progress: Callable[[str], object] = lambda _: None) -> list[Row]:
    """Measures every row of the goals table on an object of `size` bytes.

    Args:
        size: bytes of the object, at least 16 MiB.
        directory: where to work; a tmpfs with room, else the current folder, by default.
        progress: gets what is being measured.

    Raises:
        OSError: no room.
    """
    if size < 16 * CHUNK:
        raise ValueError("an object of less than 16 MiB says nothing; give at least 16MiB")
    where = directory or place(size)
    with tempfile.TemporaryDirectory(prefix="aegis-bench-", dir=where) as made:
        folder = Path(made)
        size = size // CHUNK * CHUNK
        progress(f"writing {size / MIB:.0f} MiB of random bytes in {where}")
        source = folder / "source"
        with source.open("wb") as out:
            for _ in range(size // CHUNK):
                out.write(os.urandom(CHUNK))
        vault = Vault.create(folder / "vault", bytes(32))
        progress("the cipher alone")
        rows = cipher()
        stored = str(vault.store_file(source))
        progress("into memory")
        rows.append(_into_memory(vault, stored, source, size))
        progress("files, beside cp and age")
        rows += _files(vault, stored, folder, source, size)
        progress("random records")
        rows.append(_random(vault, stored, size))
        progress("peak memory")
        vault.destroy()
        rows.append(_memory(folder, source))
        source.unlink()
        progress("Parquet")
        rows.append(_parquet(folder))
    progress("training")
    rows.append(_training())
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1GiB", help="size of the object, such as 1GiB or 256MiB")
    parser.add_argument("--dir", type=Path, help="where to work; a tmpfs with room, or here, by default")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    options = parser.parse_args()
    units = {"GiB": 2**30, "MiB": 2**20, "GB": 10**9, "MB": 10**6}
    number, unit = next(((options.size[: -len(u)], u) for u in units if options.size.endswith(u)), ("", ""))
    try:
        wanted = int(float(number) * units[unit])
    except (KeyError, ValueError):
        parser.error(f"{options.size!r} is no size; give a number and GiB or MiB, such as 1GiB")
    rows = run(wanted, options.dir, progress=lambda step: print(f"... {step}", file=sys.stderr))
    print(json.dumps([one.as_dict() for one in rows], indent=2) if options.json else "\n".join(table(rows)))


if __name__ == "__main__":
    main()
