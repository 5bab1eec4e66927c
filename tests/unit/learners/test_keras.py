"""Keras 3 on JAX and on TensorFlow: the same update as torch and JAX, DP, refusals. `make test-keras` runs it on each."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from dp_training import CPU, assert_std, some_rows
from torch import nn

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="Keras is in no lock; `make test-keras` brings it")

from aegis_engine import Rng  # noqa: E402
from aegis_flower import compose  # noqa: E402
from aegis_flower import train as training  # noqa: E402
from aegis_flower.configs import PrivacyConfig  # noqa: E402
from aegis_flower.data import Spec  # noqa: E402
from aegis_flower.errors import AppError  # noqa: E402
from aegis_flower.learners import Jax, Keras, PerRecord, Settings, learner_of, probe, rounds  # noqa: E402
from aegis_flower.mechanism import without_noise  # noqa: E402
from aegis_flower.server import initial_arrays  # noqa: E402

SPEC = Spec({"x": 3}, "y", 2)
BACKEND = keras.backend.backend()


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


def test_a_whole_update_is_clipped_and_its_noise_is_that_of_the_ledger(client: Any) -> None:
    def model(spec: Any) -> Any:
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])

    clip, start = 0.01, [np.zeros((4, 2), np.float32), np.zeros(2, np.float32)]
    c = client(model, {"privacy": {"mode": "update", "clip": clip}})
    noise = np.concatenate([c.train_round(start, i, 50.0).update.astype(np.float64) for i in range(1, 41)])
    assert_std(noise, 50.0 * 2 * clip)  # two updates are at most twice the clip apart
    entries = c.node.ledger.entries()
    assert {(e["mechanism"], e["steps"], e["unit"]) for e in entries} == {("update", 1, "node")}
    room = 0.75 * clip  # of ten values with the least noise that there is: 0.1 clips each
    quiet = client(model, {"privacy": {"mode": "update", "clip": clip}}).train_round(start, 1, 0.05).update
    assert clip - room < np.linalg.norm(quiet) < clip + room
    plain = client(model, {"privacy": {"mode": "off"}}).train_round(start, 1, 0.0).update
    assert np.linalg.norm(plain) > 10 * clip


def _convolution() -> Any:
    k = keras.layers
    parts = [k.Reshape((4, 4, 1)), k.Conv2D(4, 3, activation="relu"), k.LayerNormalization(), k.Flatten(), k.Dense(2)]
    return keras.Sequential([keras.Input((16,)), *parts])


def _attention() -> Any:
    words = keras.Input((16,), dtype="int32")
    seen = keras.layers.Embedding(5, 6)(words)
    seen = keras.layers.MultiHeadAttention(2, 3)(seen, seen)
    return keras.Model(words, keras.layers.Dense(2)(keras.layers.Flatten()(seen)))


@pytest.mark.parametrize(("make", "dtype"), [(_convolution, "float32"), (_attention, "int64")])
def test_gradients_of_single_records_are_those_of_each_record_alone(make: Any, dtype: str) -> None:
    spec = Spec({"x": 16}, "y", 2, dtypes={"x": dtype})
    probe.probe(lambda: learner_of(make(), spec), spec, mode="example", features=16, label_width=1)
    learner, random = learner_of(make(), spec), np.random.default_rng(3)
    assert isinstance(learner, PerRecord)
    x = random.integers(0, 5, (9, 16)).astype(dtype)
    y = random.integers(0, 2, 9)
    found = learner.gradients(x, y)
    start = list(learner.arrays().values())
    for i in range(len(y)):  # a step by one record's loss, on the way that takes no gradients of single records
        learner.load(start)
        learner.train([[(x[i : i + 1], y[i : i + 1])]], Settings(1.0))
        moved = np.concatenate([(b - a).ravel() for a, b in zip(learner.arrays().values(), start, strict=True)])
        assert np.abs(found[i]).max() > 1e-3
        assert np.abs(found[i] - moved).max() < 1e-5


def test_an_optimiser_of_torch_is_made_where_keras_runs() -> None:
    code = (
        "import keras; from aegis_flower.data import Spec; from aegis_flower.learners import learner_of\n"
        "learner_of(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), Spec({'x': 3}, 'y', 2))\n"
        "import torch; torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1); print('made')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr  # TensorFlow and triton in one process would end it
    assert done.stdout.endswith("made\n")


def test_the_framework_says_the_backend_that_keras_runs_on() -> None:
    learner = learner_of(layers(), SPEC)
    assert learner.framework == {"jax": "Keras on JAX", "tensorflow": "Keras on TensorFlow"}[BACKEND]
    assert learner.modes == ("example", "update", "off")


def test_a_softmax_without_a_compiled_loss_is_no_softmax_of_a_softmax() -> None:
    x, y = some_rows(12)
    plain, soft = learner_of(layers(), SPEC), learner_of(layers(activation="softmax"), SPEC)
    soft.load(list(plain.arrays().values()))
    assert np.allclose(soft.gradients(x, y), plain.gradients(x, y), atol=1e-4)


def test_a_label_that_no_class_has_is_a_failed_row_alone() -> None:
    learner = learner_of(layers(), SPEC)
    x, y = some_rows(4)
    y = np.array([0, 7, 1, -1], dtype=np.int64)
    assert np.isnan(learner.losses(learner.outputs(x), y)).tolist() == [False, True, False, True]


def test_a_number_is_learned_by_its_squared_error() -> None:
    spec, random = Spec({"x": 3}, "y", 1), np.random.default_rng(4)
    learner = learner_of(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]), spec)
    x, y = random.normal(size=(6, 3)).astype(np.float32), random.normal(size=6).astype(np.float32)
    kernel = learner.arrays()["0.kernel"][:, 0]
    wanted = 2 * (x @ kernel - y)[:, None] * np.column_stack([x, np.ones(6, np.float32)])
    assert np.allclose(learner.gradients(x, y), wanted, atol=1e-5)


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


def test_a_backend_without_pure_functions_is_refused_by_name(monkeypatch: Any) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(AppError, match=r"runs on torch, .*KERAS_BACKEND=jax or KERAS_BACKEND=tensorflow before"):
        learner_of(layers(), SPEC)


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


def test_the_start_of_a_run_is_that_of_its_seed() -> None:
    def drawn(seed: int) -> list[Any]:
        cfg = compose(overrides=[f"seed={seed}"])
        return [a.numpy() for a in initial_arrays(cfg, layers).values()]

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
