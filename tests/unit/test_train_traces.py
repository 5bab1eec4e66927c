"""What training leaves behind: of the model, of gradients, of rows."""

from __future__ import annotations

import platform
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from dp_training import CPU, Stream, flat, mechanism, nothing_to_learn, run, sgd, some_rows
from torch import nn

from aegis_engine import Rng
from aegis_flower.errors import AppError
from aegis_flower.per_record.checks import Probed
from aegis_flower.train import Learning, train


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

    def weighed(self, indices: Any) -> tuple[torch.Tensor, torch.Tensor, None]:
        return (*self.__getitems__(indices), None)


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
