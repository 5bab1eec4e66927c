"""What the sums of an evaluation say, beside what other libraries say of the rows themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as known

from aegis_flower import gate
from aegis_flower.configs import compose
from aegis_flower.errors import ConfigError
from aegis_flower.metrics import DEFAULT, Judged, Metric, Metrics, Statistic, Target, declared, sigma, spread

RNG = np.random.default_rng(3)
TWO, FIVE = Target("binary", 2, ("no", "yes")), Target("multiclass", 5)
NUMBER = Target("number", 1, (), -10.0, 30.0)


def rows(classes: int, n: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = RNG.integers(0, classes, n)
    outputs = RNG.normal(size=(n, classes)) + 1.2 * np.eye(classes)[labels]
    chances = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    return outputs, labels, -np.log(chances[np.arange(n), labels])


def test_metrics_of_two_classes_are_those_of_the_rows() -> None:
    outputs, labels, losses = rows(2)
    chance = 1 / (1 + np.exp(outputs[:, 0] - outputs[:, 1]))
    named = outputs.argmax(1)
    names = [
        "accuracy",
        "auroc",
        "brier",
        "calibration",
        "confusion",
        "f1",
        "loss",
        "perplexity",
        "precision",
        "recall",
    ]
    metrics = declared(names, TWO, 10.0)
    told = metrics.read(metrics.count(outputs, labels, losses))
    assert told["accuracy"] == pytest.approx(known.accuracy_score(labels, named))
    assert told["auroc"] == pytest.approx(known.roc_auc_score(labels, chance), abs=2e-3)
    assert told["brier"] == pytest.approx(known.brier_score_loss(labels, chance), abs=1e-4)
    assert told["f1"] == pytest.approx(known.f1_score(labels, named))
    assert told["precision"] == pytest.approx(known.precision_score(labels, named))
    assert told["recall"] == pytest.approx(known.recall_score(labels, named))
    assert told["loss"] == pytest.approx(losses.mean(), abs=1e-3)
    assert told["perplexity"] == pytest.approx(math.exp(losses.mean()), rel=1e-3)
    table = known.confusion_matrix(labels, named)
    assert [told[f"{t} named {n}"] for t in ("no", "yes") for n in ("no", "yes")] == table.ravel().tolist()
    assert len(metrics.blocks) == 8  # precision, recall, F1 and the table are read from one block of four cells


def test_metrics_of_many_classes_and_of_labels_are_means_over_them() -> None:
    outputs, labels, losses = rows(5)
    metrics = declared(["f1", "precision", "recall"], FIVE, 10.0)
    told = metrics.read(metrics.count(outputs, labels, losses))
    for name, score in (("f1", known.f1_score), ("precision", known.precision_score), ("recall", known.recall_score)):
        assert told[name] == pytest.approx(score(labels, outputs.argmax(1), average="macro"))
    flags = RNG.integers(0, 2, (500, 3)).astype(np.float32)
    logits = RNG.normal(size=(500, 3)) + flags
    metrics = declared(["f1"], Target("multilabel", 3, ("a", "b", "c")), 10.0)
    told = metrics.read(metrics.count(logits, flags, np.zeros(500)))
    each = known.f1_score(flags, logits > 0, average=None)
    assert [told[f"f1 of {name}"] for name in "abc"] == pytest.approx(list(each))
    assert told["f1"] == pytest.approx(each.mean())


def test_errors_of_a_number_are_in_its_own_unit_and_cut_to_its_range() -> None:
    truth = RNG.uniform(-10, 30, 3000)
    said = truth + RNG.normal(size=3000) * 4
    scaled = [(v + 10) / 20 - 1 for v in (said, truth)]
    metrics = declared(["mae", "rmse", "r2"], NUMBER, 10.0)
    told = metrics.read(metrics.count(scaled[0][:, None], scaled[1].astype(np.float32), np.zeros(3000)))
    cut = said.clip(-10, 30)
    assert told["mae"] == pytest.approx(known.mean_absolute_error(truth, cut), rel=2e-3)
    assert told["rmse"] == pytest.approx(known.root_mean_squared_error(truth, cut), rel=2e-3)
    assert told["r2"] == pytest.approx(known.r2_score(truth, cut), abs=2e-3)
    worst = metrics.count([[np.nan]], np.float32([0.0]), [0.0])
    assert metrics.read(worst)["mae"] == 40.0


def test_the_default_is_what_earlier_releases_told() -> None:
    assert DEFAULT.names[:3] == ("examples", "correct", "loss_milli")
    assert len(DEFAULT.names) == 23
    private = gate.declared(compose("quickstart"))
    assert private.names == gate.declared(compose("quickstart", ["privacy=off", "policy.require_dp=false"])).names
    assert private.blocks == ((1, ("examples",)), (1, ("correct",)), (10_000, ("loss_milli",)))
    wide = gate.declared(compose("quickstart", ["evaluation.histograms=true"]))
    assert wide.names == private.names
    assert len(wide.blocks) == 5


@pytest.mark.parametrize(
    ("names", "target", "told"),
    [
        (["acuracy"], TWO, "did you mean 'accuracy'"),
        (["mae"], Target("number", 1), "needs the range of the label"),
        (["mae"], TWO, "needs the range of the label"),
        (["accuracy"], NUMBER, "is for models that name classes"),
        (["auroc"], FIVE, "is for two classes"),
        (["confusion"], Target("multiclass", 33), "is for 2 to 32 classes"),
        (["os.system"], TWO, "is a builtin_function_or_method"),
        (["no_such.thing"], TWO, "cannot be imported"),
        (["loss", "loss"], TWO, "twice"),
    ],
)
def test_a_metric_that_says_nothing_is_refused_by_name(names: list[str], target: Target, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        declared(names, target, 10.0)


def test_statistics_that_cannot_be_are_refused() -> None:
    for made in (
        {"name": "a b"},
        {"name": "x@1"},
        {"name": "x", "cap": 0},
        {"name": "x", "cap": 2**24 + 1},
        {"name": "x", "cap": 2, "bins": 3},
        {"name": "x", "bins": 5000},
        {"name": "x", "failed": 2},
    ):
        with pytest.raises(ConfigError):
            Statistic(each=lambda r: r.losses, **made)  # type: ignore[arg-type]
    clash = [Metric(n, (Statistic("same", lambda r: r.losses, cap=c),), dict) for n, c in (("a", 1), ("b", 2))]
    with pytest.raises(ConfigError, match="two statistics are called 'same'"):
        Metrics(tuple(clash))
    many = [Metric(f"m{i}", (Statistic(f"s{i}", lambda r: r.losses),), dict) for i in range(64)]
    with pytest.raises(ConfigError, match="65 statistics"):
        Metrics(tuple(many))


def test_the_spread_is_what_noise_does_to_a_metric() -> None:
    outputs, labels, losses = rows(2, 600)
    metrics = declared(["accuracy", "auroc", "loss"], TWO, 10.0)
    sums, z, clients = metrics.count(outputs, labels, losses), 1.5, 4
    scale = sigma(metrics, z, clients)
    assert scale["correct"] == pytest.approx(z * 2 * math.sqrt(4))
    rng = np.random.default_rng(9)
    noised = [metrics.read({n: v + rng.normal(0, scale[n]) for n, v in sums.items()}) for _ in range(1000)]
    found = spread(metrics, sums, z, clients)
    for name in ("accuracy", "auroc", "loss"):
        assert found[name] == pytest.approx(np.std([one[name] for one in noised]), rel=0.2)
    assert spread(metrics, sums, 0.0, clients) == {}


def test_numbers_by_group_are_those_of_its_rows_and_their_sum_is_the_whole() -> None:
    outputs, labels, losses = rows(2, 900)
    groups = RNG.integers(0, 4, 900)  # 2 and 3 are no group that is told apart
    metrics = declared(["accuracy", "auroc"], TWO, 10.0, groups=("f", "m"))
    sums = metrics.count(outputs, labels, losses, groups)
    plain = declared(["accuracy", "auroc"], TWO, 10.0)
    assert metrics.read(sums) == plain.read(plain.count(outputs, labels, losses))
    parts = metrics.by_group(sums)
    assert list(parts) == ["f", "m", "other"]
    for name, own in (("f", groups == 0), ("m", groups == 1), ("other", groups > 1)):
        assert parts[name] == plain.read(plain.count(outputs[own], labels[own], losses[own]))
    assert len(metrics.blocks) == len(plain.blocks)  # a record is in one group, so groups cost no noise of their own


def test_token_accuracy_is_the_mean_over_rows_of_each_rows_own_share() -> None:
    labels = np.array([[1, 2, -1], [0, 0, 0], [-1, -1, -1], [1, 1, 1]])
    outputs = np.full((4, 3, 3), -1.0)
    for row, named in enumerate([[1, 0, 2], [0, 0, 1], [0, 0, 0], [1, 1, 1]]):
        outputs[row, named, range(3)] = 1.0
    outputs[3, 0, 0] = np.nan
    metrics = declared(["token-accuracy", "perplexity"], Target("next-token", 3), 10.0)
    tally = metrics.tally()
    tally.add(Judged.of(outputs, labels, [0.5, 1.0, 0.0, np.nan]), None)
    read = metrics.read(tally.counts())
    assert read["token-accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 4, abs=1e-3)
    assert read["perplexity"] == pytest.approx(np.exp(11.5 / 4))
    with pytest.raises(ConfigError, match="accuracy is for models that name classes; this label is a next-token"):
        declared(["accuracy"], Target("next-token", 3), 10.0)
    with pytest.raises(ConfigError, match="token-accuracy is for next-token labels"):
        declared(["token-accuracy"], Target(), 10.0)
