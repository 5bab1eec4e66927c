"""Real SuperLink, SuperNodes in process isolation, and `aegis node run` beside each: what holds when one of them is killed."""

import json
import threading
from pathlib import Path

import pytest
from node_services import Services, built, wait

from aegis_engine import audit_verify
from aegis_flower.configs import compose
from aegis_flower.node.node import Node
from aegis_flower.service.settings import read
from aegis_flower.simulations.flower.deployment import Deployment, NodeSpec
from aegis_flower.simulations.provision import provision

QUICKSTART = Path(__file__).parents[2] / "simulations" / "quickstart"
ROUNDS = 4


def _overrides(*more):
    return [
        "data.clients=3",
        "secagg.min_cohort=2",
        f"strategy.rounds={ROUNDS}",
        "runtime=deployment",
        "runtime.round_deadline=200",
        *more,
    ]


def _run(deployment, folder, overrides, timeout=700):
    """Starts the quickstart in a thread; the list has the result when it is there."""
    results = []
    config = {
        "aegis-experiment": "quickstart",
        "aegis-overrides": " ".join(overrides),
        "aegis-output": str(folder / "out"),
    }
    thread = threading.Thread(
        target=lambda: results.append(deployment.run(QUICKSTART, config, timeout=timeout)), daemon=True
    )
    thread.start()
    return thread, results


@pytest.mark.deployment
@pytest.mark.timeout(1000)
def test_a_node_killed_in_mid_run_and_started_again_takes_part_in_the_rounds_after_it(tmp_path):
    overrides = _overrides()
    cfg = compose("quickstart", overrides)
    nodes = provision(cfg, tmp_path / "vaults")
    secret = tmp_path / "secret"
    secret.write_bytes(b"of this machine")
    with (
        Deployment(
            tmp_path / "deployment", [NodeSpec({}, isolated=True, secret=secret)] * 3, startup_timeout=180
        ) as deployment,
        Services(tmp_path / "services", [n.node_config for n in nodes]) as services,
    ):
        fab = built(QUICKSTART, tmp_path / "fab")
        services.desk.approve(fab, mode="recipe", purpose=cfg.policy.purpose, days=1)
        for index in range(3):
            services.write(index, deployment.addresses[index], **{"aegis-supernode-secret": str(secret)})
            services.start(index)
        for index in range(3):
            wait(lambda index=index: services.lines(index, "supernode-reached"), 120, f"node {index} is up")

        thread, results = _run(deployment, tmp_path, overrides)
        wait(lambda: services.lines(2, "release"), 500, "node 2 released an update")
        services.kill(2)
        services.start(2)
        thread.join(720)
        assert results, "the run has not ended"
        assert results[0].ok, results[0].log[-3000:]

        found = [services.lines(index) for index in range(3)]
        services.control(0).stop(services.control(0).running())
        wait(lambda: services.control(0).running() is None, 60, "node 0 has stopped")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["run"]["status"] == "finished"
    participants = [len(r["participants"]) for r in report["rounds"]]
    assert participants[-1] == 3, participants
    for index in range(3):
        permits = [one for one in found[index] if one["what"] == "permit"]
        releases = [one for one in found[index] if one["what"] == "release"]
        assert permits
        assert len({one["seq"] for one in permits + releases}) == len(permits) + len(releases), "each has one line"
        assert {one["app_hash"] for one in permits} == {services.desk.entries()[0].approval.fab_hash}
        node = Node(read(services.file(index)).node_config(cfg))
        audit_verify(str(Path(node.vault.path) / "audit"))
        rounds = [e["round"] for e in node.ledger.entries() if e["kind"] == "reserve"]
        assert sorted(rounds) == sorted(set(rounds)), "no round was charged twice"
        assert len(rounds) == sum(one["decision"] == "allow" and one["action"] == "train" for one in permits)


@pytest.mark.deployment
@pytest.mark.timeout(600)
def test_an_app_that_nobody_approved_is_refused_by_its_code_and_waits_in_the_inbox(tmp_path):
    overrides = _overrides("strategy.rounds=1", "runtime.round_deadline=60")
    nodes = provision(compose("quickstart", overrides), tmp_path / "vaults")
    with (
        Deployment(tmp_path / "deployment", [NodeSpec({}, isolated=True)] * 3, startup_timeout=180) as deployment,
        Services(tmp_path / "services", [n.node_config for n in nodes]) as services,
    ):
        services.desk.approve(built(QUICKSTART, tmp_path / "fab"), mode="recipe", purpose="another", days=1)
        for index in range(3):
            services.write(index, deployment.addresses[index])
            services.start(index)
        thread, results = _run(deployment, tmp_path, overrides)
        for index in range(3):
            wait(lambda index=index: services.lines(index, "refusal"), 300, f"node {index} refused")
        thread.join(500)
        assert results
        for index in range(3):
            assert {one["code"] for one in services.lines(index, "refusal")} == {"AEG-N019"}
            assert not services.lines(index, "permit")
            inbox = services.control(index).file("inbox")
            assert len(list(inbox.glob("*.json"))) == 1
            assert not services.control(index).file("apps").exists(), "nothing of the bundle was unpacked"


@pytest.mark.deployment
@pytest.mark.timeout(1400)
def test_a_node_killed_together_with_its_supernode_comes_back_as_the_same_node(tmp_path):
    # What the SuperNode held is gone with it. A SuperLink lets its key in again after a minute: the rounds last that long.
    overrides = _overrides("runtime.round_deadline=150", "strategy.rounds=8")
    cfg = compose("quickstart", overrides)
    nodes = provision(cfg, tmp_path / "vaults")
    specs = [NodeSpec({}, isolated=True)] * 3
    with (
        Deployment(tmp_path / "deployment", specs, tls=True, node_auth=True, startup_timeout=300) as deployment,
        Services(tmp_path / "services", [n.node_config for n in nodes]) as services,
    ):
        services.desk.approve(built(QUICKSTART, tmp_path / "fab"), mode="recipe", purpose=cfg.policy.purpose, days=1)
        for index in range(3):
            services.write(index, deployment.addresses[index])
            services.start(index)
        for index in range(3):
            wait(lambda index=index: services.lines(index, "supernode-reached"), 120, f"node {index} is up")
        before = list(deployment.node_ids)

        thread, results = _run(deployment, tmp_path, overrides, timeout=900)
        wait(lambda: services.lines(2, "release"), 500, "node 2 released an update")
        deployment.kill(2)
        services.kill(2)
        deployment.start_again(2)
        services.write(2, deployment.addresses[2])
        services.start(2)
        thread.join(900)
        assert results, "the run has not ended"
        assert results[0].ok, results[0].log[-3000:]
        assert deployment.node_ids == before, "a node is its key"
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["run"]["status"] == "finished"
    participants = [len(r["participants"]) for r in report["rounds"]]
    assert participants[0] < 3, "a message was lost"
    assert participants[-1] == 3, participants
    for index in range(3):
        node = Node(read(services.file(index)).node_config(cfg))
        audit_verify(str(Path(node.vault.path) / "audit"))
        rounds = [e["round"] for e in node.ledger.entries() if e["kind"] == "reserve"]
        assert sorted(rounds) == sorted(set(rounds)), "no round was charged twice"
