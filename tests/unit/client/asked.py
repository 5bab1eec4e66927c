"""What a node is asked, step by step, and what its log says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from by_hand import START, ByHand, Round, Server

from aegis_engine import Vault
from aegis_flower import wire

Make = Callable[..., ByHand]


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


def evaluated(nodes: ByHand, server: Server | None = None, who: Any = (1, 2, 3)) -> Round:
    return nodes.round_(server or Server(nodes.cfg), who, task="evaluate")


def trained(nodes: ByHand, **settings: Any) -> Any:
    reply = nodes.plain(1, "train", **settings)
    return reply.error.reason if reply.has_error() else reply.content.array_records["arrays"]["0"].numpy()
