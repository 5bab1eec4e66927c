"""Parquet through the vault beside plain pyarrow, interleaved in one run.

``python benches/engine/tables.py [MEBIBYTES] [FOLDER]``: a table of uncompressed float32, and a realistic one (zstd, snappy,
dictionaries, missing values), each with 1 and 2 threads. Prints seconds and the ratio pyarrow / vault (goal 0.9).
"""

import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from aegis import Vault

KEY = bytes(range(32))
REPEATS = 5


def plain_floats(path, size, columns=64):
    rows = size // 4 // columns
    rng = np.random.default_rng(1)
    table = pa.table({f"x{i}": rng.standard_normal(rows, dtype=np.float32) for i in range(columns)})
    pq.write_table(table, path, compression="none", use_dictionary=False)


def realistic(path, size):
    """Numbers, categories, text, dates and missing values, as a hospital's export has them; pyarrow's defaults, zstd."""
    rows = size // 120
    rng = np.random.default_rng(2)
    wards = np.array(["cardiology", "oncology", "surgery", "paediatrics", "neurology"])
    codes = np.array([f"I{n:02d}.{m}" for n in range(100) for m in range(10)])
    columns = {f"lab{i}": pa.array(np.round(rng.gamma(2, 30, rows), 1), mask=rng.random(rows) < 0.1) for i in range(8)}
    columns |= {
        "age": rng.integers(0, 100, rows).astype(np.int16),
        "ward": pa.array(wards[rng.integers(0, 5, rows)]),
        "code": pa.array(codes[rng.integers(0, 1000, rows)]),
        "id": np.arange(rows),
        "day": pa.array(rng.integers(18000, 20000, rows).astype(np.int32), pa.date32()),
        "note": pa.array([f"patient {n % 9973} stable, follow up in {n % 31} days" for n in range(rows)]),
    }
    pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=262_144)


class File(io.RawIOBase):
    """An object as the file that pyarrow asks for."""

    def __init__(self, reader):
        self.reader = reader

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self.reader.tell()

    def seek(self, offset, whence=0):
        return self.reader.seek(offset, whence)

    def readinto(self, target):
        return self.reader.readinto(target)

    def read(self, size=-1):
        return self.reader.read(size)


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ways(vault, oid, path, threads):
    """Ways of reading the same table, by name."""
    many = threads > 1
    return {
        "pyarrow, plain file": lambda: pq.read_table(path, use_threads=many),
        "vault.table": lambda: pa.table(vault.table(oid, threads=threads)),
        "pyarrow over open_object": lambda: pq.read_table(
            pa.PythonFile(File(vault.open_object(oid)), mode="r"), use_threads=many
        ),
    }


def parquet_ratio(size_bytes, directory, threads=1, make=plain_floats, repeats=REPEATS):
    """Medians of reading the same Parquet file: (through the vault, plain pyarrow), in seconds."""
    seconds = compare(size_bytes, directory, threads, make, repeats)
    return statistics.median(seconds["vault.table"]), statistics.median(seconds["pyarrow, plain file"])


def compare(size_bytes, directory, threads, make, repeats=REPEATS):
    path = Path(directory) / f"{make.__name__}.parquet"
    if not path.exists():
        make(path, size_bytes)
    pa.set_cpu_count(threads)
    vault = Vault.new(Path(directory) / "vault", key=KEY)
    stored = {about["name"]: about["id"] for about in vault.list()}
    oid = stored.get(path.name) or vault.store_file(path)
    plain = pq.read_table(path)
    assert pa.table(vault.table(oid, threads=threads)).equals(plain)  # the same table, or the ratio means nothing
    del plain
    seconds = {}
    for _ in range(repeats):
        for name, way in ways(vault, oid, path, threads).items():
            seconds.setdefault(name, []).append(timed(way))
    return seconds


def main():
    size = int(sys.argv[1]) << 20 if len(sys.argv) > 1 else 256 << 20
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as directory:
        for make in (plain_floats, realistic):
            for threads in (1, 2):
                seconds = compare(size, directory, threads, make)
                plain = seconds["pyarrow, plain file"]
                stored = (Path(directory) / f"{make.__name__}.parquet").stat().st_size / 2**20
                print(f"{make.__name__}, {stored:.0f} MiB, {threads} thread(s)")
                for name, taken in seconds.items():
                    ratios = [p / t for p, t in zip(plain, taken, strict=True)]
                    spread = f"min {min(ratios):.2f}, max {max(ratios):.2f}"
                    print(f"  {name:<26} {statistics.median(taken):.3f} s  {statistics.median(ratios):.2f} ({spread})")


if __name__ == "__main__":
    main()
