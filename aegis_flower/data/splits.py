"""How a simulation splits rows: over its nodes, and at each node into training and held-out rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aegis_flower.data.spec import Choice, Ints
from aegis_flower.errors import ConfigError, DataError


def partition(labels: Ints, cfg: Choice, seed: int, minimum: int) -> list[Ints]:
    """Splits row numbers over the nodes: ``iid``, or non-IID with a Dirichlet draw of each label's shares.

    The Dirichlet split is that of Hsu et al. 2019 (arXiv 1909.06335, section 3); it is drawn again, at most 1000 times,
    until every node has at least `minimum` rows.

    Raises:
        DataError: the rows cannot give every node its minimum.
    """
    if len(labels) < minimum * cfg.clients:
        raise DataError(
            f"{len(labels)} rows cannot give {cfg.clients} nodes at least {minimum} rows each; "
            "lower data.clients or policy.min_rows"
        )
    rng = np.random.default_rng(seed)
    if cfg.partition == "iid":
        return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), cfg.clients)]
    for _ in range(1000):
        parts: list[list[Ints]] = [[] for _ in range(cfg.clients)]
        for label in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet(np.full(cfg.clients, cfg.alpha))
            cuts = (np.cumsum(shares)[:-1] * len(rows)).astype(int)
            for part, chunk in zip(parts, np.split(rows, cuts), strict=True):
                part.append(chunk)
        split = [np.sort(np.concatenate(part)) for part in parts]
        if min(len(part) for part in split) >= minimum:
            return split
    raise DataError(
        f"no Dirichlet split with data.alpha={cfg.alpha} gives every node {minimum} rows; raise data.alpha, or lower "
        "data.clients"
    )


@dataclass(frozen=True)
class Split:
    """Which of a simulated node's rows are held out, and the generator that goes on to draw who withdrew."""

    holdout: Ints
    train: Ints
    rng: np.random.Generator


def split(rows: int, cfg: Choice, seed: int, index: int) -> Split:
    """Splits the rows of node `index`.

    Raises:
        ConfigError: `data.holdout` leaves no row to evaluate on, or none to train on.
    """
    rng = np.random.default_rng([seed, index])
    order = rng.permutation(rows)
    cut = round(rows * cfg.holdout)
    if not 0 < cut < rows:
        raise ConfigError(
            "data.holdout",
            f"{cfg.holdout:g} of a node's {rows} rows leaves {'none to train on' if cut else 'none held out'}",
        )
    return Split(np.sort(order[:cut]), np.sort(order[cut:]), rng)
