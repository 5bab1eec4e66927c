"""Which models are measured, under which round the numbers stand, and which settings of an inner strategy reach the clients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAvg, FedProx

from aegis_flower import compose
from aegis_flower.client import VaultClient, aegis_client_app
from aegis_flower.gate import METRICS
from aegis_flower.node.node import close_nodes
from aegis_flower.server import initial_arrays
from aegis_flower.simulations.inprocess import InProcessGrid
from aegis_flower.simulations.provision import provision
from aegis_flower.strategies import RoundRecord, SecureAggregation

CFG = compose("quickstart", ["privacy=off", "policy.require_dp=false", "data.clients=4"])
ROUNDS = 2


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    yield [dict(n.node_config) for n in provision(CFG, tmp_path_factory.mktemp("schedule") / "vaults")]
    close_nodes()


class Run:
    number = 7000

    def __init__(
        self, configs: Any, inner: Any = None, client: type[VaultClient] = VaultClient, **options: Any
    ) -> None:
        Run.number += 1
        self.strategy = SecureAggregation(inner or FedAvg(), cohort=4, join_deadline=1, weight_max=1, **options)
        with InProcessGrid(aegis_client_app(client, config=CFG), configs, run_id=Run.number) as grid:
            self.result = self.strategy.start(grid, initial_arrays(CFG), num_rounds=ROUNDS, timeout=60)

    @property
    def rounds(self) -> list[tuple[str, int, bool]]:
        """Task, round, whether anything was counted."""
        return [(r.task, r.round, bool(r.metrics)) for r in self.strategy.rounds]

    @property
    def measured(self) -> dict[int, float]:
        return {n: float(m["accuracy"]) for n, m in self.result.evaluate_metrics_clientapp.items()}


def counted(record: RoundRecord) -> float:
    return record.metrics["correct"] / record.metrics["examples"]


def test_metrics_stand_under_the_round_whose_model_they_are_of(configs: Any) -> None:
    every = Run(configs, evaluate_rounds=[ROUNDS])
    assert every.rounds == [("train", 1, True), ("train", 2, True), ("evaluate", 2, True)]
    first, second, last = every.strategy.rounds
    assert list(every.measured) == [0, 1, 2]
    assert list(every.measured.values()) == pytest.approx([counted(first), counted(second), counted(last)])
    assert every.measured[2] > every.measured[0], "the first is of the model before training"
    for metrics in every.result.train_metrics_clientapp.values():
        assert "accuracy" not in metrics


def test_the_last_model_alone_is_measured_and_no_other_round_counts_anything(configs: Any) -> None:
    counting: list[int] = []

    class Counting(VaultClient):
        def evaluate_counts(self, parameters: Any, round_: int) -> Any:
            counting.append(round_)
            return super().evaluate_counts(parameters, round_)

    last = Run(configs, client=Counting, evaluate="last")
    assert last.rounds == [("train", 1, False), ("train", 2, False), ("evaluate", 2, True)]
    assert list(last.measured) == [2]
    assert counting == [2] * 4
    counting.clear()
    never = Run(configs, client=Counting, evaluate="never")
    assert never.rounds == [("train", 1, False), ("train", 2, False)]
    assert never.measured == {}
    assert counting == []


def test_nodes_without_held_out_rows_count_none_and_lose_nobody_the_evaluation(configs: Any) -> None:
    without = {key: value for key, value in configs[0].items() if "holdout" not in key}

    class Some(VaultClient):
        """The first node has no held-out rows."""

        def prepare_evaluation(self, round_: int) -> Any:
            return None if self.context.node_id == 1 else super().prepare_evaluation(round_)

    run = Run([without, *configs[1:]], client=Some, evaluate="last")
    *_, last = run.strategy.rounds
    assert (last.task, last.participants, last.failed) == ("evaluate", [1, 2, 3, 4], "")
    assert last.metrics["examples"] > 0
    assert set(last.metrics) == set(METRICS)


def test_the_proximal_term_of_an_inner_strategy_reaches_the_clients(configs: Any) -> None:
    def moved(mu: float) -> float:
        run = Run(configs, FedProx(proximal_mu=mu), evaluate="never")
        start = initial_arrays(CFG).to_numpy_ndarrays()
        end = run.result.arrays.to_numpy_ndarrays()
        return float(sum(np.linalg.norm(a - b) for a, b in zip(start, end, strict=True)))

    # the term pulls towards the start of each round
    assert moved(0.0) > 1.05 * moved(1.0)
