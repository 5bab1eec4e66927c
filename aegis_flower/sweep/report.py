"""What a sweep found: one table, one plot, as ``sweep.json``, ``sweep.html``, ``sweep.png`` and in the terminal.

Guarantees:

- Every trial is in the table, whatever became of it; a trial that the plot cannot show is named under it.
- An ε stands beside its unit, delta, neighbouring relation and accountant.
- What all trials together cost the people of one source is stated as the ledgers have it, or said to be unknown with the
  reason; it is never summed here, since how trials compose is the accountant's business.
- Equal sweeps give equal JSON and HTML, and equal PNG with one version of matplotlib and its fonts.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich import box
from rich.table import Table
from rich.text import Text

from aegis_flower.errors import ReportError
from aegis_flower.report import words
from aegis_flower.report.page import charts as svg
from aegis_flower.report.page.render import fill
from aegis_flower.report.page.view import NARROW, in_two_widths
from aegis_flower.report.write import write_reports
from aegis_flower.sweep import objective
from aegis_flower.sweep.plan import Plan
from aegis_flower.sweep.plot import Plot as Drawn
from aegis_flower.sweep.plot import Trial, epsilon_of, guarantees, plot, varied
from aegis_flower.sweep.trials import Total

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rich.console import Console

__all__ = ["SweepPaths", "Trial", "write_sweep"]

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Charge:
    """What all trials together charged, and what that ε is an ε of; the latter unknown when no trial states one."""

    epsilon: float
    delta: float | None
    unit: str | None
    neighbouring: str | None
    accountant: str | None

    def __str__(self) -> str:
        if self.delta is None:
            return "the trials charged shared vaults; no trial states unit and δ, so the total is only in their ledgers"
        return (
            f"ε{words.THIN}{words.epsilon(self.epsilon)} charged by all trials together to the people who paid most "
            f"({words.basis(self)})"
        )


@dataclass(frozen=True, slots=True)
class SweepPaths:
    """Where a sweep was written; `png` is None without matplotlib."""

    json: Path
    html: Path
    png: Path | None


def write_sweep(
    trials: Sequence[Trial],
    folder: Path,
    *,
    charged_epsilon: float | None = None,
    charged_delta: float | None = None,
    totals: Sequence[Total] = (),
    plan: Plan | None = None,
    console: Console | None = None,
) -> SweepPaths:
    """Writes the files of a sweep into `folder` and prints its table to `console`.

    Args:
        trials: in their order; what became of each is shown.
        folder: made when missing.
        charged_epsilon: ε that all trials together cost the shared vault that paid most, from its ledger; `None` when
            they shared none. Its unit, neighbouring relation and accountant are those that the trials state.
        charged_delta: δ of `charged_epsilon`; that of the first trial with an ε when `None`.
        plan: what the sweep was started with; None where that is not known.
        totals: in place of the two above: what the trials over each source of data cost together, or why that is not known.
        console: where to print the table; `None` for nowhere.

    Raises:
        ReportError: `trials` is empty, a charge is no privacy loss, or `folder` cannot be written; earlier files are
            untouched.

    """
    if not trials:
        raise ReportError("a sweep without trials has nothing to report; give at least one trial")
    known = [each for each in totals if each.epsilon is not None and each.delta is not None]
    if known and len(known) == len(totals):  # else the largest known one would pass for the total
        most = max(known, key=lambda each: each.epsilon or 0.0)
        charged_epsilon, charged_delta = most.epsilon, most.delta
    charged = _charge(trials, charged_epsilon, charged_delta)
    notes = [
        f"{words.clean(each.source) or 'unknown source'}: "
        + (each.why if each.epsilon is None else f"ε{words.THIN}{words.epsilon(each.epsilon)} {each.why}")
        for each in totals
    ]
    chart, best = plot(trials), _best(trials)
    drawn = _drawn(chart)
    paths = SweepPaths(
        json=folder / "sweep.json", html=folder / "sweep.html", png=folder / "sweep.png" if drawn is not None else None
    )
    write_reports(
        {
            **({paths.png: drawn} if paths.png is not None and drawn is not None else {}),
            paths.html: _page(trials, chart, charged, notes, best, plan).encode(),
            paths.json: _json(trials, folder, charged, totals, best, plan),
        }
    )
    if console is not None:
        _print(trials, charged, notes, best, console)
    return paths


def _drawn(chart: Drawn) -> bytes | None:
    """The PNG, where matplotlib is installed."""
    try:
        from aegis_flower.sweep.png import png
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        return None
    return png(chart)


def _charge(trials: Sequence[Trial], epsilon: float | None, delta: float | None) -> _Charge | None:
    if epsilon is None:
        return None
    if not (math.isfinite(epsilon) and epsilon >= 0 and (delta is None or 0 <= delta <= 1)):
        raise ReportError(f"the sweep's charge is ε = {epsilon}, δ = {delta}; take both from the ledger")
    stated = (each for trial in trials for each in trial.clients if each.epsilon is not None)
    first = next(stated, None)
    if first is None:
        return _Charge(epsilon=epsilon, delta=None, unit=None, neighbouring=None, accountant=None)
    return _Charge(
        epsilon=epsilon,
        delta=delta if delta is not None else first.delta,
        unit=first.unit,
        neighbouring=first.neighbouring,
        accountant=first.accountant,
    )


@dataclass(frozen=True, slots=True)
class _Best:
    """The best trial by its number in the table, and what it is the best by."""

    trial: int
    objective: str
    direction: str
    value: float

    def __str__(self) -> str:
        lower = "smallest" if self.direction == "minimize" else "largest"
        return f"best: trial {self.trial}, {self.objective} {words.number(self.value, 4)}, the {lower} there is"


def _best(trials: Sequence[Trial]) -> _Best | None:
    found = objective.best([trial.report for trial in trials])
    return None if found is None else _Best(found[0] + 1, found[1].objective, found[1].direction, found[2])


def _json(
    trials: Sequence[Trial],
    folder: Path,
    charged: _Charge | None,
    totals: Sequence[Total],
    best: _Best | None,
    plan: Plan | None,
) -> bytes:
    def entry(trial: Trial) -> dict[str, object]:
        run, results = (trial.report.run if trial.report is not None else None), trial.results
        where = trial.folder.resolve()
        inside = where.is_relative_to(folder.resolve())
        return {
            "overrides": dict(trial.overrides),
            "folder": (where.relative_to(folder.resolve()) if inside else where).as_posix(),
            "run": run.id if run is not None else None,
            "status": run.status if run is not None else trial.status,
            "error": (run.reason if run is not None else trial.error) or None,
            "private": run.private if run is not None else None,
            "accuracy": results.accuracy,
            "accuracy_without_dp": results.accuracy_without_dp,
            "majority_class_accuracy": results.majority_class_accuracy,
            "epsilon_max": results.epsilon_max,
            "guarantees": words.guarantee_lines(trial.clients),
            "config_sha256": trial.report.config.sha256 if trial.report is not None else None,
        }

    total = None if charged is None else dataclasses.asdict(charged)
    value = {
        "schema_version": SCHEMA_VERSION,
        "command": plan.command if plan is not None else None,
        "started": plan.started if plan is not None else None,
        "best": dataclasses.asdict(best) if best is not None else None,
        "trials": [entry(each) for each in trials],
        "charged": total,
        "totals": [dataclasses.asdict(each) for each in totals],
    }
    try:
        return (json.dumps(value, allow_nan=False, ensure_ascii=False, indent=2) + "\n").encode()
    except UnicodeEncodeError as error:
        raise ReportError("an override or a folder of the sweep is not valid Unicode; rename it") from error


@dataclass(frozen=True, slots=True)
class _Row:
    """A trial in the page's table; `linked` where its own page lies in its folder, beside this one."""

    cells: tuple[tuple[str, str, str], ...]  # text, the style sheet's class for it, and a mark behind it
    folder: str
    linked: bool
    best: bool


def _page(
    trials: Sequence[Trial],
    drawn: Drawn,
    charged: _Charge | None,
    totals: Sequence[str],
    best: _Best | None,
    plan: Plan | None,
) -> str:
    chart = in_two_widths(
        lambda width: svg.line_chart(
            drawn.series,
            drawn.rules,
            title=f"Accuracy against {drawn.x_label}",
            x_label=drawn.x_label,
            show_x=drawn.show_x,
            show_y=words.percent,
            show_tick=words.percent_short,
            whole_x=drawn.x_label == "trial",
            at_most=1.0,
            width=width,
            height=380 if width > NARROW else 236,
        ),
        1016,
    )
    notes = [*drawn.guarantees, *totals]
    if drawn.missing:
        notes.append(f"not drawn: {', '.join(drawn.missing)}")
    head, rows = _rows(trials)
    tones = _tones(head, rows)
    name = _experiment(trials)
    return fill(
        "sweep.html.j2",
        title=f"{name}: AEGIS sweep report" if name else "AEGIS sweep report",
        heading=f"{name}: {words.plural(len(trials), 'trial')}" if name else words.plural(len(trials), "trial"),
        started=_started(trials, plan),
        command=plan.command if plan is not None else "",
        total=str(charged) if charged is not None else "; ".join(totals) or "no total is stated",
        kind="banner warn" if charged is not None or totals else "lead",
        against=f"Accuracy against {drawn.x_label}",
        notes=notes,
        chart=chart,
        head=tuple(zip(head, tones, strict=True)),
        trial_notes=[
            "Each trial has its own report in its folder.",
            *([f"{best}; by numbers with noise, chance has its part in it"] if best is not None else []),
        ],
        rows=[
            _row(trial, cells, tones, best=best is not None and best.trial == number)
            for number, (cells, trial) in enumerate(zip(rows, trials, strict=True), 1)
        ],
    )


def _row(trial: Trial, cells: Sequence[str], tones: Sequence[str], *, best: bool) -> _Row:
    marks = ["best" if best else "", *[""] * (len(cells) - 1)]
    return _Row(tuple(zip(cells, tones, marks, strict=True)), trial.folder.name, _has_page(trial), best)


def _experiment(trials: Sequence[Trial]) -> str:
    """The experiments that the trials are of."""
    return ", ".join(dict.fromkeys(each.report.run.experiment for each in trials if each.report is not None))


def _started(trials: Sequence[Trial], plan: Plan | None) -> str:
    """When the sweep began: as its plan says, else its first trial."""
    if plan is not None and plan.started:
        return plan.started.replace("T", " ")
    return min((each.report.run.started for each in trials if each.report is not None), default="").replace("T", " ")


def _tones(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The class of each column: numbers stand to the right, so that their places are under each other."""
    tones = []
    for at in range(len(head)):
        shown = [row[at] for row in rows if row[at] not in (words.DASH, "default")]
        tones.append("n" if shown and all(each[:1].isdigit() or each[:2] in _SIGNED for each in shown) else "")
    return tones


_SIGNED: Final = {f"{sign}{digit}" for sign in "-−." for digit in range(10)}


def _rows(trials: Sequence[Trial]) -> tuple[list[str], list[list[str]]]:
    """The table both readers get: the varied overrides, then what came of them."""
    names = varied(trials)
    head = ["trial", *names, "accuracy", "ε largest", "without DP", "lost", "status"]
    rows = []
    for index, trial in enumerate(trials, 1):
        spent = epsilon_of(trial)
        rows.append(
            [
                str(index),
                *(trial.overrides.get(name, "default") for name in names),
                words.accuracy(trial.results) if trial.results.accuracy is not None else words.DASH,
                _or_dash(spent, words.epsilon),
                _or_dash(trial.results.accuracy_without_dp, words.percent),
                str(sum(len(each.lost) for each in trial.report.rounds)) if trial.report is not None else words.DASH,
                trial.state,
            ]
        )
    return head, rows


def _or_dash(value: float | None, show: Callable[[float], str]) -> str:
    return words.DASH if value is None else show(value)


def _has_page(trial: Trial) -> bool:
    """Whether the trial's page can be linked: it is there, and its folder's name means nothing else in an address."""
    plain = re.fullmatch(r"[A-Za-z0-9._-]+", trial.folder.name) is not None
    return plain and trial.report is not None and "html" in trial.report.files


def _print(
    trials: Sequence[Trial], charged: _Charge | None, totals: Sequence[str], best: _Best | None, console: Console
) -> None:
    head, rows = _rows(trials)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in head:
        table.add_column(Text(words.clean(title)), justify="left" if title == "status" else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(words.clean(cell)) for cell in row))
    console.print(table)
    if best is not None:
        console.print(Text(words.clean(str(best)), "bold"))
    for line in guarantees(trials):
        console.print(Text(line, "dim"))
    for trial in trials:
        if trial.report is None:
            console.print(
                Text(words.clean(f"{trial.folder.name}: {trial.status}: {trial.error or 'no reason was recorded'}"))
            )
    for line in totals:
        console.print(Text(words.clean(line)))
    if charged is not None:
        console.print(Text(words.clean(str(charged)), "bold"))
