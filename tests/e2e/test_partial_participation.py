"""A part of the nodes trains in each round: sums stay exact, and a node pays for the rounds in which it trains and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aegis_engine import clip_l2
from aegis_flower import VaultClient, aegis_client_app, compose, run_experiment
from aegis_flower.ledger import Mechanism, epsilon
from aegis_flower.server import initial_arrays, noise_multiplier

ROUNDS, CLIENTS = 4, 6
HALF = [
    f"strategy.rounds={ROUNDS}", f"data.clients={CLIENTS}", "data.partition=iid", "strategy.fraction_train=0.5",
    "policy.min_rows=10", "tracking.html=false",
]  # fmt: skip

pytestmark = pytest.mark.timeout(900)  # several runs, each of which loads torch


@pytest.mark.parametrize("lose", [[], ["0@2:masked", "1@3:unmask"]])
def test_sums_over_the_drawn_nodes_are_exact_and_each_ledger_has_its_own_rounds(
    tmp_path: Path, lose: list[str]
) -> None:
    more = ["strategy.fraction_train=0.7", "data.clients=8"] if lose else []  # 5 of 8 can lose two
    cfg = compose("quickstart", [*HALF, *more, f"runtime.lose=[{','.join(lose)}]"])
    plain: dict[tuple[int, int], Any] = {}
    vectors: dict[int, set[int]] = {}

    class Noting(VaultClient):
        def train_round(self, *args: Any) -> Any:
            trained = super().train_round(*args)
            update = trained.update.copy()
            clip_l2(update, cfg.strategy.max_norm)
            plain[self.round, self.context.node_id] = update
            return trained

    def saw(round_: int, node: int, masked: bytes) -> None:
        if len(masked) > 100:
            vectors.setdefault(round_, set()).add(node)

    report = run_experiment(
        cfg, tmp_path / "run", client_app=aegis_client_app(Noting, config=cfg), observer=saw, on_round=lambda _: None
    )
    assert report.run.status == "finished"
    expected = np.concatenate([a.ravel() for a in initial_arrays(cfg).to_numpy_ndarrays()]).astype(np.float64)
    drawn = int(cfg.data.clients * cfg.strategy.fraction_train)
    for each in report.rounds:
        nodes = [int(name.removeprefix("hospital-")) for name in each.participants]
        asked = {node for round_, node in plain if round_ == each.round}
        assert len(asked) + sum(x.step == "masked" for x in each.lost) <= drawn
        assert cfg.secagg.min_cohort <= len(nodes) <= drawn
        expected += np.mean([plain[each.round, node] for node in nodes], axis=0)
    with np.load(tmp_path / "run" / "model.npz") as saved:
        found = np.concatenate([saved[name].ravel() for name in saved.files])
    step = cfg.strategy.max_norm / (2 ** (cfg.secagg.value_bits - 1) - 1)
    assert np.abs(found - expected).max() <= ROUNDS * step + 1e-6
    sigma = noise_multiplier(cfg)
    one = Mechanism(sigma, cfg.privacy.sample_rate, cfg.privacy.clip)
    for number, client in enumerate(report.clients, 1):
        trained = sum(node == number for _, node in plain)
        assert (client.steps or 0) == trained * cfg.privacy.steps_per_round, "charged where it trained, nowhere else"
        if trained:
            assert client.noise_multiplier == sigma, "noise for all rounds: the draw is no reason for less"
            bound = epsilon({one: trained * cfg.privacy.steps_per_round}, cfg.privacy.delta)
            assert client.epsilon == pytest.approx(bound, rel=0.02)
    if not lose:
        assert sum(client.rounds_taken_part for client in report.clients) == ROUNDS * drawn
        assert {frozenset(each.participants) for each in report.rounds} != {frozenset(report.rounds[0].participants)}


def test_the_draw_is_anew_in_each_round_and_the_last_model_is_measured_by_all(tmp_path: Path) -> None:
    seen: list[Any] = []
    cfg = compose("quickstart", [*HALF, "strategy.rounds=6"])
    run_experiment(cfg, tmp_path / "run", on_round=seen.append)
    trains = [tuple(record.participants) for record in seen if record.task == "train"]
    assert {len(nodes) for nodes in trains} == {3}
    assert len(set(trains)) > 1, "that six draws of 3 of 6 are one has a probability of 20 ** -5"
    (last,) = [record for record in seen if record.task == "evaluate"]
    assert len(last.participants) == CLIENTS
    assert [record.trips for record in seen[1:-1]] == [
        3 + any(node not in set().union(*trains[:at]) for node in nodes) for at, nodes in enumerate(trains[1:], 1)
    ], "share, masked, unmask; and the keys of who is drawn for the first time"


def test_in_clear_a_part_of_the_nodes_trains_as_well(tmp_path: Path) -> None:
    clear = ["secagg=clear", "policy.require_secure_aggregation=false", "strategy.rounds=2"]
    report = run_experiment(compose("quickstart", [*HALF, *clear]), tmp_path / "run")
    assert [len(each.participants) for each in report.rounds] == [3, 3]
    assert sum(client.rounds_taken_part for client in report.clients) == 6
