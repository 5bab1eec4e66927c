"""Partition: every row goes to one node."""

from __future__ import annotations

import numpy as np
import pytest

from aegis_flower import data as datasets
from aegis_flower.configs import DataConfig
from aegis_flower.errors import DataError

LABELS = np.random.default_rng(1).integers(0, 4, 600)


@pytest.mark.parametrize("kind", ["iid", "dirichlet"])
@pytest.mark.parametrize("clients", [1, 3, 10])
def test_every_row_goes_to_exactly_one_node_and_each_gets_its_minimum(kind: str, clients: int) -> None:
    parts = datasets.partition(LABELS, DataConfig(partition=kind, clients=clients), seed=3, minimum=20)
    assert len(parts) == clients
    assert sorted(np.concatenate(parts).tolist()) == list(range(600))
    assert min(len(p) for p in parts) >= 20


def test_the_split_follows_the_seed() -> None:
    cfg = DataConfig(clients=4)
    first, again = (datasets.partition(LABELS, cfg, 3, 5) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    other = datasets.partition(LABELS, cfg, 4, 5)
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_small_alpha_makes_nodes_less_alike() -> None:
    def unlikeness(alpha: float) -> float:
        total = 0.0
        for seed in range(10):
            parts = datasets.partition(LABELS, DataConfig(clients=4, alpha=alpha), seed, 1)
            shares = [np.bincount(LABELS[p], minlength=4) / len(p) for p in parts]
            total += float(np.std(shares, axis=0).sum())
        return total

    assert unlikeness(0.3) > 2 * unlikeness(30.0)


def test_too_few_rows_for_the_nodes_are_refused_with_what_to_lower() -> None:
    for kind in ("iid", "dirichlet"):
        with pytest.raises(DataError, match=r"data\.clients or policy\.min_rows"):
            datasets.partition(LABELS, DataConfig(partition=kind, clients=10), 1, 61)


def test_an_alpha_that_starves_nodes_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"data\.alpha"):
        datasets.partition(LABELS[:100], DataConfig(clients=10, alpha=0.001), 1, 10)
