"""Configuration: composed by Hydra or built from plain values, validated once, refused with the key's path."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from config_groups import EXPERIMENTS, GROUPS, nested

from aegis_flower.configs import (
    ROBUST,
    Config,
    DataConfig,
    ModelConfig,
    PolicyConfig,
    PrivacyConfig,
    compose,
    from_dict,
)
from aegis_flower.errors import ConfigError

# What a group's file needs beside it to be possible at all.
COMPANIONS = {
    ("privacy", "off"): ["policy.require_dp=false"],
    ("secagg", "clear"): ["policy.require_secure_aggregation=false"],
    ("model", "cnn"): ["data=fashion_mnist"],
    ("data", "table"): ["data.features=breast_cancer"],
    **{("strategy", rule): ["data.clients=40"] for rule in ROBUST},
}


# -- what is refused, and how ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("privacy.epsilonn", "privacy.epsilon"),
        ("data.client", "data.clients"),
        ("startegy", "strategy"),
        ("runtime.nothing_like_it", None),
    ],
)
def test_an_unknown_key_is_refused_with_its_path_and_the_nearest_name(path: str, near: str | None) -> None:
    with pytest.raises(ConfigError) as built:
        from_dict(nested(path, 3))
    assert built.value.path == path
    assert "no such key" in str(built.value)
    if near:
        assert f"did you mean {near}?" in str(built.value)
    with pytest.raises(ConfigError) as composed:
        compose(None, [f"{path}=3"])
    assert composed.value.path == path
    assert "no such key" in str(composed.value)


@pytest.mark.parametrize(
    ("path", "value", "override"),
    [
        ("data.clients", "five", "five"),
        ("data.clients", 2.5, "2.5"),
        ("data.clients", True, "true"),
        ("data.limit", "all", "all"),
        ("privacy.epsilon", "much", "much"),
        ("privacy.epsilon", True, "true"),
        ("privacy.epsilon", None, "null"),
        ("privacy.clip", float("inf"), "inf"),
        ("strategy.max_norm", float("nan"), "nan"),
        ("model.hidden", 32, "32"),
        ("model.hidden", [1.5], "[1.5]"),
        ("policy.columns", "mean_radius", "mean_radius"),
        ("tracking.html", "maybe", "maybe"),
        ("data", 3, "3"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_its_path(path: str, value: Any, override: str) -> None:
    with pytest.raises(ConfigError) as built:
        from_dict(nested(path, value))
    assert built.value.path == path
    with pytest.raises(ConfigError) as composed:
        compose(None, [f"{path}={override}"])
    if path != "data":  # Hydra does not say which group was given a number
        assert composed.value.path.partition("[")[0] == path


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.name", "mnist"),
        ("data.clients", 0),
        ("data.alpha", 0.0),
        ("data.holdout", 1.0),
        ("data.withdrawn", 1.0),
        ("data.limit", 0),
        ("data.partition", "random"),
        ("model.kind", "transformer"),
        ("model.learning_rate", 0.0),
        ("model.momentum", 1.0),
        ("model.hidden", [0]),
        ("policy.purpose", ""),
        ("policy.basis", "curiosity"),
        ("policy.retention_days", -1),
        ("policy.min_rows", 0),
        ("policy.min_subjects", 0),
        ("policy.budget_epsilon", 0.0),
        ("policy.permit_minutes", 0.0),
        ("privacy.mode", "client"),
        ("privacy.noise", "none"),
        ("privacy.epsilon", 0.0),
        ("privacy.epsilon", 1000.0),
        ("privacy.delta", 0.5),
        ("privacy.clip", -1.0),
        ("privacy.sample_rate", 0.0),
        ("privacy.sample_rate", 1.01),
        ("privacy.steps_per_round", 0),
        ("privacy.noise_multiplier", 0.0),
        ("secagg.value_bits", 31),
        ("secagg.min_cohort", 1),
        ("secagg.weight_max", 0),
        ("secagg.weighting", "loss"),
        ("strategy.name", "krumm"),
        ("strategy.rounds", 0),
        ("strategy.max_norm", 0.0),
        ("strategy.proximal_mu", -0.1),
        ("runtime.kind", "cloud"),
        ("runtime.workers", -1),
        ("runtime.round_deadline", 0.0),
        ("runtime.join_deadline", -1.0),
    ],
)
def test_an_impossible_value_is_refused_with_its_path(path: str, value: Any) -> None:
    with pytest.raises(ConfigError) as built:
        from_dict(nested(path, value))
    assert built.value.path == path
    assert built.value.code == "AEG-C001"
    shown = '""' if value == "" else f"{value}".replace(" ", "")
    with pytest.raises(ConfigError) as composed:
        compose(None, [f"{path}={shown}"])
    assert composed.value.path == path


def test_an_mlp_without_hidden_layers_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        from_dict({"model": {"kind": "mlp", "hidden": []}})
    assert error.value.path == "model.hidden"


def test_an_unknown_experiment_or_group_file_is_refused_with_what_there_is() -> None:
    with pytest.raises(ConfigError) as error:
        compose("quikstart")
    assert error.value.path == "experiment"
    assert all(name in str(error.value) for name in EXPERIMENTS)
    with pytest.raises(ConfigError) as error:
        compose(None, ["privacy=total"])
    assert error.value.path == "privacy"
    assert "example, off" in str(error.value)


def test_a_config_built_in_python_is_held_to_the_same_rules() -> None:
    with pytest.raises(ConfigError) as error:
        Config(data=DataConfig(clients="five"))  # type: ignore[arg-type]
    assert error.value.path == "data.clients"
    with pytest.raises(ConfigError) as error:
        dataclasses.replace(Config(), model=ModelConfig(learning_rate=float("inf")))
    assert error.value.path == "model.learning_rate"


# -- contradictions between what is asked and what the data demand ----------------------------------------------------


@pytest.mark.parametrize(
    ("values", "path", "remedy"),
    [
        ({"privacy": {"mode": "off"}}, "privacy.mode", {"require_dp": False}),
        ({"privacy": {"noise": "insecure_test"}}, "privacy.noise", {"require_dp": False}),
        ({"secagg": {"enabled": False}}, "secagg.enabled", {"require_secure_aggregation": False}),
    ],
)
def test_switching_a_protection_off_that_the_policy_requires_is_refused(
    values: dict[str, Any], path: str, remedy: dict[str, bool]
) -> None:
    with pytest.raises(ConfigError) as error:
        from_dict(values)
    assert error.value.path == path
    (switch,) = remedy
    assert f"policy.{switch}=false" in str(error.value)
    from_dict({**values, "policy": remedy})  # and that is the only thing in the way


def test_fewer_clients_than_the_smallest_cohort_are_refused_but_not_in_a_deployment() -> None:
    with pytest.raises(ConfigError) as error:
        from_dict({"data": {"clients": 2}})
    assert error.value.path == "data.clients"
    from_dict({"data": {"clients": 2}, "runtime": {"kind": "deployment"}})
    from_dict({"data": {"clients": 2}, "secagg": {"min_cohort": 2}})


def test_policy_defaults_require_every_protection() -> None:
    assert PolicyConfig().require_dp
    assert PolicyConfig().require_secure_aggregation


# -- composition ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_under_its_own_name(name: str) -> None:
    assert compose(name).name == name


@pytest.mark.parametrize(("group", "name"), GROUPS)
def test_every_group_file_composes(group: str, name: str) -> None:
    compose(None, [f"{group}={name}", *COMPANIONS.get((group, name), [])])


def test_all_ten_groups_of_the_design_are_there() -> None:
    groups = {group for group, _ in GROUPS} | {"experiment"}
    assert groups == {
        "data",
        "model",
        "vault",
        "policy",
        "privacy",
        "secagg",
        "strategy",
        "runtime",
        "tracking",
        "experiment",
    }


def test_an_override_wins_over_the_experiment_and_the_experiment_over_the_groups() -> None:
    assert compose().strategy.rounds == 10
    assert compose("quickstart").strategy.rounds == 12
    assert compose("quickstart", ["strategy.rounds=2"]).strategy.rounds == 2
    assert compose("digits").data.name == "digits"
    assert compose("digits", ["data=breast_cancer"]).data.name == "breast_cancer"


def test_composing_leaves_a_running_hydra_job_alone() -> None:
    from hydra.core.global_hydra import GlobalHydra

    marker = object()
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().hydra = marker  # type: ignore[assignment]
    try:
        compose("quickstart")
        assert GlobalHydra.instance().hydra is marker
        with pytest.raises(ConfigError):
            compose("nothing")
        assert GlobalHydra.instance().hydra is marker
    finally:
        GlobalHydra.instance().hydra = before


# -- the hash -----------------------------------------------------------------------------------------------------------


def test_the_hash_does_not_depend_on_how_a_number_was_written() -> None:
    whole, point = from_dict({"privacy": {"epsilon": 3}}), from_dict({"privacy": {"epsilon": 3.0}})
    assert whole.sha256 == point.sha256 == Config(privacy=PrivacyConfig(epsilon=3)).sha256
    assert compose("quickstart", ["privacy.epsilon=3"]).sha256 == compose("quickstart", ["privacy.epsilon=3.0"]).sha256
    noise = {"noise_multiplier": 2}
    assert from_dict({"privacy": noise}).sha256 == from_dict({"privacy": {"noise_multiplier": 2.0}}).sha256


def test_the_hash_is_that_of_the_resolved_values_and_survives_a_round_trip() -> None:
    cfg = compose("digits", ["policy.columns=[pixels]"])
    assert from_dict(cfg.to_dict()) == cfg
    assert from_dict(cfg.to_dict()).sha256 == cfg.sha256
    assert len(cfg.sha256) == 64


def test_every_value_counts_in_the_hash() -> None:
    seen = {Config().sha256}
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"compare": True},
        {"privacy": {"epsilon": 3.0000001}},
        {"policy": {"columns": ["a"]}},
        {"runtime": {"lose": ["1@1:train"]}},
        {"tracking": {"html": False}},
    ]
    for change in changes:
        seen.add(from_dict(change).sha256)
    assert len(seen) == len(changes) + 1


def test_the_resolved_values_are_a_copy() -> None:
    cfg = Config(model=ModelConfig(hidden=[4]))
    cfg.to_dict()["model"]["hidden"].append(9)
    assert cfg.model.hidden == [4]
