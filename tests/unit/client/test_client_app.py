"""The bridge: NumPyClients and VaultClients under Flower's Message-API strategies, and what a wrong mixture is told."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.serverapp import strategy as flower

from aegis_engine import Request
from aegis_flower.client import VaultClient, aegis_client_app
from aegis_flower.configs import Config, compose
from aegis_flower.errors import AppError, ConfigError
from aegis_flower.node.node import close_nodes, refusals
from aegis_flower.server import initial_arrays, noise_multiplier
from aegis_flower.simulations.inprocess import InProcessGrid
from aegis_flower.simulations.provision import provision
from aegis_flower.strategies import ClearAggregation, SecureAggregation

SECRET = "patient-000042 has a tumour"
START = {"w": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), "b": np.array([0.5], np.float32)}


class Listening(InProcessGrid):
    """The grid, with everything the server received kept as the bytes and texts it was."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heard: list[str] = []

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = list(super().pull_messages(message_ids))
        for m in replies:
            self.heard.append(m.error.reason if m.has_error() else repr(m.content))
        return replies


def record(arrays: dict[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord({name: Array(a) for name, a in arrays.items()})


class Adder(NumPyClient):
    """Adds its number to every weight, on as many examples as ten times its number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def fit(self, parameters: Any, config: dict[str, Any]) -> Any:
        return [p + self.number for p in parameters], 10 * self.number, {"round": config["round"], "note": "text"}

    def evaluate(self, parameters: Any, config: dict[str, Any]) -> Any:
        return float(parameters[0].sum()), 10 * self.number, {"accuracy": self.number / 10}


def run(app: ClientApp, strategy: Any, nodes: int = 3, rounds: int = 1, configs: Any = None) -> tuple[Any, Listening]:
    with Listening(app, configs or [{"number": i + 1} for i in range(nodes)]) as grid:
        result = strategy.start(grid, record(START), num_rounds=rounds, timeout=120)
        return result, grid


# -- plain clients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("converted", [False, True])
def test_a_plain_numpy_client_runs_under_flowers_fedavg_and_gives_the_weighted_mean(converted: bool) -> None:
    def client_fn(context: Context) -> Any:
        client = Adder(int(context.node_config["number"]))
        return client.to_client() if converted else client

    result, _ = run(aegis_client_app(client_fn), flower.FedAvg(), rounds=2)
    mean = (10 * 1 + 20 * 2 + 30 * 3) / 60
    for name, start in START.items():
        found = result.arrays[name].numpy()
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, start + 2 * mean, rtol=1e-6)
    assert result.train_metrics_clientapp[2]["round"] == pytest.approx(2.0)
    accuracy = (10 * 0.1 + 20 * 0.2 + 30 * 0.3) / 60
    assert result.evaluate_metrics_clientapp[1]["accuracy"] == pytest.approx(accuracy)
    assert result.evaluate_metrics_clientapp[2]["loss"] == pytest.approx(float(START["w"].sum()) + 8 * mean)


def test_a_plain_client_runs_under_clear_aggregation_and_is_on_its_record() -> None:
    strategy = ClearAggregation(flower.FedAvg(), evaluate_rounds=[1])
    run(aegis_client_app(lambda c: Adder(int(c.node_config["number"]))), strategy)
    train, evaluate = strategy.rounds
    assert (train.participants, train.weight, train.lost) == ([1, 2, 3], 60, [])
    assert (evaluate.task, evaluate.metrics["examples"]) == ("evaluate", 60)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (np.float32(0.9), pytest.approx(0.9, rel=1e-6)),
        (np.float64(0.9), 0.9),
        (np.int64(3), 3),
        (torch.tensor(0.5), 0.5),
        (np.array([0.5, 0.25]), [0.5, 0.25]),
        (torch.tensor([1, 2]), [1, 2]),
        ([1, 2], [1, 2]),
        ((0.5, np.float32(0.25)), [0.5, 0.25]),
    ],
)
@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_numbers_of_numpy_and_torch_are_metrics_like_pythons_own(kind: str, given: Any, found: Any) -> None:
    class Metrical(Adder):
        def fit(self, parameters: Any, config: dict[str, Any]) -> Any:
            return parameters, np.int64(10), {"m": given, "sure": True, "note": "text"}

        def evaluate(self, parameters: Any, config: dict[str, Any]) -> Any:
            return np.float32(0.25), 10, {"m": given}

    content = RecordDict({"arrays": record(START), "config": ConfigRecord({"server-round": 1})})
    with InProcessGrid(aegis_client_app(lambda _: Metrical(1)), [{}]) as grid:
        (reply,) = grid.send_and_receive([Message(content, 1, kind)])
    metrics = reply.content.metric_records["metrics"]
    assert metrics["m"] == found
    assert metrics["num-examples"] == 10
    if kind == "train":
        assert reply.content.config_records["texts"] == {"sure": True, "note": "text"}
    else:
        assert metrics["loss"] == 0.25


@pytest.mark.parametrize(
    "metrics", [{"num-examples": 3}, {"m": None}, {"m": {"a": 1}}, {"m": [1, "a"]}, {"m": np.ones((2, 2))}, {"m": 1j}]
)
def test_a_metric_that_flower_cannot_carry_is_refused_by_name_and_none_takes_the_place_of_the_examples(
    metrics: Any,
) -> None:
    class Metrical(Adder):
        def evaluate(self, parameters: Any, config: dict[str, Any]) -> Any:
            return 0.25, 10, metrics

    content = RecordDict({"arrays": record(START), "config": ConfigRecord({"server-round": 1})})
    with InProcessGrid(aegis_client_app(lambda _: Metrical(1)), [{}], run_id=77) as grid:
        (reply,) = grid.send_and_receive([Message(content, 1, "evaluate")])
    assert reply.error.reason == "[AEG-F001]"
    assert repr(next(iter(metrics))) in refusals(77, 1)[-1][3]


# -- wrong mixtures -----------------------------------------------------------------------------------------------------


def test_a_client_app_in_place_of_a_client_function_is_refused_with_what_to_pass() -> None:
    with pytest.raises(AppError, match="pass the client_fn"):
        aegis_client_app(ClientApp())  # type: ignore[arg-type]


def test_a_class_that_is_no_vault_client_is_refused_with_both_ways_out() -> None:
    with pytest.raises(AppError, match="derive it from VaultClient, or pass a function of Context"):
        aegis_client_app(Adder)  # type: ignore[arg-type]


def test_what_is_no_client_at_all_is_refused() -> None:
    with pytest.raises(AppError, match="not a int"):
        aegis_client_app(3)  # type: ignore[arg-type]
    with pytest.raises(AppError, match="builds its own"):
        aegis_client_app(lambda _: Adder(1), model=lambda: torch.nn.Linear(1, 1))


def test_a_client_function_that_returns_something_else_is_named_to_the_operator() -> None:
    _, grid = run(aegis_client_app(lambda _: "no client"), flower.FedAvg())
    assert grid.heard == ["[AEG-F001]"] * 6  # three nodes, train and evaluate
    assert "returned a str; return a NumPyClient" in refusals(1, 1)[-1][3]


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_server_of_the_old_api_is_refused_and_the_operator_reads_what_to_import(kind: str) -> None:
    prefix = "fitins" if kind == "train" else "evaluateins"
    content = RecordDict({f"{prefix}.parameters": record(START), f"{prefix}.config": ConfigRecord({})})
    with InProcessGrid(aegis_client_app(lambda _: Adder(1)), [{}]) as grid:
        (reply,) = grid.send_and_receive([Message(content, 1, kind)])
    assert reply.error.reason == "[AEG-F001]"
    words = refusals(1, 1)[-1][3]
    assert "flwr.serverapp.strategy" in words
    assert "strategy.start(grid=...)" in words


@pytest.mark.parametrize(
    "inner",
    [
        flower.Krum(),
        flower.MultiKrum(num_malicious_nodes=1, num_nodes_to_select=2),
        flower.FedMedian(),
        flower.FedTrimmedAvg(),
        flower.QFedAvg(client_learning_rate=0.1),
        flower.Bulyan(num_malicious_nodes=0),
    ],
    ids=lambda s: type(s).__name__,
)
def test_a_strategy_that_compares_single_updates_is_refused_with_the_reason(inner: Any) -> None:
    with pytest.raises(ConfigError, match="compares single updates, which secure aggregation hides") as error:
        SecureAggregation(inner)
    assert type(inner).__name__ in str(error.value)


def test_a_strategy_of_the_old_api_is_refused_with_the_import_to_use() -> None:
    from flwr.server.strategy import FedAvg as OldFedAvg

    with pytest.raises(AppError, match=r"flwr\.serverapp\.strategy"):
        SecureAggregation(OldFedAvg())  # type: ignore[arg-type]
    with pytest.raises(AppError, match="no Flower strategy"):
        SecureAggregation(object())  # type: ignore[arg-type]


def test_a_cohort_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="that client's update"):
        SecureAggregation(flower.FedAvg(), min_cohort=1)


def test_plain_clients_under_secure_aggregation_are_lost_with_the_reason_and_the_model_stays() -> None:
    strategy = SecureAggregation(flower.FedAvg(), min_cohort=3, join_deadline=1)
    result, _ = run(aegis_client_app(lambda _: Adder(1)), strategy)
    (round_,) = strategy.rounds
    assert round_.participants == []
    assert "NotEnoughClients" in round_.failed or "AEG-S" in round_.failed
    assert [(x.node, x.step, x.code) for x in round_.lost] == [(n, "advertise", "AEG-F001") for n in (1, 2, 3)]
    assert all("derive the client from VaultClient" in refusals(1, n)[-1][3] for n in (1, 2, 3))
    kept = result.arrays or record(START)
    np.testing.assert_array_equal(kept["w"].numpy(), START["w"])


def test_an_app_without_the_protocols_actions_is_lost_with_the_remedy() -> None:
    foreign = ClientApp()

    @foreign.train()
    def train(message: Message, context: Context) -> Message:
        raise AssertionError("never asked")

    strategy = SecureAggregation(flower.FedAvg(), min_cohort=3, join_deadline=1)
    run(foreign, strategy)
    assert all("aegis_client_app(client_fn)" in x.reason for x in strategy.rounds[0].lost)
    assert len(strategy.rounds[0].lost) == 3


# -- foreign exceptions ---------------------------------------------------------------------------------------------------


def test_the_text_of_a_plain_clients_exception_stays_on_the_node(caplog: pytest.LogCaptureFixture) -> None:
    class Careless(Adder):
        def fit(self, parameters: Any, config: dict[str, Any]) -> Any:
            raise ValueError(SECRET)

        evaluate = fit

    _, grid = run(aegis_client_app(lambda _: Careless(1)), flower.FedAvg())
    assert len(grid.heard) >= 3
    assert set(grid.heard) == {"[AEG-X000]"}
    assert SECRET in caplog.text  # where the node's operator finds it


def test_the_text_of_a_client_functions_exception_stays_on_the_node() -> None:
    def client_fn(_: Context) -> Any:
        raise KeyError(SECRET)

    app = aegis_client_app(client_fn)
    _, plain = run(app, flower.FedAvg())
    strategy = SecureAggregation(flower.FedAvg(), min_cohort=3, join_deadline=1)
    _, masked = run(app, strategy)
    for grid in (plain, masked):
        assert len(grid.heard) >= 3
        assert all("AEG-X000" in text for text in grid.heard)
        assert not any("000042" in text or "KeyError" in text for text in grid.heard)
    assert {x.code for x in strategy.rounds[0].lost} == {"AEG-X000"}


# -- vault clients ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three hospitals; each test makes its own grid over them, under a run id of its own."""
    root = tmp_path_factory.mktemp("federation") / "vaults"
    cfg = compose(
        "quickstart", ["data.clients=3", "data.limit=240", f"vault.root={root}", "policy.budget_epsilon=1000"]
    )
    nodes = provision(cfg, root)
    yield cfg, [n.node_config for n in nodes]
    close_nodes()


def secure_run(
    federation: tuple[Config, Any], client: type[VaultClient], run_id: int, **options: Any
) -> tuple[Any, SecureAggregation, Listening]:
    cfg, configs = federation
    strategy = SecureAggregation(
        flower.FedAvg(),
        cohort=3,
        join_deadline=1,
        noise_multiplier=noise_multiplier(cfg),
        weight_max=cfg.secagg.weight_max,
        **options,
    )
    with Listening(aegis_client_app(client, config=cfg), configs, run_id=run_id) as grid:
        result = strategy.start(grid, initial_arrays(cfg), num_rounds=1, timeout=120)
        return result, strategy, grid


def test_vault_clients_give_a_model_and_the_server_no_single_number(federation: Any) -> None:
    result, strategy, grid = secure_run(federation, VaultClient, 11)
    round_, final = strategy.rounds
    assert (round_.participants, round_.lost, round_.failed) == ([1, 2, 3], [], "")
    assert result.arrays["weight"].numpy().any()
    assert (final.task, final.participants) == ("evaluate", [1, 2, 3])
    # 48 rows, a fifth of 240, minus who withdrew, and under the noise of three nodes
    assert 0 < final.metrics["examples"] < 96
    assert not any("num-examples" in text or "loss" in text for text in grid.heard)


def test_the_text_of_a_vault_clients_exception_stays_on_the_node(federation: Any) -> None:
    class Careless(VaultClient):
        def train_round(self, *args: Any) -> Any:
            super().train_round(*args)
            raise RuntimeError(SECRET)

    _, strategy, grid = secure_run(federation, Careless, 12)
    (round_,) = strategy.rounds
    assert [(x.step, x.code) for x in round_.lost] == [("masked", "AEG-X000")] * 3
    assert not any("000042" in text or "RuntimeError" in text for text in grid.heard)
    assert re.search(r"RuntimeError: .*test_client_app\.py:\d+ in train_round", refusals(12, 1)[-1][3])


def test_a_refusal_by_policy_is_a_code_and_the_operator_reads_the_policys_name(federation: Any) -> None:
    class Curious(VaultClient):
        def authorize(self, action: str, round_: int, *, holdout: bool = False) -> Any:
            return self.node.engine.authorize(self.node.dataset(holdout), Request(action=action, purpose="advertising"))

    _, strategy, _ = secure_run(federation, Curious, 13)
    assert {x.code for x in strategy.rounds[0].lost} == {"AEG-P001"}
    assert "core.purpose" in refusals(13, 1)[-1][3]
    assert strategy.rounds[0].failed


def test_an_update_in_clear_from_data_that_demand_masks_is_refused(federation: Any) -> None:
    """The researcher's app asks the plain way; the steward's terms, sealed with the data, say no."""
    cfg, configs = federation
    strategy = ClearAggregation(flower.FedAvg(), noise_multiplier=noise_multiplier(cfg))
    with Listening(aegis_client_app(VaultClient, config=cfg), configs, run_id=14) as grid:
        strategy.start(grid, initial_arrays(cfg), num_rounds=1, timeout=120)
    assert len(grid.heard) >= 3
    assert set(grid.heard) == {"[AEG-N011]"}
    assert "require_secure_aggregation" in refusals(14, 1)[-1][3]
    assert strategy.rounds[0].participants == []


def test_a_hostile_noise_multiplier_trains_nothing_and_spoils_no_ledger(federation: Any) -> None:
    """The server names σ; NaN, no noise and hardly any noise must all end before a row is read."""
    cfg, configs = federation
    for run_id, sigma in enumerate((float("nan"), 0.0, -1.0, 1e-3, float("inf")), 20):
        strategy = SecureAggregation(flower.FedAvg(), cohort=3, join_deadline=1, noise_multiplier=sigma)
        with Listening(aegis_client_app(VaultClient, config=cfg), configs, run_id=run_id) as grid:
            strategy.start(grid, initial_arrays(cfg), num_rounds=1, timeout=120)
        assert {x.code for x in strategy.rounds[0].lost} <= {"AEG-N010", "AEG-N011"}
        assert len(strategy.rounds[0].lost) == 3
    _, strategy, _ = secure_run(federation, VaultClient, 30)
    assert strategy.rounds[0].participants == [1, 2, 3]
