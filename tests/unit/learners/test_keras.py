"""Keras 3 on JAX: the same update as torch and JAX, DP per record, refusals. `make test-keras` runs it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from dp_training import CPU, assert_std, some_rows
from torch import nn

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="Keras is in no lock; `make test-keras` brings it")

from aegis_engine import Rng  # noqa: E402
from aegis_flower import train as training  # noqa: E402
from aegis_flower.configs import PrivacyConfig  # noqa: E402
from aegis_flower.data import Spec  # noqa: E402
from aegis_flower.errors import AppError  # noqa: E402
from aegis_flower.learners import Jax, Keras, PerRecord, Settings, learner_of, probe, rounds  # noqa: E402
from aegis_flower.mechanism import without_noise  # noqa: E402

SPEC = Spec({"x": 3}, "y", 2)


def layers(*more: Any, activation: str | None = None) -> Any:
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(8, activation="tanh"),
            *more,
            keras.layers.Dense(2, activation=activation),
        ]
    )


def jax_apply(params: Any, x: Any) -> Any:
    import jax.numpy as jnp

    first, b1, second, b2 = params
    return jnp.tanh(x @ first + b1) @ second + b2


def test_torch_jax_and_keras_learn_the_same_from_the_same_rows(stream: Any) -> None:
    learner = learner_of(layers(), SPEC)
    assert isinstance(learner, Keras)
    assert isinstance(learner, PerRecord)
    start = list(learner.arrays().values())
    other = Jax(lambda key: [np.array(a) for a in start], jax_apply, SPEC)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    with torch.no_grad():
        for p, a in zip(model.parameters(), start, strict=True):
            p.copy_(torch.from_numpy(a.T.copy()))
    data, mechanism = stream(*some_rows(60)), without_noise(PrivacyConfig(steps_per_round=6))
    learning = training.Learning(nn.functional.cross_entropy, torch.optim.SGD(model.parameters(), lr=0.5), CPU)
    training.train(model, data, mechanism, Rng.insecure_test(5), learning)
    settings = Settings(0.5, expected_batch=mechanism.sample_rate * len(data))
    for one in (learner, other):
        rounds.learn(one, data, mechanism, Rng.insecure_test(5), settings, physical_batch=16)
    for p, a, b, before in zip(
        model.parameters(), learner.arrays().values(), other.arrays().values(), start, strict=True
    ):
        assert np.abs(a - before).max() > 1e-2
        assert np.abs(a - p.detach().numpy().T).max() < 1e-4
        assert np.abs(a - b).max() < 1e-4


def test_names_do_not_depend_on_how_many_models_were_made() -> None:
    first, second = (list(learner_of(layers(), SPEC).arrays()) for _ in range(2))
    assert first == second == ["0.kernel", "1.bias", "2.kernel", "3.bias"]


def test_a_keras_model_has_dp_per_record_and_its_noise_is_that_of_the_ledger(client: Any) -> None:
    def model(spec: Any) -> Any:
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(500, use_bias=False), keras.layers.Dense(2)])

    privacy = {"mode": "example", "clip": 1e-6, "sample_rate": 0.25, "steps_per_round": 2, "expected_batch": 20.0}
    c = client(model, {"privacy": privacy, "model": {"learning_rate": 0.7}}, rows=80)
    start = [np.array(a) for a in learner_of(model(None), c.spec).arrays().values()]
    start = [np.zeros_like(a) for a in start]
    made = c.train_round(start, 1, 1e4)
    assert_std(made.update.astype(np.float64), 0.7 * 1e4 * 1e-6 * 2**0.5 / 20.0)
    assert c.node.ledger.entries()[0]["unit"] == "record"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: layers(keras.layers.BatchNormalization()), "not trained and would not travel"),
        (lambda: layers(keras.layers.Dropout(0.5)), "not trained and would not travel"),
        (lambda: keras.Sequential([keras.layers.Dense(2)]), "not built"),
    ],
)
def test_what_would_not_travel_is_refused_by_name(make: Any, words: str) -> None:
    with pytest.raises(AppError, match=words):
        learner_of(make(), SPEC)


def test_an_optimiser_or_regulariser_that_would_not_be_used_is_refused() -> None:
    model = layers()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    with pytest.raises(AppError, match="compiled with Adam"):
        learner_of(model, SPEC)
    held = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_regularizer="l2")])
    with pytest.raises(AppError, match="regularisers"):
        learner_of(held, SPEC)


def test_the_loss_of_a_compiled_model_is_taken_row_by_row() -> None:
    x, y = some_rows(12)
    plain = learner_of(layers(), SPEC)
    soft = layers(activation="softmax")
    soft.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    compiled = learner_of(soft, SPEC)
    compiled.load(list(plain.arrays().values()))
    assert np.allclose(compiled.gradients(x, y), plain.gradients(x, y), atol=1e-4)
    losses = compiled.losses(compiled.outputs(x), y)
    assert np.allclose(losses, plain.losses(plain.outputs(x), y), atol=1e-4)
    probe.probe(lambda: learner_of(layers(), SPEC), SPEC, mode="example", features=3, label_width=1)
