"""A report in plain words: intervals, what an ε means, names that nodes give themselves, the run before."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_examples import HOSTILE, Page, client, deployment, example, page, printed, render

from aegis_flower.report import LostClient, ResultsReport, RunReport, words, write_report
from aegis_flower.report.page.context import commands, cost, fairness
from aegis_flower.report.page.view import beside
from aegis_flower.report.plain import interval, labelled, meaning, summary
from aegis_flower.report.write import previous_of


def text_of(lines: tuple[str, ...]) -> str:
    return " ".join(lines).replace(words.THIN, " ")


@pytest.mark.parametrize(
    ("share", "rows", "low", "high"),
    # R 4.3, binom.confint(x, n, methods = "wilson"): 101 of 107, 0 of 10, 10 of 10
    [(101 / 107, 107, 0.8830, 0.9740), (0.0, 10, 0.0, 0.2775), (1.0, 10, 0.7225, 1.0)],
)
def test_exact_counts_have_wilsons_interval(share: float, rows: int, low: float, high: float) -> None:
    found = interval(ResultsReport(accuracy=share, test_rows=rows))
    assert found is not None
    assert found[:2] == pytest.approx((low, high), abs=1e-4)
    assert "Wilson" in found[2]


def test_noise_makes_an_interval_wider_and_the_page_says_which_it_is() -> None:
    results = ResultsReport(accuracy=0.9, test_rows=100, accuracy_sd=0.04)
    found = interval(results)
    assert found is not None
    half = 1.959964 * math.sqrt(0.9 * 0.1 / 100 + 0.04**2)
    assert found[:2] == pytest.approx((0.9 - half, min(1.0, 0.9 + half)))
    shown = Page(render(example(results=replace(example().results, accuracy_sd=0.04)))).text
    assert "noise of the counts together" in shown
    assert "Wilson" not in shown


@pytest.mark.parametrize(
    "results", [ResultsReport(), ResultsReport(accuracy=0.5), ResultsReport(accuracy=0.5, test_rows=0)]
)
def test_there_is_no_interval_without_rows(results: ResultsReport) -> None:
    assert interval(results) is None


def test_what_an_epsilon_means_follows_from_the_largest_one() -> None:
    said = text_of(meaning(example(clients=(client("a", epsilon=1.0), client("b", epsilon=math.log(3))))))
    assert "at most 3-fold" in said
    assert "75.0 % sure" in said
    huge = text_of(
        meaning(
            example(clients=(client("a", epsilon=50.0, budget_epsilon=60.0),), results=ResultsReport(epsilon_max=50.0))
        )
    )
    assert "Take it as no promise" in huge
    assert "sure" not in huge
    other = text_of(meaning(example(clients=(client("a", neighbouring="replace_one"),))))
    assert "was in the data or not" not in other
    silent = example(clients=(client("a", epsilon=None),), results=ResultsReport(), rounds=())
    assert "No client states" in text_of(meaning(silent))


def test_the_summary_never_says_more_than_is_known() -> None:
    known, unknown = text_of(summary(example())), text_of(summary(deployment()))
    assert "stayed within the budgets" in known
    assert "verified at all 5" in known
    assert "kept 2 250 rows out" in known
    for claim in ("stayed within", "was verified at all", " rows out", " 0 "):
        assert claim not in unknown
    assert "known to the participants alone" in unknown
    failed = example(run=replace(example().run, status="failed", private=False, labels=("NOT PRIVATE",)))
    assert "which failed" in text_of(summary(failed))
    assert "Nothing protects single people" in text_of(summary(failed))
    over = example(clients=(client("a", budget_epsilon=1.0),))
    assert "more than the data's terms allow at a" in text_of(summary(over))
    assert "predicts a number" in text_of(summary(example(results=ResultsReport(loss=0.25, test_rows=10))))


def test_the_weights_that_a_run_started_from_are_not_called_its_model() -> None:
    rounds = tuple(replace(each, participants=()) for each in example().rounds)
    shown = Page(render(example(rounds=rounds))).text
    assert "No round gave a model; model.npz holds what the run started from." in shown
    assert "The model: model.npz" in Page(render(example())).text


def named(*names: str | None) -> RunReport:
    """A deployment of three whose nodes call themselves so."""
    base = deployment()
    lost = LostClient(node="node-2", step="masked", reason="late")
    clients = tuple(replace(each, name=name) for each, name in zip(base.clients, names, strict=True))
    return replace(base, clients=clients, rounds=(replace(base.rounds[0], lost=(lost,)),))


def test_a_node_is_called_what_it_calls_itself_and_its_number_stands_by() -> None:
    report = named("Clinic North", "Clinic South", None)
    html = Page(render(report)).text
    assert "round 1: Clinic South lost at masked" in html
    assert "Clinic Northnode-1" in html  # a line of its own in its cell
    assert labelled(report).rounds[0].participants == ("Clinic North", "Clinic South", "node-3")
    assert report.clients[0].node == "node-1"  # the record keeps numbers


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("Clinic", "Clinic", None), ["Clinic (node-1)", "Clinic (node-2)", "node-3"]),
        (("node-2", None, None), ["node-2 (node-1)", "node-2", "node-3"]),
        (("Clinic", "Clinic", "Clinic (node-1)"), ["node-1", "node-2", "node-3"]),
        ((HOSTILE, None, None), [words.clean(HOSTILE), "node-2", "node-3"]),
    ],
)
def test_no_node_can_pass_for_another_by_its_name(names: tuple[str | None, ...], shown: list[str]) -> None:
    assert [each.node for each in labelled(named(*names)).clients] == shown
    render(named(*names))


def test_a_long_name_is_cut_in_its_middle_for_names_differ_at_their_ends() -> None:
    assert words.shortened("hospital-of-the-north-001", 12) == "hospit…h-001"
    assert words.shortened("short", 12) == "short"
    whole = "node-6101958825135798762"
    base = deployment()
    clients = tuple(replace(each, node=f"{whole[:-1]}{i}") for i, each in enumerate(base.clients))
    rounds = (replace(base.rounds[0], participants=tuple(each.node for each in clients)),)
    assert f">{whole[:-1]}0<" in render(replace(base, clients=clients, rounds=rounds))


def test_cost_and_fairness_say_not_known_rather_than_none() -> None:
    unknown = dict(cost(deployment()))
    assert unknown["round trips of messages"] == words.UNKNOWN
    assert unknown["all updates of the run, about"] == words.UNKNOWN
    rounds = tuple(replace(each, trips=2 + each.round % 2, bytes_up=2048) for each in example().rounds)
    known = {name: value.replace(words.THIN, " ") for name, value in cost(example(rounds=rounds))}
    assert known["round trips of messages"] == "2 to 3"
    assert known["a client's masked update, at most"] == "2.0 KiB"
    assert known["all updates of the run, about"] == f"{2 * (12 * 5 - 2):.1f} KiB"
    fair = dict(fairness(example()))
    assert fair["accuracy at each client"].startswith(words.UNKNOWN)
    assert fair["rounds in the sum"] == "11 to 12 of 12; fewest at hospital-5"
    assert "ε of this run" not in dict(fairness(deployment()))


def test_commands_quote_what_a_shell_would_read_otherwise() -> None:
    config = replace(example().config, overrides=("experiment=x", "a=$(rm -rf ~)", "b='c d'"))
    assert dict(commands(example(config=config)))["run it again, anew"] == (
        "aegis run experiment=x 'a=$(rm -rf ~)' 'b='\"'\"'c d'\"'\"''"
    )


@pytest.mark.parametrize(
    "path", ["javascript:alert(1)", "https://evil/x", "../model.npz", "/etc/passwd", "//x", "data:x", "x\ny"]
)
def test_a_path_that_a_run_does_not_write_is_no_link(path: str) -> None:
    assert beside(path) == ""
    html = render(example(files={"model": path}))
    assert {value for name, value in Page(html).attributes if name == "href"} == {"#epsilon"}


def at(started: str, **changes: Any) -> RunReport:
    return example(run=replace(example().run, started=started, **changes))


def test_the_run_before_is_the_newest_earlier_one_of_the_same_experiment_beside_it(tmp_path: Path) -> None:
    now = at("2026-11-23T12:00:00+00:00")
    for name, report in {
        "old": at("2026-11-20T12:00:00+00:00"),
        "before": at("2026-11-23T13:30:00+02:00"),  # half an hour before, in another zone
        "later": at("2026-11-23T12:30:00+00:00"),
        "other": at("2026-11-23T11:59:00+00:00", experiment="digits"),
        "elsewhere": at("2026-11-23T11:59:00+00:00", runtime="deployment"),
    }.items():
        write_report(report, tmp_path / name, html=False)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "report.json").write_text("{")
    found = previous_of(now, tmp_path / "now")
    assert found is not None
    assert found.run.started == "2026-11-23T13:30:00+02:00"
    assert previous_of(at("2026-11-01T00:00:00+00:00"), tmp_path / "now") is None
    os.truncate(tmp_path / "before" / "report.json", 2**24)
    assert previous_of(now, tmp_path / "now").run.started == "2026-11-20T12:00:00+00:00"  # type: ignore[union-attr]


def test_a_comparison_names_what_was_set_otherwise_and_whether_it_may_be_chance() -> None:
    before = example(
        config=replace(example().config, resolved={"privacy": {"epsilon": 8.0}, "tags": ["a", None]}),
        results=replace(example().results, accuracy=0.859, epsilon_max=7.9),
        clients=(client("hospital-1", epsilon=7.9, budget_epsilon=10.0),),
    )
    shown = Page(page.render(example(), json_sha256="00" * 32, previous=before)).text
    assert "Set otherwise: privacy.epsilon." in shown
    assert "may be chance" in shown
    assert "7.90" in shown
    far = replace(before, results=replace(before.results, accuracy=0.5))
    assert "may be chance" not in Page(page.render(example(), json_sha256="00" * 32, previous=far)).text
    assert "run before" not in Page(render(example())).text.replace("the run before has its own", "")


def test_the_terminal_shows_names_too() -> None:
    assert "Clinic North" in printed(named("Clinic North", None, None))
