"""The start of a run is drawn from its seed, whatever an app's model draws from, and nothing else is seeded by that."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from aegis_flower import compose
from aegis_flower.server import initial_arrays

SOURCES: dict[str, Callable[[], float]] = {
    "torch": lambda: float(torch.rand(())),
    "numpy": lambda: float(np.random.rand()),  # noqa: NPY002 - as an app does
    "Python, and so Keras": random.random,
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_start_is_that_of_its_seed_and_later_draws_are_not(source: str) -> None:
    def model() -> nn.Module:
        layer = nn.Linear(30, 2)
        nn.init.constant_(layer.weight, SOURCES[source]())
        return layer

    def drawn(seed: int) -> float:
        arrays = initial_arrays(compose(overrides=[f"seed={seed}"]), model)
        return float(next(iter(arrays.values())).numpy()[0, 0])

    SOURCES[source]()
    first, later = drawn(3), SOURCES[source]()
    assert first == drawn(3) != drawn(2**63 - 1)
    assert later != SOURCES[source](), "the process goes on with its own numbers"
    assert later != first
