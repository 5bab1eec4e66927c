"""The goals of tables: import beside pyarrow, permit to first batch, training from the vault beside memory. Prints a row each.

Run: python benches/tables/goals.py [--mib 256] [--rows 1000000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import statistics

import first_batch
import importing
import torch


def row(figure: str, goal: str, found: str, *, met: bool) -> None:
    """A line of the table."""
    print(f"| {figure} | {goal} | {found} | {'met' if met else 'missed'} |", flush=True)


def imports(mib: int, rounds: int) -> None:
    """Rows of the imports."""
    for kind in ("csv", "parquet"):
        found = importing.measured(kind, mib, rounds)
        ratio, worked = statistics.median(found.ratios), statistics.median(found.worked)
        row(
            f"import of {found.rows} mixed rows, {kind}, {found.size / 2**20:.0f} MiB",
            f">= {importing.GOAL_RATIO} x pyarrow reading it alone",
            f"{ratio:.2f} ({min(found.ratios):.2f} to {max(found.ratios):.2f}); of processor seconds {worked:.2f}",
            met=ratio >= importing.GOAL_RATIO,
        )
        row(
            f"its peak memory, {kind}",
            f"<= {importing.GOAL_PEAK} MiB",
            f"{found.peak:.0f} MiB",
            met=found.peak <= importing.GOAL_PEAK,
        )


def rows_of_tables(rows: int, steps: int, rounds: int) -> None:
    """Rows of what a permit opens."""
    found = first_batch.measured(rows, steps, rounds)
    first, ratio = statistics.median(found.first), statistics.median(found.ratios)
    row(
        f"permit to first batch on {rows} rows",
        f"<= {first_batch.GOAL_FIRST:g} s",
        f"{first_batch.told(found.first)} s; {first_batch.told(found.first_cpu)} s of a processor",
        met=first <= first_batch.GOAL_FIRST,
    )
    row(
        "training on a mixed table, from memory / from the vault",
        f">= {first_batch.GOAL_RATIO}",
        first_batch.told(found.ratios),
        met=ratio >= first_batch.GOAL_RATIO,
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=256, help="size of the CSV file; Parquet has the same rows")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the table that is opened and trained on")
    parser.add_argument("--steps", type=int, default=100, help="of training")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start; medians of {given.rounds} rounds")
    print("| figure | goal | found | |\n|---|---|---|---|")
    imports(given.mib, given.rounds)
    rows_of_tables(given.rows, given.steps, given.rounds)


if __name__ == "__main__":
    main()
