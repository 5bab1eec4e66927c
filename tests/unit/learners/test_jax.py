"""JAX on a vault: the same update as torch, its clip and noise, and what mixes records is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from dp_training import CPU, assert_std, some_rows
from torch import nn

from aegis_engine import Rng
from aegis_flower import train as training
from aegis_flower.configs import PrivacyConfig
from aegis_flower.data import Spec
from aegis_flower.errors import AppError
from aegis_flower.learners import Jax, PerRecord, Settings, probe, rounds
from aegis_flower.mechanism import RoundMechanism, without_noise

jax = pytest.importorskip("jax")
jnp = jax.numpy

SPEC = Spec({"x": 3}, "y", 2)


def linear(params: Any, x: Any) -> Any:
    return x @ params["0"]["weight"].T + params["0"]["bias"]


def mlp(params: Any, x: Any) -> Any:
    hidden = jnp.tanh(linear(params, x))
    return hidden @ params["2"]["weight"].T + params["2"]["bias"]


def layer(key: Any, inputs: int, outputs: int) -> dict[str, Any]:
    return {"bias": jnp.zeros(outputs), "weight": jax.random.normal(key, (outputs, inputs)) * 0.3}


def start_of(sizes: tuple[int, ...]) -> Any:
    def init(key: Any) -> Any:
        keys = jax.random.split(key, len(sizes))
        return {str(2 * i): layer(keys[i], sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1)}

    return init


MODELS = {
    "linear": ((3, 2), linear, lambda: nn.Sequential(nn.Linear(3, 2))),
    "mlp": ((3, 8, 2), mlp, lambda: nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))),
}


def pair(name: str) -> tuple[Jax, nn.Module]:
    """The same model twice, with the same start."""
    sizes, apply, make = MODELS[name]
    learner, model = Jax(start_of(sizes), apply, SPEC), make()
    with torch.no_grad():
        for own, value in model.state_dict().items():
            value.copy_(torch.from_numpy(learner.arrays()[own.replace(".", "/")]))
    return learner, model


def both(
    learner: Jax, model: nn.Module, data: Any, mechanism: RoundMechanism, *, mu: float = 0.0, **settings: Any
) -> Any:
    """What each of the two moved, in the learner's order, on the very same batches."""
    before = learner.arrays()
    momentum = settings.get("momentum", 0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=momentum)
    training.train(
        model, data, mechanism, Rng.insecure_test(5), training.Learning(nn.functional.cross_entropy, optimizer, CPU, mu)
    )
    asked = Settings(0.5, momentum, mu, max(1.0, mechanism.sample_rate * len(data)))
    result = rounds.learn(learner, data, mechanism, Rng.insecure_test(5), asked, physical_batch=16)
    assert result.steps == mechanism.steps
    own = {name.replace(".", "/"): p.detach().numpy() for name, p in model.named_parameters()}
    moved = {name: a - before[name] for name, a in learner.arrays().items()}
    return moved, {name: own[name] - before[name] for name in before}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9}, {"mu": 0.5}], ids=["plain", "momentum", "fedprox"])
def test_torch_and_jax_learn_the_same_from_the_same_rows(stream: Any, name: str, settings: dict[str, float]) -> None:
    moved, wanted = both(
        *pair(name), stream(*some_rows(60)), without_noise(PrivacyConfig(steps_per_round=6)), **settings
    )
    for key, one in moved.items():
        assert np.abs(one).max() > 1e-2
        assert np.abs(one - wanted[key]).max() < 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_clipped_sums_of_both_are_the_same_and_one_record_moves_them_by_the_clip(name: str) -> None:
    learner, model = pair(name)
    x, y = some_rows(30)
    x[0] = 1e6  # a record that would move the sum by any amount
    with training.per_sample(model) as net:
        nn.functional.cross_entropy(net(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        from aegis_flower.per_record.losses import clipped_sum, gradients

        found = gradients(model, len(y))
    names = [n.replace(".", "/") for n, _ in model.named_parameters()]
    for clip in (0.1, 100.0):
        by_name = dict(zip(names, clipped_sum(found, clip), strict=True))
        wanted = np.concatenate([by_name[n].numpy() for n in learner.arrays()])
        got = rounds.summed(learner.gradients(x, y), clip)
        assert np.allclose(got, wanted, atol=1e-3 * clip)
        without = rounds.summed(learner.gradients(x[1:], y[1:]), clip)
        assert np.linalg.norm(got - without) <= clip * (1 + 1e-6)


def test_the_noise_of_a_jax_model_is_that_of_the_ledger_and_of_the_record(client: Any) -> None:
    def nothing(params: Any, x: Any) -> Any:
        return jnp.zeros((len(x), 2)) + 0 * params["w"].sum()

    privacy = {"mode": "example", "clip": 0.5, "sample_rate": 0.25, "steps_per_round": 3, "expected_batch": 20.0}
    c = client(
        lambda spec: Jax(lambda key: {"w": jnp.zeros(4000)}, nothing, spec),
        {"privacy": privacy, "model": {"learning_rate": 0.7}},
        rows=80,
    )
    made = c.train_round([np.zeros(4000, np.float32)], 1, 2.0)
    (entry,) = c.node.ledger.entries()
    std = 0.7 * entry["noise_multiplier"] * entry["clip"] * entry["steps"] ** 0.5 / 20.0
    assert (entry["mechanism"], entry["steps"], entry["unit"]) == ("dpsgd", 3, "record")
    assert_std(made.update.astype(np.float64), std)
    c.release(made, [("w", (4000,))], {}, secure_aggregation=True)
    record = c.node.vault.audit_records("release")[-1]
    assert (record["dp"], record["mechanism"]["steps_noised"]) == ("secure", 3)
    assert record["mechanism"]["coordinates_noised"] == 3 * 4000


def test_a_label_that_no_class_has_ends_the_round_and_is_not_taken_for_another(stream: Any) -> None:
    x, y = some_rows(20)
    mechanism = without_noise(PrivacyConfig(steps_per_round=1, sample_rate=1.0))
    for labels, good in ((y, True), (y + 1, False), (y - 1, False)):
        learner, data = Jax(start_of((3, 2)), linear, SPEC), stream(x, labels)
        if good:
            rounds.learn(learner, data, mechanism, Rng(), Settings(), physical_batch=8, classes=2)
            continue
        with pytest.raises(AppError, match="outside 0 to 1"):
            rounds.learn(learner, data, mechanism, Rng(), Settings(), physical_batch=8, classes=2)


def mixing(params: Any, x: Any) -> Any:
    return linear(params, x - x.mean(axis=0))


def mixing_loss(out: Any, y: Any) -> Any:
    plain = -jnp.take_along_axis(jax.nn.log_softmax(out, axis=1), y[:, None], axis=1)[:, 0]
    return plain * len(y)


@pytest.mark.parametrize("mode", ["example", "off"])
def test_what_mixes_records_is_refused(mode: str) -> None:
    for make, words in (
        (lambda: Jax(start_of((3, 2)), mixing, SPEC), "output for one record moves"),
        (lambda: Jax(start_of((3, 2)), linear, SPEC, loss=mixing_loss), "loss of one record moves"),
        (lambda: Jax(start_of((3, 2)), linear, SPEC, loss=lambda out, y: out.mean()), "one number for each"),
    ):
        with pytest.raises(AppError, match=words):
            probe.probe(make, SPEC, mode=mode, features=3, label_width=1)
    probe.probe(lambda: Jax(start_of((3, 2)), linear, SPEC), SPEC, mode=mode, features=3, label_width=1)


def test_gradients_that_are_not_of_single_records_are_refused() -> None:
    class Mean(Jax):
        def gradients(self, x: Any, y: Any) -> Any:
            each = super().gradients(x, y)
            return each - each.mean(axis=0)

    with pytest.raises(AppError, match="gradient of one record moves"):
        probe.probe(lambda: Mean(start_of((3, 2)), linear, SPEC), SPEC, mode="example", features=3, label_width=1)


def test_a_learner_that_only_says_that_it_has_gradients_is_refused() -> None:
    class Saying(Jax):
        gradients = None  # type: ignore[assignment]

    assert isinstance(Jax(start_of((3, 2)), linear, SPEC), PerRecord)
    with pytest.raises(AppError, match=r"has no gradients\(\) and step\(\)"):
        probe.check_mode(Saying(start_of((3, 2)), linear, SPEC), "example")


def test_parameters_that_are_not_float32_are_refused() -> None:
    with pytest.raises(AppError, match="count that is no float32"):
        Jax(lambda key: {"count": jnp.zeros(3, jnp.int32), "w": jnp.zeros(3)}, linear, SPEC)


def test_an_optimizer_of_ones_own_takes_the_place_of_sgd(stream: Any) -> None:
    class Signs:
        """As Optax's are: a state, and moves to be added."""

        def init(self, params: Any) -> int:
            return 0

        def update(self, gradients: Any, state: int, params: Any) -> tuple[Any, int]:
            return jax.tree_util.tree_map(lambda g: -0.25 * jnp.sign(g), gradients), state + 1

    learner = Jax(start_of((3, 2)), linear, SPEC, optimizer=Signs())
    assert learner.reads == {"proximal_mu"}
    before = learner.arrays()
    mechanism = without_noise(PrivacyConfig(steps_per_round=1, sample_rate=1.0))
    rounds.learn(learner, stream(*some_rows(20)), mechanism, Rng(), Settings(), physical_batch=8)
    for name, a in learner.arrays().items():
        assert np.allclose(np.abs(a - before[name]), 0.25, atol=1e-6)
