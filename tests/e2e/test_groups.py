"""Sums by groups: shards that are added up, buckets that a robust rule compares, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import ServerApp
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum, QFedAvg

from aegis_engine import clip_l2
from aegis_flower import gate
from aegis_flower.client import VaultClient, aegis_client_app
from aegis_flower.configs import compose
from aegis_flower.errors import AegisError, ConfigError
from aegis_flower.metrics.classes import CONFIDENCE, CONFIDENT_AND_RIGHT, read_bins
from aegis_flower.node.node import close_nodes
from aegis_flower.server import build_strategy, initial_arrays
from aegis_flower.simulations.inprocess import run_inprocess
from aegis_flower.simulations.provision import provision
from aegis_flower.strategies import Bucketed, SecureAggregation

CLIENTS = 12
CONFIG = [
    "strategy.rounds=2",
    f"data.clients={CLIENTS}",
    "data.partition=iid",
    "policy.min_rows=10",
    "policy.min_subjects=5",
    "privacy=off",
    "policy.require_dp=false",
]
EVERYONE = {"min_train_nodes": 3, "min_available_nodes": 3}


@pytest.fixture
def drive(tmp_path):
    """Runs a strategy over twelve nodes; gives the final model, and the plain updates by round and node."""

    def run(strategy, lose=(), false=(), more=()):
        cfg = compose("quickstart", [*CONFIG, *more])
        nodes = provision(cfg, tmp_path / "vaults")
        plain: dict[tuple[int, int], np.ndarray] = {}

        class Noting(VaultClient):
            def train_round(self, parameters, round_, noise_multiplier):
                trained = super().train_round(parameters, round_, noise_multiplier)
                if self.context.node_id in false:  # as far away as the norm allows, all the same way
                    for array, before in zip(trained.after, trained.before, strict=True):
                        array[...] = before + 10
                update = trained.update.copy()
                clip_l2(update, cfg.strategy.max_norm)
                plain[round_, self.context.node_id] = update
                return trained

        server = ServerApp()
        result = []

        @server.main()
        def main(grid, context):
            result.append(strategy.start(grid, initial_arrays(cfg), num_rounds=cfg.strategy.rounds))

        try:
            run_inprocess(server, aegis_client_app(Noting, config=cfg), [n.node_config for n in nodes], lose=lose)
        finally:
            close_nodes()
        start = np.concatenate([a.ravel() for a in initial_arrays(cfg).to_numpy_ndarrays()])
        arrays = result[0].arrays
        final = np.concatenate([a.ravel() for a in arrays.to_numpy_ndarrays()]) if arrays else start
        return start, final, plain

    return run


def step(strategy):
    """One quantisation step of a value, which no mean can miss by more than half of."""
    return strategy.plan.max_norm / (2 ** (strategy.plan.value_bits - 1) - 1)


def test_shards_add_up_to_the_mean_over_all_in_the_same_two_trips(drive):
    strategy = SecureAggregation(FedAvg(**EVERYONE), cohort=CLIENTS, shard_size=4, weight_max=1)
    start, final, plain = drive(strategy, lose=[(2, 2, "masked")])
    expected = start.astype(np.float64)
    for record in strategy.rounds:
        assert sorted(n for g in record.groups for n in g) == record.participants
        assert sorted(len(g) for g in record.groups) >= [3, 4, 4]
        expected += np.mean([plain[record.round, n] for n in record.participants], axis=0)
    assert np.abs(final - expected).max() <= 2 * step(strategy) + 1e-6
    assert [len(r.participants) for r in strategy.rounds] == [12, 11]
    assert [r.trips for r in strategy.rounds] == [4, 2]


def test_the_steady_state_of_shards_is_two_trips_and_their_members_stay_together(drive):
    strategy = SecureAggregation(FedAvg(**EVERYONE), cohort=CLIENTS, shard_size=3, weight_max=1)
    drive(strategy)
    assert [r.trips for r in strategy.rounds] == [4, 2]
    assert len(strategy.rounds[0].groups) == 4
    assert strategy.rounds[0].groups == strategy.rounds[1].groups


def test_a_shard_that_fails_costs_the_others_nothing(drive):
    strategy = SecureAggregation(FedAvg(**EVERYONE), cohort=CLIENTS, shard_size=4, weight_max=1)
    start, final, plain = drive(strategy, lose=[(0, 1, "masked"), (1, 1, "masked")])
    first = strategy.rounds[0]
    assert len(first.participants) in (8, 9, 10, 11)  # whichever shards node 1 and node 2 sit in
    expected = start.astype(np.float64)
    for record in strategy.rounds:
        assert not record.failed
        expected += np.mean([plain[record.round, n] for n in record.participants], axis=0)
    assert np.abs(final - expected).max() <= 2 * step(strategy) + 1e-6
    if len(first.groups) == 2:
        assert "not enough clients" in first.groups_failed[0]


@pytest.mark.parametrize(
    "rule",
    [
        FedMedian(**EVERYONE),
        FedTrimmedAvg(beta=0.25, **EVERYONE),
        Krum(num_malicious_nodes=1, **EVERYONE),
        MultiKrum(num_malicious_nodes=1, num_nodes_to_select=2, **EVERYONE),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_a_robust_rule_over_groups_is_that_rule_on_the_means_of_the_groups(drive, rule):
    strategy = Bucketed(rule, group_size=3, cohort=CLIENTS, weight_max=1)
    start, final, plain = drive(strategy)
    model = start.astype(np.float64)
    for record in strategy.rounds:
        assert len(record.groups) == 4
        replies = []
        for group in record.groups:
            mean = np.mean([plain[record.round, n] for n in group], axis=0)
            arrays = ArrayRecord({"0": Array((model + mean).astype(np.float32))})
            content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1.0})})
            sent = Message(RecordDict(), dst_node_id=1, message_type="train")
            replies.append(Message(content, reply_to=sent))
        arrays, _ = rule.aggregate_train(record.round, replies)
        model = arrays.to_numpy_ndarrays()[0].ravel().astype(np.float64)
    assert np.abs(final - model).max() <= 2 * step(strategy) + 1e-6
    assert [r.trips for r in strategy.rounds] == [4, 2]


def test_every_group_counts_alike_whatever_its_clients_say_they_weigh(drive):
    """Node 1's group has lost a client, and would count less if it went by weights."""
    strategy = Bucketed(FedAvg(**EVERYONE), group_size=4, cohort=CLIENTS, weight_max=1)
    start, final, plain = drive(strategy, lose=[(0, 2, "masked")])
    expected = start.astype(np.float64)
    for record in strategy.rounds:
        assert len(record.groups) == 3
        expected += np.mean([np.mean([plain[record.round, n] for n in g], axis=0) for g in record.groups], axis=0)
    assert sorted(len(g) for g in strategy.rounds[1].groups) == [3, 4, 4]
    assert np.abs(final - expected).max() <= 2 * step(strategy) + 1e-6


def test_a_false_client_moves_the_mean_and_not_the_median_over_groups(drive):
    nodes = {1}
    medians = Bucketed(FedMedian(**EVERYONE), group_size=3, cohort=CLIENTS, weight_max=1, max_norm=40.0)
    *_, plain = drive(medians, false=nodes, more=["strategy.max_norm=40"])
    honest = [plain[1, n] for n in medians.rounds[0].participants if n not in nodes]
    assert (1, 1) in plain, "the false client took part"
    bad = next(g for g in medians.rounds[0].groups if 1 in g)
    others = [np.mean([plain[1, n] for n in g], axis=0) for g in medians.rounds[0].groups if g != bad]
    spread = np.abs(np.array(others) - np.mean(honest, axis=0)).max()
    after_one = np.median([np.mean([plain[1, n] for n in g], axis=0) for g in medians.rounds[0].groups], axis=0)
    # the median over four groups stays within what the honest groups span
    assert (after_one <= np.max(others, axis=0) + 1e-6).all()
    assert (after_one >= np.min(others, axis=0) - 1e-6).all()
    plain_mean = np.mean([plain[1, n] for n in medians.rounds[0].participants], axis=0)
    assert np.abs(plain_mean - np.mean(honest, axis=0)).max() > spread


def test_too_few_clients_for_two_groups_leave_the_model_unchanged(drive):
    strategy = Bucketed(FedMedian(**EVERYONE), group_size=7, cohort=CLIENTS, join_deadline=0.1)
    start, final, plain = drive(strategy)
    assert not plain, "nothing was trained"
    assert (start == final).all()
    assert "no two groups of 7" in strategy.rounds[0].failed


def test_a_masked_input_that_a_check_refuses_is_left_out(drive):
    class NotTheThird:
        def admit(self, server_round, node, masked):
            if node == 3:
                raise AegisError("its proof does not hold", "AEG-T999")

    strategy = SecureAggregation(FedAvg(**EVERYONE), cohort=CLIENTS, weight_max=1, check=NotTheThird())
    start, final, plain = drive(strategy)
    assert all(3 not in r.participants and len(r.participants) == 11 for r in strategy.rounds)
    assert [(x.node, x.step, x.code) for x in strategy.rounds[0].lost] == [(3, "masked", "AEG-T999")]
    expected = start + sum(np.mean([plain[r.round, n] for n in r.participants], axis=0) for r in strategy.rounds)
    assert np.abs(final - expected).max() <= 2 * step(strategy) + 1e-6


@pytest.mark.parametrize("rule", [Krum(), MultiKrum(), FedMedian(), FedTrimmedAvg()], ids=lambda r: type(r).__name__)
def test_a_rule_over_single_updates_is_refused_with_the_way_out(rule):
    with pytest.raises(ConfigError, match="Bucketed"):
        SecureAggregation(rule)


def test_rules_that_need_more_than_a_groups_mean_and_groups_below_the_minimum_are_refused():
    with pytest.raises(ConfigError, match="each client's own numbers"):
        Bucketed(QFedAvg(client_learning_rate=0.1))
    with pytest.raises(ConfigError, match=r"below secagg\.min_cohort=5"):
        Bucketed(FedMedian(), group_size=4, min_cohort=5)


@pytest.mark.parametrize(
    ("overrides", "texts"),
    [
        (["strategy=krum", "data.clients=8", "strategy.group_size=4"], ["data.clients", "2 groups of 4", "needs 5"]),
        (["strategy=median", "data.clients=9", "strategy.group_size=2"], ["strategy.group_size", "min_cohort=3"]),
        (["secagg.shard_size=2"], ["secagg.shard_size", "min_cohort=3"]),
        (["secagg.sparse=[10]"], ["secagg.sparse", "[10,10]"]),
        (["secagg.sparse=[60,10]"], ["secagg.sparse"]),
        (
            ["secagg.value_bits=30", "secagg.weighting=rows", "secagg.weight_max=16777216", "data.clients=4000"],
            ["secagg.value_bits", "bits, and no ring"],
        ),
    ],
)
def test_impossible_groups_and_sums_are_refused_with_the_key_to_change(overrides, texts):
    with pytest.raises(ConfigError) as refused:
        compose("quickstart", overrides)
    assert all(text in str(refused.value) for text in texts), refused.value


def test_the_configured_rule_runs_over_groups():
    cfg = compose("quickstart", ["strategy=trimmed_mean", "data.clients=16", "strategy.group_size=4"])
    strategy = build_strategy(cfg, 1.0)
    assert isinstance(strategy, Bucketed)
    assert isinstance(strategy.inner, flower.FedTrimmedAvg)
    assert strategy.inner.beta == 0.25


def test_histograms_over_all_clients_are_the_sums_of_theirs(drive):
    counts = []

    class Strategy(SecureAggregation):
        def _contributions(self, sums):
            counts.append(self._current.metrics)
            return super()._contributions(sums)

    drive(Strategy(FedAvg(**EVERYONE), cohort=CLIENTS, weight_max=1))
    for sums in counts:
        assert sum(read_bins(CONFIDENCE, sums)) == sums["examples"] > 0
        assert sum(read_bins(CONFIDENT_AND_RIGHT, sums)) == sums["correct"]
        found = gate.means(sums)
        assert 0 <= found["calibration-error"] <= 1
