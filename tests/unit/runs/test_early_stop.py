"""Early stopping counts measured models without a gain, by the metric's own direction, and says what noise does to it."""

from __future__ import annotations

import pytest

from aegis_flower.configs import EarlyStopConfig, compose
from aegis_flower.early_stop import EarlyStop
from aegis_flower.strategies import RoundRecord


def fed(rule: EarlyStopConfig, values: list[float]) -> int | None:
    """The round after which a public metric of these values, from the start model on, ends the run."""
    assert rule.metric is not None
    early = EarlyStop(rule, rule.metric)
    for round_, value in enumerate(values):
        if early.public(round_, {"m": value, "loss": value}):
            return round_
    return None


@pytest.mark.parametrize(
    ("rule", "values", "after"),
    [
        (EarlyStopConfig("public/m", 2), [0.1, 0.5, 0.5, 0.4], 3),
        (EarlyStopConfig("public/m", 2), [0.1, 0.5, 0.4, 0.6, 0.6, 0.7], None),
        (EarlyStopConfig("public/m", 2, 0.2), [0.1, 0.2, 0.3], 2),
        (EarlyStopConfig("public/m", 2, 0.2), [0.1, 0.2, 0.31, 0.4], None),
        (EarlyStopConfig("public/loss", 2), [3.0, 2.0, 2.5, 2.1], 3),
        (EarlyStopConfig("public/loss", 2, direction="maximize"), [3.0, 2.0, 1.0], 2),
        (EarlyStopConfig("public/m", 1, direction="minimize"), [3.0, 2.0, 1.0], None),
        (EarlyStopConfig("public/nothing", 1), [1.0, 1.0, 1.0], None),
    ],
)
def test_a_run_ends_after_so_many_models_without_a_gain(
    rule: EarlyStopConfig, values: list[float], after: int | None
) -> None:
    assert fed(rule, values) == after


def measured(round_: int, correct: int) -> RoundRecord:
    return RoundRecord(
        round_, participants=[1, 2, 3], metrics={"examples": 100, "correct": correct, "loss_milli": 50_000}
    )


def test_counts_of_a_round_are_of_the_model_that_was_sent() -> None:
    early = EarlyStop(EarlyStopConfig("accuracy", 1), "accuracy")
    assert early.record(measured(1, 50)) == ""
    assert early.record(RoundRecord(2)) == "", "a round without counts says nothing"
    told = early.record(measured(3, 40))
    assert "accuracy was 0.4 after round 2" in told
    assert "0.5 of round 0" in told


def test_a_gain_below_the_noise_is_told() -> None:
    cfg = compose("quickstart", ["evaluation.rounds=every", "strategy.early_stop.metric=accuracy"])
    early = EarlyStop.of(cfg)
    assert early is not None
    assert early.noise > 0
    early.record(measured(1, 50))
    assert "partly chance" in early.doubt
    wide = EarlyStop.of(
        compose("quickstart", ["evaluation.rounds=every", "strategy.early_stop={metric: accuracy, min_delta: 5}"])
    )
    assert wide is not None
    wide.record(measured(1, 50))
    assert wide.doubt == ""
    assert EarlyStop.of(compose("quickstart")) is None
