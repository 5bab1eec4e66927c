"""What a sweep's plot shows, chosen once and drawn twice: as SVG for the page, as PNG for slides. A trial is defined here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aegis_flower.report import words
from aegis_flower.report.model import ClientReport, ResultsReport, RunReport
from aegis_flower.report.page import charts as svg

MOST_SERIES: Final = 6


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


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn, once for the PNG and once for the page."""

    x_label: str
    show_x: Callable[[float], str]
    series: tuple[svg.Series, ...]
    rules: tuple[svg.Rule, ...]
    missing: tuple[str, ...]
    guarantees: tuple[str, ...]


def varied(trials: Sequence[Trial]) -> list[str]:
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


def epsilon_of(trial: Trial) -> float | None:
    """The largest ε of a trial's clients."""
    return trial.results.epsilon_max


def _axis(trials: Sequence[Trial]) -> tuple[str, Callable[[Trial], float | None], Callable[[float], str]]:
    """What accuracy is drawn against: ε where it differs, else the one number varied, else ε, else the trial."""
    spent = [value for value in map(epsilon_of, trials) if value is not None]
    by_epsilon = ("largest ε of a client", epsilon_of, words.number)
    if spent and max(spent) > 1.01 * min(spent):
        return by_epsilon
    numeric = [name for name in varied(trials) if _numeric(trials, name)]
    if len(numeric) == 1:
        return numeric[0], lambda trial: _as_number(trial.overrides.get(numeric[0])), words.number
    if spent:
        return by_epsilon
    order = {id(trial): float(index) for index, trial in enumerate(trials, 1)}
    return "trial", lambda trial: order[id(trial)], words.whole


def plot(trials: Sequence[Trial]) -> Plot:
    """Chooses the axes, the series and the lines of comparison."""
    x_label, pick, show_x = _axis(trials)
    words = [name for name in varied(trials) if not _numeric(trials, name)]
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
    # A line through trials at one x (seeds, say), or through some that differ in more than what is drawn, would draw a trend that
    # is not there.
    one = sum(_numeric(trials, name) for name in varied(trials)) <= 1
    series = tuple(
        svg.Series(
            label,
            tuple(sorted(points, key=lambda point: point[0])),
            f"c{index}",
            joined=one and x_label != "trial" and len({x for x, _ in points}) == len(points),
        )
        for index, (label, points) in enumerate(groups.items())
    )
    results = [trial.results for trial in trials]
    rules = (
        *_rules("without DP", [each.accuracy_without_dp for each in results]),
        *_rules("majority", [each.majority_class_accuracy for each in results]),
    )
    return Plot(x_label, show_x, series, rules, tuple(missing), tuple(guarantees(trials)))


def _rules(label: str, values: Sequence[float | None]) -> list[svg.Rule]:
    """One line where all trials agree, else the lowest and the highest."""
    known = [value for value in values if value is not None]
    if not known:
        return []
    if max(known) - min(known) < 5e-4:  # noqa: PLR2004 - the same when printed to a tenth of a percent
        return [svg.Rule(label, known[0], "quiet")]
    return [svg.Rule(f"{label}, low", min(known), "quiet"), svg.Rule(f"{label}, high", max(known), "quiet")]


def guarantees(trials: Sequence[Trial]) -> list[str]:
    """Each distinct guarantee of the sweep once, with the trials it holds for where they differ."""
    groups: dict[str, list[str]] = {}
    for index, trial in enumerate(trials, 1):
        for line in words.guarantee_lines(trial.clients) or ["no ε stated"]:
            groups.setdefault(line, []).append(str(index))
    if len(groups) == 1:
        return list(groups)
    return [f"{line} (trial {', '.join(numbers)})" for line, numbers in groups.items()]
