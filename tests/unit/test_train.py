"""DP-SGD: what one record can do, what the noise is, what is left behind."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Context, RecordDict
from scipy import stats
from torch import nn

from aegis_engine import ComplianceEngine, DpSession, Permit, Request, Rng, Vault
from aegis_flower import train as training
from aegis_flower.client import VaultClient, apply_update, load, weights
from aegis_flower.configs import Config, PrivacyConfig, from_dict
from aegis_flower.data import Spec
from aegis_flower.errors import AegisError, AppError, BudgetExceeded, ConfigError, GateFailed, PolicyDenied
from aegis_flower.ingest import Terms, ingest
from aegis_flower.ledger import Ledger, RoundMechanism, mechanism_of
from aegis_flower.node.node import Node, NodeConfig
from aegis_flower.per_record.checks import Probed
from aegis_flower.per_record.losses import clipped_sum as sum_of_clipped
from aegis_flower.stream import PermitDataset
from aegis_flower.train import Learning, TrainResult, evaluate, per_sample, train

ALPHA = 1e-6
CPU = torch.device("cpu")
CE = nn.functional.cross_entropy
QUIET = 1e-7  # a noise multiplier that hides nothing, to see the sums behind it
BATCH = 32.0  # the default of privacy.expected_batch, the public divisor

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
        dataset = ingest(vault, f"rows-{next(number)}", columns, subjects, Terms(["research"]), allow_missing=True)
        permit = engine.authorize(dataset, Request(action="train", purpose="research"))
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
    return train(model, data, mechanism(sigma, **cfg), Rng(), Learning(loss, sgd(model, lr), CPU))


def mechanism(sigma: float, **cfg: Any) -> RoundMechanism:
    return RoundMechanism.of(PrivacyConfig(**cfg), sigma)


def sgd(model: nn.Module, lr: float = 1.0) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr)


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
    """σ · clip in each coordinate of the sum, over the public divisor, times the learning rate."""
    model = zeros(3, 5000)
    cfg: dict[str, Any] = {"clip": 0.8, "sample_rate": 0.25, "steps_per_round": 1, "expected_batch": 10.0}
    run(model, stream(*some_rows()), 1.7, loss=nothing_to_learn, lr=0.5, **cfg)
    assert_std(flat(model), 0.5 * 1.7 * 0.8 / 10)


@pytest.mark.parametrize("rows", [20, 40, 41])
def test_the_scale_of_the_noise_says_nothing_of_how_many_rows_there_are(stream: Stream, rows: int) -> None:
    """Add-or-remove-one holds only if nothing but the sum depends on the rows (Opacus issue 571)."""
    model = zeros(3, 5000)
    run(model, stream(*some_rows(rows)), 2.0, loss=nothing_to_learn, sample_rate=0.25, steps_per_round=1)
    assert_std(flat(model), 2.0 / BATCH)


def test_every_step_is_noised_anew(stream: Stream) -> None:
    model = zeros(3, 5000)
    run(model, stream(*some_rows()), 1.0, loss=nothing_to_learn, sample_rate=0.5, steps_per_round=4)
    assert_std(flat(model), np.sqrt(4) * 1.0 / BATCH)


def test_noise_is_normal(stream: Stream) -> None:
    model = zeros(3, 5000)
    run(model, stream(*some_rows()), 1.0, loss=nothing_to_learn, sample_rate=1.0, steps_per_round=1)
    assert stats.kstest(flat(model) * BATCH, "norm").pvalue > ALPHA


def test_an_empty_batch_is_still_a_noised_step(stream: Stream) -> None:
    model = zeros(3, 5000)
    done = run(model, stream(*some_rows()), 1.3, sample_rate=1e-9, steps_per_round=3)
    assert done == TrainResult(steps=3, rows=40, empty_batches=3)
    assert_std(flat(model), np.sqrt(3) * 1.3 / BATCH)


# -- one record's sway --------------------------------------------------------------------------------------------------

CLIP = 0.7


def clipped_sum(stream: Stream, model: nn.Module, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sum of clipped gradients over all rows, read off one step."""
    trained = copy.deepcopy(model)
    run(trained, stream(x, y), QUIET, clip=CLIP, sample_rate=1.0, steps_per_round=1)
    return (flat(model) - flat(trained)) * BATCH


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
        drawn.append(np.linalg.norm(flat(model)) * BATCH)
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
    plain = mechanism(0.0, mode="off", sample_rate=0.1, steps_per_round=12)
    train(model, data, plain, Rng.insecure_test(7), Learning(CE, sgd(model, 0.3), CPU, mu))
    rng = Rng.insecure_test(7)
    batches = [np.frombuffer(rng.poisson_rows(30, 0.1), np.uint32) for _ in range(12)]
    plain_sgd(twin, data, batches, 3.0, 0.3, mu)
    np.testing.assert_allclose(flat(model), flat(twin), atol=1e-6)


def test_fedprox_pulls_a_private_model_towards_its_start(stream: Stream) -> None:
    data = stream(*some_rows())
    far, near = zeros(3, 2000), zeros(3, 2000)
    for model, mu in ((far, 0.0), (near, 0.9)):
        noisy = mechanism(1.0, sample_rate=0.5, steps_per_round=1)
        train(model, data, noisy, Rng(), Learning(nothing_to_learn, sgd(model), CPU, mu))
    assert_std(flat(far), 1 / BATCH)
    assert_std(flat(near), 0.1 / BATCH)  # one step of noise, nine tenths of it taken back


def test_dp_with_a_wide_clip_and_hardly_any_noise_is_plain_sgd(stream: Stream) -> None:
    data = stream(*some_rows(30))
    start = nn.Linear(3, 2)
    private, plain = copy.deepcopy(start), copy.deepcopy(start)
    run(private, data, 1e-9, clip=100.0, sample_rate=1.0, steps_per_round=3, expected_batch=30.0)
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

    once = mechanism(1.0, sample_rate=1.0, steps_per_round=1)
    with pytest.raises(RuntimeError, match="no loss today"):
        train(model, stream(*some_rows()), once, Rng(), Learning(broken, sgd(model), CPU), probed=Probed())
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


def test_statistics_that_training_would_change_are_refused_without_dp_too(stream: Stream) -> None:
    """They are not sent, so the model would be evaluated with mean 0 and variance 1. Without statistics it trains."""
    kept = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    with pytest.raises(AppError, match=r"0.running_mean.*track_running_stats=False"):
        run(kept, stream(*some_rows()), 0.0, mode="off")
    none = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.Linear(3, 2))
    assert run(none, stream(*some_rows()), 0.0, mode="off", sample_rate=1.0, steps_per_round=1).steps == 1


@pytest.mark.parametrize("mode", ["example", "off"])
def test_how_many_gradients_are_in_memory_changes_no_result(
    stream: Stream, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, start = stream(*some_rows(40)), nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    drawn = mechanism(1.0, mode=mode, sample_rate=0.7, steps_per_round=3, clip=0.5)
    largest, found = [], []
    taken = training.gradients

    def watched(model: nn.Module, rows: int) -> list[torch.Tensor]:
        per_row = taken(model, rows)
        largest.append(max(len(g) for g in per_row))
        return per_row

    monkeypatch.setattr(training, "gradients", watched)
    for size in (1, 7, 16, 256):
        model, largest[:] = copy.deepcopy(start), []
        learning = Learning(CE, sgd(model), CPU, physical_batch=size)
        train(model, data, drawn, Rng.insecure_test(3), learning)
        found.append(flat(model))
        assert mode == "off" or 1 <= max(largest) <= size
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=2e-6)


def test_the_sum_of_many_clipped_gradients_is_exact_to_the_clip() -> None:
    """In float32 one record moved a sum over 60 000 by 1.004 clips."""
    torch.manual_seed(0)
    rows = torch.randn(20_000, 5) * torch.logspace(-3, 8, 20_000)[:, None]
    whole = sum_of_clipped([rows], 1.0)[0]
    for i in (0, 9_999, 19_999):
        without = sum_of_clipped([torch.cat([rows[:i], rows[i + 1 :]])], 1.0)[0]
        assert float((whole - without).norm()) <= 1 + 1e-9


def test_what_a_layer_overwrites_and_what_it_does_not_use_is_trained_right(stream: Stream) -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(3, 4), nn.Linear(3, 4)
            self.scale = nn.Parameter(torch.tensor(2.0))
            self.out = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.used(x) * self.scale)  # type: ignore[no-any-return]

    model, data = Partly(), stream(*some_rows(12))
    plain = copy.deepcopy(model)
    run(model, data, 1e-9, clip=1000.0, sample_rate=1.0, steps_per_round=1, expected_batch=12.0)
    run(plain, data, 0.0, mode="off", sample_rate=1.0, steps_per_round=1)
    np.testing.assert_allclose(flat(model), flat(plain), atol=1e-5)
    assert model.out[0].inplace


def test_double_precision_models_are_trained_in_theirs(stream: Stream) -> None:
    model = nn.Linear(3, 2).double()
    run(model, stream(*some_rows()), 1.0, sample_rate=0.5, steps_per_round=2)
    assert model.weight.dtype == torch.float64


def test_labels_from_one_on_are_named(stream: Stream) -> None:
    x, y = some_rows()
    with pytest.raises(AppError, match=r"outside 0 to 1.*1\.\.k"):
        run(nn.Linear(3, 2), stream(x, y + 1), 1.0, sample_rate=1.0, steps_per_round=1)


# -- the engine's session ---------------------------------------------------------------------------------------------------


class InMemory:
    """Rows in the place of a stream; what was given out is kept, to see it cleared."""

    def __init__(self, rows: int, features: int = 3) -> None:
        self.rows, self.features, self.given = rows, features, list[torch.Tensor]()

    def __len__(self) -> int:
        return self.rows

    def __getitems__(self, indices: Any) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.ones(len(indices), self.features)
        self.given.append(x)
        return x, torch.zeros(len(indices), dtype=torch.int64)


def opened(govern: Any, **plan: Any) -> tuple[Permit, DpSession]:
    permit = govern(rows=40).permit()
    asked = {"noise_multiplier": 1.5, "clip": 0.5, "sample_rate": 0.3, "steps": 3, "expected_batch": 10.0, "dim": 4}
    return permit, DpSession(permit, **{**asked, "reservation": "r", **plan})


def test_a_session_counts_what_it_drew_and_noised_and_refuses_the_rest(govern: Any) -> None:
    _, made = opened(govern)
    assert made.spent == (0, 0, 0, False)
    for step in range(1, 4):
        made.draw()
        with pytest.raises(AegisError, match=r"never noised|every step"):
            made.draw()
        with pytest.raises(AegisError, match="another dimension"):
            made.noise(np.zeros(3))
        made.noise(np.zeros(4))
        with pytest.raises(AegisError, match="noised once"):
            made.noise(np.zeros(4))
        assert made.spent == (step, step, 4 * step, True)
    with pytest.raises(AegisError, match="every step that was reserved"):
        made.draw()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.75 * 2**22 * 1.001, -0.75 * 2**22 * 1.001])
def test_a_sum_without_room_for_its_noise_is_refused(govern: Any, value: float) -> None:
    _, made = opened(govern)
    made.draw()
    with pytest.raises(AegisError, match=r"2\^22"):
        made.noise(np.array([0.0, value, 0.0, 0.0]))
    assert not made.spent[3]


EXTREMES = [0.0, -1.0, 1e-155, 1e300, float("nan"), float("inf")]


@pytest.mark.parametrize("what", ["noise_multiplier", "clip", "sample_rate", "expected_batch"])
def test_the_engine_bounds_a_mechanism_itself(govern: Any, what: str) -> None:
    for value in EXTREMES:
        if (what, value) == ("sample_rate", 1e-155):
            continue
        with pytest.raises(AegisError) as error:
            opened(govern, **{what: value})
        assert error.value.code == "AEG-N005"
    for steps in (0, 1_000_001):
        with pytest.raises(AegisError):
            opened(govern, steps=steps)


def test_noise_is_there_in_every_coordinate_of_a_long_vector_and_never_comes_again(govern: Any) -> None:
    """Its autocorrelation over all lags, and its end: a tensor may be longer than any block."""
    n = (1 << 20) + 4097
    _, made = opened(govern, dim=n, noise_multiplier=2.0, clip=1.0)
    made.draw()
    for noise in (np.frombuffer(made.noise(np.zeros(n)), np.float32), _drawn(n)):
        z = noise.astype(np.float64) / 2
        assert np.count_nonzero(z) > n * (1 - 1e-5)
        assert_std(z[-4097:], 1.0)
        spectrum = np.abs(np.fft.rfft(z, 1 << 22)) ** 2
        lags = np.fft.irfft(spectrum)[1 : n // 2] / np.sqrt(n)
        assert np.abs(lags).max() < 7.0
        for beyond in (3.5, 4.0):  # a cut tail has none of them
            expected = 2 * n * stats.norm.sf(beyond)
            assert abs((np.abs(z) > beyond).sum() - expected) < 6 * np.sqrt(expected)


def _drawn(n: int) -> np.ndarray:
    values = np.zeros(n, np.float32)
    Rng().add_gaussian(values, 2.0)
    return values


@pytest.mark.parametrize("rate", [0.04, 0.5])
def test_rows_are_drawn_at_the_rate_to_a_part_in_a_hundred(govern: Any, rate: float) -> None:
    """Three hundredths more would be 3 % more privacy than there is."""
    g = govern(rows=20_000)
    draws = 60
    plan = {"noise_multiplier": 1.0, "clip": 1.0, "sample_rate": rate, "steps": draws, "expected_batch": 1.0, "dim": 1}
    made, count = DpSession(g.permit(), **plan, reservation="r"), 0
    for _ in range(draws):
        count += len(made.draw()) // 4
        made.noise(np.zeros(1))
    bare = sum(len(Rng().poisson_rows(20_000, rate)) // 4 for _ in range(draws))
    sd = np.sqrt(20_000 * draws * rate * (1 - rate))
    for found in (count, bare):
        assert abs(found - 20_000 * draws * rate) < 5.5 * sd
    assert 5.5 * sd < 0.03 * 20_000 * draws * rate


def test_a_batch_is_cleared_after_its_step() -> None:
    data = InMemory(40)
    model = nn.Linear(3, 2)
    run(model, data, 1.0, sample_rate=0.5, steps_per_round=3)
    assert sum(len(x) for x in data.given) > 0
    assert not any(x.any() for x in data.given)


def test_an_empty_batch_is_noised_like_any_other() -> None:
    """Expected batch 4, a fifth of the batches empty or nearly so; all steps have one standard deviation."""
    seen = []

    class Keep(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            gradient = torch.cat([p.grad.ravel() for p in self.param_groups[0]["params"]])
            seen.append(gradient.numpy().astype(np.float64).std())

    model, empty = nn.Linear(3, 4000), 0
    rare = mechanism(1.0, clip=1.0, sample_rate=0.05, steps_per_round=60, expected_batch=2.0)
    for _ in range(3):
        learning = Learning(nothing_to_learn, Keep(model.parameters(), lr=1.0), CPU)
        empty += train(model, InMemory(40), rare, Rng(), learning).empty_batches
    assert empty > 0
    assert max(seen) / min(seen) < 1.1
    assert np.mean(seen) == pytest.approx(0.5, rel=0.02)


def test_glibc_keeps_large_blocks() -> None:
    """A step of an MLP takes a third of the time. Set at import, in this process, and nowhere by an environment variable."""
    code = "import ctypes, aegis_flower.train as t; t._keep_memory(); print(t.MALLOC_KEPT)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    libc = platform.libc_ver()[0]
    assert done.stdout.split()[-1] == str(libc == "glibc")


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


def test_a_refused_budget_reads_nothing_and_leaves_no_entry(client: Any) -> None:
    """The model is built first, so that a mistake in it costs nothing; rows are not touched."""
    trained = client(from_dict({}), budget_epsilon=0.01)
    (enc,) = (trained.node.config.vault / "objects").rglob(f"{trained.node.dataset()}.enc")
    body = bytearray(enc.read_bytes())
    body[-1] ^= 1  # any decryption of the rows would now fail as tampered
    enc.write_bytes(body)
    with pytest.raises(BudgetExceeded):
        trained.train_round(START, 1, 2.0)
    assert trained.node.ledger.entries() == []


def test_a_delta_above_the_terms_is_refused_whatever_the_number_of_rows(client: Any) -> None:
    """δ is the steward's. A check against the rows there are would tell how many."""
    cfg = from_dict({"privacy": {"delta": 1e-4}})
    for rows in (40, 110):
        trained = client(cfg, rows=rows)
        with pytest.raises(BudgetExceeded, match="terms allow"):
            trained.train_round(START, 1, 5.0)
        assert trained.node.ledger.entries() == []


def test_the_very_object_that_is_charged_is_the_one_trained_with(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger gives back what it was given; the session is made of that reservation; the training gets the same object."""
    seen: dict[str, Any] = {}

    def watch(where: Any, name: str, place: int) -> None:
        real = getattr(where, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            seen[name] = args[place]
            return real(*args, **kwargs)

        monkeypatch.setattr(where, name, watched)

    watch(Ledger, "reserve_round", 1)
    watch(training, "session", 2)
    watch(training, "train", 2)
    cfg = from_dict({"privacy": {"clip": 0.5, "sample_rate": 0.25, "steps_per_round": 3, "expected_batch": 20.0}})
    c = client(cfg, budget_epsilon=100.0)
    made = c.train_round(START, 1, 2.0)
    charged = seen["reserve_round"]
    assert charged == RoundMechanism(
        private=True, noise_multiplier=2.0, clip=0.5, sample_rate=0.25, steps=3, expected_batch=20.0
    )
    assert seen["train"] is charged
    assert seen["session"] is made.reservation
    assert made.reservation.mechanism is charged
    (entry,) = c.node.ledger.entries()
    assert (mechanism_of(entry), entry["steps"]) == (charged.step, charged.steps)
    with pytest.raises(dataclasses.FrozenInstanceError):
        charged.noise_multiplier = 0.1


def test_a_mechanism_that_no_accountant_is_trusted_for_is_neither_charged_nor_trained(client: Any) -> None:
    c = client(from_dict({}), budget_epsilon=100.0)
    for sigma in (0.0, 1e-9, float("nan")):
        with pytest.raises(ConfigError, match="noise_multiplier"):
            c.train_round(START, 1, sigma)
    assert c.node.ledger.entries() == []


def test_the_noise_in_the_update_is_the_noise_in_the_ledger_and_in_the_record(client: Any) -> None:
    """σ, clip, rate, steps and divisor of the ledger's entry, found again in what would leave and in what the engine counted."""
    privacy = {"clip": 0.5, "sample_rate": 0.25, "steps_per_round": 3, "expected_batch": 20.0}
    c = client(from_dict({"privacy": privacy, "model": {"learning_rate": 0.7}}), rows=80, budget_epsilon=100.0)
    c.model_fn = lambda: nn.Sequential(nn.Linear(4, 3000), nn.Linear(3000, 2))
    c.loss_fn = nothing_to_learn
    start = weights(c.model())
    made = c.train_round(start, 1, 2.0)
    (entry,) = c.node.ledger.entries()
    std = 0.7 * entry["noise_multiplier"] * entry["clip"] * entry["steps"] ** 0.5 / 20.0
    assert_std(made.update.astype(np.float64), std)
    c.release(made, [(str(i), a.shape) for i, a in enumerate(start)], {}, secure_aggregation=True)
    record = c.node.vault.audit_records("release")[-1]
    said = record["mechanism"]
    assert {k: float(said[k]) for k in ("noise_multiplier", "clip", "sample_rate")} == {
        k: entry[k] for k in ("noise_multiplier", "clip", "sample_rate")
    }
    assert said["steps"] == said["steps_reserved"] == entry["steps"]
    assert said["coordinates_noised"] == entry["steps"] * made.update.size
    assert said["reservation"] == record["reservation"] == entry["id"]
    assert record["epsilon_micro_total"] == int(np.ceil(made.reservation.epsilon_total * 1e6)) > 0
    assert [e["kind"] for e in c.node.ledger.entries()] == ["reserve", "commit"]


def test_no_metric_beside_the_known_ones_may_leave(client: Any) -> None:
    c = client(from_dict({}), budget_epsilon=100.0)
    shapes = [(str(i), a.shape) for i, a in enumerate(START)]
    for metrics in ({"weight_of_patient_7": 81}, {"weight_of_patient_7": 0}, {"examples": 1}):
        made = c.train_round(START, 1, 2.0)
        with pytest.raises(GateFailed) as error:
            c.release(made, shapes, metrics, secure_aggregation=True)
        assert [g["name"] for g in error.value.gates if not g["passed"]] == ["metrics"]


def test_the_operators_norm_is_the_smaller(govern: Any) -> None:
    g = govern(rows=80, budget_epsilon=100.0, require_secure_aggregation=False)
    node = Node(NodeConfig(g.folder, g.key_file, "tiny", "clinic", max_norm=0.01))
    cfg = from_dict({"policy": {"require_secure_aggregation": False}, "secagg": {"enabled": False}})
    c = VaultClient(node, cfg, Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={}))
    c.spec, c.model_fn = g.spec, lambda: zeros(4, 2)
    made = c.train_round(START, 1, 2.0)
    freed = c.release(made, [(str(i), a.shape) for i, a in enumerate(START)], {}, secure_aggregation=False)
    assert np.linalg.norm(np.frombuffer(freed.update(), np.float32)) <= 0.01


def test_an_app_that_says_secure_is_not_believed(client: Any) -> None:
    """Weights of its own, a word and no session: the engine counts nothing, so it is an update without privacy."""
    c = client(from_dict({}), budget_epsilon=100.0)
    made = c.train_round(START, 1, 2.0)
    shapes = [(str(i), a.shape) for i, a in enumerate(START)]
    for forged in (dataclasses.replace(made, session=None), dataclasses.replace(made, session=None, reservation=None)):
        assert forged.dp == "secure"
        with pytest.raises((GateFailed, PolicyDenied)):
            c.release(forged, shapes, {}, secure_aggregation=True)
    assert c.node.vault.audit_records("release")[-1]["dp"] == "off"


def test_buffers_stay_at_home() -> None:
    model = nn.Linear(3, 2)
    model.register_buffer("seen", torch.ones(7))
    assert sum(a.size for a in weights(model)) == 8


def test_what_was_trained_is_the_same_noise_on_no_two_nodes(govern: Any) -> None:
    """Seeded noise that all nodes share does not average out, and a trial shows a worse model than the real one."""
    cfg = from_dict({"privacy": {"noise": "insecure_test"}, "policy": {"require_dp": False}})
    updates = []
    for number in (1, 2, 1):
        g = govern(budget_epsilon=100.0, require_dp=False)
        context = Context(run_id=1, node_id=number, node_config={}, state=RecordDict(), run_config={})
        c = VaultClient(Node(NodeConfig(g.folder, g.key_file, "tiny", "clinic")), cfg, context)
        c.spec, c.model_fn = g.spec, lambda: zeros(4, 2)
        updates.append(c.train_round(START, 1, 2.0).update)
    assert not np.intersect1d(updates[0], updates[1]).size
    assert np.array_equal(updates[0], updates[2])


def test_a_parameter_without_dimensions_stays_an_array_all_the_way() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))

    model = Scaled()
    (before,) = weights(model)
    (after,) = apply_update([before], np.array([0.5], np.float32))
    assert isinstance(after, np.ndarray)
    assert (after.shape, after.dtype) == ((), np.float32)
    load(model, [after])
    assert float(model.scale.detach()) == 2.5


def test_a_model_of_another_shape_is_refused_before_it_is_changed() -> None:
    model = nn.Linear(3, 2)
    before = flat(model)
    with pytest.raises(AppError, match="same model on both sides"):
        load(model, [np.ones((2, 4), np.float32), np.ones(2, np.float32)])
    assert np.array_equal(flat(model), before)
