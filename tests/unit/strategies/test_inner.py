"""Which inner strategies are accepted: by what they do with replies, tried for every class that Flower exports."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, FedProx, Strategy
from flwr.supercore.task_identity import TaskIdentity

from aegis_flower.errors import ConfigError
from aegis_flower.strategies import Bucketed, RoundRecord, SecureAggregation
from aegis_flower.strategies.inner import COMPARE_REPLIES, FIXED, NEED_ONLY_THE_MEAN

EXPORTED: list[type[Strategy]] = [
    c
    for name in flower.__all__
    if inspect.isclass(c := getattr(flower, name)) and issubclass(c, Strategy) and not inspect.isabstract(c)
]
REPLIES = 12
NEEDED: dict[str, dict[str, Any]] = {
    "QFedAvg": {"client_learning_rate": 0.1},
    "DifferentialPrivacyServerSideFixedClipping": {"clipping_norm": 0.5, "num_sampled_clients": 3},
    "DifferentialPrivacyClientSideFixedClipping": {"clipping_norm": 0.5, "num_sampled_clients": 3},
    "DifferentialPrivacyServerSideAdaptiveClipping": {"num_sampled_clients": 3},
    "DifferentialPrivacyClientSideAdaptiveClipping": {"num_sampled_clients": 3},
}
# What an option decides is decided by Flower before or after the sum, so it holds here, too.
HOLDS = {
    *("fraction_train", "fraction_evaluate", "min_train_nodes", "min_evaluate_nodes", "min_available_nodes"),
    *("server_learning_rate", "server_momentum", "eta", "eta_l", "beta_1", "beta_2", "tau", "proximal_mu"),
    *("num_malicious_nodes", "num_nodes_to_select", "selection_rule", "beta"),
}


def make(cls: type[Strategy], **options: Any) -> Any:
    given = dict(NEEDED.get(cls.__name__, {}))
    if "DifferentialPrivacy" in cls.__name__:
        given |= {"strategy": FedAvg(), "noise_multiplier": 0.2}
    return cls(**given, **options)


class Nodes:
    """A grid with as many nodes as replies."""

    def get_node_ids(self) -> list[int]:
        return list(range(1, REPLIES + 1))


@pytest.fixture(autouse=True)
def server() -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, SUPERLINK_NODE_ID


def outcome(strategy: Any, start: np.ndarray, replies: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """The model that a strategy makes of replies."""
    record = ArrayRecord({"w": Array(start.copy())})
    strategy.configure_train(1, record, ConfigRecord(), Nodes())
    messages = []
    for node, (update, weight) in enumerate(replies, 1):
        ask = Message(RecordDict({"arrays": record}), node, "train")
        content = {"arrays": ArrayRecord({"w": Array(start + update)})}
        metrics = {"metrics": MetricRecord({"num-examples": weight})}
        messages.append(Message(RecordDict({**content, **metrics}), reply_to=ask))
    arrays, _ = strategy.aggregate_train(1, messages)
    return np.asarray(arrays["w"].numpy())


def needs_only_the_mean(cls: type[Strategy]) -> bool:
    """Whether many replies give it what one reply with their weighted mean gives it."""
    rng = np.random.default_rng(5)
    start, updates = rng.normal(size=(3, 2)), rng.normal(size=(REPLIES, 3, 2))
    updates[0] *= 50  # a rule that compares replies does something about this one
    weights = rng.integers(1, 9, REPLIES).astype(float)
    mean = np.average(updates, axis=0, weights=weights)
    try:
        many = outcome(make(cls), start, list(zip(updates, weights, strict=True)))
        one = outcome(make(cls), start, [(mean, float(weights.sum()))])
    except Exception:  # noqa: BLE001 - whatever it misses in the one reply
        return False
    return bool(np.allclose(many, one, rtol=1e-9, atol=1e-12))


def accepted(wrapper: Any, inner: Any) -> bool:
    try:
        wrapper(inner)
    except ConfigError as error:
        text = str(error)
    else:
        return True
    assert type(inner).__name__ in text
    assert any(way in text for way in ("use ", "Take ", "derive ", "hand over "))
    return False


def test_flower_exports_what_was_looked_at() -> None:
    assert len(EXPORTED) >= 18


@pytest.mark.parametrize("cls", EXPORTED, ids=lambda c: c.__name__)
def test_secure_aggregation_accepts_exactly_the_strategies_that_need_only_the_mean(cls: type[Strategy]) -> None:
    assert accepted(SecureAggregation, make(cls)) == needs_only_the_mean(cls) == (cls in NEED_ONLY_THE_MEAN)


@pytest.mark.parametrize("cls", EXPORTED, ids=lambda c: c.__name__)
def test_bucketed_accepts_those_and_the_rules_that_compare_replies(cls: type[Strategy]) -> None:
    assert accepted(Bucketed, make(cls)) == (cls in (*NEED_ONLY_THE_MEAN, *COMPARE_REPLIES))


@pytest.mark.parametrize("cls", EXPORTED, ids=lambda c: c.__name__)
def test_a_class_derived_from_one_of_flowers_is_accepted_or_refused_like_it(cls: type[Strategy]) -> None:
    derived = type(f"My{cls.__name__}", (cls,), {})
    NEEDED[derived.__name__] = NEEDED.get(cls.__name__, {})
    for wrapper in (SecureAggregation, Bucketed):
        assert accepted(wrapper, make(derived)) == accepted(wrapper, make(cls))


class Own(Strategy):
    """From the ground up."""

    def configure_train(self, *args: Any) -> Any: ...
    def aggregate_train(self, *args: Any) -> Any: ...
    def configure_evaluate(self, *args: Any) -> Any: ...
    def aggregate_evaluate(self, *args: Any) -> Any: ...
    def summary(self) -> None: ...


class SaysSo(Own):
    needs_only_the_mean = True


class Wraps(SaysSo):
    def __init__(self, inside: Strategy) -> None:
        self.inside = inside


def test_a_strategy_of_somebodys_own_is_refused_until_it_says_that_the_mean_is_enough() -> None:
    with pytest.raises(ConfigError, match="needs_only_the_mean = True"):
        SecureAggregation(Own())
    SecureAggregation(SaysSo())


def test_a_wrapper_of_another_strategy_is_refused_whatever_it_says() -> None:
    for wrapper in (SecureAggregation, Bucketed):
        with pytest.raises(ConfigError, match="wraps another strategy"):
            wrapper(Wraps(FedAvg()))


def test_a_wrapper_with_central_noise_is_refused_with_the_way_to_client_noise() -> None:
    for cls in EXPORTED:
        if "DifferentialPrivacy" in cls.__name__:
            with pytest.raises(ConfigError, match=r"privacy\.mode=example"):
                SecureAggregation(make(cls))


def test_every_option_of_an_accepted_strategy_holds_or_is_refused() -> None:
    for cls in (*NEED_ONLY_THE_MEAN, *COMPARE_REPLIES):
        options = set(inspect.signature(cls).parameters)
        assert options <= HOLDS | FIXED.keys(), f"{cls.__name__}: nobody has looked at {options - HOLDS - FIXED.keys()}"


@pytest.mark.parametrize("option", FIXED)
def test_an_option_that_cannot_hold_is_refused_before_the_run(option: str) -> None:
    value = (lambda *_: MetricRecord()) if option.endswith("_fn") else "mine"
    for cls in NEED_ONLY_THE_MEAN:
        with pytest.raises(ConfigError, match=f"{option}=.* has no effect here"):
            SecureAggregation(cls(**{option: value}))
    with pytest.raises(ConfigError, match=option):
        Bucketed(flower.FedMedian(**{option: value}))


def test_fractions_and_a_mu_that_cannot_be_are_refused() -> None:
    for inner in (FedAvg(fraction_train=0.0), FedAvg(fraction_train=1.5), FedAvg(fraction_evaluate=-0.1)):
        with pytest.raises(ConfigError, match="fraction"):
            SecureAggregation(inner)
    for mu in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="proximal_mu"):
            SecureAggregation(FedProx(proximal_mu=mu))


# -- when models are measured ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "rides", "after"),
    [
        ({}, True, []),
        ({"noise_multiplier": 1.0}, False, [4]),
        ({"evaluate": "every", "noise_multiplier": 1.0}, True, []),
        ({"evaluate": "last"}, False, [4]),
        ({"evaluate": "never"}, False, []),
        ({"evaluate_rounds": [2]}, True, [2]),
        ({"evaluate_rounds": [2], "noise_multiplier": 1.0}, False, [2, 4]),
    ],
)
def test_every_model_is_measured_without_dp_and_the_last_with_it(
    options: dict[str, Any], rides: bool, after: list[int]
) -> None:
    schedule = SecureAggregation(FedAvg(), **options)._schedule
    assert schedule.rides() is rides
    assert [n for n in range(1, 5) if schedule.after(n, 4)] == after


def test_fraction_evaluate_is_kept_to_or_refused() -> None:
    assert not SecureAggregation(FedAvg(fraction_evaluate=0.0))._schedule.rides()
    with pytest.raises(ConfigError, match='evaluate="last"'):
        SecureAggregation(FedAvg(fraction_evaluate=0.5))
    half = SecureAggregation(FedAvg(fraction_evaluate=0.5), evaluate="last", min_cohort=2)
    assert len(half._measuring(list(range(10)))) == 5
    few = SecureAggregation(FedAvg(fraction_evaluate=0.1), evaluate="last", min_cohort=4)
    assert len(few._measuring(list(range(10)))) == 4
    for options in ({"evaluate": "last"}, {"evaluate_rounds": [1]}):
        with pytest.raises(ConfigError, match="contradict"):
            SecureAggregation(FedAvg(fraction_evaluate=0.0), **options)
    with pytest.raises(ConfigError, match="contradict"):
        SecureAggregation(FedAvg(), evaluate="never", evaluate_rounds=[1])
    with pytest.raises(ConfigError, match="one of auto, last, every, never"):
        SecureAggregation(FedAvg(), evaluate="sometimes")


def test_without_a_new_model_no_held_out_row_is_touched() -> None:
    class Nobody:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError("the clients were asked")

    strategy = SecureAggregation(FedAvg(), evaluate="last", evaluate_rounds=[1])
    strategy._last = 1
    strategy.rounds.append(RoundRecord(1, failed="[AEG-S015] too few"))
    assert list(strategy.configure_evaluate(1, ArrayRecord(), ConfigRecord(), Nobody())) == []  # type: ignore[arg-type]
    assert strategy.aggregate_evaluate(1, []) is None
    assert len(strategy.rounds) == 1
