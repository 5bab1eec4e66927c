"""What was measured, with how far the noise of the sums moves it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping

from aegis_flower import gate, report
from aegis_flower.configs import Config
from aegis_flower.errors import ConfigError
from aegis_flower.metrics import Metrics, spread
from aegis_flower.report.books import Book
from aegis_flower.report.outputs import noises
from aegis_flower.strategies import RoundRecord


def noise_of(cfg: Config, read: list[Book]) -> float:
    """Noise multiplier of the sums; 0 of exact ones.

    The engine's records name it; in a deployment it is the one that the configuration asks the nodes for.
    """
    z = max((z for book in read for z in book.counts_noise), default=0.0)
    if not read and noises(cfg):
        with contextlib.suppress(ConfigError):
            z = gate.counts_mechanism(cfg, cfg.privacy.delta).noise_multiplier
    return z


def _clients(record: RoundRecord, read: list[Book]) -> int:
    """Clients whose sums carry noise, each of its own."""
    return len([b for b in read if b.counts_noise]) or len(record.participants)


def accuracy_sd(cfg: Config, record: RoundRecord, read: list[Book], metrics: Metrics | None = None) -> float | None:
    """Standard deviation that the counts' noise gives the accuracy, to first order; None where there is none."""
    metrics = metrics or gate.declared(cfg)
    z, share = noise_of(cfg, read), metrics.read(record.metrics).get("accuracy")
    if not z or share is None:
        return None
    blocks = max((b.counts_blocks for b in read), default=0) or len(metrics.blocks)
    # of one count of one client (docs/PRIVACY.md; crates/policy/src/release/counts.rs), and of as many as there are groups
    one = z * math.sqrt(blocks * (len(metrics.groups) + 1))
    rows = metrics.whole(record.metrics)["examples"]
    return one * math.sqrt(_clients(record, read) * (1 + share**2)) / rows


def rows_of(metrics: Metrics, sums: Mapping[str, int]) -> int | None:
    """Held-out rows, by sums that may carry noise; None where nothing was counted."""
    whole = metrics.whole(sums)
    return max(0, int(whole["examples"])) if "examples" in whole else None


def told(metrics: Metrics, record: RoundRecord, z: float, read: list[Book]) -> Iterator[report.MeasuredReport]:
    """Every number of an evaluation, over all rows and by group."""
    sums, clients = record.metrics, _clients(record, read)
    deviations = spread(metrics, sums, z, clients)
    for name, value in metrics.read(sums).items():
        yield report.MeasuredReport(name=name, value=value, sd=deviations.get(name))
    for group, found in metrics.by_group(sums).items():
        apart = spread(metrics, sums, z, clients, group=group)
        for name, value in found.items():
            yield report.MeasuredReport(name=name, value=value, sd=apart.get(name), group=group)
