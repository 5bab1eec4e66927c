"""The app is tried on made-up rows: mistakes in it cost nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from asked import NOTHING, Make, events, trained
from by_hand import LENIENT, OFF, SPEC, START, Server, config, rows
from torch import nn

from aegis_flower import VaultClient
from aegis_flower.data import Spec
from aegis_flower.errors import LASTING, AegisError
from aegis_flower.node import node


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
