"""The quickstart, all the way: ingest, vault, permit, stream, train, gate, mask, aggregate, account, report."""

import json
from collections import Counter
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from flwr.serverapp import ServerApp

import aegis_flower
from aegis_engine import Vault, audit_read, audit_verify, clip_l2, encode_update
from aegis_flower import (
    SecureAggregation,
    VaultClient,
    aegis_client_app,
    aegis_server_app,
    compose,
    datasets,
    run_inprocess,
)
from aegis_flower.configs import parse_loss
from aegis_flower.errors import RunFailed
from aegis_flower.gate import METRIC_MAX, METRICS
from aegis_flower.ledger import Ledger
from aegis_flower.node.node import close_nodes
from aegis_flower.report import load_report
from aegis_flower.server import initial_arrays, inner_strategy
from aegis_flower.simulations.provision import minimum_rows, provision

HOSPITALS = [f"hospital-{i}" for i in range(1, 6)]


def _decisions(folder, node, run=None):
    records = audit_read(str(folder / "vaults" / node / "audit"))
    return [r for r in records if r["event"] == "authorize" and run in (None, r["run"])]


def _open(root, node):
    return Vault.open(str(root / node), key_file=str(root / "keys" / f"{node}.key"))


def _model(folder):
    with np.load(folder / "model.npz") as saved:
        return [saved[k] for k in saved.files]


def _is_initial(folder, *overrides):
    start = initial_arrays(compose("quickstart", list(overrides))).to_numpy_ndarrays()
    return all(np.array_equal(a, b) for a, b in zip(_model(folder), start, strict=True))


# -- a good run ---------------------------------------------------------------------------------------------------


def test_the_quickstart_as_configured_beats_the_majority_class_within_its_budget(run):
    cfg = compose("quickstart")
    report, folder, _ = run(f"strategy.rounds={cfg.strategy.rounds}")
    assert report.run.status == "finished"
    assert report.run.private
    assert len(report.rounds) == cfg.strategy.rounds >= 10
    assert report.results.accuracy > report.results.majority_class_accuracy + 0.1
    assert [c.node for c in report.clients] == HOSPITALS
    for client in report.clients:
        assert client.audit.verified
        assert 0 < client.epsilon <= cfg.privacy.epsilon
        assert client.rounds_taken_part == cfg.strategy.rounds
        assert client.steps == cfg.total_steps
        assert not client.refusals
    assert not _is_initial(folder)


def test_the_audit_head_of_the_report_is_the_head_of_the_log(run):
    report, folder, _ = run()
    for client in report.clients:
        kept = (client.audit.records, bytes.fromhex(client.audit.head))
        result = audit_verify(str(folder / "vaults" / client.node / "audit"), expect=kept)
        assert (result["records"], result["head"]) == (client.audit.records, client.audit.head)


def test_report_json_conforms_to_the_published_schema_and_loads_again(run):
    report, folder, _ = run()
    schema = json.loads((Path(aegis_flower.__file__).parent / "report.schema.json").read_text())
    written = json.loads((folder / "report.json").read_text())
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(written)
    assert load_report(folder / "report.json") == report


def test_no_row_of_a_withdrawn_subject_reaches_a_model_and_every_other_row_may(run, tmp_path):
    # Rate 1 makes each step see all permitted rows, so that "every other" is exact and not a matter of luck.
    root = tmp_path / "root"
    overrides = [
        "data.withdrawn=0",
        "privacy.sample_rate=1.0",
        "policy.budget_epsilon=50",
        "policy.min_rows=16",
        f"vault.root={root}",
    ]
    cfg = compose("quickstart", overrides)
    provision(cfg, root)
    source, _ = datasets.load(cfg.data)
    spec = source.spec
    features = np.concatenate([source.columns[c] for c in spec.columns], axis=1).astype(np.float32)
    parts = datasets.partition(source.labels, cfg.data, cfg.seed, minimum_rows(cfg))
    withdrawn = {}
    for node, part in zip(HOSPITALS, parts, strict=True):
        withdrawn[node] = [int(i) for i in part[::9]]
        vault = _open(root, node)
        for i in withdrawn[node]:
            vault.consent_withdraw(source.subjects[i], "research")
        del vault

    report, _, seen = run(*overrides)

    assert report.run.status == "finished"
    for client, part in zip(report.clients, parts, strict=True):
        node = client.node
        gone = {features[i].tobytes() for i in withdrawn[node]}
        mine = {features[i].tobytes() for i in part}
        saw = seen.train[node] | seen.evaluate[node]
        assert not saw & gone, f"{node}: a row of a subject who withdrew was decrypted into a model"
        assert saw == mine - gone, f"{node}: rows of subjects who consent are used, and nobody else's"
        assert not seen.train[node] & seen.evaluate[node], f"{node}: nothing is trained on the holdout"
        assert client.rows_allowed == len(seen.train[node])
        denied = Counter(client.rows_denied)
        holdout = next(d for d in reversed(_decisions_at(root, node)) if d["action"] == "evaluate")
        denied.update(holdout["rows_denied"])
        assert denied == {"core.consent": len(withdrawn[node])}


def _decisions_at(root, node):
    return [r for r in audit_read(str(root / node / "audit")) if r["event"] == "authorize"]


def test_the_configured_share_of_subjects_is_denied_and_counted_by_reason(run):
    report, folder, _ = run("data.withdrawn=0.2")
    for client in report.clients:
        newest = [d for d in _decisions(folder, client.node) if d["action"] == "train"][-1]
        rows = newest["rows_candidates"]
        assert client.rows_denied == {"core.consent": round(rows * 0.2)}
        assert client.rows_allowed == rows - round(rows * 0.2)


# -- refusals -----------------------------------------------------------------------------------------------------


def test_a_purpose_outside_the_grant_is_refused_before_anything_is_opened(run):
    report, folder, seen = run("policy.purpose=marketing")
    assert report.run.status == "refused"
    assert "core.purpose" in report.run.reason
    assert _is_initial(folder)
    assert seen.nothing
    for client in report.clients:
        assert client.refusals
        assert all("core.purpose" in r.reason and r.code == "AEG-P001" for r in client.refusals)
        assert client.epsilon == 0
        assert client.rows_allowed in (None, 0)
        decisions = _decisions(folder, client.node)
        assert decisions
        assert {d["decision"] for d in decisions} == {"deny"}, "no vault object was opened: there is no allow record"
        assert all(d["policies"] == ["core.purpose"] for d in decisions)
        assert client.audit.verified


def test_a_run_over_budget_is_refused_before_data_is_read(run):
    report, folder, seen = run("policy.budget_epsilon=0.5")
    assert report.run.status == "refused"
    assert "AEG-B001" in report.run.reason
    assert report.results.accuracy is None
    assert _is_initial(folder, "policy.budget_epsilon=0.5")
    assert seen.nothing, "no model was shown a row"
    for client in report.clients:
        assert {r.code for r in client.refusals} == {"AEG-B001"}
        assert client.epsilon == 0
        assert client.steps == 0
        assert not _decisions(folder, client.node), "the budget is looked at before a permit is asked for"
        vault = _open(folder / "vaults", client.node)
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
    assert not _is_initial(folder)


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
    assert _is_initial(output, *overrides)


def test_a_run_in_clear_is_refused_where_the_data_demand_masks(tmp_path):
    overrides = ["secagg=clear", "policy.require_secure_aggregation=false"]
    report, output, error = _run_against_strict_nodes(tmp_path, *overrides)
    assert report.run.status == "refused"
    assert "require_secure_aggregation" in error
    assert len(report.clients) == 5
    assert all({r.code for r in c.refusals} == {"AEG-N011"} for c in report.clients)
    assert _is_initial(output, *overrides)


# -- losses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["share", "masked", "unmask"])
def test_a_client_lost_at_a_step_never_costs_the_round(run, step):
    report, folder, _ = run(f"runtime.lose=[3@2:{step}]", "strategy.rounds=3")
    assert report.run.status == "finished"
    assert not _is_initial(folder)
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
    assert _is_initial(folder)
    assert report.rounds[0].participants == ()
    assert report.results.accuracy is None


def test_a_round_with_too_few_clients_keeps_the_model_of_the_round_before(run):
    lost = "runtime.lose=[0@2:masked,1@2:masked,2@2:masked]"
    _, one, _ = run("strategy.rounds=1", *_deterministic(1), name="one")
    report, two, _ = run("strategy.rounds=2", *_deterministic(1), lost, name="two")
    assert report.run.status == "finished"
    assert [len(r.participants) for r in report.rounds] == [5, 0]
    for a, b in zip(_model(one), _model(two), strict=True):
        assert np.array_equal(a, b)


def _deterministic(steps):
    """Test noise from the config's seed, so that two runs can be compared."""
    return [
        "privacy.noise=insecure_test",
        "policy.require_dp=false",
        "privacy.noise_multiplier=1.0",
        "policy.budget_epsilon=100",
        f"privacy.steps_per_round={steps}",
    ]


# -- what the server receives -------------------------------------------------------------------------------------


class _Summing(SecureAggregation):
    """Keeps the engine's sums beside what is done with them."""

    sums: dict

    def _close(self):
        record = self._current
        sums = super()._close()
        for summed in sums:  # one group
            self.sums[record.round, record.task] = summed
        return sums


def _observed_run(tmp_path, *overrides):
    """One masked run with its plain updates noted at the clients, its received bytes and sums at the server."""
    noise = ["privacy.noise_multiplier=0.8", "policy.budget_epsilon=100"]
    cfg = compose("quickstart", ["model=mlp", "model.hidden=[64]", "strategy.rounds=2", *noise, *overrides])
    nodes = provision(cfg, tmp_path / "vaults")
    plain, received = {}, {}

    class Noting(VaultClient):
        def train_round(self, parameters, round_, noise_multiplier):
            trained = super().train_round(parameters, round_, noise_multiplier)
            update = trained.update.copy()
            clip_l2(update, cfg.strategy.max_norm)
            # Nobody asks for counts: zeros are in their place.
            plain[round_, self.context.node_id] = [update, trained.permit.rows, dict.fromkeys(METRICS, 0)]
            return trained

    strategy = _Summing(
        inner_strategy(cfg),
        cohort=5,
        noise_multiplier=0.8,
        evaluate="never",
        observer=lambda round_, node, raw: received.__setitem__((round_, node), raw),
    )
    strategy.sums = {}
    server = ServerApp()

    @server.main()
    def main(grid, context):
        strategy.start(grid, initial_arrays(cfg), num_rounds=cfg.strategy.rounds)

    try:
        run_inprocess(
            server,
            aegis_client_app(Noting, config=cfg),
            [n.node_config for n in nodes],
            lose=[parse_loss(x) for x in cfg.runtime.lose],
        )
    finally:
        close_nodes()
    dim = sum(a.size for a in initial_arrays(cfg).to_numpy_ndarrays())
    weigh = cfg.secagg.weighting == "rows"
    encoded = {
        key: np.array(
            encode_update(
                update,
                rows if weigh else 1,
                [counts[m] for m in METRICS],
                names=list(METRICS),
                clip=cfg.strategy.max_norm,
                value_bits=cfg.secagg.value_bits,
                weight_max=cfg.secagg.weight_max,
                metric_max=METRIC_MAX,
                max_clients=5,
            ),
            dtype=np.int64,
        )
        for key, (update, rows, counts) in plain.items()
    }
    assert all(len(e) >= dim for e in encoded.values())
    return strategy, received, encoded


def _bodies(strategy, received, encoded):
    """The packed ring elements of each message; a short header comes before them."""
    width = strategy.ring_bits // 8
    return {key: received[key][-width * len(encoded[key]) :] for key in received if key in encoded}


def test_received_vectors_are_uniform_bytes_and_nothing_like_the_plain_updates(tmp_path):
    strategy, received, encoded = _observed_run(tmp_path)
    bodies = _bodies(strategy, received, encoded)
    assert len(bodies) == 10
    width = strategy.ring_bits // 8
    for key, body in bodies.items():
        assert len(received[key]) - len(body) < 64, "all but a header is masked"
        assert _chi_square(body) < _LIMIT, f"{key}: the received bytes are not uniform"
        words = np.frombuffer(body, np.uint8).reshape(-1, width).astype(object)
        values = sum(words[:, i] << (8 * i) for i in range(width))
        same = sum(int(v) == int(p) % (1 << strategy.ring_bits) for v, p in zip(values, encoded[key], strict=True))
        assert same <= 1, f"{key}: received elements equal plain ones"
        mine = _packed(encoded[key], width)
        assert _chi_square(mine) > 10 * _LIMIT, "the same test tells a plain update at once"
    assert _chi_square(b"".join(bodies.values())) < _LIMIT
    for node in range(1, 6):
        assert bodies[1, node] != bodies[2, node]


# Chi-square of 255 degrees of freedom at alpha = 1e-6 (scipy.stats.chi2.isf(1e-6, 255) = 376.0).
_LIMIT = 376.1


def _chi_square(raw):
    counts = np.bincount(np.frombuffer(raw, np.uint8), minlength=256)
    expected = len(raw) / 256
    assert expected > 5, "too few bytes for the test"
    return float(((counts - expected) ** 2 / expected).sum())


def _packed(values, width):
    return b"".join((int(v) % (1 << (8 * width))).to_bytes(width, "little") for v in values)


@pytest.mark.parametrize(
    "more", [[], ["secagg.weighting=rows", "policy.require_dp=false"], ["runtime.lose=[1@2:masked]"]], ids=str
)
def test_the_unmasked_sum_is_the_plain_integer_sum_bit_for_bit(tmp_path, more):
    strategy, _, encoded = _observed_run(tmp_path, *more)
    for round_ in (1, 2):
        summed = strategy.sums[round_, "train"]
        assert len(summed.contributors) == (4 if round_ == 2 and "lose" in str(more) else 5)
        expected = np.sum([encoded[round_, node] for node in summed.contributors], axis=0)
        got = np.array(summed.integers(), dtype=np.int64)
        assert np.any(expected)
        assert np.array_equal(got, expected)


# -- other paths --------------------------------------------------------------------------------------------------


def test_updates_may_travel_in_clear_only_where_the_data_allow_it(run):
    report, folder, seen = run("secagg=clear", "policy.require_secure_aggregation=false", "strategy.rounds=3")
    assert report.run.status == "finished"
    assert not report.secagg.enabled
    assert [len(r.participants) for r in report.rounds] == [5, 5, 5]
    assert report.results.accuracy > 0.5
    assert set(seen.train) == set(HOSPITALS)
    assert all(c.audit.verified and c.epsilon > 0 for c in report.clients)
    assert not _is_initial(folder)


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedyogi", "fedprox"])
def test_each_server_optimiser_runs_on_the_secure_mean(run, name):
    report, folder, _ = run(f"strategy={name}")
    assert report.run.status == "finished"
    assert [len(r.participants) for r in report.rounds] == [5, 5]
    assert not _is_initial(folder)
    assert all(np.isfinite(a).all() for a in _model(folder))


def test_server_optimisers_differ_where_they_should(run):
    models = {}
    for name in ("fedavg", "fedavgm", "fedadam", "fedyogi"):
        _, folder, _ = run(f"strategy={name}", *_deterministic(2), name=name)
        models[name] = np.concatenate([a.ravel() for a in _model(folder)])
    names = list(models)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert not np.allclose(models[a], models[b]), f"{a} and {b} gave the same model"


def test_test_noise_gives_the_same_model_twice_and_is_stamped(run):
    first, one, _ = run(*_deterministic(2), name="one")
    second, two, _ = run(*_deterministic(2), name="two")
    assert not first.run.private
    assert not second.run.private
    assert first.run.labels == ("NOT PRIVATE",)
    for a, b in zip(_model(one), _model(two), strict=True):
        assert np.array_equal(a, b)


def test_secure_noise_gives_another_model_each_time(run):
    _, one, _ = run(name="one")
    _, two, _ = run(name="two")
    assert not np.array_equal(
        np.concatenate([a.ravel() for a in _model(one)]), np.concatenate([a.ravel() for a in _model(two)])
    )


def test_a_second_run_on_the_same_vaults_adds_to_the_ledger_and_the_log(run, tmp_path):
    root = tmp_path / "root"
    first, _, _ = run(f"vault.root={root}", name="one")
    before = {h: Ledger(_open(root, h), "breast_cancer").spent(1e-5) for h in HOSPITALS}
    second, _, _ = run(f"vault.root={root}", name="two")
    for a, b in zip(first.clients, second.clients, strict=True):
        after = Ledger(_open(root, a.node), "breast_cancer").spent(1e-5)
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


def test_the_audit_head_a_node_reports_has_what_its_other_processes_recorded(tmp_path):
    # Under Ray each message of a node may meet another process, each with its own open vault.
    one = Vault.create(str(tmp_path / "vault"), key_file=str(tmp_path / "key"), make_key=True)
    other = Vault.open(str(tmp_path / "vault"), key_file=str(tmp_path / "key"))
    before = one.audit_head()
    other.record("test.event", {"n": 1})
    assert one.audit_head() == other.audit_head() != before
