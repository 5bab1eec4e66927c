"""The quickstart: what ends a run, what a run survives, and other ways through it."""

import numpy as np
import pytest
from hospitals import HOSPITALS, decided, deterministic, is_initial, model_of, opened

from aegis_engine import audit_verify
from aegis_flower import (
    aegis_client_app,
    aegis_server_app,
    compose,
    run_inprocess,
)
from aegis_flower.errors import RunFailed
from aegis_flower.ledger import Ledger
from aegis_flower.node.node import close_nodes
from aegis_flower.report import load_report
from aegis_flower.simulations.provision import provision

# -- refusals -----------------------------------------------------------------------------------------------------


def test_a_purpose_outside_the_grant_is_refused_before_anything_is_opened(run):
    report, folder, seen = run("policy.purpose=marketing")
    assert report.run.status == "refused"
    assert "core.purpose" in report.run.reason
    assert is_initial(folder)
    assert seen.nothing
    for client in report.clients:
        assert client.refusals
        assert all("core.purpose" in r.reason and r.code == "AEG-P001" for r in client.refusals)
        assert client.epsilon == 0
        assert client.rows_allowed in (None, 0)
        decisions = decided(folder, client.node)
        assert decisions
        assert {d["decision"] for d in decisions} == {"deny"}, "no vault object was opened: there is no allow record"
        assert all(d["policies"] == ["core.purpose"] for d in decisions)
        assert client.audit.verified


def test_a_run_over_budget_is_refused_before_data_is_read(run):
    report, folder, seen = run("policy.budget_epsilon=0.5")
    assert report.run.status == "refused"
    assert "AEG-B001" in report.run.reason
    assert report.results.accuracy is None
    assert is_initial(folder, "policy.budget_epsilon=0.5")
    assert seen.nothing, "no model was shown a row"
    for client in report.clients:
        assert {r.code for r in client.refusals} == {"AEG-B001"}
        assert client.epsilon == 0
        assert client.steps == 0
        assert not decided(folder, client.node), "the budget is looked at before a permit is asked for"
        vault = opened(folder / "vaults", client.node)
        assert Ledger(vault, "breast_cancer").entries() == []
        assert not vault.audit_records("release")


def test_when_the_budget_ends_in_mid_run_the_earlier_rounds_stay(run):
    report, folder, _ = run("strategy.rounds=4", "policy.budget_epsilon=2.4", "evaluation.epsilon=1")
    assert report.run.status == "finished"
    sizes = [len(r.participants) for r in report.rounds]
    assert sizes[0] == 5
    assert sizes[-1] == 0
    assert sizes == sorted(sizes, reverse=True)
    assert all(c.epsilon <= 2.4 for c in report.clients)
    assert all(c.rounds_taken_part == sum(s > 0 for s in sizes) for c in report.clients)
    assert all({r.code for r in c.refusals} == {"AEG-B001"} for c in report.clients)
    assert report.results.accuracy is not None, "the model of the rounds that were paid for is measured"
    assert not is_initial(folder)


def _run_against_strict_nodes(tmp_path, *overrides):
    """A researcher's lenient run against vaults whose stewards laid down the quickstart's own, strict terms."""
    nodes = provision(compose("quickstart"), tmp_path / "vaults")
    cfg = compose("quickstart", ["tracking.html=false", "strategy.rounds=2", *overrides])
    output = tmp_path / "out"
    try:
        with pytest.raises(RunFailed) as error:
            run_inprocess(
                aegis_server_app(cfg),
                aegis_client_app(config=cfg),
                [n.node_config for n in nodes],
                run_config={"aegis-output": str(output)},
            )
    finally:
        close_nodes()
    return load_report(output / "report.json"), output, str(error.value)


def test_a_run_without_dp_is_refused_where_the_data_demand_dp(tmp_path):
    overrides = ["policy.require_dp=false", "privacy.mode=off"]
    report, output, error = _run_against_strict_nodes(tmp_path, *overrides)
    assert report.run.status == "refused"
    assert "AEG-N011" in error
    assert "require_dp" in error
    assert len(report.clients) == 5
    assert all({r.code for r in c.refusals} == {"AEG-N011"} for c in report.clients)
    assert is_initial(output, *overrides)


def test_a_run_in_clear_is_refused_where_the_data_demand_masks(tmp_path):
    overrides = ["secagg=clear", "policy.require_secure_aggregation=false"]
    report, output, error = _run_against_strict_nodes(tmp_path, *overrides)
    assert report.run.status == "refused"
    assert "require_secure_aggregation" in error
    assert len(report.clients) == 5
    assert all({r.code for r in c.refusals} == {"AEG-N011"} for c in report.clients)
    assert is_initial(output, *overrides)


# -- losses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["share", "masked", "unmask"])
def test_a_client_lost_at_a_step_never_costs_the_round(run, step):
    report, folder, _ = run(f"runtime.lose=[3@2:{step}]", "strategy.rounds=3")
    assert report.run.status == "finished"
    assert not is_initial(folder)
    rounds = {r.round: r for r in report.rounds}
    others = [h for h in HOSPITALS if h != "hospital-4"]
    assert list(rounds[1].participants) == HOSPITALS
    # its shares had come with round 1's unmask step: the next message it misses is the masked request
    missed = "masked" if step == "share" else step
    assert [(x.node, x.step) for x in rounds[2].lost] == [("hospital-4", missed)]
    # Its masked input had arrived before the unmask step: it is in the sum all the same (Bonawitz 2017 section 4).
    assert list(rounds[2].participants) == (HOSPITALS if step == "unmask" else others)
    assert list(rounds[3].participants) == others


def test_too_few_clients_end_the_run_with_the_model_unchanged(run):
    report, folder, _ = run("runtime.lose=[0@1:masked,1@1:masked,2@1:masked]", "strategy.rounds=1")
    assert report.run.status == "failed"
    assert "AEG-S015" in report.run.reason
    assert "not enough clients" in report.run.reason
    assert is_initial(folder)
    assert report.rounds[0].participants == ()
    assert report.results.accuracy is None


def test_a_round_with_too_few_clients_keeps_the_model_of_the_round_before(run):
    lost = "runtime.lose=[0@2:masked,1@2:masked,2@2:masked]"
    _, one, _ = run("strategy.rounds=1", *deterministic(1), name="one")
    report, two, _ = run("strategy.rounds=2", *deterministic(1), lost, name="two")
    assert report.run.status == "finished"
    assert [len(r.participants) for r in report.rounds] == [5, 0]
    for a, b in zip(model_of(one), model_of(two), strict=True):
        assert np.array_equal(a, b)


# -- other paths --------------------------------------------------------------------------------------------------


def test_updates_may_travel_in_clear_only_where_the_data_allow_it(run):
    report, folder, seen = run("secagg=clear", "policy.require_secure_aggregation=false", "strategy.rounds=3")
    assert report.run.status == "finished"
    assert not report.secagg.enabled
    assert [len(r.participants) for r in report.rounds] == [5, 5, 5]
    assert report.results.accuracy > 0.5
    assert set(seen.train) == set(HOSPITALS)
    assert all(c.audit.verified and c.epsilon > 0 for c in report.clients)
    assert not is_initial(folder)


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedyogi", "fedprox"])
def test_each_server_optimiser_runs_on_the_secure_mean(run, name):
    report, folder, _ = run(f"strategy={name}")
    assert report.run.status == "finished"
    assert [len(r.participants) for r in report.rounds] == [5, 5]
    assert not is_initial(folder)
    assert all(np.isfinite(a).all() for a in model_of(folder))


def test_server_optimisers_differ_where_they_should(run):
    models = {}
    for name in ("fedavg", "fedavgm", "fedadam", "fedyogi"):
        _, folder, _ = run(f"strategy={name}", *deterministic(2), name=name)
        models[name] = np.concatenate([a.ravel() for a in model_of(folder)])
    names = list(models)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert not np.allclose(models[a], models[b]), f"{a} and {b} gave the same model"


def test_a_second_run_on_the_same_vaults_adds_to_the_ledger_and_the_log(run, tmp_path):
    root = tmp_path / "root"
    first, _, _ = run(f"vault.root={root}", name="one")
    before = {h: Ledger(opened(root, h), "breast_cancer").spent(1e-5) for h in HOSPITALS}
    second, _, _ = run(f"vault.root={root}", name="two")
    for a, b in zip(first.clients, second.clients, strict=True):
        after = Ledger(opened(root, a.node), "breast_cancer").spent(1e-5)
        assert before[a.node].epsilon == pytest.approx(a.epsilon)
        assert after.runs == 2
        assert after.steps == a.steps + b.steps
        assert after.epsilon > before[a.node].epsilon
        assert b.epsilon == pytest.approx(a.epsilon), "the report of a run states what this run cost"
        kept = (a.audit.records, bytes.fromhex(a.audit.head))
        assert audit_verify(str(root / a.node / "audit"), expect=kept)["records"] == b.audit.records


def test_runs_on_the_same_vaults_are_refused_when_all_together_pass_the_budget(run, tmp_path):
    options = [f"vault.root={tmp_path / 'root'}", "policy.budget_epsilon=3.5"]
    assert run(*options, name="one")[0].run.status == "finished"
    report, _, seen = run(*options, name="two")
    assert report.run.status == "refused"
    assert seen.nothing
