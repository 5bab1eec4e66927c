"""``aegis vault bench``: the engine's cipher beside the raw one. The whole table is ``benches/engine/vault.py``."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Annotated, Any, Final

import typer
from aegis_engine._native import bench_cipher

from aegis.cli.output import AsJson, say, show

ROUNDS: Final = 9
CHUNK: Final = 2**20


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


def row(name: str, mine: list[float], theirs: list[float], *, goal: float, speed: bool, size: int, note: str) -> Row:
    """One line, of the times of both sides in pairs."""
    pairs = [t / m if speed else m / t for m, t in zip(mine, theirs, strict=True)]
    ratio, low, high = statistics.median(pairs), min(pairs), max(pairs)
    a, b = statistics.median(mine), statistics.median(theirs)
    if speed:
        return Row(name, size / a / 1e9, size / b / 1e9, "GB/s", ratio, low, high, goal, True, note)
    return Row(name, a * 1e6, b * 1e6, "µs", ratio, low, high, goal, False, note)


def cipher() -> list[Row]:
    """Rows of the cipher alone."""
    times = [bench_cipher(CHUNK, 256) for _ in range(ROUNDS + 1)][1:]
    size = 256 * CHUNK
    note = "1 MiB in place, buffer in cache", "1 MiB into another buffer"
    return [
        row("seal of a chunk / aws-lc raw", [t[0] for t in times], [t[1] for t in times],
             goal=0.95, speed=True, size=size, note=note[0]),
        row("open of a chunk / aws-lc raw", [t[2] for t in times], [t[3] for t in times],
             goal=0.95, speed=True, size=size, note=note[1]),
    ]  # fmt: skip


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


def vault_bench(
    size: Annotated[str | None, typer.Option("--size", hidden=True)] = None,
    directory: Annotated[str | None, typer.Option("--dir", hidden=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Measures sealing and opening a chunk beside aws-lc alone: ratios in one run. The whole table, on files and beside age,
    cp and pyarrow, is `make bench-vault` in the source tree.
    """
    if size or directory:
        say("aegis: --size and --dir are of `make bench-vault`; the cipher needs neither", err=True)
    rows = cipher()
    show([row.as_dict() for row in rows], table(rows), as_json)
