"""Runs the full form of every public set and prints the table: set, task, metric with and without DP, ε, time.

    python tests/public_sets/public_page.py [DOCUMENT] [--only NAME ...]

A document's table, between its marks, is written anew. Every command is a process of its own, as somebody types it. Exits 1 when
a run without DP does not reach what its set declares, or a run with DP is not private, masked and within its budget.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from commands import BUDGET, CLIENTS, EPSILON, WITHOUT_DP, Day, by_process
from declared import SETS, PublicSet, both
from packaged import ALL, PackageMissing

from aegis_flower.report import RunReport

START, END = "<!-- made by `make public-sets` -->", "<!-- end -->"
HEAD = (
    *("set", "task", "rows", "people", "metric", "trivial", "without DP", "with DP", "ε of a record", "ε of a person"),
    "CPU seconds",
)
_UNITS = {"accuracy": "accuracy", "auroc": "AUROC", "rmse": "RMSE"}
_LARGE = 100  # an ε that bounds nothing that anybody would call private


def measured(name: str) -> tuple[list[str], list[str]]:
    """The row of a set, and what is wrong with its runs."""
    public, packaged = both(name)
    with tempfile.TemporaryDirectory() as folder:
        day = Day(Path(folder), public, packaged, by_process)
        file = day.prepared()
        cards = day.imported(file)
        rows = packaged.rows()
        people = sum(card["people"] for card in cards.values())
        trivial = public.trivial(rows)
        plain = day.run(file, "plain", public.rounds, len(rows), *WITHOUT_DP)
        began = _processor_seconds()
        private = day.run(file, "private", public.rounds, len(rows))
        seconds = _processor_seconds() - began
    wrong = _wrong(public, trivial, plain, private)
    row = [
        f"[{name}]({packaged.source})",
        public.task,
        str(len(rows)),
        str(people),
        _UNITS[public.metric],
        f"{trivial:.3g}",
        _told(plain, public.metric),
        _told(private, public.metric),
        f"{private.results.epsilon_total_max or 0:.2f}; {_evaluated(private):.2f}",
        _person(private.results.epsilon_person_max),
        f"{seconds:.0f}",
    ]
    return row, wrong


def _processor_seconds() -> float:
    """Of all commands so far: what else the machine does, changes the time on a clock, and hardly this."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _told(report: RunReport, metric: str) -> str:
    found = next((m for m in report.results.metrics if m.name == metric), None)
    if found is None:
        return "noise alone"
    return f"{found.value:.3g}" + (f" ± {found.sd:.2g}" if found.sd else "")


def _evaluated(report: RunReport) -> float:
    """The largest ε of a held-out record."""
    return max((c.evaluation.epsilon or 0 for c in report.clients if c.evaluation is not None), default=0.0)


def _person(epsilon: float | None) -> str:
    return "no bound" if epsilon is None else f"{epsilon:.0f}" if epsilon > _LARGE else f"{epsilon:.2f}"


def _wrong(public: PublicSet, trivial: float, plain: RunReport, private: RunReport) -> list[str]:
    told = {m.name: m.value for m in plain.results.metrics}
    found = []
    if public.gain(told[public.metric], trivial) <= public.margin:
        found.append(f"{public.metric} {told[public.metric]:.3g} without DP, trivial {trivial:.3g}: too little")
    if not private.run.private or not private.secagg.enabled or not plain.secagg.enabled:
        found.append("a run is not private or not masked")
    if not 0 < (private.results.epsilon_total_max or 0) <= EPSILON or not 0 < _evaluated(private) <= EPSILON:
        found.append(f"ε is not above 0 and at most {EPSILON}")
    if any(len(one.participants) != CLIENTS for one in private.rounds if one.participants):
        found.append("a node was lost")
    return found


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def sources() -> str:
    """Where each set comes from, and its licence."""
    head = [_line(("set", "package", "written as", "licence of the rows")), "|---|---|---|---|"]
    rows = [
        _line((name, f"{p.package} {version(p.package)}", p.ends or "folder of images", p.licence))
        for name, p in ALL.items()
    ]
    return "\n".join([*head, *rows])


def main() -> int:
    """Measures, prints, writes."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("document", nargs="?", type=Path)
    asked.add_argument("--only", nargs="*", choices=list(SETS), default=list(SETS))
    given = asked.parse_args()
    lines, failures = [_line(HEAD), "|---|---|" + "---:|" * (len(HEAD) - 2)], []
    for name in given.only:
        try:
            row, wrong = measured(name)
        except (PackageMissing, AssertionError) as error:
            row, wrong = [], [str(error)]
        if row:
            lines.append(_line(row))
        failures += [f"{name}: {each}" for each in wrong]
        print(lines[-1] if row else f"{name}: failed", flush=True)
    day = datetime.now(UTC).date().isoformat()
    how = (
        f"{day}, {platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, "
        f"torch {version('torch')}; {CLIENTS} nodes, ε at most {EPSILON:g} for training and {EPSILON:g} for the evaluation, "
        f"budget {BUDGET:g}."
    )
    text = "\n".join([START, "", how, "", *lines, "", sources(), "", END])
    if failures:
        print("\n".join(["", "failed:", *failures]))
    elif given.document is None:
        print(text)
    else:
        before, found, rest = given.document.read_text().partition(START)
        if not found:
            raise SystemExit(f"{given.document}: {START} is not in it")
        given.document.write_text(before + text + rest.partition(END)[2])
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
