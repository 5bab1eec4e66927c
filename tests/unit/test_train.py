"""DP-SGD: what one record can do, what the noise is."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from dp_training import (
    ALPHA,
    BATCH,
    CE,
    CPU,
    QUIET,
    Stream,
    assert_std,
    flat,
    mechanism,
    nothing_to_learn,
    run,
    sgd,
    some_rows,
    zeros,
)
from scipy import stats
from torch import nn

from aegis_engine import Rng
from aegis_flower.stream import PermitDataset
from aegis_flower.train import Learning, TrainResult, evaluate, train

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
