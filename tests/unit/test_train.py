"""DP-SGD: what one record can do, what the noise is, what is left behind."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Context, RecordDict
from scipy import stats
from torch import nn

from aegis_engine import ComplianceEngine, Rng, Vault
from aegis_flower.client import VaultClient, load
from aegis_flower.config import Config, PrivacyConfig, from_dict
from aegis_flower.datasets import Spec
from aegis_flower.errors import AppError, BudgetExceeded
from aegis_flower.ingest import Terms, ingest
from aegis_flower.node import Node, NodeConfig
from aegis_flower.stream import PermitDataset
from aegis_flower.train import TrainResult, evaluate, per_sample, train

ALPHA = 1e-6
CPU = torch.device("cpu")
CE = nn.functional.cross_entropy
QUIET = 1e-7  # a noise multiplier that hides nothing, to see the sums behind it

Stream = Callable[[np.ndarray, np.ndarray], PermitDataset]


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    """Takes rows through a vault and a permit. The next call's consents revoke the stream of the one before."""
    vault = Vault.create(str(tmp_path / "vault"), key_file=str(tmp_path / "key"), make_key=True)
    vault.govern("core")
    engine, number = ComplianceEngine(vault), itertools.count()

    def make(x: np.ndarray, y: np.ndarray) -> PermitDataset:
        columns = {"x": np.asarray(x, np.float32), "y": np.asarray(y, np.int64)}
        subjects = [f"person-{i}" for i in range(len(y))]
        dataset = ingest(vault, f"rows-{next(number)}", columns, subjects, Terms(["research"]))
        permit = engine.authorize(dataset, action="train", purpose="research")
        return PermitDataset(vault, permit, Spec({"x": columns["x"].shape[1]}, "y", 2))

    return make


def some_rows(rows: int = 40, features: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, features)).astype(np.float32), np.arange(rows) % 2


def zeros(features: int, classes: int) -> nn.Linear:
    layer = nn.Linear(features, classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def flat(model: nn.Module) -> np.ndarray:
    return torch.cat([p.detach().ravel() for p in model.parameters()]).numpy().astype(np.float64)


def run(
    model: nn.Module, data: PermitDataset, sigma: float, *, loss: Any = CE, lr: float = 1.0, **cfg: Any
) -> TrainResult:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return train(model, loss, optimizer, data, PrivacyConfig(**cfg), sigma, Rng(), CPU)


def nothing_to_learn(out: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return (out * 0.0).mean()


def assert_std(values: np.ndarray, std: float) -> None:
    """Chi-square test of the variance and z-test of the mean, each at ALPHA."""
    n = len(values)
    low, high = stats.chi2.ppf([ALPHA / 2, 1 - ALPHA / 2], n)
    assert low < float(np.sum((values / std) ** 2)) < high
    assert abs(values.mean()) < stats.norm.ppf(1 - ALPHA / 2) * std / np.sqrt(n)


# -- noise ------------------------------------------------------------------------------------------------------------


def test_the_noise_has_the_claimed_standard_deviation(stream: Stream) -> None:
    """σ · clip in each coordinate of the sum, over the expected batch of 0.25 · 40 rows, times the learning rate."""
    model = zeros(3, 5000)
    run(model, stream(*some_rows()), 1.7, loss=nothing_to_learn, lr=0.5, clip=0.8, sample_rate=0.25, steps_per_round=1)
    assert_std(flat(model), 0.5 * 1.7 * 0.8 / 10)


def test_every_step_is_noised_anew(stream: Stream) -> None:
    model = zeros(3, 5000)
    run(model, stream(*some_rows()), 1.0, loss=nothing_to_learn, sample_rate=0.5, steps_per_round=4)
    assert_std(flat(model), np.sqrt(4) * 1.0 / 20)


def test_noise_is_normal(stream: Stream) -> None:
    model = zeros(3, 5000)
    run(model, stream(*some_rows()), 1.0, loss=nothing_to_learn, sample_rate=1.0, steps_per_round=1)
    assert stats.kstest(flat(model) * 40, "norm").pvalue > ALPHA


def test_an_empty_batch_is_still_a_noised_step(stream: Stream) -> None:
    model = zeros(3, 5000)
    done = run(model, stream(*some_rows()), 1.3, sample_rate=1e-9, steps_per_round=3)
    assert done == TrainResult(steps=3, rows=40, empty_batches=3)
    assert_std(flat(model), np.sqrt(3) * 1.3)  # the expected batch counts as one row at least


# -- one record's sway --------------------------------------------------------------------------------------------------

CLIP = 0.7


def clipped_sum(stream: Stream, model: nn.Module, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sum of clipped gradients over all rows, read off one step."""
    trained = copy.deepcopy(model)
    run(trained, stream(x, y), QUIET, clip=CLIP, sample_rate=1.0, steps_per_round=1)
    return (flat(model) - flat(trained)) * len(y)


@pytest.mark.parametrize("hidden", [0, 6])
def test_one_record_moves_the_sum_by_at_most_the_clip(stream: Stream, hidden: int) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, hidden), nn.Tanh(), nn.Linear(hidden, 2)) if hidden else nn.Linear(3, 2)
    x, y = some_rows(12)
    without = clipped_sum(stream, model, x, y)
    extremes = [1e-30, 1e4, 1e18, 1e30, 3e38, np.inf, -np.inf, np.nan]
    records = [np.full(3, v, np.float32) for v in extremes]
    records += [np.float32([0, 0, 0]), np.float32([1e30, -1e30, 1]), np.float32([0, np.nan, 1])]
    for record in records:
        moved = clipped_sum(stream, model, np.vstack([x, record]), np.append(y, 1)) - without
        assert np.linalg.norm(moved) <= CLIP * (1 + 1e-4), record


def test_a_record_that_is_not_finite_leaves_the_others_their_say(stream: Stream) -> None:
    """Its gradient counts as zero where it is not finite; without that, the whole sum would be lost and show its presence."""
    x, y = some_rows(12)
    model = nn.Linear(3, 2)
    moved = clipped_sum(stream, model, np.vstack([x, np.full(3, np.nan, np.float32)]), np.append(y, 1))
    np.testing.assert_allclose(moved, clipped_sum(stream, model, x, y), atol=1e-4)


def test_large_gradients_are_clipped_to_the_bound_and_small_ones_kept(stream: Stream) -> None:
    model = zeros(3, 2)
    big = clipped_sum(stream, model, np.full((1, 3), 100.0, np.float32), np.array([0]))
    assert np.linalg.norm(big) == pytest.approx(CLIP, rel=1e-4)
    x = np.full((1, 3), 0.1, np.float32)
    small = clipped_sum(stream, model, x, np.array([0]))
    # logistic regression at zero: the gradient is (softmax - one-hot) times the input, and the bias's is that alone
    by_hand = np.outer([-0.5, 0.5], [*x[0], 1])
    np.testing.assert_allclose(
        small, np.concatenate([by_hand[:, :3].ravel(), by_hand[:, 3]]) * min(1, CLIP / 0.7178), atol=2e-3
    )


def test_the_sum_is_divided_by_the_expected_batch_never_by_the_drawn_one(stream: Stream) -> None:
    """All records alike and clipped: the step is (drawn / expected) · clip, so the drawn count can be read off it."""
    data = stream(np.full((40, 3), 50.0, np.float32), np.zeros(40))
    drawn = []
    for _ in range(10):
        model = zeros(3, 2)
        run(model, data, QUIET, clip=1.0, sample_rate=0.5, steps_per_round=1)
        drawn.append(np.linalg.norm(flat(model)) * 20)
    assert all(abs(count - round(count)) < 1e-2 for count in drawn)
    assert {round(count) for count in drawn} != {20}
    low, high = stats.binom.ppf([ALPHA / 2, 1 - ALPHA / 2], 400, 0.5)
    assert low <= sum(drawn) <= high


# -- without DP, and FedProx ----------------------------------------------------------------------------------------------


def plain_sgd(
    model: nn.Module, data: PermitDataset, batches: list[np.ndarray], expected: float, lr: float, mu: float
) -> None:
    start = [p.detach().clone() for p in model.parameters()]
    for batch in batches:
        x, y = data.__getitems__(batch)
        gradients = [torch.zeros_like(p) for p in model.parameters()]
        if len(batch):
            gradients = list(torch.autograd.grad(CE(model(x), y, reduction="sum") / expected, list(model.parameters())))
        with torch.no_grad():
            for p, g in zip(model.parameters(), gradients, strict=True):
                p.sub_(lr * g)
            for p, p0 in zip(model.parameters(), start, strict=True):
                p.sub_(lr * mu * (p - p0))


@pytest.mark.parametrize("mu", [0.0, 0.5])
def test_without_dp_it_is_plain_sgd_on_the_same_batches(stream: Stream, mu: float) -> None:
    """Also with FedProx's pull towards the round's start (Li et al. 2020)."""
    data = stream(*some_rows(30))
    model = nn.Linear(3, 2)
    twin = copy.deepcopy(model)
    cfg = PrivacyConfig(mode="off", sample_rate=0.1, steps_per_round=12)
    train(model, CE, torch.optim.SGD(model.parameters(), lr=0.3), data, cfg, 0.0, Rng.insecure_test(7), CPU, mu)
    rng = Rng.insecure_test(7)
    batches = [np.frombuffer(rng.poisson_rows(30, 0.1), np.uint32) for _ in range(12)]
    plain_sgd(twin, data, batches, 3.0, 0.3, mu)
    np.testing.assert_allclose(flat(model), flat(twin), atol=1e-6)


def test_fedprox_pulls_a_private_model_towards_its_start(stream: Stream) -> None:
    data = stream(*some_rows())
    far, near = zeros(3, 2000), zeros(3, 2000)
    for model, mu in ((far, 0.0), (near, 0.9)):
        cfg = PrivacyConfig(sample_rate=0.5, steps_per_round=1)
        train(model, nothing_to_learn, torch.optim.SGD(model.parameters(), lr=1.0), data, cfg, 1.0, Rng(), CPU, mu)
    assert_std(flat(far), 1 / 20)
    assert_std(flat(near), 0.1 / 20)  # one step of noise, nine tenths of it taken back


def test_dp_with_a_wide_clip_and_hardly_any_noise_is_plain_sgd(stream: Stream) -> None:
    data = stream(*some_rows(30))
    start = nn.Linear(3, 2)
    private, plain = copy.deepcopy(start), copy.deepcopy(start)
    run(private, data, 1e-9, clip=100.0, sample_rate=1.0, steps_per_round=3)
    run(plain, data, 0.0, mode="off", sample_rate=1.0, steps_per_round=3)
    np.testing.assert_allclose(flat(private), flat(plain), atol=1e-5)


# -- what is left behind ------------------------------------------------------------------------------------------------


def traces(model: nn.Module) -> list[Any]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        *((name, type(m), sorted(vars(m)), [len(getattr(m, h)) for h in hooks]) for name, m in model.named_modules()),
        *((name, sorted(vars(p)), p.grad, p._backward_hooks) for name, p in model.named_parameters()),
        list(model.state_dict()),
    ]


@pytest.mark.parametrize("mode", ["example", "off"])
def test_training_leaves_the_model_as_it_was_but_for_its_weights(stream: Stream, mode: str) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    before, weights = traces(model), flat(model)
    for _ in range(2):  # a second wrapping would fail on leftovers of the first
        run(model, stream(*some_rows()), 1.0, mode=mode, sample_rate=0.5, steps_per_round=2)
    assert traces(model) == before
    assert not np.array_equal(flat(model), weights)
    assert not any(name.startswith("_module") for name in model.state_dict())


def test_a_failure_in_the_middle_leaves_no_batch_on_the_model(stream: Stream) -> None:
    """Opacus keeps each layer's input until the backward pass; a loss that fails must not leave it there in clear."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    before = traces(model)

    def broken(out: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no loss today")

    with pytest.raises(RuntimeError, match="no loss today"):
        run(model, stream(*some_rows()), 1.0, loss=broken, sample_rate=1.0, steps_per_round=1)
    assert traces(model) == before


def test_per_sample_gradients_are_gone_after_the_block() -> None:
    model = nn.Linear(3, 2)
    with per_sample(model) as wrapped:
        CE(wrapped(torch.ones(5, 3)), torch.zeros(5, dtype=torch.int64)).backward()
        assert model.weight.grad_sample.shape == (5, 2, 3)
    assert not hasattr(model.weight, "grad_sample")


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))])
def test_batch_norm_is_refused_with_the_remedy_and_without_a_step(stream: Stream, layer: nn.Module) -> None:
    model = nn.Sequential(layer, nn.Linear(3, 2))
    before, weights = traces(model), flat(model)
    with pytest.raises(AppError, match="BatchNorm") as error:
        run(model, stream(*some_rows()), 1.0)
    assert "ModuleValidator.fix" in str(error.value)
    assert traces(model) == before
    assert np.array_equal(flat(model), weights)


def test_batch_norm_is_fine_without_dp(stream: Stream) -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    assert run(model, stream(*some_rows()), 0.0, mode="off", sample_rate=1.0, steps_per_round=1).steps == 1


def test_evaluation_counts_every_row_once_whatever_the_batch(stream: Stream) -> None:
    x, y = some_rows(40)
    data, model = stream(x, y), nn.Linear(3, 2)
    with torch.no_grad():
        out = model(torch.from_numpy(x))
        expected = int((out.argmax(1).numpy() == y).sum()), float(CE(out, torch.from_numpy(y), reduction="sum"))
    for batch in (7, 40, 512):
        found = evaluate(model, CE, data, CPU, batch)
        assert (int(found.right.sum()), len(found.right)) == (expected[0], 40)
        assert found.loss == pytest.approx(expected[1], rel=1e-5)
        assert found.confidence == pytest.approx(out.softmax(1).max(1).values.numpy(), rel=1e-5)


# -- the client around it -------------------------------------------------------------------------------------------------


@pytest.fixture
def client(govern: Any) -> Callable[..., VaultClient]:
    def make(cfg: Config, **terms: Any) -> VaultClient:
        g = govern(**terms)
        node = Node(NodeConfig(g.folder, g.key_file, "tiny", "clinic"))
        context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
        made = VaultClient(node, cfg, context)
        made.spec, made.model_fn = g.spec, lambda: zeros(4, 2)
        return made

    return make


START = [np.zeros((2, 4), np.float32), np.zeros(2, np.float32)]


def test_the_same_config_and_seed_never_give_the_same_noise_or_batches(client: Any) -> None:
    trained = client(from_dict({"seed": 5}), budget_epsilon=100.0)
    first, second = (trained.train_round(START, 1, 2.0) for _ in range(2))
    assert first.dp == "secure"
    assert not np.intersect1d(first.update, second.update).size


def test_seeded_noise_repeats_and_says_so(client: Any) -> None:
    cfg = from_dict({"privacy": {"noise": "insecure_test"}, "policy": {"require_dp": False}})
    trained = client(cfg, budget_epsilon=100.0, require_dp=False)
    first, second = (trained.train_round(START, 1, 2.0) for _ in range(2))
    assert first.dp == "insecure_test"
    assert np.array_equal(first.update, second.update)
    assert not np.array_equal(first.update, trained.train_round(START, 2, 2.0).update)


def test_a_refused_budget_trains_nothing_and_reads_nothing(client: Any) -> None:
    trained = client(from_dict({}), budget_epsilon=0.01)
    looked = []
    trained.model_fn = lambda: looked.append("model") or zeros(4, 2)
    (enc,) = (trained.node.config.vault / "objects").rglob(f"{trained.node.dataset()}.enc")
    body = bytearray(enc.read_bytes())
    body[-1] ^= 1  # any decryption of the rows would now fail as tampered
    enc.write_bytes(body)
    with pytest.raises(BudgetExceeded):
        trained.train_round(START, 1, 2.0)
    assert looked == []
    assert trained.node.ledger.entries() == []


def test_a_delta_that_would_allow_publishing_records_is_refused(client: Any) -> None:
    cfg = from_dict({"privacy": {"delta": 0.009}})
    assert client(cfg, rows=110).train_round(START, 1, 5.0).result.rows == 110  # 0.009 is below 1/110
    trained = client(cfg, rows=112)
    with pytest.raises(BudgetExceeded, match=r"privacy\.delta"):
        trained.train_round(START, 1, 5.0)
    assert trained.node.ledger.entries() == []


def test_a_model_of_another_shape_is_refused_before_it_is_changed() -> None:
    model = nn.Linear(3, 2)
    before = flat(model)
    with pytest.raises(AppError, match="same model on both sides"):
        load(model, [np.ones((2, 4), np.float32), np.ones(2, np.float32)])
    assert np.array_equal(flat(model), before)
