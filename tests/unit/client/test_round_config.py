"""What the server tells beside the model: used, bounded, and not to be changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from asked import Make, trained
from by_hand import LENIENT, OFF, config
from flwr.serverapp.strategy import FedProx
from torch import nn

from aegis_flower import VaultClient
from aegis_flower.client.round_config import RoundConfig
from aegis_flower.errors import RequestInvalid
from aegis_flower.node import node


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
