"""The quickstart's privacy: whose rows are read, what noise repeats, and what the server receives."""

from collections import Counter

import numpy as np
import pytest
from flwr.serverapp import ServerApp
from hospitals import HOSPITALS, decided, deterministic, model_of, opened

from aegis_engine import audit_read, clip_l2, encode_update
from aegis_flower import (
    SecureAggregation,
    VaultClient,
    aegis_client_app,
    compose,
    datasets,
    run_inprocess,
)
from aegis_flower.configs import parse_loss
from aegis_flower.gate import METRIC_MAX, METRICS
from aegis_flower.node.node import close_nodes
from aegis_flower.server import initial_arrays, inner_strategy
from aegis_flower.simulations.provision import minimum_rows, provision


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
        vault = opened(root, node)
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
        newest = [d for d in decided(folder, client.node) if d["action"] == "train"][-1]
        rows = newest["rows_candidates"]
        assert client.rows_denied == {"core.consent": round(rows * 0.2)}
        assert client.rows_allowed == rows - round(rows * 0.2)


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


def test_test_noise_gives_the_same_model_twice_and_is_stamped(run):
    first, one, _ = run(*deterministic(2), name="one")
    second, two, _ = run(*deterministic(2), name="two")
    assert not first.run.private
    assert not second.run.private
    assert first.run.labels == ("NOT PRIVATE",)
    for a, b in zip(model_of(one), model_of(two), strict=True):
        assert np.array_equal(a, b)


def test_secure_noise_gives_another_model_each_time(run):
    _, one, _ = run(name="one")
    _, two, _ = run(name="two")
    assert not np.array_equal(
        np.concatenate([a.ravel() for a in model_of(one)]), np.concatenate([a.ravel() for a in model_of(two)])
    )
