"""A run that ends, ends with a report: interrupts, closed pipes, exceptions; and its numbers are those of the ledgers."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from aegis_engine import ComplianceEngine, Vault
from aegis_flower import VaultClient, aegis_client_app, compose, gate, run_experiment
from aegis_flower.ledger import Ledger, Mechanism, epsilon
from aegis_flower.report import load_report
from aegis_flower.report.collect import MISMATCH, clients_seen_by_server, unnoised
from aegis_flower.server import Outcome
from aegis_flower.strategies.rounds import Lost, RoundRecord

SMALL = ["strategy.rounds=2", "privacy.noise_multiplier=20", "tracking.html=false"]


def _start(folder, *overrides):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AEGIS_", "FLWR_", "HYDRA_"))}
    environment |= {"FLWR_TELEMETRY_ENABLED": "0", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    # A test run in the background may have SIGINT ignored, which children would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [sys.executable, "-m", "aegis", "run", "experiment=quickstart", "hydra.run.dir=out", *overrides],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_with_its_report_and_its_last_model(tmp_path, number, code):
    running = _start(tmp_path, "strategy.rounds=200", "privacy.noise_multiplier=60")
    for line in running.stdout:
        if "round   2" in line:
            break
    running.send_signal(number)
    _, errors = running.communicate(timeout=240)
    assert running.returncode == code
    assert "Traceback" not in errors
    assert "out" in errors, "it says where the report is"
    report = load_report(tmp_path / "out" / "report.json")
    assert report.run.status == "interrupted"
    assert all(c.epsilon > 0 for c in report.clients)
    with np.load(tmp_path / "out" / "model.npz") as model:
        assert any(model[k].any() for k in model.files), "the start is all zeros; this is a trained model"


def test_a_closed_pipe_costs_no_report(tmp_path):
    running = _start(tmp_path, *SMALL)
    running.stdout.readline()
    running.stdout.close()
    errors = running.stderr.read()
    assert running.wait(timeout=240) == 0, errors
    assert load_report(tmp_path / "out" / "report.json").run.status == "finished"


def test_an_exception_of_on_round_leaves_the_report_and_the_model_of_its_round(tmp_path):
    def stop(record):
        raise ZeroDivisionError("enough")

    with pytest.raises(ZeroDivisionError) as caught:
        run_experiment(compose("quickstart", SMALL), tmp_path / "run", on_round=stop)
    assert any("the report is in" in note for note in caught.value.__notes__)
    report = load_report(tmp_path / "run" / "report.json")
    assert (report.run.status, len(report.rounds)) == ("failed", 1)
    assert "enough" in report.run.reason
    with np.load(tmp_path / "run" / "model.npz") as model:
        assert any(model[k].any() for k in model.files)


def test_an_own_client_app_gets_the_configuration_of_the_run_and_the_report_is_the_ledgers(tmp_path):
    cfg = compose("quickstart", [*SMALL, "privacy.sample_rate=0.05", "privacy.steps_per_round=7"])
    report = run_experiment(cfg, tmp_path / "run", client_app=aegis_client_app(VaultClient))
    assert MISMATCH not in report.run.labels
    root = tmp_path / "run" / "vaults"
    for client in report.clients:
        vault = Vault.open(str(root / client.node), key_file=str(root / "keys" / f"{client.node}.key"))
        dataset = vault.datasets()["breast_cancer"]
        delta = ComplianceEngine(vault).terms(dataset)["delta"]
        entries = [e for e in Ledger(vault, dataset, delta=delta).entries() if e["kind"] == "reserve"]
        assert {(e["sample_rate"], e["steps"]) for e in entries} == {(0.05, 7)}
        assert client.epsilon == pytest.approx(Ledger(vault, dataset, delta=delta).spent(delta).epsilon)
        assert client.source == "ledger"


def test_an_app_that_trains_otherwise_than_the_run_says_is_shown_to(tmp_path):
    cfg = compose("quickstart", SMALL)
    other = compose("quickstart", [*SMALL, "privacy.steps_per_round=9"])
    report = run_experiment(cfg, tmp_path / "run", client_app=aegis_client_app(config=other))
    assert MISMATCH in report.run.labels
    assert any("9 steps for a round" in w for w in report.run.warnings)
    assert {c.steps for c in report.clients} == {18}


def test_a_run_that_spent_more_than_was_asked_for_says_what_it_spent(tmp_path):
    asked = ["privacy.epsilon=0.5", "privacy.noise_multiplier=1.0", "policy.budget_epsilon=100"]
    report = run_experiment(compose("quickstart", [*SMALL, *asked]), tmp_path / "run")
    root = tmp_path / "run" / "vaults"
    assert report.run.status == "finished"
    for client in report.clients:
        vault = Vault.open(str(root / client.node), key_file=str(root / "keys" / f"{client.node}.key"))
        spent = Ledger(vault, "breast_cancer").spent(1e-5).epsilon
        assert client.epsilon == pytest.approx(spent)
        assert spent > 1.0, "more than twice what was asked for"
    assert report.results.epsilon_max == pytest.approx(max(c.epsilon for c in report.clients))


def test_privacy_show_says_of_each_data_set_what_its_ledger_says_held_out_rows_too(aegis, tmp_path):
    run_experiment(compose("quickstart", SMALL), tmp_path / "run")
    root = tmp_path / "run" / "vaults"
    key = root / "keys" / "hospital-1.key"
    done = aegis("privacy", "show", root / "hospital-1", key_file=key)
    assert done.returncode == 0, done.stderr
    vault = Vault.open(str(root / "hospital-1"), key_file=str(key))
    for name in ("breast_cancer", "breast_cancer.holdout"):
        (row,) = [line.split() for line in done.stdout.splitlines() if name in line.split() and "ε" not in line]
        spent = Ledger(vault, name).spent(1e-5).epsilon
        assert spent > 0.01
        assert f"{spent:.3f}" in row
        assert "(1" in row, "rows of the person with most of them"


def test_what_a_server_says_of_nodes_it_cannot_read_is_the_most_they_can_have_spent():
    cfg = compose("quickstart", ["privacy.epsilon=0.5", "privacy.noise_multiplier=1.0"])
    rounds = [RoundRecord(1, participants=[1, 2]), RoundRecord(2, participants=[1], lost=[Lost(2, "masked", "")])]
    found = clients_seen_by_server(cfg, Outcome(cfg, 1.0, rounds=rounds))
    most = epsilon({Mechanism(1.0, cfg.privacy.sample_rate, cfg.privacy.clip): 2 * cfg.privacy.steps_per_round}, 1e-5)
    assert most > 1.0
    assert [(c.node, c.source, c.epsilon) for c in found] == [(f"node-{n}", "upper_bound", most) for n in (1, 2)]


def test_run_and_total_differ_when_vaults_are_used_again(tmp_path):
    root = f"vault.root={tmp_path / 'vaults'}"
    first = run_experiment(compose("quickstart", [*SMALL, root]), tmp_path / "one")
    again = run_experiment(compose("quickstart", [*SMALL, root]), tmp_path / "two")
    for a, b in zip(first.clients, again.clients, strict=True):
        assert a.epsilon == b.epsilon == a.epsilon_total
        assert b.epsilon_total > b.epsilon * 1.2
        assert b.evaluation.epsilon_total > b.evaluation.epsilon


def test_what_left_without_noise_is_listed():
    off = compose("quickstart", ["privacy=off", "policy.require_dp=false"])
    assert any("the model updates" in each for each in unnoised(off, [], gate.declared(off)))
    assert any("counts over held-out rows" in each for each in unnoised(off, [], gate.declared(off)))
    test = compose("quickstart", ["privacy.noise=insecure_test", "policy.require_dp=false"])
    assert any("seed" in each for each in unnoised(test, [], gate.declared(test)))
    rows = compose("quickstart", ["privacy=off", "policy.require_dp=false", "secagg.weighting=rows"])
    assert any("number of training rows" in each for each in unnoised(rows, [], gate.declared(rows)))
    plain = compose("quickstart")
    assert list(unnoised(plain, [], gate.declared(plain))) == [
        "which clients took part in which round, what they call themselves, and error codes"
    ]


def test_an_own_model_is_built_on_both_sides(tmp_path):
    from torch import nn

    def model():
        return nn.Sequential(nn.Linear(30, 8), nn.Tanh(), nn.Linear(8, 2))

    report = run_experiment(compose("quickstart", SMALL), tmp_path / "run", model=model)
    assert report.run.status == "finished"
    with np.load(tmp_path / "run" / "model.npz") as saved:
        assert [saved[k].shape for k in saved.files] == [(8, 30), (8,), (2, 8), (2,)]


def test_a_sweep_lists_every_trial_and_composes_over_seeds(aegis, tmp_path):
    done = aegis("run", "-m", "experiment=quickstart", "seed=1,2", *SMALL, "hydra.sweep.dir=sweep", timeout=500)
    assert done.returncode == 0, done.stderr
    sweep = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    each = [t["epsilon_max"] for t in sweep["trials"]]
    assert sweep["charged"]["epsilon"] > max(each) * 1.2
    assert "2 trials on the same people" in done.stdout, "it says what it will cost before it starts"
