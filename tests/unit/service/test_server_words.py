"""A run's configuration is the server's word: it sets keys of an experiment, and makes a node import or read nothing else."""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

import pytest

from aegis_flower.configs import CARRIED, EXPERIMENT, OVERRIDES, compose
from aegis_flower.configs.run_config import carry
from aegis_flower.errors import ConfigError
from aegis_flower.service import answers


def run(**given: str) -> Any:
    return answers._run(answers._frozen({key: given.get(key, "") for key in (CARRIED, EXPERIMENT, OVERRIDES)}))


@pytest.mark.parametrize(
    "words",
    [
        "evaluation.metrics=[antigravity.fly]",
        "evaluation.metrics=[loss,antigravity.fly]",
        "hydra.run.dir=/tmp/x",
        "hydra/launcher=basic",
        "+hydra.searchpath=[file:///tmp]",
        "name=${oc.env:HOME}",
        "name=${oc.decode:x}",
        "~secagg",
        "--multirun",
        "--config-dir=/tmp",
        "'unbalanced",
        "no_such.key=1",
        "privacy.epsilon=abc",
    ],
)
def test_words_of_a_command_line_set_keys_and_nothing_else(words: str) -> None:
    with pytest.raises(ConfigError):
        run(**{OVERRIDES: words})
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("name", ["../etc", "a/b", "quickstart.yaml", "file:///etc", "no_such_one", "a b"])
def test_an_experiment_is_a_packaged_name(name: str) -> None:
    with pytest.raises(ConfigError):
        run(**{EXPERIMENT: name})


def test_a_configuration_that_travels_whole_is_held_to_the_same() -> None:
    cfg = compose("quickstart", ["evaluation.metrics=[antigravity.fly]"])
    carried = carry(cfg, [], "")
    assert json.loads(base64.urlsafe_b64decode(carried + "=" * (-len(carried) % 4)))["config"]
    with pytest.raises(ConfigError, match="imported into the node's own process"):
        run(**{CARRIED: carried})
    assert "antigravity" not in sys.modules
    for broken in ("!", "e30", carried[:-9], base64.urlsafe_b64encode(b"[" * 5000).decode(), "A" * (1 << 21)):
        with pytest.raises(ConfigError):
            run(**{CARRIED: broken})


def test_what_is_sound_is_taken() -> None:
    assert run(**{EXPERIMENT: "quickstart", OVERRIDES: "evaluation.metrics=[loss]"}).config.evaluation.metrics == [
        "loss"
    ]
