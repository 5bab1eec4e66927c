"""The concordance index from a histogram, beside what lifelines and scikit-survival say of the records themselves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines.datasets import load_gbsg2, load_rossi
from lifelines.utils import concordance_index
from sksurv.metrics import concordance_index_censored

from aegis_flower.errors import ConfigError
from aegis_flower.features import Label
from aegis_flower.features.values import Values
from aegis_flower.metrics import Judged, Target, declared, target_of
from aegis_flower.metrics.survival import HAZARDS, risk

# The label's edges, time, event, and columns whose standardised sum is the score, of sets that come with lifelines.
SETS = {
    "rossi": (load_rossi, (13.0, 26.0, 39.0, 52.0), "week", "arrest", {"prio": 1, "age": -1}),
    "gbsg2": (
        load_gbsg2,
        tuple(365.0 * k for k in range(1, 8)),
        "time",
        "cens",
        {"pnodes": 1, "tsize": 1, "progrec": -1},
    ),
}
TOLERANCE = 0.02


def encoded(label: Label, time: np.ndarray, event: np.ndarray) -> np.ndarray:
    none = np.zeros(len(time), bool)
    columns = {"t": Values(time.astype(float), none), "e": Values(event.astype(np.int64), none)}
    return label.encode(lambda name, _: columns[name])


def judged(name: str, sign: float = 1.0, base: float = -2.5) -> tuple[Label, Judged, np.ndarray, np.ndarray]:
    load, edges, time, event, score = SETS[name]
    frame: pd.DataFrame = load()
    columns = [way * (frame[c] - frame[c].mean()) / frame[c].std() for c, way in score.items()]
    label = Label(task="time-to-event", column="t", event="e", edges=edges)
    # One hazard for all intervals, by the score: the risk by the horizon then orders records as the score does.
    outputs = np.tile(sign * sum(columns).to_numpy()[:, None] / 2 + base, len(edges))
    y = encoded(label, frame[time].to_numpy(), frame[event].to_numpy())
    return label, Judged.of(outputs, y, np.ones(len(y))), frame[time].to_numpy(float), frame[event].to_numpy(bool)


def read(label: Label, rows: Judged) -> dict[str, float]:
    metrics = declared(["c-index"], target_of(label), 10.0)
    return metrics.read(metrics.count(rows.outputs, rows.labels, rows.losses))


@pytest.mark.parametrize("name", SETS)
def test_it_is_that_of_other_libraries_on_real_times_to_a_fiftieth(name: str) -> None:
    label, rows, time, event = judged(name)
    told = read(label, rows)["c-index"]
    score = risk(rows)
    assert told == pytest.approx(concordance_index(time, -score, event), abs=TOLERANCE)
    assert told == pytest.approx(concordance_index_censored(event, time, score)[0], abs=TOLERANCE)
    assert told > 0.55
    # Of a score that says the opposite.
    label, rows, time, event = judged(name, sign=-1)
    assert read(label, rows)["c-index"] == pytest.approx(concordance_index(time, -risk(rows), event), abs=TOLERANCE)
    assert read(label, rows)["c-index"] < 0.45


def test_a_rare_event_has_one_too() -> None:
    label, rows, time, event = judged("rossi", base=-6.0)
    assert np.median(risk(rows)) < 0.02
    assert read(label, rows)["c-index"] == pytest.approx(concordance_index(time, -risk(rows), event), abs=TOLERANCE)


def by_pairs(label: Label, rows: Judged) -> tuple[float, float]:
    """Pair after pair, of the label as it is: the index, and the share of pairs in one bin of the risk."""
    score = risk(rows)
    bins = np.searchsorted(HAZARDS, -np.log1p(-score), side="right")
    y, k = rows.labels, len(label.edges)
    had = np.where((y == 1).any(1), (y == 1).argmax(1), k)
    good = pairs = tied = 0.0
    for i in np.flatnonzero(had < k):
        others = y[:, had[i]] == 0  # passed the interval in which i had the event
        good += (score[i] > score[others]).sum() + (score[i] == score[others]).sum() / 2
        tied += (bins[i] == bins[others]).sum()
        pairs += others.sum()
    return good / pairs, tied / pairs


@pytest.mark.parametrize("name", SETS)
def test_the_error_of_its_bins_is_at_most_half_the_share_of_pairs_in_one(name: str) -> None:
    label, rows, *_ = judged(name)
    exact, tied = by_pairs(label, rows)
    assert 0 < tied < 0.5
    assert abs(read(label, rows)["c-index"] - exact) <= tied / 2


def test_risks_in_the_middle_of_their_bins_have_no_error() -> None:
    rng = np.random.default_rng(5)
    label = Label(task="time-to-event", column="t", event="e", edges=(1.0, 2.0, 3.0))
    y = encoded(label, rng.exponential(2.0, 300), rng.random(300) < 0.6)
    middle = 1 - np.exp(-np.sqrt(HAZARDS[:-1] * HAZARDS[1:])[rng.integers(0, 30, 300)])
    # A hazard that is risk by the horizon at once, and none afterwards.
    outputs = np.column_stack([np.log(middle / (1 - middle)), np.full((300, 2), -40.0)])
    rows = Judged.of(outputs, y, np.ones(300))
    assert read(label, rows)["c-index"] == pytest.approx(by_pairs(label, rows)[0], abs=1e-9)


def test_what_is_no_time_to_an_event_has_none_and_no_pair_tells_nothing() -> None:
    with pytest.raises(ConfigError, match="c-index is for a time to an event; this label is a multiclass"):
        declared(["c-index"], Target("multiclass", 5), 10.0)
    with pytest.raises(ConfigError, match="a histogram has"):
        declared(["c-index"], Target("time-to-event", 120), 10.0)
    label = Label(task="time-to-event", column="t", event="e", edges=(1.0, 2.0))
    censored = Judged.of(np.zeros((4, 2)), np.full((4, 2), -1.0), np.ones(4))
    assert "c-index" not in read(label, censored)
