"""Public sets that come inside packages: imported by commands alone, trained by three nodes with masks, with DP and without.

This is the short form: few rounds, in this process. ``make public-sets`` runs every command as a process of its own, to the last
round, and writes the table of docs/public-sets.md.
"""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest
from commands import BUDGET, CLIENTS, EPSILON, WITHOUT_DP, Day, in_this_process, with_keys, with_lines
from declared import SETS, both
from packaged import ALL, PackageMissing, folder_of
from public_page import START

from aegis_flower import features
from aegis_flower.report import RunReport

ROUNDS, ROUNDS_WITH_DP = 8, 2
TASKS = {"binary", "multiclass", "multilabel", "ordinal", "regression", "time-to-event"}


def masked(report: RunReport) -> bool:
    """Whether every round of the run was a masked sum of all nodes."""
    rounds = [one for one in report.rounds if one.participants]
    return report.secagg.enabled and bool(rounds) and all(len(one.participants) == CLIENTS for one in rounds)


@pytest.mark.parametrize("name", SETS)
def test_a_public_set_trains_by_commands_alone(tmp_path: Path, name: str) -> None:
    public, packaged = both(name)
    rows = packaged.rows()
    day = Day(tmp_path, public, packaged, in_this_process)
    file = day.prepared()
    schema = tomllib.loads((tmp_path / "schema.toml").read_text())
    cards = day.imported(file)
    assert sum(card["rows"] for card in cards.values()) == len(rows)
    if "each_row_a_person" not in schema:
        (subject,) = (n for n, c in schema["columns"].items() if c.get("role") == "subject")
        assert sum(card["people"] for card in cards.values()) == len(rows[subject].unique()) < len(rows)

    trivial = public.trivial(rows)
    plain = day.run(file, "plain", ROUNDS, len(rows), *WITHOUT_DP)
    assert (plain.run.status, plain.run.private) == ("finished", False)
    assert masked(plain)
    told = {m.name: m for m in plain.results.metrics}
    assert public.gain(told[public.metric].value, trivial) > public.margin

    private = day.run(file, "private", ROUNDS_WITH_DP, len(rows))
    assert (private.run.status, private.run.private) == ("finished", True)
    assert masked(private)
    for client in private.clients:
        assert 0 < (client.epsilon or 0) <= EPSILON
        assert (client.epsilon_total or 0) <= BUDGET == client.budget_epsilon
        assert (client.sampler, client.noise) == ("poisson", "secure")
        assert client.evaluation is not None
        assert 0 < (client.evaluation.epsilon or 0) <= EPSILON
        assert not client.refusals
    # What is told of held-out people has noise of a known size. Noise as large as the set leaves nothing to tell of it.
    noised = {m.name: m for m in private.results.metrics}
    assert all(m.sd for m in noised.values())
    assert "test-rows" in noised


def test_there_are_enough_of_them_and_of_every_kind() -> None:
    assert set(SETS) == set(ALL)
    assert len(SETS) >= 12
    assert len({packaged.package for packaged in ALL.values()}) >= 6
    assert {packaged.ends for packaged in ALL.values()} == {"csv", "parquet", "jsonl", ""}
    assert {public.task for public in SETS.values()} >= {
        *TASKS,
        "text",
        "lists of tokens",
        "lists of numbers",
        "images",
    }
    assert set(features.TASKS) >= TASKS
    assert all(packaged.licence and packaged.source.startswith("https://") for packaged in ALL.values())


def test_the_table_of_the_documents_has_every_set() -> None:
    table = (Path(__file__).parents[2] / "docs" / "public-sets.md").read_text().partition(START)[2]
    for name, packaged in ALL.items():
        assert f"| [{name}]({packaged.source}) | {SETS[name].task} |" in table, "make public-sets"
        assert f"| {packaged.licence} |" in table


def test_a_package_that_is_not_there_is_told_by_its_name(tmp_path: Path) -> None:
    gone = dataclasses.replace(ALL["iris"], name="tulips", package="no-such-package", module="no_such_package")
    with pytest.raises(
        PackageMissing, match=r"tulips comes with the package no-such-package.*pip install no-such-pack"
    ):
        gone.written(tmp_path)
    with pytest.raises(PackageMissing, match="the package sub, "):
        folder_of("no_such_package.inner", "sub", "tulips")


def test_a_file_that_a_package_no_longer_has_is_told_by_its_name(tmp_path: Path) -> None:
    for name, file in (("rossi", "rossi.csv"), ("gbsg2", "GBSG2.arff"), ("cars", "cars.json")):
        old = ALL[name]
        emptied = dataclasses.replace(old, module="json")  # a module without such a file
        with pytest.raises(PackageMissing, match=f"{name} comes with {old.package}, .* has no {file}"):
            emptied.written(tmp_path)


def test_edits_change_the_lines_they_name_and_no_other() -> None:
    draft = 'version = 1\n\n[source]\n\n[columns.a]\nkind = "list"\nitem = "i64"\n\n# a note of b\n[columns.b]\nkind = "text"\n'
    edited = with_keys(draft, {"a": {"kind": "number", "low": 1}, "source": {"decimal": ","}})
    assert tomllib.loads(edited) == {
        "version": 1,
        "source": {"decimal": ","},
        "columns": {"a": {"kind": "number", "low": 1}, "b": {"kind": "text"}},
    }
    assert "# a note of b\n[columns.b]" in edited
    with pytest.raises(KeyError, match="no column 'c'"):
        with_keys(draft, {"c": {}})
    plan = "version: 1\ncolumns:\n  a: {kind: boolean}\n# TODO b: declare low, high\nlabel: {task: x}\n"
    assert with_lines(plan, {"b": "{kind: number}", "label": "{task: y}"}) == (
        "version: 1\ncolumns:\n  b: {kind: number}\n  a: {kind: boolean}\nlabel: {task: y}\n"
    )
