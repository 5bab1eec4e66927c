"""Real SuperLink, SuperNodes and `flwr run` on loopback. Bounded in time; everything is stopped at the end."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from aegis_engine import clip_l2
from aegis_flower.config import compose
from aegis_flower.ingest import provision
from aegis_flower.server import initial_arrays
from aegis_flower.simulations.deployment import Deployment, NodeSpec

RECORDER = Path(__file__).parent / "recorder"
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


def _updates(folder, round_):
    """Plain updates of a round by node id, as the nodes noted them, clipped as the engine clips."""
    found = {}
    for path in folder.glob(f"*.round-{round_}.npz"):
        with np.load(path) as noted:
            update = noted["update"].copy()
            clip_l2(update, 4.0)
            found[int(noted["node"])] = update.astype(np.float64)
    return found


@pytest.mark.deployment
@pytest.mark.timeout(900)
def test_a_supernode_killed_in_mid_run_leaves_the_correct_mean_of_the_others(tmp_path):
    overrides = _overrides(2, 120)
    nodes = _nodes(tmp_path, overrides)
    output = tmp_path / "out"
    run_config = {
        "aegis-experiment": "quickstart",
        "aegis-overrides": " ".join(overrides),
        "aegis-output": str(output),
    }
    with Deployment(tmp_path / "deployment", nodes, startup_timeout=180) as deployment:
        killed = threading.Event()

        def kill_in_mid_run():
            until = time.monotonic() + 360
            while time.monotonic() < until and len(_updates(tmp_path / "vaults" / "updates", 1)) < 3:
                time.sleep(0.2)
            deployment.kill(2)
            killed.set()

        killer = threading.Thread(target=kill_in_mid_run, daemon=True)
        killer.start()
        done = deployment.run(RECORDER, run_config, timeout=600)
        killer.join(timeout=1)
    assert killed.is_set()
    assert done.ok, done.log[-3000:]

    report = json.loads((output / "report.json").read_text())
    assert report["run"]["status"] == "finished"
    model = np.concatenate([a.ravel() for a in initial_arrays(compose("quickstart", overrides)).to_numpy_ndarrays()])
    model = model.astype(np.float64)
    sizes = []
    for entry in report["rounds"]:
        takers = [int(name.removeprefix("node-")) for name in entry["participants"]]
        sizes.append(len(takers))
        if takers:
            updates = _updates(tmp_path / "vaults" / "updates", entry["round"])
            model = (model + np.mean([updates[n] for n in takers], axis=0)).astype(np.float32).astype(np.float64)
    assert sizes[-1] == 2, "the last round is over the two that are left"
    assert any(x["lost"] for x in report["rounds"])
    with np.load(output / "model.npz") as saved:
        got = np.concatenate([saved[k].ravel() for k in saved.files])
    # Half a quantisation step (2^-19 of the range 4) a round, plus float32 rounding of the model.
    np.testing.assert_allclose(got, model, atol=2 * 4 / 2**19)


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
