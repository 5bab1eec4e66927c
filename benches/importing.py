"""Import of a mixed table beside pyarrow that only reads it, in one run: seconds, ratio, peak memory of a process of its own.

Run: python benches/importing.py [--mib 256] [--format csv|parquet]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
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


def alone(path: Path) -> float:
    """Seconds of pyarrow for the same file, streaming as the import does."""
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    start = time.perf_counter()
    if path.suffix == ".csv":
        for _ in pc.open_csv(path):
            pass
    else:
        for _ in pq.ParquetFile(path).iter_batches():
            pass
    return time.perf_counter() - start


def imported(path: Path, folder: Path) -> float:
    """Seconds of an import with a holdout."""
    from aegis_engine import Vault
    from aegis_flower.importer import add, draft
    from aegis_flower.terms import Terms

    schema = draft(path, subject="patient_id", label="ill").schema
    vault = Vault.create(folder, bytes(32))
    vault.govern("core")
    start = time.perf_counter()
    done = add(vault, path, "patients", schema, Terms(purposes=["research"]), consent_given=True)
    took = time.perf_counter() - start
    if done.left_out:
        raise RuntimeError(f"{done.left_out} rows were left out")
    return took


def in_its_own_process(what: str, path: Path) -> tuple[float, float]:
    """Seconds and peak MiB above an interpreter with the same imports."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", what, str(path)], check=True, capture_output=True, text=True
    )
    seconds, peak, idle = json.loads(done.stdout)
    return seconds, peak - idle


def child(what: str, path: Path) -> None:
    """One side, measured."""
    import pyarrow.csv
    import pyarrow.parquet

    import aegis_flower.importer

    # pyarrow imports pandas where it is installed: not a part of either side.
    with contextlib.suppress(ModuleNotFoundError):
        import pandas  # noqa: ICN001, F401

    del pyarrow, aegis_flower
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        seconds = alone(path) if what == "alone" else imported(path, Path(folder) / "vault")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    json.dump([seconds, peak, idle], sys.stdout)


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
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # not the disk is measured
    with tempfile.TemporaryDirectory(dir=base) as folder:
        for kind in [given.format] if given.format else ["csv", "parquet"]:
            path = Path(folder) / f"patients.{kind}"
            make(path, given.mib * ROWS_PER_MIB)
            pairs = [
                (in_its_own_process("alone", path), in_its_own_process("import", path)) for _ in range(given.rounds)
            ]
            ratios = sorted(a[0] / b[0] for a, b in pairs)
            peak = max(b[1] for _, b in pairs)
            ours = sorted(b[0] for _, b in pairs)
            print(
                f"{kind}: {path.stat().st_size / 2**20:.0f} MiB, {given.mib * ROWS_PER_MIB} rows: import "
                f"{ours[len(ours) // 2]:.1f} s, pyarrow alone / import {ratios[len(ratios) // 2]:.2f} "
                f"({', '.join(f'{r:.2f}' for r in ratios)}; goal {GOAL_RATIO}), peak {peak:.0f} MiB (goal {GOAL_PEAK})"
            )
            path.unlink()


if __name__ == "__main__":
    main()
