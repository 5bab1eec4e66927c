"""The tables of `secagg.py`: figures as they are written, rows of the goals, and the grids."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

Result = dict[str, Any] | str  # figures, or why there are none


@dataclasses.dataclass
class Row:
    """One line of the goals table; texts as printed, and the numbers behind them for JSON."""

    key: str
    figure: str
    flower: str
    aegis: str
    goal: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    met: bool | None = None  # None where the case is not the one of the goal
    note: str = ""


def power(dim: int) -> str:
    exponent = len(str(dim)) - 1
    return f"10^{exponent}" if dim == 10**exponent else str(dim)


def reason(result: Result) -> str:
    return result if isinstance(result, str) else ""


def number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def megabytes(value: float | None) -> str:
    return "not known" if value is None else f"{number(value)} MB"


def brief(result: Any) -> str:
    """A result on a progress line, so that a run that is broken off was not for nothing."""
    if not isinstance(result, dict):
        return str(result)
    return ", ".join(f"{name} {number(x) if isinstance(x, int | float) else x}" for name, x in result.items())


def seconds(results: list[Result]) -> str:
    good = [result for result in results if isinstance(result, dict)]
    if not good:
        return reason(results[0])
    text = f"{number(statistics.median(r['cpu'] for r in good))} s"
    if "wall" in good[0]:
        text += f" (wall {number(statistics.median(r['wall'] for r in good))})"
    return text


def yes_no(answers: list[Result]) -> str:
    texts = list(map(str, answers))
    causes = "; ".join(sorted(set(texts) - {"yes"}))
    return f"{', '.join('yes' if text == 'yes' else 'no' for text in texts)} ({causes})" if causes else "yes"


def times(theirs: Result, ours: Result, field: str = "cpu") -> str:
    if isinstance(theirs, dict) and isinstance(ours, dict) and theirs[field] and ours[field]:
        return f"{number(theirs[field] / ours[field])} x"
    return ""


def show(result: Result, field: str) -> str:
    if isinstance(result, str):
        return result
    return "-" if result[field] is None else number(result[field])


def table(heads: list[str], lines: list[list[str]]) -> str:
    widths = [max(len(line[at]) for line in [heads, *lines]) for at in range(len(heads))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |"
        for line in [heads, rule, *lines]
    )


def goals(rows: list[Row]) -> str:
    lines, notes = [], []
    for row in rows:
        ratio = "" if row.ratio is None else f"{number(row.ratio)} x"
        if row.low is not None and row.high is not None and row.low != row.high:
            ratio += f" ({number(row.low)} to {number(row.high)})"
        met = {True: "met", False: "short", None: "-"}[row.met]
        mark = ""
        if row.note:
            notes.append(row.note)
            mark = f" [{len(notes)}]"
        lines.append([row.figure + mark, row.flower, row.aegis, ratio, row.goal, met])
    text = table(["figure", "Flower", "AEGIS", "ratio", "goal", "met/short"], lines)
    return text + "".join(f"\n[{at}] {note}" for at, note in enumerate(notes, 1))


def client_grid(lines: list[dict[str, Any]]) -> str:
    heads = ["n", "graph", "d", "share: Flower s", "AEGIS s", "ratio", "mask: Flower s", "AEGIS s", "ratio"]
    heads += ["up: Flower B", "AEGIS B", "peak: Flower MB", "AEGIS MB"]
    texts = []
    for line in lines:
        theirs, ours = line["flower_mask"], line["aegis_mask"]
        first = [str(line["n"]), line["graph"], power(line["d"])]
        share = [line["flower_share"], line["aegis_share"]]
        first += [show(share[0], "cpu"), show(share[1], "cpu"), times(*share)]
        first += [show(theirs, "cpu"), show(ours, "cpu"), times(theirs, ours)]
        first += [f"{side['bytes']:,}" if isinstance(side, dict) else side for side in (theirs, ours)]
        texts.append([*first, show(theirs, "peak"), show(ours, "peak")])
    return table(heads, texts)


def server_grid(lines: list[dict[str, Any]]) -> str:
    heads = ["n", "graph", "d", "lost", "unmask: Flower s", "AEGIS s", "wall", "ratio"]
    heads += ["+ sum: Flower s", "AEGIS s", "ratio", "peak: Flower MB", "AEGIS MB"]
    texts = []
    for line in lines:
        theirs, ours = line["flower"], line["aegis"]
        short = theirs if isinstance(theirs, dict) else ""
        first = [str(line["n"]), line["graph"], power(line["d"]), f"{line['lost']} %"]
        first += [show(theirs, "cpu"), show(ours, "cpu"), show(ours, "wall"), times(theirs, ours)]
        first += [show(short, "cpu_sum"), show(ours, "cpu_sum"), times(theirs, ours, "cpu_sum")]
        texts.append([*first, show(short, "peak"), show(ours, "peak")])
    return table(heads, texts)
