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
import io
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from rich.text import Text

from aegis_flower import report_html as page
from aegis_flower import report_style as style
from aegis_flower import report_svg as svg
from aegis_flower import report_text as words
from aegis_flower.errors import ReportError
from aegis_flower.report import ClientReport, ResultsReport, RunReport, write_reports
from aegis_flower.trials import Total

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

__all__ = ["SweepPaths", "Trial", "write_sweep"]

SCHEMA_VERSION: Final = 1
MOST_SERIES: Final = 6
MOST_GUARANTEES: Final = 3  # lines under the PNG; the page has all
# Okabe and Ito's colours: told apart by most colour-blind readers.
COLOURS: Final = ("#0a6c74", "#c8692b", "#5a5fc0", "#a83e76", "#6f7f2d", "#3f86c4")


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep.

    Attributes:
        overrides: those that made it.
        report: what it reported; None where it left no report.
        folder: the folder it wrote into.
        status: how it ended, for a trial without a report.
        error: why, in words.
    """

    overrides: Mapping[str, str]
    report: RunReport | None
    folder: Path
    status: str = "failed"
    error: str = ""

    @property
    def results(self) -> ResultsReport:
        """Its results; all unknown without a report."""
        return self.report.results if self.report is not None else ResultsReport()

    @property
    def clients(self) -> tuple[ClientReport, ...]:
        """Its clients, as far as they are known."""
        return self.report.clients if self.report is not None else ()

    @property
    def state(self) -> str:
        """How it ended, for the table."""
        if self.report is None:
            return f"{self.status}, no report"
        return self.report.run.status + ("" if self.report.run.private else ", NOT PRIVATE")


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
    """Where a sweep was written."""

    json: Path
    html: Path
    png: Path


@dataclass(frozen=True, slots=True)
class _Plot:
    """What is drawn, once for the PNG and once for the page."""

    x_label: str
    show_x: Callable[[float], str]
    series: tuple[svg.Series, ...]
    rules: tuple[svg.Rule, ...]
    missing: tuple[str, ...]
    guarantees: tuple[str, ...]


def write_sweep(
    trials: Sequence[Trial],
    folder: Path,
    *,
    charged_epsilon: float | None = None,
    charged_delta: float | None = None,
    totals: Sequence[Total] = (),
    console: Console | None = None,
) -> SweepPaths:
    """Write the three files of a sweep into `folder` and print its table to `console`.

    Args:
        trials: in their order; what became of each is shown.
        folder: made when missing.
        charged_epsilon: ε that all trials together cost the shared vault that paid most, from its ledger; `None` when
            they shared none. Its unit, neighbouring relation and accountant are those that the trials state.
        charged_delta: δ of `charged_epsilon`; that of the first trial with an ε when `None`.
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
    plot = _plot(trials)
    paths = SweepPaths(json=folder / "sweep.json", html=folder / "sweep.html", png=folder / "sweep.png")
    write_reports(
        {
            paths.png: _png(plot),
            paths.html: _page(trials, plot, charged, notes).encode(),
            paths.json: _json(trials, folder, charged, totals),
        }
    )
    if console is not None:
        _print(trials, charged, notes, console)
    return paths


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


# Choosing the plot


def _varied(trials: Sequence[Trial]) -> list[str]:
    """The overrides that differ between trials, in order of appearance."""
    names = dict.fromkeys(name for trial in trials for name in trial.overrides)
    return [name for name in names if len({trial.overrides.get(name) for trial in trials}) > 1]


def _numeric(trials: Sequence[Trial], name: str) -> bool:
    return all(_as_number(trial.overrides.get(name)) is not None for trial in trials)


def _as_number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _epsilon(trial: Trial) -> float | None:
    return trial.results.epsilon_max


def _axis(trials: Sequence[Trial]) -> tuple[str, Callable[[Trial], float | None], Callable[[float], str]]:
    """What accuracy is drawn against: ε where it differs, else the one number varied, else ε, else the trial."""
    spent = [value for value in map(_epsilon, trials) if value is not None]
    by_epsilon = ("largest ε of a client", _epsilon, words.number)
    if spent and max(spent) > 1.01 * min(spent):
        return by_epsilon
    numeric = [name for name in _varied(trials) if _numeric(trials, name)]
    if len(numeric) == 1:
        return numeric[0], lambda trial: _as_number(trial.overrides.get(numeric[0])), words.number
    if spent:
        return by_epsilon
    order = {id(trial): float(index) for index, trial in enumerate(trials, 1)}
    return "trial", lambda trial: order[id(trial)], words.whole


def _plot(trials: Sequence[Trial]) -> _Plot:
    x_label, pick, show_x = _axis(trials)
    words = [name for name in _varied(trials) if not _numeric(trials, name)]
    groups: dict[str, list[tuple[float, float | None]]] = {}
    missing = []
    for index, trial in enumerate(trials, 1):
        x, y = pick(trial), trial.results.accuracy
        if x is None or y is None:
            missing.append(f"trial {index} ({'no accuracy' if y is None else 'no ε'})")
            continue
        label = ", ".join(trial.overrides.get(name, "default") for name in words) or "trials"
        groups.setdefault(label, []).append((x, y))
    if len(groups) > MOST_SERIES:
        groups = {"trials": [point for points in groups.values() for point in points]}
    # A line through trials at one x (seeds, say) would draw a trend that is not there.
    series = tuple(
        svg.Series(
            label,
            tuple(sorted(points, key=lambda point: point[0])),
            f"c{index}",
            joined=x_label != "trial" and len({x for x, _ in points}) == len(points),
        )
        for index, (label, points) in enumerate(groups.items())
    )
    results = [trial.results for trial in trials]
    rules = (
        *_rules("without DP", [each.accuracy_without_dp for each in results]),
        *_rules("majority", [each.majority_class_accuracy for each in results]),
    )
    return _Plot(x_label, show_x, series, rules, tuple(missing), tuple(_guarantees(trials)))


def _rules(label: str, values: Sequence[float | None]) -> list[svg.Rule]:
    """One line where all trials agree, else the lowest and the highest."""
    known = [value for value in values if value is not None]
    if not known:
        return []
    if max(known) - min(known) < 5e-4:  # noqa: PLR2004 - the same when printed to a tenth of a percent
        return [svg.Rule(label, known[0], "quiet")]
    return [svg.Rule(f"{label}, low", min(known), "quiet"), svg.Rule(f"{label}, high", max(known), "quiet")]


# Files


def _json(trials: Sequence[Trial], folder: Path, charged: _Charge | None, totals: Sequence[Total]) -> bytes:
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
        "trials": [entry(each) for each in trials],
        "charged": total,
        "totals": [dataclasses.asdict(each) for each in totals],
    }
    try:
        return (json.dumps(value, allow_nan=False, ensure_ascii=False, indent=2) + "\n").encode()
    except UnicodeEncodeError as error:
        raise ReportError("an override or a folder of the sweep is not valid Unicode; rename it") from error


def _png(plot: _Plot) -> bytes:
    """The plot on white, 1600 by 900 pixels. Object-oriented matplotlib: no global figure, no display, no date."""
    figure = Figure(figsize=(8, 4.5), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for series, colour in zip(plot.series, COLOURS, strict=False):
        xs, ys = [x for x, _ in series.points], [100 * y for _, y in series.points if y is not None]
        line = "-" if series.joined else ""
        axes.plot(xs, ys, marker="o", linestyle=line, color=colour, markersize=5, label=_literal(series.label))
    for rule in plot.rules:
        axes.axhline(100 * rule.value, color="#5a636d", linestyle=(0, (5, 4)), linewidth=1.2, zorder=1)
        axes.annotate(
            _literal(f"{rule.label}  {words.percent(rule.value)}"),
            (1, 100 * rule.value),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 4),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            color="#5a636d",
        )
    axes.set_xlabel(_literal(plot.x_label), color="#1b1f23")
    if plot.guarantees:
        shown = [
            *plot.guarantees[:MOST_GUARANTEES],
            *(["further guarantees differ: see sweep.html"] if len(plot.guarantees) > MOST_GUARANTEES else []),
        ]
        figure.supxlabel("\n".join(_literal(each) for each in shown), fontsize=8, color="#5a636d")
    axes.set_ylabel("accuracy, %", color="#1b1f23")
    axes.grid(axis="y", color="#e2e2dc", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#b9bdb8")
    axes.tick_params(length=0, labelsize=9, colors="#5a636d")
    if len(plot.series) > 1:
        axes.legend(frameon=False, fontsize=9)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _literal(text: str) -> str:
    """`text` for matplotlib, which would read dollars as mathematics and hides labels with a leading underscore."""
    shown = words.clean(text).replace("$", r"\$").replace(words.THIN, " ")
    return f" {shown}" if shown.startswith("_") else shown


def _page(trials: Sequence[Trial], plot: _Plot, charged: _Charge | None, totals: Sequence[str] = ()) -> str:
    chart = svg.line_chart(
        plot.series,
        plot.rules,
        title=f"Accuracy against {plot.x_label}",
        x_label=plot.x_label,
        show_x=plot.show_x,
        show_y=words.percent,
        show_tick=words.percent_short,
        whole_x=plot.x_label == "trial",
        at_most=1.0,
        width=1016,
        height=380,
    )
    total = str(charged) if charged is not None else "; ".join(totals) or "no total is stated"
    notes = [words.esc(each) for each in (*plot.guarantees, *totals)]
    if plot.missing:
        notes.append(f"not drawn: {words.esc(', '.join(plot.missing))}")
    shared = '<p class="banner warn">' if charged is not None or totals else '<p class="lead">'
    note = "<br>".join(notes)
    return style.page(
        "AEGIS sweep report",
        f'<header><p class="over">{style.MARK} AEGIS sweep report</p><h1>{len(trials)} trials</h1>'
        f"{shared}{words.esc(total)}</p></header>"
        f'<div class="gap"></div>{page.card(f"Accuracy against {plot.x_label}", note, chart)}'
        f"{page.card('Trials', 'Each trial has its own report in its folder.', _html_table(trials))}"
        "<footer>This page is evidence for what the trials did. Choosing the best of them is a use of the data, too: "
        "count every trial.</footer>",
    )


def _guarantees(trials: Sequence[Trial]) -> list[str]:
    """Each distinct guarantee of the sweep once, with the trials it holds for where they differ."""
    groups: dict[str, list[str]] = {}
    for index, trial in enumerate(trials, 1):
        for line in words.guarantee_lines(trial.clients) or ["no ε stated"]:
            groups.setdefault(line, []).append(str(index))
    if len(groups) == 1:
        return list(groups)
    return [f"{line} (trial {', '.join(numbers)})" for line, numbers in groups.items()]


def _rows(trials: Sequence[Trial]) -> tuple[list[str], list[list[str]]]:
    """The table both readers get: the varied overrides, then what came of them."""
    varied = _varied(trials)
    head = ["trial", *varied, "accuracy", "ε largest", "without DP", "lost", "status"]
    rows = []
    for index, trial in enumerate(trials, 1):
        spent = _epsilon(trial)
        rows.append(
            [
                str(index),
                *(trial.overrides.get(name, "default") for name in varied),
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


def _html_table(trials: Sequence[Trial]) -> str:
    head, rows = _rows(trials)
    titles = "".join(f"<th>{words.esc(each)}" for each in [*head, "folder"])
    body = "".join(
        f"<tr>{''.join(f'<td>{words.esc(cell)}' for cell in row)}<td>{_link(trial)}"
        for row, trial in zip(rows, trials, strict=True)
    )
    return f'<div class="scroll"><table class="trials"><thead><tr>{titles}<tbody>{body}</table></div>'


def _link(trial: Trial) -> str:
    """A trial's folder; a link to its page where it has one beside this one."""
    name = trial.folder.name
    shown = f"<code>{words.esc(name)}</code>"
    plain = re.fullmatch(r"[A-Za-z0-9._-]+", name) is not None
    page = trial.report is not None and "html" in trial.report.files
    return f'<a href="{name}/report.html">{shown}</a>' if plain and page else shown


def _print(trials: Sequence[Trial], charged: _Charge | None, totals: Sequence[str], console: Console) -> None:
    head, rows = _rows(trials)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in head:
        table.add_column(Text(words.clean(title)), justify="left" if title == "status" else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(words.clean(cell)) for cell in row))
    console.print(table)
    for line in _guarantees(trials):
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
