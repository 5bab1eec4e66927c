"""What left the nodes in a run: with noise of its own, without noise, and what an ε says nothing about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aegis_flower.configs import Config
from aegis_flower.metrics import Metrics
from aegis_flower.report.books import Book


def largest(values: Any) -> float | None:
    """The largest of what is known; None where nothing is."""
    return max((v for v in values if v is not None), default=None)


def _where(cfg: Config) -> str:
    return "secure sums only" if cfg.secagg.enabled else "each client's, in clear"


def _counts(cfg: Config, metrics: Metrics) -> str:
    names = [s.name if s.bins == 1 else f"histogram of {s.name}" for s in metrics.statistics]
    by = f", each by {cfg.evaluation.group}" if metrics.groups else ""
    return f"counts over held-out rows, which are never trained on: {', '.join(names)}{by} ({_where(cfg)})"


def noises(cfg: Config) -> bool:
    """Whether the configuration asks for noise at all."""
    return cfg.privacy.on


def noised(cfg: Config, read: list[Book], metrics: Metrics) -> Iterator[str]:
    """What left with noise of its own beside the model, and what it was charged."""
    accounts = [b.holdout for b in read if b.holdout is not None and b.holdout.mechanisms]
    if accounts:
        spent = largest(a.epsilon for a in accounts)
        total = largest(a.epsilon_total for a in accounts)
        budget = min(a.budget for a in accounts)
        cost = "ε not bounded" if spent is None else f"ε {spent:.2f} by this run"
        cost += "" if total is None else f", {total:.2f} of {budget:g} by all runs"
        yield f"{_counts(cfg, metrics)}: {cost}, on the held-out rows' own ledger (δ={accounts[0].delta:g})"
    elif not read and noises(cfg) and cfg.evaluation_rounds != "never":
        each = f"ε {cfg.evaluation.epsilon:g} for each evaluation"
        yield f"{_counts(cfg, metrics)}: {each}, on the held-out rows' own ledger at the nodes"


def unnoised(cfg: Config, read: list[Book], metrics: Metrics) -> Iterator[str]:
    """What left without noise, by the engine's records where there are some; an ε says nothing about it."""
    dp = {each for book in read for each in book.dp} or {"off" if cfg.privacy.mode == "off" else cfg.privacy.noise}
    if "off" in dp:
        yield f"the model updates ({_where(cfg)})"
    if "insecure_test" in dp:
        yield f"the model updates: their noise is made from a seed, so anybody can take it off ({_where(cfg)})"
    counts = {each for book in read for each in book.counts_dp}
    if not read and not noises(cfg) and cfg.evaluation_rounds != "never":
        counts = {"off"}
    if "off" in counts:
        yield _counts(cfg, metrics)
    if "insecure_test" in counts:
        yield f"{_counts(cfg, metrics)}: their noise is made from a seed"
    if cfg.secagg.weighting == "rows" or (not cfg.secagg.enabled and cfg.privacy.mode == "off"):
        yield f"number of training rows, as weights ({_where(cfg)})"
    yield "which clients took part in which round, what they call themselves, and error codes"
