"""Nodes with vaults, driven message by message as a server would drive them: no grid, no strategy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.task_identity import TaskIdentity

from aegis_engine import SecAggPlan, SecAggServer, Vault
from aegis_flower import Terms, VaultClient, aegis_client_app, wire
from aegis_flower.configs import Config, compose
from aegis_flower.data import Spec
from aegis_flower.errors import AegisError
from aegis_flower.gate import METRIC_MAX, METRICS
from aegis_flower.ingest import ingest
from aegis_flower.node.node import close_nodes
from aegis_flower.server import noise_multiplier

SPEC = Spec({"x": 4}, "y", 2)
START = [np.zeros((2, 4), np.float32), np.zeros(2, np.float32)]
DIM = 10
STRICT = Terms(["research"], min_rows=2, min_subjects=2, budget_epsilon=100.0)
LENIENT = Terms(["research"], min_rows=2, min_subjects=2, require_dp=False, require_secure_aggregation=False)
OFF = ("privacy=off", "policy.require_dp=false")


def config(*overrides: str) -> Config:
    return compose(overrides=["model.kind=logistic", "model.device=cpu", "strategy.rounds=2", *overrides])


def rows(number: int, seed: int = 0, width: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(number, width)).astype(np.float32)
    return {"x": x, "y": (x.sum(1) > 0).astype(np.int64)}


class ByHand:
    """Nodes numbered from 1, each with a vault of its own, under one app.

    Args:
        folder: where the vaults are made.
        cfg: the experiment that the app is bound to.
        terms, holdout: the steward's terms; `holdout` of None leaves held-out rows away.
        client: the app's client.
        spec: its Spec.
        columns: (node, rows) to columns.
    """

    def __init__(
        self,
        folder: Path,
        cfg: Config | None = None,
        *,
        nodes: int = 3,
        terms: Terms = STRICT,
        holdout: Terms | None = STRICT,
        number: int = 40,
        held: int = 12,
        client: type[VaultClient] = VaultClient,
        spec: Spec = SPEC,
        columns: Callable[[int, int], dict[str, np.ndarray]] | None = None,
        app: Mapping[str, Any] | None = None,
        node: Mapping[str, Any] | None = None,
    ) -> None:
        TaskIdentity.task_id = TaskIdentity.run_id = 1
        TaskIdentity.node_id = SUPERLINK_NODE_ID
        self.cfg = cfg or config()
        self.sigma = noise_multiplier(self.cfg)
        self.folder = folder

        class Mine(client):  # type: ignore[misc, valid-type]
            def __init__(self, *args: Any) -> None:
                super().__init__(*args)
                self.spec = spec

        self.client = Mine
        self.app = aegis_client_app(Mine, config=self.cfg, **(app or {}))
        make = columns or (lambda i, n: rows(n, i))
        self.contexts: dict[int, Context] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(1, nodes + 1):
            root = folder / f"node-{i}"
            vault = Vault.create(str(root), key_file=f"{root}.key", make_key=True)
            vault.govern("core")
            ingest(vault, "patients", make(i, number), [f"p{j}" for j in range(number)], terms, allow_missing=True)
            if holdout is not None:
                people = [f"h{j}" for j in range(held)]
                ingest(vault, "patients.holdout", make(100 + i, held), people, holdout, allow_missing=True)
            given = {
                "aegis-vault": str(root),
                "aegis-key-file": f"{root}.key",
                "aegis-dataset": "patients",
                "aegis-name": f"node-{i}",
                "aegis-min-cohort": 2,
                "aegis-trust-server": True,
                **(node or {}),
            }
            self.contexts[i] = Context(1, i, given, RecordDict(), {})
        close_nodes()

    def new_run(self, run_id: int) -> None:
        for context in self.contexts.values():
            context.run_id, context.state = run_id, RecordDict()

    def vault(self, node: int) -> Vault:
        root = self.folder / f"node-{node}"
        close_nodes()
        return Vault.open(str(root), key_file=f"{root}.key")

    def send(self, node: int, kind: str, content: RecordDict) -> Message:
        message = Message(content, node, kind)
        message.metadata.__dict__["_message_id"] = "m"  # as a grid would
        return self.app(message, self.contexts[node])

    def ask(self, node: int, kind: str, arrays: Iterable[np.ndarray] | None = None, **asked: Any) -> wire.Reply:
        """A step of the protocol; `asked` are fields of `wire.Request`."""
        content = {wire.RECORD: wire.Request(**{"round": 1, **asked}).to_record()}
        if arrays is not None:
            content[wire.ARRAYS] = model(arrays)
        reply = wire.Reply.from_content(self.send(node, kind, RecordDict(content)).content)
        assert reply is not None
        return reply

    def plain(self, node: int, kind: str, arrays: Iterable[np.ndarray] = START, **settings: Any) -> Message:
        """A message as Flower's own strategies send it."""
        given = {"server-round": 1, **settings}
        return self.send(node, kind, RecordDict({"arrays": model(arrays), "config": ConfigRecord(given)}))

    def round_(self, server: Server, nodes: Iterable[int], arrays: Any = START, **asked: Any) -> Round:
        """One round of the protocol; `arrays` may be a function of the node."""
        return server.run(self, list(nodes), arrays if callable(arrays) else lambda _: arrays, asked)


class Round:
    """What became of a round: the sum or why there is none, and each node's reply to the masked step."""

    def __init__(self, total: Any, replies: dict[int, wire.Reply]) -> None:
        self.total, self.replies = total, replies

    @property
    def codes(self) -> set[str]:
        return {r.code for r in self.replies.values()}


class Server:
    """A server that follows the protocol and asks what it is told to."""

    def __init__(self, cfg: Config, *, least: int = 2, run_id: int = 1, dim: int = DIM, **plan: Any) -> None:
        given = {
            "metrics": list(METRICS),
            "clip": cfg.strategy.max_norm,
            "value_bits": 20,
            "weight_max": 1,
            "metric_max": METRIC_MAX,
            "max_clients": 10,
            "min_clients": least,
        }
        self._base = SecAggServer(run_id, SecAggPlan(dim=dim, **{**given, **plan}))
        self._known: set[int] = set()
        self.number = 0

    def run(self, nodes: ByHand, who: list[int], arrays: Callable[[int], Any], asked: dict[str, Any]) -> Round:
        for n in who:
            if n not in self._known:
                reply = nodes.ask(n, wire.ADVERTISE)
                assert not reply.code, reply.code
                self._base.add_advert(n, reply.payload)
                self._known.add(n)
        self.number += 1
        asked = {"round": self.number, **asked}
        server = self._base.fork()
        first = wire.Request(**{**asked, "payload": b""})
        server.bind(wire.binding(model(arrays(who[0])), first))
        request = server.begin_round(self.number, who)
        for n in server.cohort:
            reply = nodes.ask(n, wire.SHARE, round=asked["round"], payload=request)
            assert not reply.code, reply.code
            server.add_share(n, reply.payload)
        replies = {}
        for n in server.end_shares():
            reply = replies[n] = nodes.ask(n, wire.MASKED, arrays(n), **{**asked, "payload": server.masked_request(n)})
            if not reply.code:
                server.add_masked(n, reply.payload)
        try:
            for n in server.end_masked():
                reply = nodes.ask(n, wire.UNMASK, round=asked["round"], payload=server.unmask_request(n))
                assert not reply.code, reply.code
                server.add_unmask(n, reply.payload)
            return Round(server.finish(), replies)
        except AegisError as error:
            return Round(error, replies)


def model(arrays: Iterable[np.ndarray]) -> ArrayRecord:
    return ArrayRecord({str(i): Array(np.ascontiguousarray(a).reshape(np.shape(a))) for i, a in enumerate(arrays)})


def code_heard(reply: Message) -> str:
    """The code of a reply, which must hold nothing else; empty where it is an answer of the protocol."""
    if reply.has_error():
        assert re.fullmatch(r"\[AEG-[A-Z]\d{3}\]", reply.error.reason), reply.error.reason
        return str(reply.error.reason[1:-1])
    assert list(reply.content) == [wire.RECORD]
    record: Mapping[str, Any] = reply.content.config_records[wire.RECORD]
    assert set(record) == {"payload", "code", "reason", "audit-records", "audit-head", "name"}
    assert record["reason"] == ""
    assert not (record["code"] and record["payload"])
    assert record["code"] == "" or re.fullmatch(r"AEG-[A-Z]\d{3}", record["code"])
    assert len(record["audit-head"]) in (0, 32)
    return str(record["code"])
