"""Whole rounds with fixed secrets: four clients of which one is lost between its shares and its masked input."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from reference.secagg import crypto
from reference.secagg.parties import Client, drawn
from reference.secagg.server import Server

RUN, ROUND = 0x0123456789ABCDEF, 3
NODES = (5, 1_000_008, (1 << 40) + 3, (1 << 63) + 11)
LOST = NODES[2]
PLAN = {
    "dim": 5,
    "n_max": 64,
    "clip": 1.0,
    "value_bits": 16,
    "weight_max": 50,
    "metric_max": 1_000_000,
    "metrics": ["loss", "größe"],
}
# the second one's ring has 40 bits, which are 64-bit lanes, and its metrics have two digits
PLANS = {"plain": PLAN, "commit": {**PLAN, "weight_max": 1 << 16, "metric_max": 1 << 40}}


# what all of them work on
BINDING = drawn("binding")


def contribution(node: int) -> tuple[bytes, list[float], int, list[int]]:
    words = struct.unpack("<8I", drawn("update", node))
    values = [word / 2**31 - 1 for word in words[:5]]
    rounded: list[float] = list(struct.unpack("<5f", struct.pack("<5f", *values)))
    return BINDING, rounded, words[5] % 50 + 1, [words[6] % 2_000_001 - 1_000_000, words[7] % 1000]


class Rounds:
    """One round, stepped; every message and every state is kept."""

    def __init__(self, name: str) -> None:
        self.name, self.plan, self.commit = name, PLANS[name], name == "commit"
        self.server = Server(RUN, ROUND, self.plan, BINDING, commit=self.commit)
        policy = drawn("policy").hex() if self.commit else "00" * 32
        self.clients = {
            node: Client.new(
                RUN, node, policy=policy, same_policy=self.commit, min_cohort=3 + self.commit, sums=self._sums()
            )
            for node in NODES
        }
        self.messages: list[dict[str, Any]] = []
        self.states: dict[int, dict[str, str]] = {node: {} for node in NODES}
        self.sum = self._run()

    def _sums(self) -> dict[str, Any] | None:
        """In the second round clients insist on the plan's own; a larger weight would be theirs to give."""
        if not self.commit:
            return None
        return {key: self.plan[key] for key in ("metric_max", "metrics")} | {"weight_max": 1 << 20}

    def _keep(self, node: int, phase: str) -> None:
        self.states[node][phase] = self.clients[node].to_bytes().hex()

    def _said(self, sender: int, receiver: int, kind: str, data: bytes) -> bytes:
        if sender or not self.messages or self.messages[-1]["hex"] != data.hex():
            self.messages.append({"from": sender, "to": receiver, "kind": kind, "hex": data.hex()})
        if sender:
            self.server.take(sender, kind, data)
        return data

    def _run(self) -> list[int]:
        for node, client in self.clients.items():
            self._keep(node, "fresh")
            self._said(node, 0, "advert", client.advertise())
        asked = self._said(0, 0, "share request", self.server.share_request())
        for node, client in self.clients.items():
            self._said(node, 0, "share reply", client.share(asked))
            self._keep(node, "shared")
        requests = {node: self.server.masked_request(node) for node in NODES}
        for node, data in requests.items():
            self._said(0, node, "masked request", data)
        there = {node: client for node, client in self.clients.items() if node != LOST}
        for node, client in there.items():
            self._said(node, 0, "masked input", client.masked_input(requests[node], *contribution(node)))
            self._keep(node, "masked")
        if self.commit:
            asked = self._said(0, 0, "commit request", self.server.commit_request())
            for node, client in there.items():
                self._said(node, 0, "commit", client.commit(asked))
                self._keep(node, "committed")
        requests = {node: self.server.unmask_request(node) for node in there}
        for node, data in requests.items():
            self._said(0, node, "unmask request", data)
        for node, client in there.items():
            self._said(node, 0, "unmask reply", client.unmask(requests[node]))
            self._keep(node, "unmasked")
        return self.server.finish()

    def said(self, kind: str, sender: int = 0, receiver: int = 0) -> bytes:
        """The first message of this kind between the two."""
        asked = {"from": sender, "to": receiver, "kind": kind}
        return bytes.fromhex(next(m["hex"] for m in self.messages if asked.items() <= m.items()))

    def client(self, node: int, phase: str) -> Client:
        return Client.from_bytes(bytes.fromhex(self.states[node][phase]))

    def vector(self) -> dict[str, Any]:
        clients = []
        for node in NODES:
            binding, update, weight, metrics = contribution(node)
            clients.append(
                {
                    "node": node,
                    "binding": binding.hex(),
                    "update": struct.pack("<5f", *update).hex(),
                    "weight": weight,
                    "metrics": metrics,
                    "integers": crypto.integers(update, weight, metrics, self.plan),
                    "states": self.states[node],
                }
            )
        return {
            "run": RUN,
            "round": ROUND,
            "commit": self.commit,
            "plan": self.plan,
            "binding": BINDING.hex(),
            "lost": LOST,
            "clients": clients,
            "messages": self.messages,
            "sum": self.sum,
        }


def server_before(whole: Rounds, kind: str, taken: int) -> Server:
    """A server of that round which waits for messages of this kind and has taken so many of them."""
    server = Server(RUN, ROUND, whole.plan, BINDING, commit=whole.commit)
    for message in _until(whole, kind, taken):
        if message["from"]:
            server.take(message["from"], message["kind"], bytes.fromhex(message["hex"]))
        elif message["kind"] == "share request":
            server.share_request()
        elif message["kind"] == "commit request":
            server.commit_request()
        elif message["kind"] == "masked request":
            server.masked_request(message["to"])
        else:
            server.unmask_request(message["to"])
    return server


def _until(whole: Rounds, kind: str, taken: int) -> Iterator[dict[str, Any]]:
    for message in whole.messages:
        if message["kind"] == kind:
            if taken == 0:
                return
            taken -= 1
        yield message
