"""The node's side of a round: the order of its checks, what it holds a server to, and that nothing is read before all agree."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from by_hand import DIM, LENIENT, OFF, SPEC, START, STRICT, ByHand, Round, Server, config, model, rows
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client import NumPyClient
from flwr.serverapp.strategy import FedProx
from torch import nn

from aegis_engine import Vault
from aegis_flower import Terms, VaultClient, aegis_client_app, wire
from aegis_flower.client.round_config import RoundConfig
from aegis_flower.data import Spec
from aegis_flower.errors import LASTING, AegisError, AppError, RequestInvalid
from aegis_flower.gate import METRICS, means
from aegis_flower.node import node
from aegis_flower.node.node import close_nodes

Make = Callable[..., ByHand]


@pytest.fixture
def make(tmp_path: Path) -> Any:
    made = []

    def start(cfg: Any = None, **options: Any) -> ByHand:
        made.append(ByHand(tmp_path / f"{len(made)}", cfg, **options))
        return made[-1]

    yield start
    close_nodes()


def events(nodes: ByHand, node_: int = 1) -> dict[str, int]:
    """How often the node's log has what leaves traces of reading: permissions, charges, releases."""
    vault: Vault = nodes.vault(node_)
    return {e: len(vault.audit_records(e)) for e in ("authorize", "privacy.reserve", "release")}


NOTHING = {"authorize": 0, "privacy.reserve": 0, "release": 0}


def begun(nodes: ByHand) -> tuple[Any, bytes]:
    """A round up to the masked step; gives its server and the request to node 1."""
    server = Server(nodes.cfg)
    found: list[Any] = []
    real = nodes.ask

    def ask(n: int, kind: str, *args: Any, **asked: Any) -> wire.Reply:
        if kind == wire.MASKED:
            found.append((n, asked["payload"]))
            return wire.Reply(code="AEG-X000")
        return real(n, kind, *args, **asked)

    nodes.ask = ask  # type: ignore[method-assign]
    server.run(nodes, list(nodes.contexts), lambda _: START, {"noise_multiplier": nodes.sigma})
    del nodes.ask
    return server, dict(found)[1]


# -- nothing before everything is agreed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"junk", b"\x00" * 1000])
def test_a_junk_message_trains_nothing_charges_nothing_and_leaves_no_permission(make: Make, payload: bytes) -> None:
    nodes = make(nodes=1)
    assert nodes.ask(1, wire.MASKED, START, payload=payload, noise_multiplier=nodes.sigma).code == "AEG-S000"
    nodes.ask(1, wire.ADVERTISE)
    for task in ("train", "evaluate"):
        sigma = nodes.sigma if task == "train" else 0.0
        code = nodes.ask(1, wire.MASKED, START, payload=payload, task=task, noise_multiplier=sigma).code
        assert code.startswith("AEG-S")
    assert events(nodes) == NOTHING


def test_a_request_that_was_answered_is_refused_before_anything_is_read_again(make: Make) -> None:
    nodes = make()
    _, request = begun(nodes)
    asked = {"payload": request, "noise_multiplier": nodes.sigma}
    assert nodes.ask(1, wire.MASKED, START, **asked).code == ""
    before = events(nodes)
    assert before == {"authorize": 1, "privacy.reserve": 1, "release": 1}
    assert nodes.ask(1, wire.MASKED, START, **asked).code == "AEG-S007"
    assert events(nodes) == before


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ([START[0].T, START[1]], "AEG-N013"),
        (START[:1], "AEG-S"),
        ([np.full((2, 4), np.nan, np.float32), START[1]], "AEG-N010"),
        ([np.full((2, 4), np.inf, np.float32), START[1]], "AEG-N010"),
        ([START[0].astype(int), START[1]], "AEG-N010"),
        ([START[0].astype(bool), START[1]], "AEG-N010"),
        ([START[0].astype(complex), START[1]], "AEG-N010"),
        ([np.array([["a"] * 4] * 2), START[1]], "AEG-N010"),
        ([np.zeros((0, 4), np.float32), START[1]], "AEG-N010"),
        ([np.full((2, 4), 1e300), START[1]], "AEG-N010"),
    ],
)
def test_a_model_that_is_not_the_nodes_is_refused_unread(make: Make, arrays: Any, code: str) -> None:
    nodes = make()
    _, request = begun(nodes)
    reply = nodes.ask(1, wire.MASKED, arrays, payload=request, noise_multiplier=nodes.sigma)
    assert reply.code.startswith(code)
    assert events(nodes) == NOTHING


def batch_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def broken() -> nn.Module:
    raise RuntimeError("no such layer")


MISTAKES: dict[str, dict[str, Any]] = {
    "BatchNorm": {"app": {"model": batch_norm}},
    "float16": {"app": {"model": lambda: nn.Linear(4, 2).half()}},
    "another model": {"app": {"model": lambda: nn.Linear(4, 3)}, "arrays": START},
    "a model() that fails": {"app": {"model": broken}, "arrays": START},
    "a model of another width": {"app": {"model": lambda: nn.Linear(5, 2)}},
    "a loss that fails": {"app": {"loss": lambda o, y: o.nothing}},
    "a loss that is no tensor": {"app": {"loss": lambda o, y: 0.5}},
    "a loss without a gradient": {"app": {"loss": lambda o, y: torch.tensor(1.0)}},
    "a loss of sums": {"app": {"loss": nn.CrossEntropyLoss(reduction="sum")}},
    "weights in the loss": {"app": {"loss": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 50.0]))}},
    "an optimizer that fails": {"app": {"optimizer": lambda p: torch.optim.SGD(p, lr=-1.0)}},
    "an optimizer that wants the loss itself": {"app": {"optimizer": torch.optim.LBFGS}},
    "a column that is not there": {"spec": Spec({"z": 4}, "y", 2)},
    "a column of another width": {"spec": Spec({"x": 3}, "y", 2)},
    "a label that is not there": {"spec": Spec({"x": 4}, "label", 2)},
    "a label that the run does not ask for": {"config": ["policy.columns=[x]"]},
    "no feature that the run asks for": {"config": ["policy.columns=[y]"]},
    "a device that is not there": {"config": ["model.device=cuda:7"]},
    "a device that is none": {"config": ["model.device=abacus"]},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_programming_error_is_named_by_a_lasting_code_and_spends_nothing(make: Make, mistake: str) -> None:
    given = MISTAKES[mistake]
    options = {k: v for k, v in given.items() if k in ("app", "spec")}
    nodes = make(config(*given.get("config", [])), nodes=2, held=12, **options)
    build = given.get("app", {}).get("model", lambda: nn.Linear(4, 2))
    arrays = given.get("arrays") or [p.detach().float().numpy() for p in build().parameters()]
    server = Server(nodes.cfg, dim=sum(a.size for a in arrays))
    for _ in range(2):
        found = nodes.round_(server, [1, 2], arrays, noise_multiplier=nodes.sigma)
        assert len(found.codes) == 1
        assert found.codes <= LASTING
    words = node.refusals(1, 1)[-1][3]
    assert len(words) > 20
    assert events(nodes) == NOTHING


def test_labels_outside_the_models_classes_are_named_by_a_code(make: Make) -> None:
    def ones(i: int, n: int) -> Any:
        columns = rows(n, i)
        return {**columns, "y": columns["y"] + 1}

    nodes = make(nodes=2, columns=ones, holdout=None)
    found = nodes.round_(Server(nodes.cfg), [1, 2], noise_multiplier=nodes.sigma)
    assert found.codes == {"AEG-F001"}


def test_too_few_rows_left_are_found_before_the_charge(make: Make) -> None:
    nodes = make(nodes=1, terms=Terms(["research"], min_rows=40, min_subjects=2))
    nodes.vault(1).consent_withdraw("p3", "research")
    close_nodes()
    assert nodes.plain(1, "train").has_error()
    _, request = begun(make(nodes=2, terms=Terms(["research"], min_rows=40, min_subjects=2)))
    nodes = make(nodes=2, terms=Terms(["research"], min_rows=40, min_subjects=2))
    nodes.vault(1).consent_withdraw("p3", "research")
    close_nodes()
    _, request = begun(nodes)
    assert nodes.ask(1, wire.MASKED, START, payload=request, noise_multiplier=nodes.sigma).code == "AEG-N011"
    assert events(nodes) == {"authorize": 1, "privacy.reserve": 0, "release": 0}


# -- the node fixes the mechanism ------------------------------------------------------------------------------------------------


def masked(nodes: ByHand, **asked: Any) -> str:
    _, request = begun(nodes)
    return nodes.ask(1, wire.MASKED, START, payload=request, **asked).code


def test_a_server_may_ask_for_more_noise_and_never_for_less(make: Make) -> None:
    nodes = make()
    for factor in (0.0, 0.01, 0.5, 0.98):
        assert masked(nodes, noise_multiplier=factor * nodes.sigma) == "AEG-N011"
    assert events(nodes) == NOTHING
    assert masked(nodes, noise_multiplier=1.5 * nodes.sigma) == ""
    (entry,) = [
        e
        for e in node.Node(node.NodeConfig.from_context(nodes.contexts[1], nodes.cfg)).ledger.entries()
        if e["kind"] == "reserve"
    ]
    assert entry["noise_multiplier"] == pytest.approx(1.5 * nodes.sigma)


def test_a_configured_noise_multiplier_is_the_least(make: Make) -> None:
    nodes = make(config("privacy.noise_multiplier=3.0"))
    assert masked(nodes, noise_multiplier=2.999) == "AEG-N011"
    assert masked(nodes, noise_multiplier=3.0) == ""


@pytest.mark.parametrize("sigma", [float("nan"), float("inf"), -1.0, 1e-155, 1e-300, 1e5, True, "3"])
def test_a_noise_multiplier_outside_all_bounds_spoils_no_ledger(make: Make, sigma: Any) -> None:
    nodes = make()
    _, request = begun(nodes)
    record = ConfigRecord({**wire.Request(1, request, "train", 1.0).to_record(), "noise-multiplier": sigma})
    reply = nodes.send(1, wire.MASKED, RecordDict({wire.ARRAYS: model(START), wire.RECORD: record}))
    assert wire.Reply.from_content(reply.content).code in {"AEG-N010", "AEG-N011", "AEG-C001"}  # type: ignore[union-attr]
    assert events(nodes) == NOTHING
    assert nodes.ask(1, wire.MASKED, START, payload=request, noise_multiplier=nodes.sigma).code == ""


@pytest.mark.parametrize(
    ("overrides", "sigma"),
    [
        (["privacy.delta=0.009"], None),
        (["secagg.weighting=rows"], None),
        ([*OFF], 0.0),
        (["privacy.noise=insecure_test", "policy.require_dp=false"], None),
    ],
    ids=["delta", "weights that count rows", "no DP", "seeded noise"],
)
def test_what_the_datas_terms_do_not_allow_is_refused_unread_and_told_in_a_code(
    make: Make, overrides: Any, sigma: Any
) -> None:
    nodes = make(config(*overrides), number=137)
    assert masked(nodes, noise_multiplier=nodes.sigma if sigma is None else sigma) == "AEG-N011"
    assert events(nodes) == NOTHING


def test_without_dp_a_server_that_names_noise_is_told_that_there_is_none(make: Make) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT)
    assert masked(nodes, noise_multiplier=2.0) == "AEG-N011"
    assert masked(nodes, noise_multiplier=0.0) == ""


# -- plain messages of Flower's own strategies ----------------------------------------------------------------------------------


def test_in_clear_a_node_gives_what_its_terms_allow_and_each_number_is_in_a_release(make: Make) -> None:
    nodes = make(config(*OFF), nodes=1, terms=LENIENT, holdout=LENIENT)
    reply = nodes.plain(1, "train")
    assert not reply.has_error()
    assert reply.content.metric_records["metrics"] == {"num-examples": 1}
    assert reply.content.array_records["arrays"]["0"].numpy().any()
    reply = nodes.plain(1, "evaluate")
    assert reply.content.metric_records["metrics"]["num-examples"] == 12
    assert reply.content.metric_records["metrics"]["loss"] == pytest.approx(0.693, abs=1e-3)
    assert events(nodes)["release"] == 2


def test_in_clear_strict_terms_and_the_holdouts_own_refuse(make: Make) -> None:
    own = Terms(["research"], min_rows=50, min_subjects=50, require_dp=False, require_secure_aggregation=False)
    nodes = make(config(*OFF), nodes=1, terms=LENIENT, holdout=own)
    assert nodes.plain(1, "evaluate").error.reason == "[AEG-P001]"
    assert not nodes.plain(1, "train").has_error()
    assert events(nodes)["release"] == 1


def test_a_client_without_a_vault_does_not_answer_for_a_node_that_has_one() -> None:
    class Plain(NumPyClient):
        def evaluate(self, parameters: Any, config: Any) -> Any:
            return 0.5, 3, {}

    app = aegis_client_app(lambda _: Plain())
    content = RecordDict({"arrays": model(START), "config": ConfigRecord({"server-round": 1})})
    for given, refused in (({}, False), ({"number": 3}, False), ({"aegis-vault": "/srv/vault"}, True)):
        message = Message(copy.copy(content), 1, "evaluate")
        message.metadata.__dict__["_message_id"] = "m"
        reply = app(message, Context(1, 1, given, RecordDict(), {}))
        assert reply.has_error() is refused


# -- evaluation ------------------------------------------------------------------------------------------------------------------


def evaluated(nodes: ByHand, server: Server | None = None, who: Any = (1, 2, 3)) -> Round:
    return nodes.round_(server or Server(nodes.cfg), who, task="evaluate")


def test_an_evaluation_is_noised_charged_to_the_holdout_alone_and_given_once_per_run(make: Make) -> None:
    nodes = make(config("evaluation.epsilon=2.0"))
    server = Server(nodes.cfg)
    first = evaluated(nodes, server)
    assert first.codes == {""}
    assert any(first.total.metrics[name] != exact for name, exact in (("examples", 36), ("loss_milli", 24954)))
    opened = node.Node(node.NodeConfig.from_context(nodes.contexts[1], nodes.cfg))
    assert opened.ledger.entries() == []
    assert 0 < opened.holdout_ledger.spent(1e-5).epsilon <= 2.0
    assert evaluated(nodes, server).codes == {"AEG-N012"}
    assert [len(opened.holdout_ledger.entries())] == [2]  # reserved, released
    (release,) = opened.vault.audit_records("release")
    assert release["decision"] == "allow"
    nodes.new_run(2)
    assert evaluated(nodes, Server(nodes.cfg, run_id=2)).codes == {""}


def test_the_operator_gives_a_run_more_evaluations_and_the_holdouts_terms_fewer(make: Make) -> None:
    nodes = make(node={"aegis-max-evaluations": 2})
    server = Server(nodes.cfg)
    assert [evaluated(nodes, server).codes for _ in range(3)] == [{""}, {""}, {"AEG-N012"}]
    nodes = make(node={"aegis-max-evaluations": 0})
    assert evaluated(nodes).codes == {"AEG-N012"}
    own = Terms(["research"], min_rows=2, min_subjects=2, budget_epsilon=100.0, max_evaluations=1)
    nodes = make(node={"aegis-max-evaluations": 5}, holdout=own)
    server = Server(nodes.cfg)
    assert [evaluated(nodes, server).codes for _ in range(2)] == [{""}, {"AEG-N012"}]


def test_held_out_rows_are_counted_with_an_update_only_when_that_is_asked(make: Make) -> None:
    nodes = make(node={"aegis-max-evaluations": 5})
    server = Server(nodes.cfg)
    plain = nodes.round_(server, [1, 2, 3], noise_multiplier=nodes.sigma)
    assert set(plain.total.metrics.values()) == {0}
    asked = nodes.round_(server, [1, 2, 3], noise_multiplier=nodes.sigma, evaluate=True)
    assert asked.codes == {""}
    assert asked.total.metrics["examples"] != 0 or asked.total.metrics["loss_milli"] != 0
    vault = nodes.vault(1)
    assert [len(r["parts"]) for r in vault.audit_records("release")] == [1, 2]


@pytest.mark.parametrize("task", ["train", "evaluate"])
def test_the_holdouts_own_terms_are_asked_on_every_path(make: Make, task: str) -> None:
    nodes = make(holdout=Terms(["research"], min_rows=50, min_subjects=50))
    sigma = nodes.sigma if task == "train" else 0.0
    found = nodes.round_(Server(nodes.cfg), [1, 2, 3], task=task, noise_multiplier=sigma, evaluate=task == "train")
    assert found.codes == {"AEG-P001"}
    assert events(nodes)["privacy.reserve"] == events(nodes)["release"] == 0


@pytest.mark.parametrize(("strict", "code"), [("terms", "AEG-N011"), ("holdout", "AEG-P001")])
def test_a_permit_that_is_refused_costs_the_budget_of_neither_data_set(make: Make, strict: str, code: str) -> None:
    few = {"min_rows": 2, "min_subjects": 2, "budget_epsilon": 12.0}
    terms = {"terms": Terms(["research"], **few), "holdout": Terms(["research"], **few)}
    terms[strict] = Terms(["research"], **(few | {"min_rows": 500, "min_subjects": 500}))
    nodes = make(**terms)
    found = nodes.round_(Server(nodes.cfg), [1, 2, 3], noise_multiplier=nodes.sigma, evaluate=True)
    assert found.codes == {code}
    assert events(nodes)["privacy.reserve"] == events(nodes)["release"] == 0


@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_a_client_that_is_called_directly_is_tried_before_it_is_charged_as_well(make: Make, call: str) -> None:
    nodes = make(config("evaluation.epsilon=1.0"), terms=LENIENT, holdout=LENIENT)
    client = VaultClient(
        node.Node(node.NodeConfig.from_context(nodes.contexts[1], nodes.cfg)), nodes.cfg, nodes.contexts[1]
    )
    client.spec, client.model_fn = SPEC, broken
    with pytest.raises(AegisError) as error:
        getattr(client, call)(START, {"round": 1, "noise_multiplier": nodes.sigma})
    assert error.value.code == "AEG-N015"
    assert events(nodes) == NOTHING


def test_a_holdout_whose_budget_is_spent_refuses_before_the_update_is_charged(make: Make) -> None:
    nodes = make(holdout=Terms(["research"], min_rows=2, min_subjects=2, budget_epsilon=0.1))
    found = nodes.round_(Server(nodes.cfg), [1, 2, 3], noise_multiplier=nodes.sigma, evaluate=True)
    assert found.codes == {"AEG-B001"}
    assert events(nodes) == NOTHING


def test_where_neither_run_nor_data_ask_for_privacy_counts_are_exact_and_not_limited(make: Make) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT)
    server = Server(nodes.cfg)
    for _ in range(2):
        found = evaluated(nodes, server)
        assert (found.total.metrics["examples"], found.total.metrics["loss_milli"]) == (36, 3 * 8318)
    assert events(nodes)["privacy.reserve"] == 0


def test_held_out_rows_that_a_rename_left_behind_are_named_in_the_nodes_log(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = make(config(*OFF), nodes=1, terms=LENIENT, holdout=LENIENT)
    vault = nodes.vault(1)
    vault.rename(vault.datasets()["patients"], "people")
    nodes.contexts[1].node_config["aegis-dataset"] = "people"
    caplog.set_level(logging.WARNING, "aegis")
    assert nodes.plain(1, "evaluate").content.metric_records["metrics"]["num-examples"] == 0
    assert "'people.holdout' is not in the vault, 'patients.holdout' is" in caplog.text
    caplog.clear()
    vault = nodes.vault(1)
    vault.rename(vault.datasets()["patients.holdout"], "people.holdout")
    close_nodes()
    assert nodes.plain(1, "evaluate").content.metric_records["metrics"]["num-examples"] == 12
    assert "held-out rows" not in caplog.text


# A number is predicted: the sum of the row's values.
NUMBER: dict[str, Any] = {
    "spec": Spec({"x": 4}, "y", 1),
    "app": {"model": lambda: nn.Linear(4, 1), "loss": lambda o, y: nn.functional.mse_loss(o[:, 0], y)},
    "columns": lambda i, n: {"x": rows(n, i)["x"], "y": rows(n, i)["x"].sum(1)},
}
NOTHING_YET = [np.zeros((1, 4), np.float32), np.zeros(1, np.float32)]


def test_a_model_that_predicts_a_number_has_a_loss_and_no_accuracy(make: Make) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT, **NUMBER)
    found = nodes.round_(Server(nodes.cfg, dim=5), [1, 2, 3], NOTHING_YET, task="evaluate")
    assert found.codes == {""}
    told = means(found.total.metrics)
    losses = [
        min(float(y) ** 2, nodes.cfg.evaluation.loss_max) for i in (101, 102, 103) for y in rows(12, i)["x"].sum(1)
    ]
    assert told == {"loss": pytest.approx(np.mean(losses), abs=1e-3), "test-rows": 36.0}
    reply = nodes.plain(1, "evaluate", NOTHING_YET)
    assert set(reply.content.metric_records["metrics"]) == {"num-examples", "loss"}


def test_a_noised_accuracy_of_a_model_that_predicts_a_number_is_refused_by_name(make: Make) -> None:
    class Near(VaultClient):
        """Counts for itself what is near enough."""

        predicts_classes = True  # type: ignore[assignment]

    nodes = make(**NUMBER)
    server = Server(nodes.cfg, dim=5)
    assert nodes.round_(server, [1, 2, 3], NOTHING_YET, task="evaluate").codes == {"AEG-N014"}
    assert "evaluation.rounds=never" in node.refusals(1, 1)[-1][3]
    assert events(nodes) == NOTHING
    assert nodes.round_(server, [1, 2, 3], NOTHING_YET, noise_multiplier=nodes.sigma).codes == {""}
    nodes = make(client=Near, **NUMBER)
    assert nodes.round_(Server(nodes.cfg, dim=5), [1, 2, 3], NOTHING_YET, task="evaluate").codes == {""}


def test_a_node_without_held_out_rows_gives_zeros_and_the_others_are_counted(make: Make, tmp_path: Path) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT, nodes=2)
    without = ByHand(tmp_path / "without", nodes.cfg, terms=LENIENT, holdout=None, nodes=1)
    nodes.contexts[3] = without.contexts[1]
    nodes.contexts[3].node_id = 3
    found = evaluated(nodes)
    assert found.codes == {""}
    assert found.total.metrics["examples"] == 24
    assert sorted(found.total.contributors) == [1, 2, 3]


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_an_evaluation_never_fails_on_data(make: Make, value: float) -> None:
    def spoiled(i: int, n: int) -> Any:
        columns = rows(n, i)
        if i > 100:
            columns["x"][0, 0] = value
        return columns

    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT, columns=spoiled)
    hard = [np.full((2, 4), 1e38, np.float32) * [[1], [-1]], START[1]]
    for arrays in (START, [hard[0].astype(np.float32), hard[1]]):
        found = nodes.round_(Server(nodes.cfg), [1, 2, 3], arrays, task="evaluate")
        assert found.codes == {""}
        assert found.total.metrics["examples"] == 36
        nodes.new_run(1)


def test_weights_that_overflow_on_some_rows_are_answered_like_any_other(make: Make) -> None:
    """Without DP such a row makes the whole update not finite; a refusal would be one bit about this node beside the sum."""

    def spoiled(i: int, n: int) -> Any:
        columns = rows(n, i)
        if i == 1:
            columns["x"][3] = 30.0  # the one node with such a row
        return columns

    nodes = make(config(*OFF, "privacy.sample_rate=1"), terms=LENIENT, holdout=None, columns=spoiled)
    above = [np.float32([[1e37] * 4, [-1e37] * 4]), START[1]]
    found = nodes.round_(Server(nodes.cfg), [1, 2, 3], above)
    assert found.codes == {""}
    assert np.isfinite(np.frombuffer(found.total.mean())).all()
    last = [nodes.vault(n).audit_records("release")[-1] for n in (1, 2)]
    assert [r["decision"] for r in last] == ["allow", "allow"]


# -- one model, one setting for all ----------------------------------------------------------------------------------------------


def test_clients_that_were_sent_different_models_give_no_sum(make: Make) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT)
    other = [START[0] + 1, START[1]]
    found = nodes.round_(Server(nodes.cfg), [1, 2, 3], lambda n: other if n == 2 else START, task="evaluate")
    assert isinstance(found.total, Exception)


def test_the_binding_tells_models_tasks_and_settings_apart() -> None:
    asked = wire.Request(3, b"payload", "train", 2.0)
    base = wire.binding(model(START), asked)
    assert base == wire.binding(model(START), wire.Request(3, b"other", "train", 2.0)), (
        "the payload is each client's own"
    )
    others = {
        wire.binding(model([START[0] + 1e-7, START[1]]), asked),
        wire.binding(model([START[0].T, START[1]]), asked),
        wire.binding(model(START[::-1]), asked),
        wire.binding(model(START[:1]), asked),
        wire.binding(model(START), wire.Request(4, b"", "train", 2.0)),
        wire.binding(model(START), wire.Request(3, b"", "evaluate", 2.0)),
        wire.binding(model(START), wire.Request(3, b"", "train", 2.5)),
        wire.binding(model(START), wire.Request(3, b"", "train", 2.0, evaluate=True)),
        *(wire.binding(model(START), asked, {"lr": v}) for v in (0, 0.0, 0.1, "0.1", b"0.1", True, [0.1], [0.1, 0.2])),
        wire.binding(model(START), asked, {"mu": 0.1}),
    }
    assert len(others - {base}) == 17


# -- what the server tells beside the model --------------------------------------------------------------------------------


def trained(nodes: ByHand, **settings: Any) -> Any:
    reply = nodes.plain(1, "train", **settings)
    return reply.error.reason if reply.has_error() else reply.content.array_records["arrays"]["0"].numpy()


def test_fedprox_pulls_with_the_mu_of_the_message(make: Make) -> None:
    sent = FedProx(proximal_mu=1.5)
    assert sent.proximal_mu == 1.5
    cfg = config(*OFF, "privacy.noise=insecure_test", "privacy.sample_rate=1")
    nodes = make(cfg, nodes=1, terms=LENIENT, holdout=None)
    free, mild, firm = (trained(nodes, **{"proximal-mu": mu}) for mu in (0.0, 0.1, 1.5))
    norms = [float(np.linalg.norm(w)) for w in (free, mild, firm)]
    assert norms[0] > norms[1] > norms[2] > 0
    for mu in (-1.0, float("nan"), float("inf"), 1e300, "1", True):
        assert trained(nodes, **{"proximal-mu": mu}) == "[AEG-N010]"


def test_a_learning_rate_of_the_server_is_used_and_a_setting_nobody_reads_is_refused(make: Make) -> None:
    cfg = config(*OFF, "privacy.noise=insecure_test", "privacy.sample_rate=1")
    nodes = make(cfg, nodes=1, terms=LENIENT, holdout=None)
    slow, fast = (np.linalg.norm(trained(nodes, lr=rate)) for rate in (0.001, 0.1))
    assert 0 < slow < fast
    assert trained(nodes, lr=0.1, warmup=3) == "[AEG-N011]"
    assert "warmup" in node.refusals(1, 1)[-1][3]
    assert trained(nodes, lr="fast") == "[AEG-N010]"


def test_a_client_reads_the_servers_settings_and_cannot_change_them(make: Make) -> None:
    seen = []

    class Reading(VaultClient):
        def model(self) -> nn.Module:
            seen.append(self.round_config["depth"])
            with pytest.raises(TypeError):
                self.round_config["depth"] = 3  # type: ignore[index]
            return super().model()

    nodes = make(config(*OFF), nodes=1, terms=LENIENT, holdout=None, client=Reading)
    assert isinstance(trained(nodes, depth=7), np.ndarray)
    assert set(seen) == {7}

    def optimizer(parameters: Any, settings: RoundConfig) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=float(settings["rate"]))  # type: ignore[arg-type]

    nodes = make(config(*OFF), nodes=1, terms=LENIENT, holdout=None, app={"optimizer": optimizer})
    assert isinstance(trained(nodes, rate=0.5), np.ndarray)
    assert trained(nodes) == "[AEG-N015]"  # KeyError: 'rate', before anything was read


def test_settings_have_bounds() -> None:
    for given in (
        {"a": float("nan")},
        {"a": [1.0, float("inf")]},
        {str(i): i for i in range(257)},
        {"a": "x" * 70_000},
        {"k" * 300: 1},
    ):
        with pytest.raises(RequestInvalid):
            RoundConfig(given)  # type: ignore[arg-type]


# -- state -----------------------------------------------------------------------------------------------------------------------


def test_a_state_that_was_put_back_masks_nothing_twice(make: Make) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT)
    _, request = begun(nodes)
    kept = copy.deepcopy(nodes.contexts[1].state)
    asked = {"payload": request, "task": "evaluate"}
    assert nodes.ask(1, wire.MASKED, START, **asked).code == ""
    before = events(nodes)
    nodes.contexts[1].state = kept
    assert nodes.ask(1, wire.MASKED, START, **asked).code == "AEG-N017"
    assert events(nodes) == before


def test_an_older_memory_put_back_with_an_older_state_remembers_nothing(make: Make) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT)
    _, request = begun(nodes)
    file = nodes.folder / "node-1" / "privacy" / "answered"
    state, memory = copy.deepcopy(nodes.contexts[1].state), file.read_bytes()
    asked = {"payload": request, "task": "evaluate"}
    assert nodes.ask(1, wire.MASKED, START, **asked).code == ""
    for content in (memory, b"", b"junk"):
        nodes.contexts[1].state = copy.deepcopy(state)
        file.write_bytes(content)
        assert nodes.ask(1, wire.MASKED, START, **asked).code == "AEG-N017"
    file.unlink()
    assert nodes.ask(1, wire.MASKED, START, **asked).code == "AEG-N017"
    nodes.new_run(2)
    assert nodes.ask(1, wire.ADVERTISE).code == "", "a new run begins with fresh keys"


def test_the_state_of_one_run_of_a_series_is_no_obstacle_to_the_next(make: Make) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT)
    assert evaluated(nodes).codes == {""}
    for context in nodes.contexts.values():
        context.run_id = 2  # Flower's run series: the state stays
    assert evaluated(nodes, Server(nodes.cfg, run_id=2)).codes == {""}


def test_a_damaged_state_is_refused_by_a_code(make: Make) -> None:
    nodes = make(nodes=1)
    nodes.ask(1, wire.ADVERTISE)
    record = nodes.contexts[1].state.config_records["aegis.secagg"]
    record["sealed"] = bytes(record["sealed"])[:-1] + b"x"  # type: ignore[arg-type]
    assert nodes.ask(1, wire.SHARE, payload=b"x").code == "AEG-V026"
    record["sealed"] = 7
    assert nodes.ask(1, wire.SHARE, payload=b"x").code == "AEG-N017"


@pytest.mark.parametrize("round_", [0, -1, 2**31, 2**63 - 1])
def test_a_round_outside_its_bounds_is_refused_and_the_run_goes_on(make: Make, round_: int) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT)
    record = ConfigRecord({**wire.Request(1).to_record(), "round": round_})
    for kind in (wire.ADVERTISE, wire.SHARE, wire.MASKED, wire.COMMIT, wire.UNMASK):
        reply = nodes.send(1, kind, RecordDict({wire.RECORD: record, wire.ARRAYS: model(START)}))
        assert wire.Reply.from_content(reply.content).code == "AEG-N010"  # type: ignore[union-attr]
    assert evaluated(nodes).codes == {""}


def test_preflight_is_paid_once_per_run_and_remembered_in_flowers_state(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aegis_flower.client import preflight

    nodes = make(config(*OFF), nodes=1, terms=LENIENT, holdout=None)
    tried = []
    real = preflight._check_model
    monkeypatch.setattr(preflight, "_check_model", lambda *a, **k: tried.append(1) or real(*a, **k))
    for _ in range(3):
        assert isinstance(trained(nodes), np.ndarray)
        preflight._passed.clear()  # each message of a deployment is a process of its own
    assert len(tried) == 1
    (key,) = nodes.contexts[1].state.config_records["aegis.preflight"]
    nodes.contexts[1].state.config_records["aegis.preflight"][key] = bytes(32)
    assert isinstance(trained(nodes), np.ndarray)
    assert len(tried) == 2, "what the vault did not prove was not tried"


def test_every_metric_of_the_gate_is_in_the_masked_sum(make: Make) -> None:
    nodes = make(config(*OFF), terms=LENIENT, holdout=LENIENT)
    assert sorted(evaluated(nodes).total.metrics) == sorted(METRICS)
    assert sum(a.size for a in START) == DIM
    assert SPEC.features == 4
    assert STRICT.require_dp
    assert issubclass(AppError, Exception)
