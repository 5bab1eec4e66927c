"""The model's card says what the report says, names no node and no path, and nothing from outside breaks out of its place."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from report_examples import example

from aegis_flower import features
from aegis_flower.report import NOT_PRIVATE
from aegis_flower.report.artifacts import card
from aegis_flower.report.words import epsilon

SHAPES = {"0.weight": (2, 3), "scale": ()}
PLAN = features.parse(
    "version: 1\ncolumns:\n  age: {kind: number, low: 0, high: 120, missing: 60}\n"
    "  ward: {kind: category, levels: [" + ", ".join(f"w{i}" for i in range(30)) + "]}\n"
    "label: {task: binary, column: ill, levels: ['no', 'yes']}\n"
)


def test_the_card_has_epsilon_accuracy_inputs_and_limits():
    report = example()
    text = card.text(report, SHAPES, PLAN)
    assert "Numbers: 7, in these arrays" in text
    assert "| `0.weight` | 2 x 3 |" in text
    assert "| `age` | number | low: 0; high: 120; missing: 60 |" in text
    assert "w11, and 18 more" in text
    assert "w12" not in text
    assert f"| ε of a record, this run | {epsilon(report.results.epsilon_max)} |" in text
    assert report.config.sha256 in text
    assert PLAN.sha256 in text
    for heading in ("Model", "Data", "Privacy", "Results", "Limits", "Use"):
        assert f"\n## {heading}\n" in text


def test_no_node_and_no_path_is_named():
    report = example()
    run = replace(report.run, warnings=("hospital-9: /srv/secret/vault differs",))
    text = card.text(replace(report, run=run), SHAPES, PLAN)
    for client in report.clients:
        assert client.node not in text
    assert "/srv/secret" not in text
    assert "hospital-9" not in text
    assert "has 1 warning;" in text


def test_a_model_that_is_not_private_is_called_so_at_once():
    report = example()
    run = replace(report.run, private=False, labels=(NOT_PRIVATE,))
    assert "**NOT PRIVATE.**" in card.text(replace(report, run=run), SHAPES, None)
    assert "**NOT PRIVATE.**" not in card.text(replace(report, run=replace(run, private=True, labels=())), SHAPES, None)


def test_a_name_from_outside_stays_in_its_cell():
    report = example()
    run = replace(report.run, name="x\n# Not this | `a` <script>")
    text = card.text(replace(report, run=run), {"w|`\n|a": (1,)}, None)
    assert "\n# Not this" not in text
    assert "\u2039script>" in text
    assert "<" not in text
    assert r"| `w\|' \|a` | 1 |" in text
