"""Seconds of reading a table through a vault beside a plain file; a row of ``vault.py``."""

from __future__ import annotations

from pathlib import Path

from aegis_engine import Vault


def parquet_times(folder: Path, rounds: int) -> tuple[list[float], list[float], int, str]:
    """Seconds of reading 256 MiB of float32 columns through a vault and from a plain file, alternating; for the bench."""
    import time

    import numpy as np

    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ModuleNotFoundError("pyarrow is not installed: pip install pyarrow") from None
    columns, rows = 64, 2**20
    drawn = np.random.default_rng(1)
    plain = folder / "plain.parquet"
    table = pa.table({f"x{n}": drawn.standard_normal(rows, dtype=np.float32) for n in range(columns)})
    pq.write_table(table, plain, compression="none", use_dictionary=False)
    del table
    vault = Vault.create(folder / "parquet", bytes(32))
    stored = vault.store_file(plain)
    mine, theirs = [], []
    for turn in range(rounds + 1):
        start = time.perf_counter()
        ours = pa.table(vault.table(stored))
        middle = time.perf_counter()
        reference = pq.read_table(plain)
        end = time.perf_counter()
        if turn:
            mine.append(middle - start)
            theirs.append(end - middle)
        elif not ours.equals(reference):
            raise RuntimeError("the two tables differ")
        # Each side's memory is free again before the next one starts.
        del ours, reference
    note = "pyarrow.table(vault.table(id)) / pyarrow.parquet.read_table, 64 float32 columns, uncompressed, all cores on both"
    return mine, theirs, columns * rows * 4, note
