"""What contradicts itself in how a run goes is refused by its key, before anything is made."""

from __future__ import annotations

import pytest

from aegis_flower.client.round_config import KNOWN
from aegis_flower.configs import compose
from aegis_flower.configs.training import RESERVED, falls
from aegis_flower.errors import ConfigError
from aegis_flower.server import inner_strategy

OFF = ["privacy.mode=off", "policy.require_dp=false"]


@pytest.mark.parametrize(
    ("overrides", "key", "told"),
    [
        (["model.schedule.warmup=12"], "model.schedule.warmup", "12 rounds are no warm-up of a run of 12"),
        (["strategy.server_schedule.kind=cosine"], "strategy.server_schedule", "fedavg has no learning rate"),
        (["strategy.early_stop.metric=accuracy"], "strategy.early_stop.metric", "set evaluation.rounds=every"),
        (["strategy.early_stop.metric=public/accuracy"], "strategy.early_stop.metric", "set evaluation.server"),
        (["strategy.early_stop.metric=' '"], "strategy.early_stop.metric", "must name a metric"),
        (["strategy.fraction_train=0.4"], "strategy.fraction_train", "0.4 of 5 clients are 2, fewer than the 3"),
        (["strategy.fraction_train=0.8", "secagg.shard_size=3"], "strategy.fraction_train", "groups of clients stay"),
        (
            ["strategy.fraction_train=0.5", "strategy=median", "data.clients=40"],
            "strategy.fraction_train",
            "strategy=median",
        ),
        (["strategy.fraction_train=0.8", "secagg.weighting=rows"], "strategy.fraction_train", "each node's number of"),
        ([*OFF, "strategy.fraction_train=0.8"], "strategy.fraction_train", "take evaluation.rounds=last"),
        (["+strategy.train_config.round=1"], "strategy.train_config", "set by AEGIS itself"),
        (["+strategy.train_config.x=null"], "strategy.train_config", "must be a number, a text"),
        (["+strategy.train_config.x=[1,a]"], "strategy.train_config", "must be a number, a text"),
        (["+strategy.train_config.x={y:1}"], "strategy.train_config", "must be a number, a text"),
        (
            ["+strategy.train_config.lr=0.1", "model.schedule.kind=step"],
            "strategy.train_config",
            "model.schedule would change nothing",
        ),
        (["evaluation.server=nothing"], "evaluation.server", "names no code"),
        (["tracking.to=[tensorbord]"], "tracking.to", "did you mean 'tensorboard'"),
        (["tracking.to=[csv,csv]"], "tracking.to", "twice"),
        (["sweep.objective=auc"], "sweep.objective", "not one of accuracy, loss"),
        (["sweep.objective=loss"], "sweep.direction", "set sweep.direction=minimize"),
        (["sweep.objective=public/f1"], "sweep.objective", "set evaluation.server"),
    ],
)
def test_a_contradiction_is_refused_by_its_key(overrides: list[str], key: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace("(", r"\(")) as error:
        compose("quickstart", overrides)
    assert error.value.path == key


def test_what_agrees_is_taken_and_reaches_the_strategy() -> None:
    cfg = compose("quickstart", ["strategy.fraction_train=0.6", "+strategy.train_config={depth: 3, names: [a, b]}"])
    assert inner_strategy(cfg).fraction_train == 0.6  # type: ignore[attr-defined]
    assert cfg.strategy.train_config == {"depth": 3, "names": ["a", "b"]}
    compose("quickstart", [*OFF, "strategy.fraction_train=0.8", "evaluation.rounds=last"])
    compose("quickstart", ["strategy.early_stop.metric=loss", "evaluation.rounds=every"])


def test_names_that_strategies_use_themselves_are_the_ones_the_client_knows() -> None:
    assert RESERVED == KNOWN


def test_less_of_a_loss_or_an_error_is_better() -> None:
    assert [falls(m) for m in ("accuracy", "loss", "public/auc", "calibration-error")] == [False, True, False, True]
