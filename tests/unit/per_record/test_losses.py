"""Losses and gradients by record: exact, whatever the layer, and gone afterwards."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from dp_training import CE, CPU, Stream, flat, mechanism, run, sgd, some_rows
from torch import nn

from aegis_engine import Rng
from aegis_flower import train as training
from aegis_flower.errors import AppError
from aegis_flower.per_record.losses import clipped_sum as sum_of_clipped
from aegis_flower.train import Learning, per_sample, train


def test_per_sample_gradients_are_gone_after_the_block() -> None:
    model = nn.Linear(3, 2)
    with per_sample(model) as wrapped:
        CE(wrapped(torch.ones(5, 3)), torch.zeros(5, dtype=torch.int64)).backward()
        assert model.weight.grad_sample.shape == (5, 2, 3)
    assert not hasattr(model.weight, "grad_sample")


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
