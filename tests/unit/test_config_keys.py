"""Every key of the configuration with every kind of wrong value, and every name that a registry has."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import pytest
from config_groups import EXPERIMENTS, GROUPS, nested

from aegis_flower import data as datasets
from aegis_flower import server
from aegis_flower.configs import Config, DataConfig, compose, from_dict
from aegis_flower.configs.check import KEYS
from aegis_flower.configs.rules import RULES
from aegis_flower.errors import ConfigError


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
