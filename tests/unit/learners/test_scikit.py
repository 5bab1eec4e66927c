"""scikit-learn on a vault: what it learns, what privacy it can have, what it refuses before a row is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dp_training import assert_std
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.naive_bayes import GaussianNB

from aegis_flower.data import Spec
from aegis_flower.errors import AppError
from aegis_flower.learners import Learner, PerRecord, Scikit, learner_of


class GaussianNBScores(GaussianNB):
    """Its joint log-likelihood as scores."""

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.predict_joint_log_proba(x))


SPEC = Spec({"x": 3}, "y", 3)
OFF = {"privacy": {"mode": "off"}}


def sgd(**options: Any) -> SGDClassifier:
    return SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.1, random_state=0, **options)


def rows(number: int = 60, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    y = np.arange(number) % classes
    return (random.normal(size=(number, 3)) * 0.3 + np.eye(3)[y]).astype(np.float32), y


def learned(learner: Scikit, x: np.ndarray, y: np.ndarray, passes: int = 5) -> float:
    from aegis_flower.learners import Settings

    learner.train((iter([(x, y)] if at % 2 else []) for at in range(2 * passes)), Settings())
    return float((learner.outputs(x).argmax(axis=1) == y).mean())


@pytest.mark.parametrize(
    "estimator", [sgd(), LogisticRegression(max_iter=20)], ids=["SGDClassifier", "LogisticRegression"]
)
@pytest.mark.parametrize("classes", [2, 3])
def test_an_estimator_goes_on_from_the_arrays_that_it_is_given(estimator: Any, classes: int) -> None:
    x, y = rows(classes=classes)
    first = learner_of(estimator, Spec({"x": 3}, "y", classes))
    assert isinstance(first, Learner)
    assert not isinstance(first, PerRecord)
    assert first.modes == ("update", "off")
    assert not any(a.any() for a in first.arrays().values())
    assert learned(first, x, y) > 0.9
    other = Scikit(estimator, Spec({"x": 3}, "y", classes))
    other.load(list(first.arrays().values()))
    assert np.allclose(other.outputs(x), first.outputs(x), atol=1e-4)
    losses = other.losses(other.outputs(x), y)
    assert losses.shape == y.shape
    assert losses.mean() < np.log(classes) / 2
    assert np.isnan(other.losses(other.outputs(x[:1]), np.array([classes]))).all()


def test_a_node_with_rows_of_one_class_learns_and_does_not_fail() -> None:
    for estimator in (sgd(), LogisticRegression(max_iter=20)):
        learner = Scikit(estimator, SPEC)
        learned(learner, rows()[0], np.ones(60, np.int64), passes=1)
        assert all(np.isfinite(a).all() for a in learner.arrays().values())
        assert [a.shape for a in learner.arrays().values()] == [(3, 3), (3,)]


def test_a_regressor_predicts_a_number() -> None:
    x, _ = rows()
    learner = Scikit(SGDRegressor(learning_rate="constant", eta0=0.05, random_state=0), Spec({"x": 3}, "y", 1))
    y = (x @ np.array([1.0, -1.0, 0.5])).astype(np.float32)
    learned(learner, x, y, passes=60)
    assert learner.losses(learner.outputs(x), y).mean() < 0.05 * y.var()


@pytest.mark.parametrize(
    ("estimator", "spec", "words"),
    [
        (RandomForestClassifier(), SPEC, "one fit alone"),
        (SGDClassifier(average=True), SPEC, "average=False"),
        (SGDClassifier(early_stopping=True), SPEC, "early_stopping"),
        (SGDRegressor(), SPEC, "a regressor, and the label is classes"),
        (SGDClassifier(), Spec({"x": 3}, "y", 1), "a classifier, and the label is regression"),
        (object(), SPEC, "return a torch.nn.Module"),
    ],
)
def test_what_cannot_learn_in_rounds_is_refused_by_name(estimator: Any, spec: Spec, words: str) -> None:
    with pytest.raises(AppError, match=words):
        learner_of(estimator, spec)


def test_an_own_estimator_is_taken_by_declaration() -> None:
    with pytest.raises(AppError, match="declare it"):
        Scikit(GaussianNB(), SPEC)
    learner = Scikit(GaussianNBScores(), SPEC, arrays={"theta_": (3, 3), "var_": (3, 3)})
    assert list(learner.arrays()) == ["theta", "var"]


def test_dp_by_record_is_refused_before_anything_is_read_and_the_refusal_says_what_to_set(
    client: Any, refused: Any
) -> None:
    said = refused(client(sgd, {"privacy": {"mode": "example", "noise_multiplier": 1.0}}), 1.0)
    assert "scikit-learn can have privacy.mode=update or off, not example" in said
    assert "privacy=update" in said


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"model": {"momentum": 0.9}}, "model.momentum"),
        ({"model": {"schedule": {"kind": "cosine"}}}, "model.schedule"),
        ({"strategy": {"name": "fedprox", "proximal_mu": 0.1}}, "proximal_mu"),
    ],
)
def test_a_setting_that_an_estimator_does_not_read_is_refused(
    client: Any, refused: Any, more: dict[str, Any], key: str
) -> None:
    assert f"{key} would change nothing" in refused(client(sgd, {**OFF, **more}))


def test_what_is_of_torch_is_refused(client: Any, refused: Any) -> None:
    c = client(sgd, OFF)
    c.loss_fn = lambda out, y: out.sum()
    assert "loss=, optimizer= and class_weights= are of torch" in refused(c)


def test_a_model_of_other_shapes_is_refused(client: Any, refused: Any) -> None:
    assert "shapes" in refused(client(sgd, OFF), start=[np.zeros((9, 9), np.float32)])


def test_the_update_of_an_estimator_is_clipped_and_noised_by_the_engine(client: Any) -> None:
    """The noise is that of the ledger; without it the update would be many times as long as the clip."""
    c = client(sgd, {"privacy": {"mode": "update", "clip": 0.01}})
    start = [np.zeros((1, 4), np.float32), np.zeros(1, np.float32)]
    noise = np.concatenate([c.train_round(start, i, 50.0).update.astype(np.float64) for i in range(1, 41)])
    assert_std(noise, 50.0 * 2 * 0.01)
    entries = c.node.ledger.entries()
    assert {(e["mechanism"], e["steps"], e["unit"]) for e in entries} == {("update", 1, "node")}
    plain = client(sgd, OFF).train_round(start, 1, 0.0)
    assert np.linalg.norm(plain.update) > 1.0


def test_an_update_without_dp_leaves_only_where_the_terms_allow_it(client: Any) -> None:
    from aegis_flower import wire

    start = [np.zeros((1, 4), np.float32), np.zeros(1, np.float32)]
    c = client(sgd, OFF)
    freed = c.respond(wire.Request.plain("train", 1, 0.0), start, ["0", "1"], masked=False)
    assert np.frombuffer(freed.update(), np.float32).any()
