"""A client of a small governed vault, whose model is of another framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import Context, RecordDict

from aegis_flower import wire
from aegis_flower.client import VaultClient
from aegis_flower.client.round_config import RoundConfig
from aegis_flower.configs import from_dict
from aegis_flower.data import Spec
from aegis_flower.node.node import Node, NodeConfig


@pytest.fixture
def client(govern: Any) -> Callable[..., VaultClient]:
    """Makes one of a model function, overrides of the configuration, and terms."""

    def make(
        model: Any, config: dict[str, Any] | None = None, *, spec: Spec | None = None, **terms: Any
    ) -> VaultClient:
        g = govern(**{"budget_epsilon": 1000.0, "require_secure_aggregation": False, "require_dp": False, **terms})
        node = Node(NodeConfig(g.folder, g.key_file, "tiny", "clinic"))
        context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
        base = {"policy": {"require_dp": False, "require_secure_aggregation": False}, "strategy": {"max_norm": 1e6}}
        made = VaultClient(node, from_dict({**base, **(config or {})}), context)
        made.spec, made.model_fn, made.round_config = spec or g.spec, model, RoundConfig({})
        return made

    return make


@pytest.fixture
def refused() -> Callable[..., str]:
    """Asks a client to train, and gives the refusal's words: nothing was permitted, nothing charged."""

    def ask(c: VaultClient, sigma: float = 0.0, start: list[Any] | None = None) -> str:
        from aegis_flower.client.local import local_of
        from aegis_flower.errors import AegisError

        arrays = local_of(c).arrays() if start is None else start
        with pytest.raises(AegisError) as caught:
            c.respond(wire.Request.plain("train", 1, sigma), arrays, [str(i) for i in range(len(arrays))], masked=False)
        assert c.node.vault.audit_records("authorize") == []
        assert c.node.ledger.entries() == []
        return str(caught.value)

    return ask
