"""A language model of hospitals: lists of tokens go in by commands, train with noise and masks, and predict what comes next."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aegis_flower import compose, run_experiment
from aegis_flower.errors import AegisError
from aegis_flower.inference import load

LENGTH = 12
SCHEMA = """each_row_a_person = true

[source]
format = "json"

[columns.codes]
kind = "list"
item = "i32"
missing = false
"""
PLAN = f"""version: 1
columns:
  codes: {{kind: list, as: ids, length: {LENGTH}, low: 1, high: 9, pad: 0, unknown: 0}}
label: {{task: next-token, column: codes, length: {LENGTH}, low: 1, high: 9}}
"""


def visits(count: int) -> list[list[int]]:
    """Codes that follow each other by a rule nine times out of ten: each is followed by the next one, 9 by 1."""
    dice = np.random.default_rng(5)
    found = []
    for _ in range(count):
        codes = [int(dice.integers(1, 10))]
        for _ in range(int(dice.integers(4, 20))):
            codes.append(codes[-1] % 9 + 1 if dice.random() < 0.9 else int(dice.integers(1, 10)))
        found.append(codes)
    return found


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    (tmp_path / "codes.jsonl").write_text("".join(json.dumps({"codes": row}) + "\n" for row in visits(1500)))
    (tmp_path / "schema.toml").write_text(SCHEMA)
    (tmp_path / "plan.yaml").write_text(PLAN)
    return [
        "data=table",
        f"data.path={tmp_path / 'codes.jsonl'}",
        f"data.schema={tmp_path / 'schema.toml'}",
        f"data.features={tmp_path / 'plan.yaml'}",
        "data.clients=3",
        "data.partition=iid",
        "model.device=cpu",
        f"vault.root={tmp_path / 'vaults'}",
    ]


def test_the_next_token_is_learned_with_noise_and_masks_and_predicted(tmp_path: Path, overrides: list[str]) -> None:
    more = ["model=tokens", "model.hidden=[16]", "model.learning_rate=2", "strategy.rounds=4", "privacy.epsilon=8"]
    cfg = compose(overrides=[*overrides, *more, "privacy.steps_per_round=20", "evaluation.epsilon=2"])
    report = run_experiment(cfg, tmp_path / "run")
    assert (report.run.status, report.run.private) == ("finished", True)
    told = {m.name: m for m in report.results.metrics}
    assert told["token-accuracy"].sd is not None
    assert told["token-accuracy"].value > 0.5, "by chance it is a ninth"
    asked = pa.table({"codes": pa.array([[3, 4, 5], [8, 9]], pa.list_(pa.int32()))})
    found = load(tmp_path / "run").predict(asked)
    assert list(found) == [f"after {at}" for at in range(1, LENGTH + 1)]
    assert (found["after 3"][0], found["after 2"][1]) == (6, 1)


def test_a_model_that_says_one_thing_of_a_row_is_refused_before_anything_is_read(
    tmp_path: Path, overrides: list[str]
) -> None:
    with pytest.raises(AegisError, match="logistic takes numbers, the feature plan gives ids; take tokens"):
        run_experiment(compose(overrides=[*overrides, "model=logistic"]), tmp_path / "run")
