"""What a person declares of each public set: task, label, the edits of the drafts, and what a run has to reach.

Bounds and vocabularies are those of a set's own documentation (`packaged.Packaged.source`). Where that prints the range of every
column, as scikit-learn's does, the draft is asked for with ``--show-ranges``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import packaged
import pyarrow as pa
import pyarrow.compute as pc

ALONE = "--each-row-a-person"
RANGES = (ALONE, "--show-ranges", "--label")
Keys = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class PublicSet:
    """A set as somebody trains on it.

    Attributes:
        task: what is predicted, in a word.
        draft: options of ``aegis data schema``.
        schema: keys of the schema by column, as they are edited into the draft; ``source`` is the file.
        plan: lines of the plan by column, or ``label``, in place of the draft's; None takes the draft's line out.
        labels: columns of the label.
        metric: what is compared.
        margin: by how much a run without DP is better than the trivial predictor: in the metric's unit, for `rmse` as a part of
            the trivial one.
        model: overrides of the model.
        rounds: of the full form.
    """

    task: str
    draft: tuple[str, ...] = (ALONE,)
    schema: Mapping[str, Keys] = field(default_factory=dict)
    plan: Mapping[str, str | None] = field(default_factory=dict)
    labels: tuple[str, ...]
    metric: str = "accuracy"
    margin: float
    model: tuple[str, ...] = ("model=logistic", "model.learning_rate=2")
    rounds: int = 20

    def trivial(self, rows: pa.Table) -> float:
        """What who knows nothing of a row reaches: the share of the commonest answer, half of all pairs, the deviation."""
        if self.metric == "auroc":
            return 0.5
        if self.metric == "rmse":
            return float(pc.stddev(rows[self.labels[0]]).as_py())
        return max(rows.group_by(list(self.labels)).aggregate([([], "count_all")])["count_all"].to_pylist()) / len(rows)

    def gain(self, told: float, trivial: float) -> float:
        """By how much what a run told is better than the trivial predictor, in the unit of `margin`."""
        return 1 - told / trivial if self.metric == "rmse" else told - trivial


def between(low: float, high: float) -> Keys:
    """Public bounds of a number; rows outside would be bad rows."""
    return {"low": low, "high": high}


def words(*levels: str) -> Keys:
    """The public vocabulary of a category."""
    return {"kind": "category", "levels": list(levels)}


FLAG: Keys = {"kind": "boolean"}
OUT: Keys = {"role": "leave out"}


def label(keys: Keys) -> Keys:
    """The column that is predicted: every row has it."""
    return {**keys, "role": "label", "missing": False}


SETS: dict[str, PublicSet] = {
    "iris": PublicSet(task="multiclass", draft=(*RANGES, "target"), labels=("target",), margin=0.3),
    "wine": PublicSet(task="multiclass", draft=(*RANGES, "target"), labels=("target",), margin=0.3),
    "breast_cancer": PublicSet(task="binary", draft=(*RANGES, "target"), labels=("target",), margin=0.2),
    "diabetes": PublicSet(
        task="regression",
        draft=(*RANGES, "target"),
        labels=("target",),
        metric="rmse",
        margin=0.15,
        model=("model=logistic", "model.learning_rate=0.3"),
    ),
    "digits": PublicSet(
        task="images",
        schema={"label": label(words(*"0123456789"))},
        labels=("label",),
        margin=0.6,
    ),
    "anes96": PublicSet(
        task="ordinal",
        schema={
            "popul": between(0, 7300),
            "TVnews": between(0, 7),
            "selfLR": label(words(*"1234567")),
            **{name: between(1, 7) for name in ("ClinLR", "DoleLR", "educ")},
            "PID": between(0, 6),
            "age": between(18, 100),
            "income": between(1, 24),
            "vote": FLAG,
        },
        plan={"label": "{task: ordinal, column: selfLR, levels: ['1', '2', '3', '4', '5', '6', '7']}"},
        labels=("selfLR",),
        margin=0.08,
    ),
    "fair": PublicSet(
        task="binary",
        schema={
            "rate_marriage": between(1, 5),
            "age": between(17.5, 42),
            "yrs_married": between(0.5, 23),
            "children": between(0, 5.5),
            "religious": between(1, 4),
            "educ": between(9, 20),
            "occupation": between(1, 6),
            "occupation_husb": between(1, 6),
            "affair": label(words("no", "yes")),
        },
        labels=("affair",),
        metric="auroc",
        margin=0.15,
    ),
    "rossi": PublicSet(
        task="time-to-event",
        schema={
            "week": label(between(1, 52)),
            "arrest": label(FLAG),
            "age": between(17, 60),
            "prio": between(0, 20),
        },
        plan={"label": "{task: time-to-event, column: week, event: arrest, edges: [13, 26, 39, 52]}"},
        labels=("week",),
        metric="auroc",
        margin=0.05,
    ),
    "gbsg2": PublicSet(
        task="time-to-event",
        schema={
            "horTh": words("no", "yes"),
            "age": between(20, 80),
            "menostat": words("Pre", "Post"),
            "tsize": between(0, 120),
            "tgrade": words("I", "II", "III"),
            "pnodes": between(1, 51),
            "progrec": between(0, 2400),
            "estrec": between(0, 1150),
            "time": label(between(0, 2700)),
            "cens": label(FLAG),
        },
        plan={
            # From 20 nodes, and from 500 fmol of receptors, more say no more: the literature's own cuts.
            "pnodes": "{kind: integer, as: number, low: 1, high: 20, missing: 3}",
            "progrec": "{kind: integer, as: number, low: 0, high: 500, missing: 30}",
            "estrec": "{kind: integer, as: number, low: 0, high: 500, missing: 30}",
            "label": "{task: time-to-event, column: time, event: cens, edges: [365, 730, 1095, 1460]}",
        },
        labels=("time",),
        metric="auroc",
        margin=0.1,
    ),
    "flchain": PublicSet(
        task="time-to-event",
        schema={
            "source": {"true": ["dead", "yes"], "false": ["alive", "no"]},
            "age": between(50, 101),
            "sex": words("F", "M"),
            "sample_yr": {"kind": "integer", **between(1995, 2003)},
            "kappa": between(0, 25),
            "lambda": between(0, 30),
            "flc_grp": {"kind": "integer", **between(1, 10)},
            "creatinine": between(0, 12),
            "mgus": FLAG,
            "futime": label(between(0, 5300)),
            "death": label(FLAG),
        },
        plan={
            "kappa": "{kind: number, low: 0, high: 6, missing: 1.3}",
            "lambda": "{kind: number, low: 0, high: 6, missing: 1.5}",
            "creatinine": "{kind: number, low: 0, high: 4, missing: 1}",
            "label": "{task: time-to-event, column: futime, event: death, edges: [730, 1460, 2190, 2920, 3650]}",
        },
        labels=("futime",),
        metric="auroc",
        margin=0.2,
    ),
    "cars": PublicSet(
        task="text",
        schema={
            "Name": {"role": "feature", "missing": False},
            "Origin": label(words("USA", "Europe", "Japan")),
            **dict.fromkeys(
                (
                    "Miles_per_Gallon",
                    "Cylinders",
                    "Displacement",
                    "Horsepower",
                    "Weight_in_lbs",
                    "Acceleration",
                    "Year",
                ),
                OUT,
            ),
        },
        labels=("Origin",),
        margin=0.15,
    ),
    "seattle_weather": PublicSet(
        task="multiclass",
        schema={
            "date": {"missing": False},
            "precipitation": between(0, 100),
            "temp_max": between(-20, 45),
            "temp_min": between(-20, 35),
            "wind": between(0, 30),
            "weather": label(words("sun", "fog", "rain", "drizzle", "snow")),
        },
        plan={
            "date": "{kind: date, parts: [month]}",
            "precipitation": "{kind: number, low: 0, high: 10, missing: 0}",
            "wind": "{kind: number, low: 0, high: 10, missing: 3}",
        },
        labels=("weather",),
        margin=0.06,
    ),
    "temperatures": PublicSet(
        task="lists of numbers",
        schema={"city": label(words("San Francisco", "Seattle")), "temperatures": {"missing": False}},
        plan={"temperatures": "{kind: list, as: numbers, length: 24, low: 20, high: 90}"},
        labels=("city",),
        margin=0.15,
        model=("model=mlp", "model.hidden=[16]", "model.learning_rate=1"),
    ),
    "computers": PublicSet(
        task="multilabel",
        schema={
            "price": between(500, 6000),
            "speed": between(16, 133),
            "hd": between(0, 2500),
            "ram": between(1, 64),
            "screen": between(12, 21),
            "ads": between(0, 400),
            "trend": between(1, 36),
            **{name: label(FLAG) for name in ("cd", "multi", "premium")},
        },
        labels=("cd", "multi", "premium"),
        margin=0.06,
    ),
    "catsup": PublicSet(
        task="lists of tokens",
        draft=("--subject", "household"),
        schema={
            "before": {"missing": False},
            "choice": label(words("heinz41", "heinz32", "heinz28", "hunts32")),
        },
        plan={"before": "{kind: list, as: numbers, length: 6, low: 0, high: 4, pad: -1}"},
        labels=("choice",),
        margin=0.02,
        model=("model=mlp", "model.hidden=[32]", "model.learning_rate=1"),
    ),
}


def both(name: str) -> tuple[PublicSet, packaged.Packaged]:
    """What is declared of a set, and where it comes from."""
    return SETS[name], packaged.ALL[name]
