"""Configuration: composed by Hydra or built from plain values, validated once, refused with the key's path."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import pytest

from aegis_flower import data as datasets
from aegis_flower import server
from aegis_flower.configs import (
    ROBUST,
    Config,
    DataConfig,
    ModelConfig,
    PolicyConfig,
    PrivacyConfig,
    RuntimeConfig,
    compose,
    from_dict,
    from_run_config,
    overrides_from_run_config,
    parse_loss,
)
from aegis_flower.configs.check import KEYS
from aegis_flower.configs.rules import RULES
from aegis_flower.errors import ConfigError

TREE = files("aegis_flower") / "configs"
EXPERIMENTS = sorted(f.name.removesuffix(".yaml") for f in (TREE / "experiment").iterdir() if f.name.endswith(".yaml"))
GROUPS = sorted(
    (group.name, file.name.removesuffix(".yaml"))
    for group in TREE.iterdir()
    if group.is_dir() and group.name not in ("experiment", "features", "__pycache__")  # features has plans
    for file in group.iterdir()
    if file.name.endswith(".yaml")
)
# What a group's file needs beside it to be possible at all.
COMPANIONS = {
    ("privacy", "off"): ["policy.require_dp=false"],
    ("secagg", "clear"): ["policy.require_secure_aggregation=false"],
    ("model", "cnn"): ["data=fashion_mnist"],
    ("data", "table"): ["data.features=breast_cancer"],
    **{("strategy", rule): ["data.clients=40"] for rule in ROBUST},
}


def nested(path: str, value: Any) -> dict[str, Any]:
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


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


# -- run config and losses ----------------------------------------------------------------------------------------------


def test_overrides_of_a_run_config_keep_their_quotes_and_spaces() -> None:
    wanted = ["vault.root=/srv/my vaults", "policy.columns=[a,b]", "name='it''s'", "privacy.epsilon=3"]
    name, found = overrides_from_run_config({"aegis-experiment": "digits", "aegis-overrides": shlex.join(wanted)})
    assert name == "digits"
    assert found == wanted
    assert overrides_from_run_config({}) == (None, [])
    assert overrides_from_run_config({"aegis-experiment": "", "aegis-overrides": ""}) == (None, [])


def test_a_quoted_override_reaches_the_config() -> None:
    name, found = overrides_from_run_config({"aegis-overrides": """'vault.root="/srv/my vaults"' data.clients=4"""})
    cfg = compose(name, found)
    assert cfg.vault.root == "/srv/my vaults"
    assert cfg.data.clients == 4


def test_an_open_quote_in_a_run_config_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="aegis-overrides"):
        overrides_from_run_config({"aegis-overrides": "name='half"})


@pytest.mark.parametrize(
    "override",
    [
        'policy.purpose="cancer research"',
        "policy.granted_purposes=[research,'a, b']",
        "name='Übung'",
        "vault.root='/srv/my vaults'",
        """policy.purpose='a "quoted" one'""",
    ],
)
def test_what_submit_writes_comes_through_flowers_own_parser_as_it_was(override: str) -> None:
    from flwr.common.config import parse_config_args

    from aegis_flower.simulations.submit import run_config

    cfg = compose("digits", [override, "data.clients=4"])
    carried = run_config(cfg, ["experiment=digits", override], Path("/tmp/out put"))
    text = " ".join(f'{key}="{value}"' for key, value in carried.items())
    found, overrides, output = from_run_config(parse_config_args([text]))
    assert found == cfg
    assert overrides == ["experiment=digits", override]
    assert output == "/tmp/out put"


def test_a_runtime_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from aegis_flower.simulations import submit

    monkeypatch.setattr(submit.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'aegis-flower\[ray\]'"):
        submit.submit(compose("quickstart", ["runtime=ray"]), tmp_path / "out", [])
    assert not (tmp_path / "out").exists()


def test_flowers_helpers_are_those_of_this_environment_and_paths_do_not_depend_on_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from aegis_flower.simulations import submit
    from aegis_flower.simulations.flower import deployment

    monkeypatch.chdir(tmp_path)
    started: list[Any] = []
    done = SimpleNamespace(returncode=0, ok=True, log="")

    def run(command: list[str], **options: Any) -> Any:
        started.append((command, options["env"]))
        (tmp_path / "out" / "report.json").write_text("{}")
        return done

    monkeypatch.setattr(submit.subprocess, "run", run)
    submit.submit(compose("quickstart", ["runtime=deployment"]), Path("out"), [])
    ((command, environment),) = started
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert Path(command[0]).parent == Path(sys.executable).parent

    carried: list[Any] = []
    monkeypatch.setattr(deployment, "ray_run", lambda app, given, *more, **options: carried.append(given) or done)
    cfg = compose("quickstart", ["runtime=ray", "vault.root=./v", "data.clients=3"])
    submit.submit(cfg, Path("out"), [])
    found, _, output = from_run_config(carried[0])
    assert (found.vault.root, output) == (str(tmp_path / "v"), str(tmp_path / "out"))
    assert (tmp_path / "v" / "hospital-1").is_dir()


@pytest.mark.parametrize("carried", ["x", "!!", "eyJhIjoxfQ", "bnVsbA", "W10", "a" * 10_000])
def test_a_carried_configuration_that_is_none_is_refused(carried: str) -> None:
    with pytest.raises(ConfigError, match="aegis-config"):
        from_run_config({"aegis-config": carried})


# -- every key, every kind of wrong value -----------------------------------------------------------------------------


def leaves(part: Any, prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, kind in get_type_hints(type(part)).items():
        value = getattr(part, name)
        if dataclasses.is_dataclass(value):
            found += leaves(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", kind))
    return found


LEAVES = leaves(Config())
BOUNDS = {path: each.within for path, each in KEYS.items() if each.within}


def is_number(kind: Any) -> bool:
    return kind in (int, float) or any(is_number(inner) for inner in get_args(kind))


NUMBERS = sorted(path for path, kind in LEAVES if is_number(kind))
EXTREMES: list[Any] = [
    None, True, "", "x", "a/b", "\0", "\x1b[31m", "\ud800", [], {}, [None], [[1]], ["", ""], -1, 0, 1, -(2**63), 2**63, 10**400,
    1e-300,
    1e300, -1e300, float("nan"), float("inf"), -float("inf"), 0.5, -0.0, b"x", object(), "9" * 10_000, [1e300], [float("nan")],
]  # fmt: skip


def test_every_number_has_its_bounds_and_every_bound_a_number() -> None:
    assert sorted(BOUNDS) == NUMBERS


@pytest.mark.parametrize("path", [path for path, _ in LEAVES])
def test_no_value_of_any_key_is_anything_but_taken_or_refused_with_a_path(path: str) -> None:
    """A refusal may name another key where two contradict each other; it is never another exception."""
    for value in EXTREMES:
        refused = None
        try:
            cfg = from_dict(nested(path, value))
        except ConfigError as error:
            refused = error
        assert refused.path if refused is not None else len(cfg.sha256) == 64, value


@pytest.mark.parametrize("path", NUMBERS)
def test_a_number_outside_its_bounds_is_refused_and_both_ends_are_as_said(path: str) -> None:
    bounds = BOUNDS[path]
    many = path in ("model.hidden", "secagg.sparse")
    for value in (bounds.low - 1, bounds.high * 2 + 1, -1e300 if isinstance(bounds.low, float) else -(10**30)):
        wrong = [value, value] if many else value
        with pytest.raises(ConfigError) as error:
            from_dict(nested(path, wrong))
        assert error.value.path == path
    assert bounds.holds(bounds.low) is not bounds.open_low
    assert bounds.holds(bounds.high) is not bounds.open_high
    assert not bounds.holds(float("nan"))


@pytest.mark.parametrize("path", [path for path, _ in LEAVES])
def test_no_override_of_any_key_is_anything_but_taken_or_refused(path: str) -> None:
    for text in ("", "null", "true", "-1", "1e400", "nan", "[", "{a: 1}", "${nothing}", "'", "ü", "9" * 400):
        try:
            compose(None, [f"{path}={text}"])
        except ConfigError:
            continue


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "/etc", "x" * 300, "a\nb"])
def test_a_name_that_cannot_name_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_dict({"name": name})
    assert error.value.path == "name"


def test_a_holdout_that_leaves_no_row_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    from aegis_flower.simulations.provision import provision

    root = tmp_path / "vaults"
    with pytest.raises(ConfigError) as error:
        provision(compose("quickstart", ["data.holdout=0.001"]), root)
    assert error.value.path == "data.holdout"
    assert not [each for each in root.iterdir() if each.name != ".lock"]


def test_a_name_that_no_registry_has_is_refused_and_never_another_thing() -> None:
    with pytest.raises(ConfigError, match="mnist"):
        datasets.spec("mnist")
    with pytest.raises(ConfigError, match="mnist"):
        datasets.load(DataConfig(name="mnist"))
    with pytest.raises(ConfigError):
        server.inner_strategy(SimpleNamespace(strategy=SimpleNamespace(name="nothing")))  # type: ignore[arg-type]


def test_every_strategy_of_the_registry_is_made_of_its_own_class_and_every_group_file_is_one() -> None:
    files_ = {name for group, name in GROUPS if group == "strategy"}
    assert files_ == set(RULES)
    for name, known in RULES.items():
        made = server.inner_strategy(compose(None, [f"strategy={name}", "data.clients=40"]))
        assert type(made).__name__ == known.cls


def test_help_names_every_choice_of_every_group() -> None:
    from aegis_flower.cli.run import run_help

    text = run_help()
    for group, name in [*GROUPS, *(("experiment", each) for each in EXPERIMENTS)]:
        part = next(p for p in text.replace("\n", " ").split("·") if f"{group} (" in p)
        assert name in part, (group, name)
    assert "data.features (breast_cancer)" in text.replace("\n", " ")


def test_a_loss_is_node_round_and_step() -> None:
    assert parse_loss("2@7:masked") == (2, 7, "masked")


@pytest.mark.parametrize("text", ["", "2@7", "2:7@masked", "x@7:masked", "2@7:sometime", "-1@7:masked", "2@7:masked "])
def test_what_is_no_loss_is_refused_with_the_steps_there_are(text: str) -> None:
    with pytest.raises(ConfigError, match="unmask") as error:
        parse_loss(text)
    assert error.value.path == "runtime.lose"
    with pytest.raises(ConfigError):
        Config(runtime=RuntimeConfig(lose=[text]))


def test_policy_defaults_require_every_protection() -> None:
    assert PolicyConfig().require_dp
    assert PolicyConfig().require_secure_aggregation
