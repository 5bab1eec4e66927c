"""What the page and the terminal show of a report: every number with its guarantee, every loss, nothing made up."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_examples import HOSPITALS, SCHEMA, Page, client, deployment, example, hostile, printed, render
from rich.console import Console

from aegis_flower.report import (
    AuditReport,
    LostClient,
    Refusal,
    ResultsReport,
    RunReport,
    SecAggReport,
    print_report,
    words,
    write_report,
)


def test_what_a_server_cannot_know_is_shown_as_not_known_and_never_as_no_or_zero() -> None:
    html, text = render(deployment()), printed(deployment())
    assert "not verified" not in html.lower() + text.lower()
    assert "No row was denied" not in html
    assert "NOT VERIFIED" not in text
    assert "to be verified at the nodes" in html
    assert "≤ 2.88" in text
    rows = next(line for line in text.splitlines() if "rows denied" in line)
    assert "not known" in rows


def test_a_refusal_is_told_once_with_its_code_wherever_losses_are_told() -> None:
    lost = LostClient(node="hospital-1", step="masked", reason="no budget left", code="AEG-B001")
    first = replace(example().rounds[0], participants=HOSPITALS[1:], lost=(lost,))
    refusal = Refusal(round=1, code="AEG-B001", reason="no budget left")
    report = example(
        rounds=(first,),
        clients=(client("hospital-1", rounds_taken_part=0, refusals=(refusal,)), *example().clients[1:4]),
    )
    assert printed(report).count("no budget left") == 1
    assert "AEG-B001" in printed(report)
    # in the table, and in the title of its cell, on a wide page and on a phone
    assert Page(render(report)).text.count("no budget left") == 3


def test_run_and_total_record_and_person_stand_beside_each_other() -> None:
    clients = tuple(
        client(node, source="ledger", epsilon_total=5.49, epsilon_person=6.7, epsilon_total_person=11.0,
               rows_per_person=2, budget_epsilon=10.0)
        for node in HOSPITALS
    )  # fmt: skip
    results = replace(example().results, epsilon_total_max=5.49, epsilon_person_max=6.7, accuracy_sd=0.04)
    report = example(clients=clients, results=results)
    for shown in (printed(report), Page(render(report)).text):
        for number in ("2.88", "5.49", "6.70", "of 10", "± 4.0 %"):
            assert number in shown, number


def test_a_run_that_measured_its_last_model_alone_shows_no_curve_through_one_point() -> None:
    rounds = tuple(replace(each, accuracy=None, loss=None) for each in example().rounds[:-1])
    html = render(example(rounds=(*rounds, example().rounds[-1])))
    assert "Accuracy by round" not in html
    assert "majority class" in html


def test_warnings_stand_above_the_numbers() -> None:
    report = example(run=replace(example().run, warnings=("hospital-1: the ledger holds 20 steps",)))
    assert "the ledger holds 20 steps" in Page(render(report)).text
    assert printed(report).index("the ledger holds 20 steps") < printed(report).index("accuracy")


def test_html_is_deterministic(tmp_path: Path) -> None:
    first, second = write_report(example(), tmp_path / "a"), write_report(example(), tmp_path / "b")
    assert first.html.read_bytes() == second.html.read_bytes()
    assert first.json.read_bytes() == second.json.read_bytes()


@pytest.mark.parametrize("report", [example(), hostile()])
def test_html_refers_to_nothing_outside(report: RunReport) -> None:
    html = render(report)
    parsed = Page(html)
    assert not parsed.tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "use", "image"}
    names = {name for name, _ in parsed.attributes}
    targets = {value for name, value in parsed.attributes if name == "href"}
    assert targets == ({"#epsilon", "model.npz"} if report == example() else {"#epsilon"})
    assert not names & {"src", "srcset", "style", "action", "data", "xlink:href"}
    assert not [name for name in names if name.startswith("on")]
    for forbidden in ("http:", "https:", "src=", "url(", "@import", "file:"):
        assert forbidden not in html
    assert "default-src 'none'" in html


@pytest.mark.parametrize("html", [render(hostile()), render(hostile()).lower()])
def test_hostile_text_is_shown_not_obeyed(html: str) -> None:
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;" in html
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)


def test_policy_admits_exactly_this_style_sheet() -> None:
    html = render(example())
    style = re.search(r"<style>(.*)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in html


def test_html_names_the_json_it_stands_for(tmp_path: Path) -> None:
    paths = write_report(example(), tmp_path)
    assert hashlib.sha256(paths.json.read_bytes()).hexdigest() in paths.html.read_text()


def test_headline() -> None:
    text = Page(render(example())).text
    assert "86.1 %" in text
    assert "without DP 88.9 %" in text
    assert "majority class 23.4 %" in text
    assert "ε 2.88 of 3" in text  # rounded up
    assert "2 250" in text  # rows denied: 5 times 450
    assert "Audit logs verified yes 5 of 5" in text


def test_lost_client_is_visible_with_step_and_reason() -> None:
    html = render(example())
    assert 'class="lost"' in html
    assert "round 8: hospital-3 lost at unmask, its update is not in the sum: no answer within 120 s" in html
    assert "1 client lost on the way" in html
    assert "lost hospital-3 at unmask: no answer within 120 s" in printed(example())


def test_client_lost_after_its_update_arrived_counts_as_in_the_sum() -> None:
    last = example().rounds[7]
    html = render(example(rounds=(replace(last, participants=HOSPITALS),)))
    assert "hospital-3 lost at unmask, its update is in the sum" in html


def test_refusal_is_visible() -> None:
    for text in (render(example()), printed(example())):
        assert "AEG-P004" in text
        assert "the cohort is too small" in text


def test_unverified_log_is_not_called_verified() -> None:
    bad = client("hospital-1", audit=AuditReport(records=1, head="ab", verified=False))
    report = example(clients=(bad, client("hospital-2", audit=None)))
    text = Page(render(report)).text
    assert "Audit logs verified no 0 of 2" in text
    assert "not verified: hospital-1, hospital-2" in text
    assert "NOT VERIFIED" in printed(report)


def test_over_budget_is_said_even_of_a_client_with_less_epsilon() -> None:
    report = example(clients=(client("big"), client("small", epsilon=2.5, budget_epsilon=2.0)))
    assert "over budget: small" in render(report)
    assert "OVER BUDGET: small" in printed(report)


def test_not_private_is_said_first() -> None:
    report = example(run=replace(example().run, private=False, labels=("NOT PRIVATE", "test noise")))
    html = render(report)
    assert html.index("NOT PRIVATE: ") < html.index('class="tiles"')
    assert "everything this run released" in html
    assert "NOT PRIVATE" in printed(report)


def test_missing_numbers_are_not_made_up() -> None:
    report = example(clients=(), rounds=(), results=ResultsReport(), secagg=SecAggReport(enabled=False))
    text = Page(render(report)).text
    assert "Accuracy not known" in text
    assert "no ε" in text
    assert "the server could read it" in text
    assert "none stated" in printed(report)


def test_epsilon_never_stands_alone_in_a_terminal() -> None:
    text = printed(example())
    for number in re.finditer(r"2\.88", text):
        near = text[max(0, number.start() - 900) : number.end() + 900]
        for word in ("unit record", "δ = 1e-5", "neighbouring add or remove one", "PLD accountant"):
            assert word in near


def test_what_an_epsilon_is_of_is_said_once_on_a_page_and_each_part_with_one_leads_there() -> None:
    html = render(example())
    for word in ("unit record", "neighbouring add or remove one", "PLD accountant"):
        assert html.count(word) == 1
    parts = re.split(r'<(?:section class="card|div class="tile"|div id="epsilon")', html)[1:]
    with_epsilon = [each for each in parts if "2.88" in each]
    assert len(with_epsilon) >= 6
    for each in with_epsilon:
        assert 'href="#epsilon"' in each or "PLD accountant" in each, each[:300]
    assert html.count('id="epsilon"') == 1


def test_clients_with_other_guarantees_are_told_apart() -> None:
    lines = words.guarantee_lines([client("a"), client("b", delta=1e-6), client("c", epsilon=None)])
    assert [line.replace(words.THIN, " ") for line in lines] == [
        "ε: unit record · δ = 1e-5 · neighbouring add or remove one · PLD accountant (a)",
        "ε: unit record · δ = 1e-6 · neighbouring add or remove one · PLD accountant (b)",
        "no ε stated by c",
    ]


def test_words() -> None:
    text = Page(render(example())).text.lower()
    assert "evidence for" in text
    assert "complian" not in text + json.dumps(SCHEMA).lower()


def test_terminal_shows_hostile_text_as_text() -> None:
    text = printed(hostile())
    assert "\x1b[31m" not in text
    assert "\x00" not in text
    assert "\u202e" not in text
    assert "[red]" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_name_of_a_client_is_cut_in_a_terminal(width: int) -> None:
    node = "node-6101958825135798762"
    out = io.StringIO()
    report = example(clients=(*(client(name) for name in HOSPITALS), client(node)))
    print_report(report, Console(file=out, width=width, force_terminal=True, color_system=None))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    start = next(i for i, line in enumerate(lines) if line.startswith(" client "))
    column = lines[start].index("run") - (2 if "ε run" in lines[start] else 0)
    names = "".join(line[:column].strip() for line in lines[start + 2 : lines.index("", start)])
    assert names == "".join(HOSPITALS) + node
    assert "…" not in out.getvalue()


def test_the_loss_stands_where_a_number_is_predicted() -> None:
    results = replace(example().results, accuracy=None, loss=0.25)
    assert words.headline(example(results=results))[0] == ("loss", "0.25", f"10{words.THIN}000 test rows")


def test_many_clients_and_rounds_stay_a_page(tmp_path: Path) -> None:
    nodes = tuple(f"node-{number:03}" for number in range(200))
    lost = (LostClient(node=nodes[-1], step="masked", reason="late"),)
    rounds = tuple(
        replace(example().rounds[0], round=number, participants=nodes[:-1], lost=lost) for number in range(1, 101)
    )
    report = example(rounds=rounds, clients=tuple(client(node) for node in nodes))
    html = render(report)
    assert len(html) < 700_000
    assert "round 100: node-199 lost at masked" in html
    assert "140 more clients" in html
