"""Runs under secure aggregation: trips of the steady state, and nodes with identities and a roster."""

from __future__ import annotations

import time

import pytest
from flwr.app import Context, RecordDict
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from aegis_engine import Identity, roster_sign
from aegis_flower.client import aegis_client_app
from aegis_flower.configs import compose
from aegis_flower.errors import NodeError
from aegis_flower.mask import Masker
from aegis_flower.node.node import NodeConfig, close_nodes
from aegis_flower.server import build_strategy, initial_arrays
from aegis_flower.simulations.inprocess import run_inprocess
from aegis_flower.simulations.provision import provision
from aegis_flower.strategies import SecureAggregation

DAY = 86_400
PLAIN = ["privacy=off", "policy.require_dp=false"]


def drive(cfg, strategy, configs, lose=()):
    """The strategy against nodes of this process."""
    server = ServerApp()

    @server.main()
    def main(grid, context):
        strategy.start(grid, initial_arrays(cfg), num_rounds=cfg.strategy.rounds)

    try:
        run_inprocess(server, aegis_client_app(config=cfg), configs, lose=lose)
    finally:
        close_nodes()
    return strategy.rounds


@pytest.mark.parametrize("commit", [False, True])
def test_after_the_first_round_a_round_takes_two_trips_and_three_with_the_commit_step(tmp_path, commit):
    cfg = compose("quickstart", ["strategy.rounds=3", f"secagg.commit={str(commit).lower()}", *PLAIN])
    nodes = provision(cfg, tmp_path / "vaults")
    rounds = drive(cfg, build_strategy(cfg, 0.0), [node.node_config for node in nodes])
    assert [(r.task, len(r.participants)) for r in rounds] == [("train", 5)] * 3 + [("evaluate", 5)]
    assert [r.trips - commit for r in rounds] == [4, 2, 2, 2]


def test_a_planned_cohort_that_could_lose_nobody_more_makes_room_for_a_fresh_one(tmp_path):
    """Five share with round 1, one of them is not there any more: the four need each other, a cohort of four needs three."""
    cfg = compose("quickstart", ["strategy.rounds=3", *PLAIN])
    nodes = provision(cfg, tmp_path / "vaults")
    lose = [(3, 1, "unmask"), (4, 2, "masked")]
    rounds = drive(cfg, build_strategy(cfg, 0.0), [node.node_config for node in nodes], lose=lose)
    assert [(r.failed, len(r.participants), r.trips) for r in rounds[:3]] == [("", 5, 4), ("", 3, 3), ("", 3, 2)]


def test_fewer_than_the_smallest_cohort_give_no_sum_where_the_threshold_is_met(tmp_path):
    """Four of five could unmask; the run asks for five."""
    cfg = compose("quickstart", ["strategy.rounds=2", "secagg.min_cohort=5", *PLAIN])
    nodes = provision(cfg, tmp_path / "vaults")
    lose = [(3, 1, "masked")]
    first, *_ = drive(cfg, build_strategy(cfg, 0.0), [node.node_config for node in nodes], lose=lose)
    assert first.failed.startswith("[AEG-S015]")
    assert first.participants == []


def test_a_sparse_graph_sums_and_bears_the_loss_it_is_drawn_up_for(tmp_path):
    cfg = compose("quickstart", ["strategy.rounds=2", "data.clients=12", "policy.min_rows=20", *PLAIN])
    nodes = provision(cfg, tmp_path / "vaults")
    strategy = SecureAggregation(FedAvg(min_train_nodes=3, min_available_nodes=3), cohort=12, sparse=(10, 10))
    rounds = drive(cfg, strategy, [node.node_config for node in nodes], lose=[(4, 2, "masked")])
    assert [len(r.participants) for r in rounds] == [12, 11]
    assert [(x.node, x.step) for x in rounds[1].lost] == [(5, "masked")]
    assert [r.trips for r in rounds] == [5, 3]
    assert 0 < strategy.threshold < 9, "each client has fewer neighbours than there are clients"


@pytest.fixture
def with_settings(tmp_path):
    """Runs two rounds of five nodes, the first of which has settings of its own; gives the records."""

    def run(**settings):
        cfg = compose("quickstart", ["strategy.rounds=2", *PLAIN])
        configs = [node.node_config for node in provision(cfg, tmp_path / "vaults")]
        configs[0] = {**configs[0], **{f"aegis-{key.replace('_', '-')}": value for key, value in settings.items()}}
        strategy = SecureAggregation(FedAvg(min_train_nodes=3, min_available_nodes=3), cohort=5)
        return drive(cfg, strategy, configs)

    return run


def test_a_node_that_wants_a_larger_cohort_is_left_out_and_the_others_go_on(with_settings):
    rounds = with_settings(min_cohort=6)
    assert [len(r.participants) for r in rounds] == [4, 4]
    assert [(x.node, x.step) for x in rounds[0].lost] == [(1, "share")]
    assert "more clients than the 5 there are" in rounds[0].lost[0].reason


def test_a_node_refuses_a_threshold_below_its_own(with_settings):
    first, _ = with_settings(min_threshold=5)
    assert [(x.node, x.step, x.code) for x in first.lost] == [(1, "share", "AEG-S005")]
    assert len(first.participants) == 4


def test_a_node_that_asks_for_the_same_policy_finds_it_with_the_others(with_settings):
    assert [len(r.participants) for r in with_settings(same_policy=True)] == [5, 5]


def test_a_node_that_asks_for_the_same_policy_refuses_a_cohort_without_it(with_settings, monkeypatch):
    class Elsewhere:
        """The engine of another node, under another bundle."""

        bundle_hash = bytes(31) + b"x"

    real = Masker.advertise

    def advertise(masker):
        if masker._node.config.same_policy:
            return real(masker)
        engine, masker._node.engine = masker._node.engine, Elsewhere()
        try:
            return real(masker)
        finally:
            masker._node.engine = engine

    monkeypatch.setattr(Masker, "advertise", advertise)
    first, _ = with_settings(same_policy=True)
    assert [(x.node, x.step, x.code) for x in first.lost] == [(1, "share", "AEG-S022")]
    assert len(first.participants) == 4


@pytest.fixture
def rounds(tmp_path):
    """Runs two rounds of five nodes, the first `members` of which are in the roster."""

    def run(members, *, known_to_the_server=True, expired=False, serial=1, twins=False):
        cfg = compose("quickstart", ["strategy.rounds=2", *PLAIN])
        nodes = provision(cfg, tmp_path / "vaults")
        signer = Identity.create(str(tmp_path / f"operator-{serial}-{expired}"))
        identities = []
        for i in range(len(nodes)):
            file = tmp_path / f"identity-{i}"
            identities.append(Identity.load(str(file)) if file.exists() else Identity.create(str(file)))
        keys = [identity.public for identity in identities]
        now = int(time.time())
        (tmp_path / "roster").write_text(
            roster_sign(
                signer,
                serial=serial,
                issued=now - 2 * DAY,
                expires=now - DAY if expired else now + DAY,
                members={key: f"clinic-{i}" for i, key in enumerate(keys[:members])},
            )
        )
        strategy = SecureAggregation(
            FedAvg(min_train_nodes=3, min_available_nodes=3),
            cohort=5,
            roster=keys[:members] if known_to_the_server else None,
        )
        configs = [
            {
                **node.node_config,
                "aegis-identity": str(tmp_path / f"identity-{i}"),
                "aegis-roster": str(tmp_path / "roster"),
                "aegis-roster-signer": signer.public.hex(),
            }
            for i, node in enumerate(nodes)
        ]
        if twins:  # a mistake of the operator's
            configs[4]["aegis-identity"] = configs[0]["aegis-identity"]
        return drive(cfg, strategy, configs)

    return run


def test_members_of_a_roster_sum_as_others_do(rounds):
    assert [len(r.participants) for r in rounds(5)] == [5, 5]


def test_two_nodes_with_one_identity_are_told_so(rounds):
    for record in rounds(5, twins=True):
        assert len(record.participants) == 4
        (lost,) = record.lost
        assert lost.node in (1, 5)
        assert f"node {6 - lost.node} gave keys under the same identity" in lost.reason


def test_a_node_outside_the_roster_is_left_out(rounds):
    first, second = rounds(4)
    assert [len(first.participants), len(second.participants)] == [4, 4]
    assert [(x.step, x.code) for x in first.lost] == [("advertise", "AEG-S010")]


def test_members_refuse_a_cohort_with_a_stranger_whatever_the_server_says(rounds):
    first, _ = rounds(4, known_to_the_server=False)
    assert "AEG-S015" in first.failed
    refused = [x.code for x in first.lost if x.step == "share"]
    assert refused == ["AEG-S010"] * 5


def test_an_expired_roster_and_one_older_than_the_last_stop_the_node(rounds):
    (first,) = rounds(5, expired=True)  # all refuse for good, so there is no second round
    assert {x.code for x in first.lost} == {"AEG-S033"}
    rounds(5, serial=3)
    (first,) = rounds(5, serial=2)
    assert {x.code for x in first.lost} == {"AEG-S035"}


def test_a_damaged_memory_of_the_newest_roster_stops_the_node(rounds, tmp_path, caplog):
    rounds(5)
    (tmp_path / "identity-2.roster").write_text("")
    first, _ = rounds(5, serial=2)
    assert [x.code for x in first.lost] == ["AEG-O001"]
    assert "identity-2.roster is damaged" in caplog.text  # in the node's log; the server learns the code


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("aegis-colluding-percent", 101),
        ("aegis-min-cohort", 1),
        ("aegis-min-threshold", "3"),
        ("aegis-same-policy", 1),
        ("aegis-colluding-percent", "ten"),
        ("aegis-require-commit", "false"),
        ("aegis-roster", "/etc/aegis/roster"),
    ],
)
def test_a_wrong_setting_of_the_operator_is_named(key, value):
    given = {"aegis-vault": "vault", "aegis-key-file": "key", key: value}
    context = Context(run_id=1, node_id=2, node_config=given, state=RecordDict(), run_config={})
    with pytest.raises(NodeError, match=key):
        NodeConfig.from_context(context, compose("quickstart"))
