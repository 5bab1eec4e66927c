"""`aegis vault bench`: a vault beside age, cp, plain reads, the raw cipher and pyarrow.

Every figure is the median of ratios of neighbouring runs, interleaved, in this one process and machine; absolute speeds are
medians and for scale only. References that are not installed are named, not guessed.

Where new files are written, each timed run follows an untimed one of the same kind, so that it finds memory which the machine
has. Memory that was free for a while may have gone back to the hypervisor (free page reporting); its first touch then costs a
fault of the host, many times what it takes to seal a page. How much went back meanwhile stands in the row's note.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from aegis_engine._native import Vault, bench_cipher

ROUNDS: Final = 9
CHUNK: Final = 2**20
MIB: Final = 2**20


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the goals table.

    Attributes:
        name: the figure.
        ours: what was measured of ours, in `unit`; None when it could not be.
        reference: the same of the reference.
        ratio: ours to the reference, in the sense of the goal; with the range over the rounds in `low` and `high`.
        goal: the goal, as a number.
        at_least: whether the ratio must be at least (speeds) or at most (times, memory) the goal.
        note: how it was measured, or why not.
    """

    name: str
    ours: float | None
    reference: float | None
    unit: str
    ratio: float | None
    low: float | None
    high: float | None
    goal: float
    at_least: bool
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None when it was not measured."""
        if self.ratio is None:
            return None
        return self.ratio >= self.goal if self.at_least else self.ratio <= self.goal

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**dataclasses.asdict(self), "met": self.met}


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
    return _row(name, mine, theirs, goal=goal, speed=speed, size=size, note=note)


def _row(name: str, mine: list[float], theirs: list[float], *, goal: float, speed: bool, size: int, note: str) -> Row:
    pairs = [t / m if speed else m / t for m, t in zip(mine, theirs, strict=True)]
    ratio, low, high = statistics.median(pairs), min(pairs), max(pairs)
    a, b = statistics.median(mine), statistics.median(theirs)
    if speed:
        return Row(name, size / a / 1e9, size / b / 1e9, "GB/s", ratio, low, high, goal, True, note)
    return Row(name, a * 1e6, b * 1e6, "µs", ratio, low, high, goal, False, note)


def _given_back() -> int:
    """Bytes of free memory that the kernel has returned to its hypervisor so far; 0 where it does not say."""
    try:
        return int(Path("/sys/module/page_reporting/parameters/reported_kib").read_text()) * 1024
    except (OSError, ValueError):
        return 0


def _missing(name: str, goal: float, at_least: bool, note: str) -> Row:
    return Row(name, None, None, "", None, None, None, goal, at_least, note)


def _cipher() -> list[Row]:
    times = [bench_cipher(CHUNK, 256) for _ in range(ROUNDS + 1)][1:]
    size = 256 * CHUNK
    note = "1 MiB in place, buffer in cache", "1 MiB into another buffer"
    return [
        _row("seal of a chunk / aws-lc raw", [t[0] for t in times], [t[1] for t in times],
             goal=0.95, speed=True, size=size, note=note[0]),
        _row("open of a chunk / aws-lc raw", [t[2] for t in times], [t[3] for t in times],
             goal=0.95, speed=True, size=size, note=note[1]),
    ]  # fmt: skip


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
        return _row(name, mine, theirs, goal=goal, speed=True, size=size, note=note)

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
        from aegis_engine.tables import parquet_times
    except ImportError:
        return _missing(name, goal, True, "this build reads no Parquet")
    try:
        mine, theirs, size, note = parquet_times(folder, 3 * ROUNDS)
    except ModuleNotFoundError as error:
        return _missing(name, goal, True, str(error))
    return _row(name, mine, theirs, goal=goal, speed=True, size=size, note=note)


def _training() -> Row:
    name, goal = "training epoch from the vault / from memory", 1.02
    try:
        from aegis_engine.bench_training import epoch_times
    except ModuleNotFoundError as error:
        return _missing(name, goal, False, f"{error}: pip install torch")
    mine, theirs, note = epoch_times(limit=10_000, pairs=2 * ROUNDS)
    row = _row(name, mine, theirs, goal=goal, speed=False, size=1, note=note)
    return dataclasses.replace(row, unit="s", ours=(row.ours or 0) / 1e6, reference=(row.reference or 0) / 1e6)


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
        rows = _cipher()
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


def table(rows: list[Row]) -> list[str]:
    """Lines for people."""
    lines = [f"{'figure':<52} {'ours':>9} {'ref':>9} {'':<5} {'ratio':>7}  {'range':<15} {'goal':<8} {'':<6}"]
    for row in rows:
        goal = f"{'≥' if row.at_least else '≤'} {row.goal:g}"
        if row.ratio is None:
            lines.append(
                f"{row.name:<52} {'-':>9} {'-':>9} {'':<5} {'-':>7}  {'':<15} {goal:<8} not measured: {row.note}"
            )
            continue
        spread = f"{row.low:.2f} to {row.high:.2f}" if row.low is not None else ""
        met = "met" if row.met else "MISSED"
        lines.append(
            f"{row.name:<52} {row.ours:>9.2f} {row.reference:>9.2f} {row.unit:<5} {row.ratio:>7.3f}  {spread:<15} {goal:<8} "
            f"{met:<6} {row.note}"
        )
    return lines
