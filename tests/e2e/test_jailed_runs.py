"""Whole runs whose clients train in real jails: under masks, with the privacy that the ledger says, and a model that learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aegis_flower import compose, run_experiment
from aegis_flower.errors import ConfigError

MEASURE = '''
import numpy as np
from sklearn.datasets import load_breast_cancer

from aegis_flower.data.breast_cancer import RANGES


def evaluate(arrays, round_):
    """Accuracy on the whole table, which is public here."""
    found = load_breast_cancer()
    low, high = np.array(list(RANGES.values())).T
    x = np.clip(2 * (found.data - low) / (high - low) - 1, -1, 1)
    w, b = (np.asarray(a, np.float64) for a in arrays.values())
    scores = x @ w.T + b
    said = scores[:, 0] > 0 if scores.shape[1] == 1 else scores.argmax(1)
    return {"accuracy": float((said == found.target).mean())}
'''
FEW = [
    "data=breast_cancer",
    "data.clients=3",
    "data.partition=iid",
    "evaluation.rounds=never",
    "tracking.progress=false",
    "strategy.max_norm=1000",
    "model.learning_rate=0.5",
    "privacy.steps_per_round=20",
    "runtime.round_deadline=600",
    "policy.budget_epsilon=1000",
]


def ran(folder: Path, *more: str) -> Any:
    (folder / "measure.py").write_text(MEASURE)
    cfg = compose("quickstart", [*FEW, f"evaluation.server={folder / 'measure.py'}", "runtime=jailed", *more])
    return run_experiment(cfg, folder / "run")


@pytest.mark.parametrize(("mode", "trust", "unit"), [("update", "any", "node"), ("blocks", "blocks", "person")])
def test_a_federation_of_jailed_clients_learns_under_masks_and_the_report_says_how(
    tmp_path: Path, mode: str, trust: str, unit: str
) -> None:
    report = ran(
        tmp_path,
        f"privacy={mode}",
        "strategy.rounds=2",
        "privacy.epsilon=900",
        "privacy.clip=2",
        "privacy.blocks=4",
        "runtime.block_seconds=6",
    )
    assert (report.run.status, report.run.private, report.run.trust) == ("finished", True, trust)
    assert (report.run.runtime, report.secagg.enabled) == ("jailed", True)
    assert not report.run.warnings
    for client in report.clients:
        (mechanism,) = client.mechanisms
        assert (client.unit, client.neighbouring, client.audit.verified) == (unit, "replace_one", True)
        assert (mechanism.kind, mechanism.steps, mechanism.blocks) == (mode, 2, 4 if mode == "blocks" else 0)
    assert report.results.public_metrics["accuracy"] > 0.75  # 0.63 by the larger class


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("privacy=example", r"privacy=update or privacy=blocks"),
        ("evaluation.rounds=last", r"evaluation\.rounds"),
        ("runtime.kind=inprocess", r"runtime=jailed"),
    ],
)
def test_what_no_jail_does_is_refused_before_vaults_are_made(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ran(tmp_path, "privacy=blocks", override)
    assert not list((tmp_path / "run").glob("vaults/*"))
