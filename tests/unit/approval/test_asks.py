"""What a run asks, told without running the app; and what is not resolved because it could reach elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from bundles import FILES, PROJECT, packed

from aegis_flower.approval import read
from aegis_flower.approval.asks import asks
from aegis_flower.configs import CARRIED, EXPERIMENT, OVERRIDES, compose
from aegis_flower.configs.run_config import carry

PLAIN = PROJECT.replace('aegis-experiment = "quickstart"\n', "")
YAML = b"""# @package _global_
defaults:
  - _self_
policy:
  purpose: oncology
  columns: [age, stage]
privacy:
  epsilon: 1.5
strategy:
  rounds: 7
"""


def bundle(**files: bytes) -> Any:
    more = {name.replace("__", "/"): data for name, data in files.items()}
    return read(packed({**FILES, "pyproject.toml": PLAIN.encode(), **more}))


def project(yaml: bytes) -> Any:
    return read(
        packed(
            {
                **FILES,
                "pyproject.toml": PLAIN.encode(),
                "aegis.toml": b'experiment = "mine"\nconfig = "conf"\n',
                "conf/experiment/mine.yaml": yaml,
            }
        )
    )


def test_a_packaged_experiment_with_its_overrides() -> None:
    found = asks(read(packed(FILES)), {OVERRIDES: "policy.purpose=audit privacy.epsilon=0.5"})
    assert (found.experiment, found.purpose, found.epsilon, found.problem) == ("quickstart", "audit", 0.5, None)
    assert found.rounds == compose("quickstart").strategy.rounds


def test_what_aegis_run_carries_goes_before_what_the_app_says() -> None:
    cfg = compose("quickstart", ["policy.purpose=carried", "privacy=off", "policy.require_dp=false"])
    found = asks(read(packed(FILES)), {CARRIED: carry(cfg, [], "")})
    assert (found.purpose, found.privacy, found.epsilon) == ("carried", "off", None)


def test_an_experiment_of_the_apps_own() -> None:
    found = asks(project(YAML))
    assert (found.experiment, found.purpose, found.columns, found.epsilon, found.rounds, found.problem) == (
        "mine",
        "oncology",
        ("age", "stage"),
        1.5,
        7,
        None,
    )


def test_an_app_without_a_configuration_of_ours_says_so() -> None:
    assert "its code decides" in str(asks(bundle()).problem)


@pytest.mark.parametrize(
    "yaml",
    [
        b"hydra:\n  searchpath: [pkg://antigravity]\n",
        b"policy:\n  purpose: ${oc.env:HOME}\n",
        b"a: &a [1]\nb: *a\n",
        b"policy: {purpose: file:///etc}\n",
        b"\xff",
        b"[" * 20_000,
        b"x" * 70_000,
        b"- 1",
        b"unknown: 1",
        b"policy:\n  purpose: [1]\n",
    ],
)
def test_what_reaches_elsewhere_or_is_nonsense_is_a_problem_and_no_end(yaml: bytes) -> None:
    assert asks(project(yaml)).problem


@pytest.mark.parametrize(
    "said",
    [
        {EXPERIMENT: "no-such"},
        {EXPERIMENT: "../../../etc/passwd"},
        {OVERRIDES: "hydra.searchpath=[pkg://antigravity]"},
        {OVERRIDES: "policy.purpose=${oc.env:HOME}"},
        {OVERRIDES: "'"},
        {OVERRIDES: "x" * 100_000},
        {CARRIED: "x"},
        {CARRIED: 7},
        {CARRIED: "e30"},
    ],
    ids=str,
)
def test_a_run_config_of_a_server_is_no_end_either(said: dict[str, Any]) -> None:
    found = asks(read(packed(FILES)), said)
    assert found.problem
    assert found.lines()
