"""Small models, small data, and the tests of a noise's size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from aegis_engine import Rng
from aegis_flower.configs import PrivacyConfig
from aegis_flower.ledger import RoundMechanism
from aegis_flower.stream import PermitDataset
from aegis_flower.train import Learning, TrainResult, train

ALPHA = 1e-6
CPU = torch.device("cpu")
CE = nn.functional.cross_entropy
QUIET = 1e-7  # a noise multiplier that hides nothing, to see the sums behind it
BATCH = 32.0  # the default of privacy.expected_batch, the public divisor

Stream = Callable[[np.ndarray, np.ndarray], PermitDataset]


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
