"""The sweep report: every trial is shown, the axis fits what was varied, a shared charge is stated."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_examples import Page
from rich.console import Console
from test_report_page import ATTACKS

from aegis_flower.errors import ReportError
from aegis_flower.report import words
from aegis_flower.report.model import (
    ClientReport,
    ConfigReport,
    ResultsReport,
    RunInfo,
    RunReport,
    SecAggReport,
    VersionsReport,
)
from aegis_flower.sweep import plot as sweep_plot
from aegis_flower.sweep import report as sweep_report
from aegis_flower.sweep.report import Trial, write_sweep
from aegis_flower.sweep.trials import Total


def trial(accuracy: float | None, epsilon: float | None, root: Path = Path("/runs"), /, **overrides: str) -> Trial:
    stated: dict[str, Any] = {"delta": 1e-5, "unit": "record", "neighbouring": "add_remove", "accountant": "pld"}
    report = RunReport(
        run=RunInfo(
            id="1",
            name="sweep",
            experiment="e",
            started="2026-11-23T21:14:05Z",
            runtime="inprocess",
            seed=1,
            status="finished" if accuracy is not None else "failed",
            private=epsilon is not None,
        ),
        config=ConfigReport(resolved={}, sha256="ab" * 32),
        versions=VersionsReport(aegis_flower="0", python="3", platform="x"),
        rounds=(),
        clients=(
            ClientReport(node="a", rounds_taken_part=0, epsilon=epsilon, **(stated if epsilon is not None else {})),
        ),
        results=ResultsReport(
            accuracy=accuracy, epsilon_max=epsilon, accuracy_without_dp=0.9, majority_class_accuracy=0.25
        ),
        secagg=SecAggReport(enabled=True),
    )
    return Trial(overrides, report, root / ",".join(overrides.values()))


BY_EPSILON = [trial(0.7, 0.5, epsilon="0.5"), trial(0.8, 1.0, epsilon="1"), trial(0.85, 3.0, epsilon="3")]


def written(trials: list[Trial], folder: Path, **options: Any) -> tuple[str, Any, str]:
    """HTML, JSON and terminal text of a sweep."""
    out = io.StringIO()
    paths = write_sweep(trials, folder, console=Console(file=out, width=200), **options)
    assert paths.png.read_bytes().startswith(b"\x89PNG\r\n")
    html = paths.html.read_text()
    return html.replace(words.THIN, " "), json.loads(paths.json.read_text()), out.getvalue().replace(words.THIN, " ")


def axis(trials: list[Trial]) -> str:
    return sweep_plot.plot(trials).x_label


def test_axis_is_epsilon_where_trials_differ_in_it() -> None:
    assert axis(BY_EPSILON) == "largest ε of a client"


def test_axis_is_the_one_number_varied_at_equal_epsilon() -> None:
    assert axis([trial(0.7, 1.0, rate="0.1"), trial(0.8, 1.0, rate="0.5")]) == "rate"
    assert axis([trial(0.7, None, rate="0.1"), trial(0.8, None, rate="0.5")]) == "rate"


def test_axis_without_any_number_is_the_trial() -> None:
    assert axis([trial(0.7, None, model="cnn"), trial(0.8, None, model="mlp")]) == "trial"
    assert axis([trial(0.7, None, a="1", b="1"), trial(0.8, None, a="2", b="2")]) == "trial"


def test_words_that_vary_make_the_series() -> None:
    plot = sweep_plot.plot([replace(each, overrides={**each.overrides, "model": name})
                               for name in ("cnn", "mlp") for each in BY_EPSILON])  # fmt: skip
    assert [(each.label, len(each.points), each.joined) for each in plot.series] == [("cnn", 3, True), ("mlp", 3, True)]


def test_repetitions_at_one_point_are_not_joined() -> None:
    plot = sweep_plot.plot([*BY_EPSILON, *BY_EPSILON])
    assert not plot.series[0].joined


def test_trial_that_cannot_be_drawn_is_named_and_in_the_table(tmp_path: Path) -> None:
    trials = [*BY_EPSILON, trial(None, 2.0, epsilon="2"), trial(0.9, None, epsilon="off")]
    html, value, text = written(trials, tmp_path)
    assert "not drawn: trial 4 (no accuracy), trial 5 (no ε)" in html
    assert [each["status"] for each in value["trials"]] == ["finished"] * 3 + ["failed", "finished"]
    assert "failed" in text
    assert "NOT PRIVATE" in text


def test_reference_lines_where_known(tmp_path: Path) -> None:
    html, _, _ = written(BY_EPSILON, tmp_path)
    assert "90 % without DP" in html
    assert "25 % majority" in html
    unknown = replace(BY_EPSILON[0].report, results=ResultsReport(accuracy=0.7, epsilon_max=0.5))
    assert sweep_plot.plot([replace(BY_EPSILON[0], report=unknown)]).rules == ()
    other = replace(BY_EPSILON[0].report, results=replace(BY_EPSILON[0].report.results, accuracy_without_dp=0.8))
    labels = [rule.label for rule in sweep_plot.plot([replace(BY_EPSILON[0], report=other), BY_EPSILON[1]]).rules]
    assert labels == ["without DP, low", "without DP, high", "majority"]


def test_shared_charge_is_stated_with_what_it_is(tmp_path: Path) -> None:
    html, value, text = written(BY_EPSILON, tmp_path, charged_epsilon=4.1201, charged_delta=3e-5)
    for shown in (html, text):
        assert "ε 4.13 charged by all trials together" in shown
        assert "unit record · δ = 3e-5 · neighbouring add or remove one · PLD accountant" in shown
    assert value["charged"] == {
        "epsilon": 4.1201, "delta": 3e-5, "unit": "record", "neighbouring": "add_remove", "accountant": "pld",
    }  # fmt: skip


def test_no_charge_is_null(tmp_path: Path) -> None:
    html, value, text = written(BY_EPSILON, tmp_path)
    assert value["charged"] is None
    assert "charged by all" not in html + text


def test_charge_that_no_trial_explains_shows_no_number(tmp_path: Path) -> None:
    html, value, text = written([trial(0.5, None, a="1")], tmp_path, charged_epsilon=4.5)
    assert "4.5" not in text
    assert "ε 4.5" not in html
    assert value["charged"]["epsilon"] == 4.5
    assert value["charged"]["delta"] is None


@pytest.mark.parametrize("charge", [math.nan, math.inf, -1.0])
def test_charge_that_is_no_privacy_loss_is_refused(charge: float, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="ledger"):
        write_sweep(BY_EPSILON, tmp_path, charged_epsilon=charge)
    assert not list(tmp_path.iterdir())


def test_guarantees_stand_under_the_table(tmp_path: Path) -> None:
    html, _, text = written(BY_EPSILON, tmp_path)
    for shown in (html, text):
        assert "ε: unit record · δ = 1e-5 · neighbouring add or remove one · PLD accountant" in shown


def test_no_trial_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="at least one trial"):
        write_sweep([], tmp_path)


def test_folders_inside_the_sweep_are_relative(tmp_path: Path) -> None:
    _, value, _ = written([trial(0.7, 1.0, tmp_path, a="1"), trial(0.8, 1.0, tmp_path.parent / "x", a="2")], tmp_path)
    assert value["trials"][0]["folder"] == "1"
    assert value["trials"][1]["folder"] == (tmp_path.parent / "x" / "2").as_posix()


def test_hostile_overrides_are_text(tmp_path: Path) -> None:
    bad = "<script>$\\frac{_</script>\x1b[31m\u202e[red]"
    trials = [trial(0.7, 1.0, **{bad: bad}), trial(0.8, 1.0, **{bad: "_b"})]
    html, _, text = written([replace(each, folder=Path("/runs/a")) for each in trials], tmp_path)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "\x1b[31m" not in html + text
    assert "\u202e" not in html + text


def hostile(text: str) -> list[Trial]:
    """Trials that hold `text` wherever one can: a finished one with a page, a failed one, and one without a report."""
    name = re.sub(r"[/\0]", "", text)
    found = []
    for index, (accuracy, epsilon) in enumerate(((0.7, 1.0), (0.8, 2.0), (None, 3.0), (0.6, None))):
        each = trial(accuracy, epsilon, **{text: f"{text}{index}", f"{text}2": text})
        stated = {"unit": text, "neighbouring": text, "accountant": text} if epsilon is not None else {}
        clients = tuple(replace(one, node=text, **stated) for one in each.report.clients)
        report = replace(each.report, clients=clients, files={"html": "report.html"})
        found.append(replace(each, report=report, folder=Path("/runs") / f"{name}{index}"))
    return [*found, Trial({text: text}, None, Path("/runs") / f"{name}4", text, text)]


def hostile_page(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sweep_report, "_drawn", lambda _: None)  # the PNG is no markup, and takes a second
    totals = [
        Total(source=text, trials=(1, 2), epsilon=4.0, delta=1e-5, why=text),
        Total(source=f"{text}2", trials=(3,), epsilon=None, delta=None, why=text),
    ]
    return write_sweep(hostile(text), folder, totals=totals).html.read_text()


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_no_text_of_a_sweep_adds_an_element_or_an_attribute(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    html = hostile_page(text, tmp_path, monkeypatch)
    shown, expected = Page(html), Page(hostile_page("é" * len(text), tmp_path, monkeypatch))
    assert shown.structure == expected.structure
    assert words.clean(text).split()[0] in shown.text
    assert not re.search(r"[^\S\n ]", html.replace(words.THIN, ""))
    assert not any(words.clean(line) != line for line in html.split("\n"))


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_an_axis_named_by_an_override_stays_inside_its_attribute(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_report, "_drawn", lambda _: None)

    def page(name: str) -> Page:
        trials = [trial(0.7, 1.0, **{name: "0.1"}), trial(0.8, 1.0, **{name: "0.5"})]
        assert axis(trials) == name
        return Page(write_sweep(trials, tmp_path).html.read_text())

    shown = page(text)
    assert shown.structure == page("é" * len(text)).structure
    labels = [value for name, value in shown.attributes if name == "aria-label"]
    assert labels == [f"Accuracy against {words.clean(text)}"] * 2


def test_a_trials_page_is_linked_only_where_its_folders_name_means_nothing_else(tmp_path: Path) -> None:
    report = replace(BY_EPSILON[0].report, files={"html": "report.html"})
    names = ("plain-1.x", "a b", "javascript:alert(1)", "a?b", "a#b", '"><b>', "ä")
    trials = [replace(BY_EPSILON[0], report=report, folder=Path("/runs") / name) for name in names]
    html, _, _ = written([*trials, replace(BY_EPSILON[0], folder=Path("/runs/none"))], tmp_path)
    assert re.findall(r"href=\S+?>", html) == ['href="plain-1.x/report.html">']


def test_html_is_self_contained_and_deterministic(tmp_path: Path) -> None:
    html, _, _ = written(BY_EPSILON, tmp_path / "a")
    again, _, _ = written(BY_EPSILON, tmp_path / "b")
    assert html == again
    for name in ("sweep.png", "sweep.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert not re.search(r"https?:|src=|href=|url\(|<script|<img|style=", html)
    assert len(html) < 40_000


def test_many_series_become_one(tmp_path: Path) -> None:
    trials = [trial(0.5 + i / 100, 1.0 + i, model=f"m{i}") for i in range(9)]
    assert [each.label for each in sweep_plot.plot(trials).series] == ["trials"]
    written(trials, tmp_path)


def test_without_matplotlib_the_page_has_the_plot_and_there_is_no_png(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "aegis_flower.sweep.png", raising=False)
    paths = write_sweep(BY_EPSILON, tmp_path)
    assert paths.png is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sweep.html", "sweep.json"]
    assert "<svg" in paths.html.read_text()
