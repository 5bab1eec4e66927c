"""What a sweep will cost, before it starts; which trial is best; which start of a trial counts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from report_examples import example

from aegis_flower.configs import SweepConfig
from aegis_flower.errors import ConfigError
from aegis_flower.report.model import RunReport
from aegis_flower.report.write import write_report
from aegis_flower.sweep import objective, plan, trials
from aegis_flower.sweep.resume import earlier
from aegis_flower.sweep.trials import Note

OPTUNA = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=5", "experiment=quickstart"]


def test_the_trials_of_a_plain_sweep_are_composed_each() -> None:
    found = plan.configurations(["-m", "experiment=quickstart", "privacy.epsilon=1,3", "hydra.sweep.dir=x"])
    assert [cfg.privacy.epsilon for cfg in found] == [1, 3]


def test_the_cost_of_optuna_is_that_of_the_dearest_values_as_often_as_there_are_trials() -> None:
    found = plan.configurations([*OPTUNA, "privacy.epsilon=interval(1,4)", "model.learning_rate=choice(0.1,1)"])
    assert [cfg.privacy.epsilon for cfg in found] == [4.0] * 5
    found = plan.configurations([*OPTUNA, "privacy.noise_multiplier=interval(1,5)", "strategy.rounds=range(2,9)"])
    assert {(cfg.privacy.noise_multiplier, cfg.strategy.rounds) for cfg in found} == {(1.0, 8)}


@pytest.mark.parametrize(
    "arguments",
    [["-m", "hydra/sweeper=other", "seed=1,2"], [*OPTUNA, "hydra.sweeper.params.x=1"], ["-m", "seed=range(100)"]],
)
def test_what_cannot_be_told_beforehand_is_not_guessed(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match="trials"):
        plan.configurations(arguments)


def test_optuna_gets_direction_seed_and_one_trial_at_a_time_unless_the_user_says_otherwise() -> None:
    given = plan.for_optuna([*OPTUNA, "seed=7", "model.learning_rate=interval(0.1,1)"])
    assert given[-3:] == ["hydra.sweeper.direction=maximize", "hydra.sweeper.n_jobs=1", "hydra.sweeper.sampler.seed=7"]
    given = plan.for_optuna([*OPTUNA, "hydra.sweeper.n_jobs=2", "hydra/sweeper/sampler=grid", "seed=1,2"])
    assert given[-1] == "hydra.sweeper.direction=maximize"
    with pytest.raises(ConfigError, match="leave it out"):
        plan.for_optuna([*OPTUNA, "hydra.sweeper.direction=minimize"])
    plain = ["experiment=quickstart", "seed=1"]
    assert plan.for_optuna(plain) == plain


def test_a_plan_is_read_back_and_nothing_else_is_one(tmp_path: Path) -> None:
    made = plan.begin(["-m", "name=a b"], resumed=False)
    made.write(tmp_path)
    assert plan.read(tmp_path) == made
    assert made.command == "aegis run -m 'name=a b'"
    for text in ("", "[]", '{"arguments": 3}'):
        (tmp_path / plan.FILE).write_text(text)
        assert plan.read(tmp_path) is None


def report(value: float | None, sweep: dict[str, str], **changes: object) -> RunReport:
    base = example()
    results = replace(base.results, accuracy=value, loss=value, public_metrics={} if value is None else {"f1": value})
    return replace(base, results=results, config=replace(base.config, resolved={"sweep": sweep}), **changes)


@pytest.mark.parametrize(
    ("sweep", "place"),
    [
        ({"objective": "accuracy", "direction": "maximize"}, 2),
        ({"objective": "loss", "direction": "minimize"}, 1),
        ({"objective": "public/f1", "direction": "maximize"}, 2),
        ({"objective": "public/none", "direction": "maximize"}, None),
        ({}, None),
    ],
)
def test_the_best_trial_is_by_the_objective_in_its_direction(sweep: dict[str, str], place: int | None) -> None:
    failed = report(0.99, sweep)
    failed = replace(failed, run=replace(failed.run, status="failed"))
    found = objective.best(
        [report(0.5, sweep), report(0.2, sweep), report(0.9, sweep), report(None, sweep), failed, None]
    )
    assert (found[0] if found else None) == place


def test_trials_of_different_objectives_and_a_single_one_have_no_best() -> None:
    one, other = ({"objective": name, "direction": "minimize"} for name in ("loss", "accuracy"))
    assert objective.best([report(0.5, one), report(0.2, other)]) is None
    assert objective.best([report(0.5, one)]) is None


def test_nothing_is_worse_than_a_trial_without_a_value() -> None:
    assert objective.worst(SweepConfig()) == 0.0
    assert objective.worst(SweepConfig("loss", "minimize")) == math.inf
    assert objective.worst(SweepConfig("public/f1")) == -math.inf


def test_of_a_trial_that_was_started_again_the_start_that_finished_counts(tmp_path: Path) -> None:
    def note(folder: str, number: int, status: str) -> None:
        (tmp_path / folder).mkdir()
        Note(number, [f"seed={number}"], str(tmp_path / folder), status).write(tmp_path / folder)

    for folder, number, status in (
        ("0", 0, "finished"), ("0-2", 0, "failed"), ("1", 1, "started"), ("1-2", 1, "failed"), ("1-10", 1, "interrupted"),
    ):  # fmt: skip
        note(folder, number, status)
    shown = [Path(each.folder).name for each, _ in trials.newest(trials.read(tmp_path))]
    assert shown == ["0", "1-10"]
    write_report(example(), tmp_path / "0", html=False)
    plan.begin([], resumed=False).write(tmp_path)
    assert earlier(tmp_path, 0, ["seed=0"]).report is None, "a sweep that begins has nothing"
    plan.begin([], resumed=True).write(tmp_path)
    assert earlier(tmp_path, 0, ["seed=0"]).report is not None
    assert earlier(tmp_path, 0, ["seed=9"]).report is None, "another trial of that number"
    assert earlier(tmp_path, 1, ["seed=1"]) == earlier(tmp_path, 5, [])
