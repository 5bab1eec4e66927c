"""How far noise moves what is read from a sum: the same reading of many sums with noise anew."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from aegis_flower.metrics.metric import Metrics, Sums

_DRAWS: Final = 200
_SEED: Final = 20261123  # public: it decides no noise that anything leaves with


def sigma(metrics: Metrics, noise_multiplier: float, clients: int) -> dict[str, float]:
    """Standard deviation of the noise on each told name of a sum over so many clients, each of which noised its own."""
    joint = noise_multiplier * math.sqrt(len(metrics.blocks) * clients)
    return {name: joint * cap for cap, names in metrics.blocks for name in names}


def spread(
    metrics: Metrics, sums: Sums, noise_multiplier: float, clients: int, group: str | None = None
) -> dict[str, float]:
    """Standard deviation that the noise gives each number of `Metrics.read`, or of one group, to within a tenth.

    Noise like that of the release is drawn again around the sums that came out (a parametric bootstrap, Efron and Tibshirani
    1993, 6.5), and each draw is read. It says nothing about how few rows there are, and is no privacy loss: sums are public by
    then.
    """

    def read(sums: Sums) -> dict[str, float]:
        return metrics.read(sums) if group is None else metrics.by_group(sums).get(group, {})

    told = read(sums)
    scale = sigma(metrics, noise_multiplier, clients)
    if not told or not noise_multiplier:
        return {}
    rng = np.random.default_rng(_SEED)
    names = [name for name in sums if name in scale]
    drawn = rng.normal(0.0, [scale[name] for name in names], (_DRAWS, len(names)))
    found: dict[str, list[float]] = {name: [] for name in told}
    for noise in drawn:
        again = read({**sums, **{name: sums[name] + float(n) for name, n in zip(names, noise, strict=True)}})
        for name, values in found.items():
            if name in again:
                values.append(again[name])
    return {name: float(np.std(values)) for name, values in found.items() if len(values) > _DRAWS // 2}
