"""Import of a mixed table beside pyarrow that only reads it, in turn: seconds, ratio, peak memory, each in a process of its own.

pyarrow reads with one thread and with all processors, and its better time counts. Of an import three threads work: one parses,
one converts, one seals. On a busy machine the ratio of processor seconds is the steadier figure.

Run: python benches/tables/importing.py [--mib 256] [--format csv|parquet] [--rounds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROWS_PER_MIB = 10_650  # of CSV
GOAL_RATIO, GOAL_PEAK = 0.5, 300  # docs: read alone / import; MiB


def make(path: Path, rows: int) -> None:
    """Mixed kinds: an identifier, numbers, a category, a date, a flag, a short text; every tenth age is missing."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    drawn = np.random.default_rng(0)
    part = 1 << 18
    writer = None
    for first in range(0, rows, part):
        n = min(part, rows - first)
        ids = np.arange(first, first + n) // 2
        ages = drawn.integers(18, 95, n)
        columns = {
            "patient_id": pa.array([f"P{i:08d}" for i in ids]),
            "age": pa.array(ages, mask=ages % 10 == 0),
            **{f"x{i}": pa.array(drawn.normal(size=n).round(4)) for i in range(8)},
            "ward": pa.array(drawn.choice(["cardiology", "oncology", "surgery"], n)),
            "admitted": pa.array(np.datetime64("2020-01-01") + drawn.integers(0, 2000, n).astype("timedelta64[D]")),
            "ill": pa.array(drawn.random(n) < 0.3),
            "note": pa.array(drawn.choice(["seen", "sent home", "to be seen again", "moved"], n)),
        }
        table = pa.table(columns)
        if writer is None:
            csv = path.suffix == ".csv"
            writer = pc.CSVWriter(path, table.schema) if csv else pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


@dataclass(frozen=True)
class Cost:
    """What a side took: seconds, those of processors, and peak MiB above an interpreter with the same imports."""

    seconds: float
    worked: float
    peak: float


@dataclass(frozen=True)
class Compared:
    """Reading alone at its best, and the import, of each round."""

    size: int
    rows: int
    pairs: list[tuple[Cost, Cost]]

    @property
    def ratios(self) -> list[float]:
        """Seconds of reading alone beside those of the import."""
        return [one.seconds / whole.seconds for one, whole in self.pairs]

    @property
    def worked(self) -> list[float]:
        """As `ratios`, of processor seconds."""
        return [one.worked / whole.worked for one, whole in self.pairs]

    @property
    def peak(self) -> float:
        """MiB of the import, at most."""
        return max(whole.peak for _, whole in self.pairs)


Took = tuple[float, float]  # seconds, and those of processors


def watch() -> Callable[[], Took]:
    """Starts a watch, which says what has passed."""
    start, worked = time.perf_counter(), time.process_time()
    return lambda: (time.perf_counter() - start, time.process_time() - worked)


def alone(path: Path, *, threads: bool) -> Took:
    """What pyarrow takes for the same file, streaming as the import does."""
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    passed = watch()
    if path.suffix == ".csv":
        for _ in pc.open_csv(path, read_options=pc.ReadOptions(use_threads=threads)):
            pass
    else:
        for _ in pq.ParquetFile(path).iter_batches(use_threads=threads):
            pass
    return passed()


def imported(path: Path, folder: Path) -> Took:
    """What an import with a holdout takes."""
    from aegis_engine import Vault
    from aegis_flower.importer import add, draft
    from aegis_flower.terms import Terms

    schema = draft(path, subject="patient_id", label="ill").schema
    vault = Vault.create(folder, bytes(32))
    vault.govern("core")
    passed = watch()
    done = add(vault, path, "patients", schema, Terms(purposes=["research"]), consent_given=True)
    took = passed()
    if done.left_out:
        raise RuntimeError(f"{done.left_out} rows were left out")
    return took


def in_its_own_process(what: str, path: Path) -> Cost:
    """What one side costs."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", what, str(path)], check=True, capture_output=True, text=True
    )
    return Cost(*json.loads(done.stdout))


def compared(path: Path, rows: int, rounds: int) -> Compared:
    """Both sides in turn."""
    pairs = []
    for _ in range(rounds):
        read = [in_its_own_process(f"alone-{threads}", path) for threads in ("one", "all")]
        pairs.append((min(read, key=lambda cost: cost.seconds), in_its_own_process("import", path)))
    return Compared(path.stat().st_size, rows, pairs)


def measured(kind: str, mib: int, rounds: int) -> Compared:
    """A file is made, read and imported."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # not the disk is measured
    with tempfile.TemporaryDirectory(dir=base) as folder:
        path = Path(folder) / f"patients.{kind}"
        make(path, mib * ROWS_PER_MIB)
        return compared(path, mib * ROWS_PER_MIB, rounds)


def highest() -> float:
    """MiB of this process at its peak. Not `ru_maxrss`, in which a child starts with the peak of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def child(what: str, path: Path) -> None:
    """One side, measured."""
    import pyarrow.csv
    import pyarrow.parquet

    import aegis_flower.importer

    # pyarrow imports pandas where it is installed: not a part of either side.
    with contextlib.suppress(ModuleNotFoundError):
        import pandas  # noqa: ICN001, F401

    del pyarrow, aegis_flower
    idle = highest()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        vault = Path(folder) / "vault"
        took = imported(path, vault) if what == "import" else alone(path, threads=what == "alone-all")
    json.dump([*took, highest() - idle], sys.stdout)


def main() -> None:
    """Prints one line per format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256, help="size of the CSV file; Parquet has the same rows")
    parser.add_argument("--format", choices=["csv", "parquet"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=2)
    given = parser.parse_args()
    if given.child:
        child(given.child[0], Path(given.child[1]))
        return
    for kind in [given.format] if given.format else ["csv", "parquet"]:
        found = measured(kind, given.mib, given.rounds)
        ratio, worked = statistics.median(found.ratios), statistics.median(found.worked)
        took = statistics.median(whole.seconds for _, whole in found.pairs)
        print(
            f"{kind}: {found.size / 2**20:.0f} MiB, {found.rows} rows: import {took:.1f} s, pyarrow alone / import {ratio:.2f} "
            f"({', '.join(f'{r:.2f}' for r in found.ratios)}; goal {GOAL_RATIO}), of processor seconds {worked:.2f}, "
            f"peak {found.peak:.0f} MiB (goal {GOAL_PEAK}), {os.cpu_count()} processors"
        )


if __name__ == "__main__":
    main()
