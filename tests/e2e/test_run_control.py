"""A run that ends by a rule or a callback of its own, schedules on both sides, settings for clients, a public test set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aegis_flower import STOP, VaultClient, aegis_client_app, compose, run_experiment
from aegis_flower.errors import ConfigError
from aegis_flower.report import load_report

FEW = ["data.clients=3", "strategy.rounds=6"]
OFF = ["privacy.mode=off", "policy.require_dp=false"]
CLEAR = ["secagg=clear", "policy.require_secure_aggregation=false"]

pytestmark = pytest.mark.timeout(900)  # several runs, each of which loads torch


def after(last: int) -> Any:
    return lambda record: STOP if record.round == last else None


@pytest.mark.parametrize("how", [[], CLEAR, ["evaluation.rounds=every"], [*OFF, "evaluation.rounds=never"]])
def test_a_callback_that_says_stop_ends_the_run_with_its_model_measured_as_the_last(
    tmp_path: Path, how: list[str]
) -> None:
    calls: list[tuple[str, int]] = []

    def stop(record: Any) -> Any:
        calls.append((record.task, record.round))
        return after(2)(record)

    report = run_experiment(compose("quickstart", [*FEW, *how]), tmp_path / "run", on_round=stop)
    assert report.run.status == "finished"
    assert report.run.stopped == "the run ended after round 2 of 6: on_round returned STOP"
    assert [each.round for each in report.rounds] == [1, 2]
    assert report.run.stopped in (tmp_path / "run" / "report.html").read_text()
    assert load_report(tmp_path / "run") == report
    never = "evaluation.rounds=never" in how
    assert (report.results.accuracy is None) is never
    assert calls.count(("evaluate", 2)) == (0 if never else 1), "the last model is measured, and once"
    if not how:
        whole = compose("quickstart", FEW).privacy.epsilon
        assert all(0 < client.epsilon < whole / 1.5 for client in report.clients if client.epsilon is not None)


def test_a_run_whose_noised_accuracy_does_not_rise_ends_and_says_what_noise_does(tmp_path: Path) -> None:
    cfg = compose(
        "quickstart",
        [*FEW, "evaluation.rounds=every", "strategy.early_stop={metric: accuracy, patience: 2, min_delta: 0.9}"],
    )
    report = run_experiment(cfg, tmp_path / "run")
    assert report.run.stopped is not None
    assert "strategy.early_stop" in report.run.stopped
    assert len(report.rounds) == 3, "the start model, and two without a gain of 0.9"
    assert not any("partly chance" in text for text in report.run.warnings)
    assert report.results.accuracy is not None, "the last model is measured, too"


def test_a_public_test_set_is_in_the_report_costs_nothing_and_may_stop_the_run(tmp_path: Path) -> None:
    file = tmp_path / "public.py"
    file.write_text("def evaluate(arrays, round):\n    return {'accuracy': [0.5, 0.6, 0.8, 0.7, 0.7][round]}\n")
    cfg = compose(
        "quickstart",
        [*FEW, "evaluation.rounds=never", f"evaluation.server={file}", "strategy.early_stop.metric=public/accuracy",
         "strategy.early_stop.patience=2"],
    )  # fmt: skip
    report = run_experiment(cfg, tmp_path / "run")
    assert [each.public_metrics["accuracy"] for each in report.rounds] == [0.6, 0.8, 0.7, 0.7]
    assert report.results.public_metrics == {"accuracy": 0.7}
    assert report.results.accuracy is None
    assert all(client.evaluation is None for client in report.clients), "no held-out row was charged"
    page = (tmp_path / "run" / "report.html").read_text()
    assert "public test set" in page


def test_a_public_test_set_that_fails_ends_the_run_before_anything_is_charged(tmp_path: Path) -> None:
    file = tmp_path / "public.py"
    file.write_text("def evaluate(arrays, round):\n    return {'accuracy': arrays['nothing']}\n")
    with pytest.raises(ConfigError, match="KeyError"):
        run_experiment(compose("quickstart", [*FEW, f"evaluation.server={file}"]), tmp_path / "run")
    report = load_report(tmp_path / "run")
    assert report.run.status == "failed"
    assert all(not client.epsilon and not client.steps for client in report.clients)


def test_schedules_reach_the_clients_optimiser_and_the_servers(tmp_path: Path) -> None:
    rates: dict[int, set[float]] = {}
    etas: list[float] = []

    class Watched(VaultClient):
        def optimizer(self, parameters: Any) -> torch.optim.Optimizer:
            made = super().optimizer(parameters)
            rates.setdefault(self.round, set()).add(made.param_groups[0]["lr"])
            assert made.param_groups[0]["lr"] == self.learning_rate
            return made

    cfg = compose(
        "quickstart",
        [*OFF, "data.clients=3", "strategy.rounds=4", "strategy=fedadam", "model.learning_rate=1.0",
         "model.schedule={kind: step, every: 1, gamma: 0.5}", "strategy.server_schedule={kind: linear}"],
    )  # fmt: skip
    from flwr.serverapp.strategy import FedAdam

    kept = FedAdam.aggregate_train

    def noting(self: Any, *args: Any) -> Any:
        etas.append(self.eta)
        return kept(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FedAdam, "aggregate_train", noting)
        run_experiment(cfg, tmp_path / "run", client_app=aegis_client_app(Watched, config=cfg))
    assert rates == {1: {1.0}, 2: {0.5}, 3: {0.25}, 4: {0.125}}
    assert etas == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_settings_of_the_configuration_reach_a_client_that_reads_them_and_no_other(tmp_path: Path) -> None:
    seen = set()

    class Reading(VaultClient):
        def model(self) -> Any:
            seen.add(self.round_config["depth"])
            return super().model()

    cfg = compose("quickstart", ["data.clients=3", "strategy.rounds=1", "+strategy.train_config.depth=7"])
    report = run_experiment(cfg, tmp_path / "a", client_app=aegis_client_app(Reading, config=cfg))
    assert report.run.status == "finished"
    assert seen == {7}
    report = run_experiment(cfg, tmp_path / "b")
    assert report.run.status == "refused"
    assert "train_config has depth" in (report.run.reason or "")
    assert all(not client.epsilon for client in report.clients), "refused before anything is charged"


def test_two_parts_of_a_run_on_a_schedule_come_to_what_one_piece_does(tmp_path: Path) -> None:
    from aegis_flower import checkpoint

    still = [*OFF, "privacy.sample_rate=1.0", "evaluation.rounds=never", "data.clients=3", "strategy.rounds=4"]
    cfg = compose("quickstart", [*still, "model.schedule.kind=cosine"])
    run_experiment(cfg, tmp_path / "whole")

    def halt(record: Any) -> None:
        if record.round == 2:
            raise KeyError

    with pytest.raises(KeyError):
        run_experiment(cfg, tmp_path / "first", on_round=halt)
    run_experiment(checkpoint.resumed(tmp_path / "first"), tmp_path / "second")
    with np.load(tmp_path / "whole" / "model.npz") as whole, np.load(tmp_path / "second" / "model.npz") as second:
        for name in whole.files:
            np.testing.assert_allclose(second[name], whole[name], atol=1e-4)
