"""Under secure aggregation Flower's own strategies give the model they give when fed the plain mean, to quantisation error.

The reference is Flower's strategy, run by its own `start`, in float64, on one reply a round: its model plus the plain weighted
mean of the updates that the clients of the secure run noted. The tolerance is derived, element by element: the encoding moves
a mean by half a quantisation step at most, and `Ball` carries that through each operation of the optimiser, with one float32
rounding for each. So a strategy that divides by small numbers has the tolerance that this division allows and no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import ServerApp
from flwr.serverapp import strategy as flower
from flwr.supercore.task_identity import TaskIdentity

from aegis_engine import clip_l2
from aegis_flower import SecureAggregation, VaultClient, aegis_client_app, compose, run_inprocess
from aegis_flower.node.node import close_nodes
from aegis_flower.server import initial_arrays
from aegis_flower.simulations.provision import provision

ROUNDS = 5
PLAIN = ["privacy=off", "policy.require_dp=false", "secagg.weighting=rows", f"strategy.rounds={ROUNDS}"]
FEW: dict[str, Any] = {"min_train_nodes": 3, "min_available_nodes": 3, "fraction_evaluate": 0.0}
HALF_ULP = 2.0**-24  # of float32, relative
TINY = float(np.finfo(np.float32).smallest_subnormal)


@dataclass(frozen=True)
class Ball:
    """Numbers `at`, of which a computation in float32 from perturbed inputs is off by `off` at most."""

    at: np.ndarray
    off: np.ndarray

    @classmethod
    def rounded(cls, at: Any, off: Any) -> Ball:
        """One float32 operation: its result is rounded once."""
        return cls(at, off + HALF_ULP * (np.abs(at) + off) + TINY)

    @classmethod
    def zeros(cls, size: int) -> Ball:
        return cls(np.zeros(size), np.zeros(size))

    def __add__(self, other: Ball | float) -> Ball:
        other = _ball(other)
        return self.rounded(self.at + other.at, self.off + other.off)

    def __sub__(self, other: Ball) -> Ball:
        return self.rounded(self.at - other.at, self.off + other.off)

    def __rmul__(self, number: float) -> Ball:
        number = float(number)  # a constant is rounded to float32, too
        return self.rounded(number * self.at, abs(number) * (self.off + HALF_ULP * (np.abs(self.at) + self.off)))

    def __mul__(self, other: Ball) -> Ball:
        spread = np.abs(self.at) * other.off + np.abs(other.at) * self.off + self.off * other.off
        return self.rounded(self.at * other.at, spread)

    def __truediv__(self, other: Ball) -> Ball:
        least = other.at - other.off
        assert (least > 0).all()
        at = self.at / other.at
        return self.rounded(at, (self.off + np.abs(at) * other.off) / least)

    def sqrt(self) -> Ball:
        at = np.sqrt(self.at)
        low, high = np.sqrt(np.maximum(self.at - self.off, 0)), np.sqrt(self.at + self.off)
        return self.rounded(at, np.maximum(at - low, high - at))

    def sign(self) -> Ball:
        """Known where zero is outside."""
        return Ball(np.sign(self.at), np.where(np.abs(self.at) > self.off, 0.0, 2.0))


def _ball(number: Ball | float) -> Ball:
    return number if isinstance(number, Ball) else Ball(np.float64(number), np.float64(HALF_ULP * abs(number)))


# -- what each strategy computes, Reddi et al. 2020 (algorithm 2) and Flower's documentation --------------------------------


class Averaged:
    """FedAvg and FedProx: the mean is the model."""

    def __init__(self, inner: Any, size: int) -> None:
        self.inner, self.m, self.v = inner, Ball.zeros(size), Ball.zeros(size)

    def step(self, x: Ball, delta: Ball, round_: int) -> Ball:
        return x + delta


class WithMomentum(Averaged):
    """FedAvgM."""

    def step(self, x: Ball, delta: Ball, round_: int) -> Ball:
        self.m = self.inner.server_momentum * self.m - delta
        return x - self.inner.server_learning_rate * self.m


class Adaptive(Averaged):
    """FedAdam and FedYogi."""

    def step(self, x: Ball, delta: Ball, round_: int) -> Ball:
        inner, square, rate = self.inner, delta * delta, self.inner.eta
        self.m = inner.beta_1 * self.m + (1 - inner.beta_1) * delta
        if isinstance(inner, flower.FedAdam):
            self.v = inner.beta_2 * self.v + (1 - inner.beta_2) * square
            rate *= np.sqrt(1 - inner.beta_2 ** (round_ + 1)) / (1 - inner.beta_1 ** (round_ + 1))
        else:
            self.v = self.v - (1 - inner.beta_2) * square * (self.v - square).sign()
        return x + rate * self.m / (self.v.sqrt() + inner.tau)


# -- the two runs -----------------------------------------------------------------------------------------------------------


@dataclass
class Secure:
    """A secure run: the model before and after, and for each round the updates and weights of those in the sum."""

    start: list[np.ndarray]
    end: list[np.ndarray]
    taken: dict[int, list[tuple[np.ndarray, int]]]

    def mean(self, round_: int) -> np.ndarray:
        updates, weights = zip(*self.taken[round_], strict=True)
        return np.average([u.astype(np.float64) for u in updates], axis=0, weights=weights)


@pytest.fixture(scope="module")
def vaults(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    root = tmp_path_factory.mktemp("nodes")
    return [dict(node.node_config) for node in provision(compose("quickstart", PLAIN), root / "vaults")]


@pytest.fixture
def secure(vaults: list[dict[str, Any]]) -> Any:
    """Runs an inner strategy under secure aggregation; one of the five clients is gone from the fourth round on."""

    def run(inner: flower.Strategy, *overrides: str) -> Secure:
        cfg = compose("quickstart", [*PLAIN, *overrides])
        noted: dict[tuple[int, int], tuple[np.ndarray, int]] = {}

        class Noting(VaultClient):
            def train_round(self, *args: Any) -> Any:
                trained = super().train_round(*args)
                update = trained.update
                clip_l2(update, cfg.strategy.max_norm)
                noted[args[1], self.context.node_id] = (update, trained.permit.rows)
                return trained

        strategy = SecureAggregation(inner, max_norm=cfg.strategy.max_norm, cohort=5)
        server = ServerApp()
        final: list[np.ndarray] = []

        @server.main()
        def main(grid: Any, context: Context) -> None:
            result = strategy.start(grid, initial_arrays(cfg), num_rounds=ROUNDS)
            final.extend(result.arrays.to_numpy_ndarrays())

        try:
            run_inprocess(server, aegis_client_app(Noting, config=cfg), vaults, lose=[(4, 4, "masked")])
        finally:
            close_nodes()
        assert [len(r.participants) for r in strategy.rounds] == [5, 5, 5, 4, 4]
        taken = {r.round: [noted[r.round, node] for node in r.participants] for r in strategy.rounds}
        weights = [weight for _, weight in taken[1]]
        assert len(set(weights)) == 5, "the weights tell the clients apart"
        assert [r.weight for r in strategy.rounds] == [sum(w for _, w in taken[r]) for r in taken]
        return Secure(initial_arrays(cfg).to_numpy_ndarrays(), final, taken)

    return run


class PlainMean:
    """A grid that answers Flower's strategy with one reply: the model it sent plus the plain mean of the round's updates."""

    def __init__(self, secure: Secure) -> None:
        self._secure = secure

    def get_node_ids(self) -> list[int]:
        return [1, 2, 3]

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        messages = list(messages)
        if not messages:  # the evaluation, which is not asked for
            return []
        content = messages[0].content
        mean, at, after = self._secure.mean(int(content["config"]["server-round"])), 0, {}
        for name, array in content["arrays"].items():
            before = array.numpy()
            after[name] = Array(before + mean[at : at + before.size].reshape(before.shape))
            at += before.size
        reply = {"arrays": ArrayRecord(after), "metrics": MetricRecord({"num-examples": 1.0})}
        return [Message(RecordDict(reply), reply_to=messages[0])]


def flat(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.asarray(a, np.float64).ravel() for a in arrays])


def in_clear(inner: flower.Strategy, run: Secure) -> np.ndarray:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, SUPERLINK_NODE_ID
    start = ArrayRecord({str(i): Array(a.astype(np.float64)) for i, a in enumerate(run.start)})
    return flat(inner.start(PlainMean(run), start, num_rounds=ROUNDS).arrays.to_numpy_ndarrays())


def tolerance(optimiser: Averaged, run: Secure, cfg: Any, *, forgetful: bool = False) -> Ball:
    """The model of `in_clear`, and how far one in float32 from quantised updates may be from it."""
    x = Ball(flat(run.start), np.zeros(flat(run.start).size))
    step = cfg.strategy.max_norm / (2 ** (cfg.secagg.value_bits - 1) - 1)
    half_step = step / 2 * (1 + 1e-9)  # what float64 rounds on the way
    for round_ in range(1, ROUNDS + 1):
        mean = run.mean(round_)
        # the strategy is handed model plus mean, and takes that very model away again: two roundings
        handed = Ball.rounded(x.at + mean, x.off + half_step)
        x = optimiser.step(x, Ball.rounded(mean, handed.off - x.off), round_)
        if forgetful:
            optimiser.m, optimiser.v = Ball.zeros(mean.size), Ball.zeros(mean.size)
    return x


CASES = {
    "fedavg": (flower.FedAvg, {}, Averaged),
    "fedprox": (flower.FedProx, {"proximal_mu": 0.5}, Averaged),
    "fedavgm": (flower.FedAvgM, {"server_learning_rate": 0.7, "server_momentum": 0.9}, WithMomentum),
    "fedadam": (flower.FedAdam, {"eta": 0.1}, Adaptive),
    "fedyogi": (flower.FedYogi, {"eta": 0.1}, Adaptive),
}


@pytest.mark.parametrize("name", CASES)
def test_the_model_is_the_one_flowers_own_strategy_makes_of_the_plain_means(secure: Any, name: str) -> None:
    make, settings, optimiser = CASES[name]
    overrides = [f"strategy={name}"] + [f"strategy.{k}={v}" for k, v in settings.items() if k == "proximal_mu"]
    run = secure(make(**settings, **FEW), *overrides)
    reference = make(**settings, **FEW)
    found, expected = flat(run.end), in_clear(reference, run)

    cfg = compose("quickstart", [*PLAIN, *overrides])
    allowed = tolerance(optimiser(reference, expected.size), run, cfg)
    np.testing.assert_allclose(allowed.at, expected, rtol=1e-9, atol=1e-12)  # the formulas above are Flower's
    assert (np.abs(found - expected) <= allowed.off).all()

    # The tolerance is no excuse: it is small beside what training did, and a strategy that lost its state is outside of it.
    moved = np.abs(expected - flat(run.start)).max()
    assert allowed.off.max() < 1e-3 * moved
    if optimiser is not Averaged:
        other = tolerance(optimiser(reference, expected.size), run, cfg, forgetful=True)
        assert np.abs(found - other.at).max() > 100 * other.off.max()
