"""Real SuperLink, SuperNodes and `flwr run` on loopback. Bounded in time; everything is stopped at the end."""

import json
from pathlib import Path

import numpy as np
import pytest

from aegis_flower.configs import compose
from aegis_flower.simulations.flower.deployment import Deployment, NodeSpec
from aegis_flower.simulations.provision import provision

QUICKSTART = Path(__file__).parents[2] / "simulations" / "quickstart"


def _overrides(rounds, deadline, *more):
    return [
        "data.clients=3",
        "secagg.min_cohort=2",
        f"strategy.rounds={rounds}",
        "runtime=deployment",
        f"runtime.round_deadline={deadline}",
        *more,
    ]


def _nodes(tmp_path, overrides):
    return [NodeSpec(n.node_config) for n in provision(compose("quickstart", overrides), tmp_path / "vaults")]


@pytest.mark.deployment
@pytest.mark.timeout(900)
def test_a_supernode_killed_in_mid_run_leaves_the_correct_mean_of_the_others(recorded):
    # Longer than the 60 s after which the SuperLink says that a node is gone: the next cohort is then without it.
    run = recorded(*_overrides(2, 400))
    run.hold(2, "masked-1")

    def kill_in_mid_run(deployment, wait):
        wait(lambda: run.is_ready(2, "masked-1"))
        deployment.kill(2)

    run.run(kill_in_mid_run, timeout=800)
    assert run.report["run"]["status"] == "finished"
    first, second, evaluation = run.rounds
    assert first["failed"].startswith("[AEG-S015] not enough clients: 2 remain, 3 are needed"), (
        "of three, all must answer"
    )
    assert [(x["node"], x["step"]) for x in first["lost"]] == [(run.node_ids[2], "masked")]
    assert (second["failed"], second["participants"]) == ("", sorted(run.node_ids[:2]))
    assert evaluation["participants"] == sorted(run.node_ids[:2])
    exact, plain, bound = run.predicted()
    assert (np.abs(run.model - plain) <= bound).all()
    np.testing.assert_array_equal(run.model, exact)


@pytest.mark.deployment
@pytest.mark.timeout(600)
def test_tls_and_supernode_authentication_with_keys_made_by_aegis(tmp_path):
    overrides = _overrides(1, 120)
    nodes = _nodes(tmp_path, overrides)
    output = tmp_path / "out"
    with Deployment(tmp_path / "deployment", nodes, tls=True, node_auth=True, startup_timeout=180) as deployment:
        done = deployment.run(
            QUICKSTART,
            {"aegis-experiment": "quickstart", "aegis-overrides": " ".join(overrides), "aegis-output": str(output)},
            timeout=400,
        )
    assert done.ok, done.log[-3000:]
    report = json.loads((output / "report.json").read_text())
    assert report["run"]["status"] == "finished"
    assert [len(r["participants"]) for r in report["rounds"]] == [3]
    assert report["results"]["test_rows"] > 0
    assert all(c["rows_allowed"] is None for c in report["clients"]), "the server does not learn a client's rows"


@pytest.mark.deployment
@pytest.mark.timeout(480)
def test_the_same_experiment_runs_on_flowers_own_simulation_engine(aegis, tmp_path):
    overrides = ["data.clients=3", "secagg.min_cohort=2", "strategy.rounds=1", "runtime=ray"]
    done = aegis("run", "experiment=quickstart", *overrides, "hydra.run.dir=out", timeout=420)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["run"]["status"] == "finished"
    assert report["run"]["runtime"] == "ray"
    assert [len(r["participants"]) for r in report["rounds"]] == [3]
    assert report["results"]["test_rows"] > 0
    for i in (1, 2, 3):
        vault = tmp_path / "out" / "vaults" / f"hospital-{i}"
        assert aegis("audit", "verify", vault).returncode == 0
