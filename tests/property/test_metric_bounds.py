"""One record moves one name of each declared block, by at most its cap, whatever a model, an app or a row does."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_flower.errors import AppError, ConfigError
from aegis_flower.metrics import BY_TARGET, Judged, Metric, Metrics, Statistic, Target, check_alone, declared, made_up
from aegis_flower.metrics.choose import named

TARGETS = (
    Target("binary", 2, ("no", "yes")),
    Target("multiclass", 2),
    Target("multiclass", 5),
    Target("multilabel", 3, ("a", "b", "c")),
    Target("ordinal", 2),
    Target("number", 1, (), -3.0, 7.0),
    Target("time-to-event", 4, ("1", "2", "3", "4")),
    Target("next-token", 5),
)
ODD = (np.nan, np.inf, -np.inf, 1e300, -1e300, 0.0)


def fitting(target: Target) -> list[str]:
    """Every built-in metric that says something about a target."""
    found = ["loss"]
    for name in sorted(BY_TARGET):
        try:
            named(name, target, 10.0)
        except ConfigError:
            continue
        found.append(name)
    return [*found, "perplexity"] if len(found) > 1 else found


def records(rng: np.random.Generator, target: Target, rows: int) -> Judged:
    """Outputs, labels and losses of which some are no numbers, or larger than any."""
    made = made_up(target, rows)
    outputs = rng.normal(size=made.outputs.shape) * 10.0 ** rng.integers(-3, 4)
    losses = rng.normal(size=rows) * 20
    for values in (outputs, losses):
        odd = rng.random(values.shape) < 0.2
        values[odd] = rng.choice(ODD, odd.sum())
    labels = rng.permutation(made.labels)
    if target.classes > 1 and rng.random() < 0.3:
        labels = labels + rng.integers(-2, 3, labels.shape).astype(
            labels.dtype
        )  # labels that the model has no output for
    return Judged.of(outputs, labels, losses)


def counted(metrics: Metrics, rows: Judged, groups: np.ndarray | None = None) -> dict[str, int]:
    tally = metrics.tally()
    tally.add(rows, groups)
    return tally.counts()


def without(rows: Judged, at: int) -> Judged:
    keep = np.arange(len(rows)) != at
    return Judged(rows.outputs[keep], rows.labels[keep], rows.losses[keep])


def assert_one_record_moves_each_block_by_its_cap(metrics: Metrics, rows: Judged, groups: Any = None) -> None:
    whole = counted(metrics, rows, groups)
    for at in range(len(rows)):
        kept = None if groups is None else np.delete(groups, at)
        less = counted(metrics, without(rows, at), kept)
        for cap, names in metrics.blocks:
            moved = [whole[name] - less[name] for name in names if whole[name] != less[name]]
            assert len(moved) <= 1
            assert all(0 < m <= cap for m in moved)
        told = {name for _, names in metrics.blocks for name in names}
        assert all(value == 0 for name, value in whole.items() if name not in told)


@given(st.integers(0, 2**32), st.sampled_from(TARGETS), st.booleans())
@settings(max_examples=60, deadline=None)
def test_one_record_moves_one_name_of_each_block_by_at_most_its_cap(seed: int, target: Target, grouped: bool) -> None:
    rng = np.random.default_rng(seed)
    metrics = declared(fitting(target), target, float(rng.choice([0.5, 10.0])), groups=("a", "b") if grouped else ())
    rows = records(rng, target, int(rng.integers(1, 9)))
    groups = rng.integers(-1, 4, len(rows)) if grouped else None
    assert_one_record_moves_each_block_by_its_cap(metrics, rows, groups)


@given(st.integers(0, 2**32), st.sampled_from(TARGETS))
@settings(max_examples=40, deadline=None)
def test_how_records_are_cut_into_batches_changes_nothing(seed: int, target: Target) -> None:
    rng = np.random.default_rng(seed)
    metrics = declared(fitting(target), target, 10.0)
    rows = records(rng, target, 12)
    cut = metrics.tally()
    edges = [0, *sorted(rng.integers(0, 13, 3)), 12]
    for a, b in itertools.pairwise(edges):
        cut.add(rows[a:b])
    assert cut.counts() == counted(metrics, rows)


def hostile(rows: Judged) -> np.ndarray:
    """Gives more than its cap, less than nothing, no number, and fails on some rows."""
    if (np.nan_to_num(rows.losses) > 15).any():
        raise RuntimeError("no such row")
    return rows.losses * 1e30


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_an_apps_own_metric_is_held_to_what_it_declares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    own = (
        Statistic("hostile", hostile, cap=7),
        Statistic("bins", lambda rows: rows.losses * 3, bins=4, failed=-1),
        Statistic("shape", lambda rows: np.ones((len(rows), 2))),
    )
    metrics = Metrics((Metric("own", own, dict),))
    rows = records(rng, TARGETS[0], int(rng.integers(1, 9)))
    assert_one_record_moves_each_block_by_its_cap(metrics, rows)
    assert 0 <= counted(metrics, rows)["hostile"] <= 7 * len(rows)


def test_sums_are_rounded_once_and_a_half_never_adds_to_the_cap() -> None:
    """Python's own rounding takes 0.5 to 0 and 1.5 to 2: a record that adds 1 would move the sum by 2."""
    half = Metrics((Metric("own", (Statistic("half", lambda rows: rows.losses),), dict),))
    for losses in ([0.5], [0.5, 1.0], [0.5, 1.0, 1.0]):
        found = half.count(np.zeros((len(losses), 2)), np.zeros(len(losses), np.int64), losses)
        assert found["half"] == len(losses)
    third = half.count(np.zeros((3, 2)), np.zeros(3, np.int64), [1 / 3] * 3)
    assert third["half"] == 1


def test_a_metric_that_mixes_records_is_refused_on_made_up_ones() -> None:
    mixed = Statistic("mixed", lambda rows: rows.losses > rows.losses.mean())
    with pytest.raises(AppError, match="mixed gives a record another number"):
        check_alone(mixed, made_up(TARGETS[0]))
    with pytest.raises(AppError, match="fails on made-up records"):
        check_alone(Statistic("bad", lambda rows: rows.nothing), made_up(TARGETS[0]))  # type: ignore[attr-defined]
    for target in TARGETS:
        for statistic in declared(fitting(target), target, 10.0).statistics:
            check_alone(statistic, made_up(target))
