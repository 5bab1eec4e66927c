"""Rounds of a hostile server: as the protocol has them, with settings that are extreme at times, the same for all clients.

All clients but the one under attack are the server's own. What the node took in place of what was meant is pursued: shares, masks
and signatures of the others are of that, and the sum is unmasked where there is one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from by_hand import START, model
from flwr.app import ConfigRecord, Context, RecordDict
from hostile_messages import COMMIT_REQUEST, MASKED_REQUEST, UNMASK_REQUEST, Record, Signers, read, transcript, write
from hostile_truth import Left, Truth

from aegis_engine import Release, SecAggClient, SecAggPlan, SecAggServer
from aegis_flower import wire
from aegis_flower.errors import AegisError
from aegis_flower.gate import METRIC_MAX, METRICS

NODE = 1
SUMS: dict[str, Any] = {"metrics": list(METRICS), "metric_max": METRIC_MAX, "weight_max": 1}
SANE: dict[str, Any] = {"clip": 1.0, "value_bits": 20, "max_clients": 10, **SUMS}

Step = tuple[str, RecordDict]
# Gives a step; takes what was sent in its place, and the answer.
Talk = Generator[Step, tuple[RecordDict, wire.Reply], None]


def payload(content: RecordDict) -> bytes:
    """The protocol message in a message; empty where there is none."""
    record: Any = content.config_records.get(wire.RECORD, {})
    found = record.get("payload", b"")
    return found if isinstance(found, bytes) else b""


@dataclass
class World:
    """What the server has beside a run.

    Attributes:
        dice: its choices.
        truth: what happens at the node.
        signers: identities of its own clients.
        policy: hash of the policy bundle of all.
        nothing: zeros, which its own clients mask.
        note: takes every message of the node, as material.
        sigma: the least noise that the node takes.
        commit: whether rounds have a commit step.
        sums: how many were unmasked.
    """

    dice: Random
    truth: Truth
    signers: Signers
    policy: bytes
    nothing: Release
    note: Callable[[bytes], None]
    sigma: float = 1.0
    commit: bool = False
    sums: int = 0


@dataclass
class Going:
    """A round: what is asked of all clients alike, and how far it has come.

    Attributes:
        asked: fields of `wire.Request`.
        content: model and settings.
        request: the share request, as the node took it.
        plan: clip and bits of a value.
        server: the engine's state machine; None since the node took what it did not send.
        sets: who shared and who survived.
        commits: signatures of the server's own clients over these.
    """

    asked: dict[str, Any]
    content: dict[str, Any]
    request: bytes
    plan: dict[str, Any]
    server: SecAggServer | None
    shares: bytes = b""
    sets: Record | None = None

    def step(self, kind: str, message: bytes, *, model: bool = False) -> Step:
        asked = wire.Request(**self.asked, payload=message)
        return kind, RecordDict({**(self.content if model else {}), wire.RECORD: asked.to_record()})

    def follow(self, meant: bool) -> None:
        """Goes on without the engine's server where the node took another message than was meant."""
        if not meant:
            self.server = None

    def serve(self, work: Callable[[SecAggServer], Any], otherwise: Any = None) -> Any:
        """Does something with the engine's server, which refuses what became of a round that it did not run."""
        if self.server is None:
            return otherwise
        try:
            return work(self.server)
        except AegisError:
            self.server = None
            return otherwise


class Run:
    """One run at the node: its context there, and at the server the clients that are its own."""

    def __init__(self, world: World, number: int, given: Any, own: list[int]) -> None:
        self.world, self.id = world, number
        self.context = Context(number, NODE, dict(given), RecordDict(), {})
        limits: dict[str, Any] = {"min_cohort": 2, "min_threshold": 2, "colluding_percent": 0, "min_honest": 1}
        self.own = {n: SecAggClient(number, n, policy=world.policy, **limits, **SUMS) for n in own}
        for client in self.own.values():
            world.signers.add_state(client.to_bytes())
        self.adverts = {n: client.advertise() for n, client in self.own.items()}
        self.round = 0
        self.over = False
        self.states: deque[tuple[RecordDict, Step]] = deque(maxlen=12)  # each with what was sent then
        # of the round in progress: who signs as whom, and over what
        self.identities: dict[int, bytes] = {}
        self.transcript, self.binding = b"", bytes(32)
        # what the node gave, by its keys of that time
        self.keys = b""
        self._answers: dict[tuple[Any, ...], Any] = {}

    def once(self, place: tuple[Any, ...], answer: Any) -> None:
        """The node may say a thing again, never another one."""
        assert self._answers.setdefault((self.keys, *place), answer) == answer, f"two answers: {place}"

    def sign(self, message: Record) -> None:
        """Signs anew what its own clients sign in a message."""
        self.world.signers.sign(message, self.identities, self.transcript, self.binding)

    # -- what is asked --------------------------------------------------------------------------------------------------------

    def _draw_up(self) -> Going:
        """A round of all clients; at times with an extreme setting."""
        dice, sigma = self.world.dice, self.world.sigma
        self.round += 1
        tensors: list[np.ndarray] = list(START)
        settings: dict[str, Any] = {"server-round": self.round}
        asked: dict[str, Any] = {"round": self.round, "noise_multiplier": sigma}
        if dice.random() < 0.25:
            asked = {**asked, "task": "evaluate", "noise_multiplier": dice.choice([0.0, 1.0, 1e4])}
        else:
            asked["evaluate"] = dice.random() < 0.3
            asked["noise_multiplier"] = sigma * dice.choice([1, 1, 1, 1.5, 4, 30, 1e4 / sigma, 0.999])
        if dice.random() < 0.3:
            value = dice.choice([1e30, 3.4e38, -3.4e38, 1e-30, 1e-45, -1.0])
            tensors[0] = np.full((2, 4), value, np.float32)
        if dice.random() < 0.3:
            settings["lr"] = dice.choice([0.0, 1e-300, 1.0, 1e3, 1e3])
            settings["proximal-mu"] = dice.choice([0.0, 1e-300, 1.0, 1e3, 1e3])
        if dice.random() < 0.1:
            tensors = dice.choice([[tensors[0].T, tensors[1]], [*tensors, START[1]], [np.zeros(10, np.float32)]])
        plan: dict[str, Any] = dict(SANE)
        if dice.random() < 0.2:
            extreme: dict[str, list[Any]] = {
                "clip": [1e-12, 1e12, 1e-3],
                "value_bits": [8, 30],
                "max_clients": [5, 65536],
                "weight_max": [2, 2**40],
            }
            name = dice.choice(list(extreme))
            plan[name] = dice.choice(extreme[name])
        plan["dim"] = sum(t.size for t in tensors) + (dice.random() < 0.03)
        content = {wire.ARRAYS: model(tensors), "config": ConfigRecord(settings)}
        server, request = self._server(plan)
        return Going(asked, content, request, plan, server)

    def _server(self, plan: dict[str, Any]) -> tuple[SecAggServer | None, bytes]:
        """The engine's server for a plan, and its share request; where it runs no such round, the request alone."""
        try:
            return self._begun(plan, self.round)
        except AegisError:
            request = read(self._begun({**plan, **SANE}, 1)[1])
            request |= {"round": self.round, "n_max": plan["max_clients"]}
            request |= {k: plan[k] for k in ("clip", "value_bits", "weight_max", "metric_max")}
            return None, write(request)

    def _begun(self, plan: dict[str, Any], round_: int) -> tuple[SecAggServer, bytes]:
        server = SecAggServer(self.id, SecAggPlan(min_clients=2, commit=self.world.commit, **plan))
        for node, advert in {**self.adverts, NODE: self.keys}.items():
            server.add_advert(node, advert)
        return server, server.begin_round(round_, [NODE, *self.own])

    # -- a round --------------------------------------------------------------------------------------------------------------

    def talk(self) -> Talk:
        """Rounds one after the other; ends where the node refuses."""
        if not self.keys:
            _, reply = yield wire.ADVERTISE, RecordDict({wire.RECORD: wire.Request(1).to_record()})
            if reply.code:
                return
        riding: Going | None = None
        for _ in range(self.world.dice.choice([1, 1, 2, 4])):
            going = riding
            if going is None:
                going = self._draw_up()
                sent, reply = yield going.step(wire.SHARE, going.request)
                if reply.code or self.over:
                    return
                self._took(going, payload(sent), reply.payload)
            masked, left = yield from self._mask(going)
            if not masked or (yield from self._commit(going)) is None:
                return
            riding = yield from self._unmask(going, left)

    def _took(self, going: Going, request: bytes, shares: bytes) -> None:
        """The node shared for a request, which is not always the one that was meant."""
        going.follow(request == going.request)
        going.request, going.shares = request, shares
        self.round = max(self.round, read(request)["round"])

    def _mask(self, going: Going) -> Generator[Step, tuple[RecordDict, wire.Reply], tuple[bytes, Left | None]]:
        parsed = read(going.request)
        cohort = [a["node"] for a in parsed["cohort"]]
        self.transcript = transcript(going.request)
        self.identities = {a["node"]: a["identity"] for a in parsed["cohort"]}
        shared = {NODE: going.shares}
        for node, client in self.own.items():
            try:
                shared[node] = client.share(going.request)
            except AegisError:  # it insists on little, and still not on this
                going.server = None
            else:
                self.world.note(shared[node])
        going.serve(lambda s: self._shared(s, shared))
        keys, sealed = [], []
        for node, message in sorted(shared.items()):
            reply = read(message)
            keys.append({"node": node, "mask_key": reply["mask_key"], "signature": reply["signature"]})
            sealed += [{"node": node, "pair": one["pair"]} for one in reply["sealed"] if one["node"] == NODE]
        place = {"run": self.id, "round": parsed["round"], "node": NODE}
        request = write({"kind": MASKED_REQUEST, **place, "keys": keys, "sealed": sealed})
        assert going.serve(lambda s: s.masked_request(NODE), request) == request
        sent, answer = yield going.step(wire.MASKED, request, model=True)
        if answer.code:
            return b"", None
        going.follow(payload(sent) == request)
        left = self.world.truth.left
        there = [k["node"] for k in read(payload(sent))["keys"]]
        bits = sum(1 << i for i, n in enumerate(cohort) if n in there)
        going.sets = {"n": len(cohort), "shared": bits, "survivors": bits}
        asked = wire.Request.from_content(sent)
        self.binding = wire.binding(sent.array_records[wire.ARRAYS], asked, wire.settings(sent))
        going.serve(lambda s: self._masked(s, going, answer.payload))
        return answer.payload, left

    @staticmethod
    def _shared(server: SecAggServer, shared: dict[int, bytes]) -> None:
        for node, message in shared.items():
            server.add_share(node, message)
        server.end_shares()

    def _masked(self, server: SecAggServer, going: Going, own: bytes) -> None:
        """Adds the node's vector and those of its own clients, one of which may be lost."""
        server.bind(self.binding)
        server.add_masked(NODE, own)
        lost = max(self.own) if len(self.own) > 2 and self.world.dice.random() < 0.3 else None
        for node, client in self.own.items():
            ask = server.masked_request(node)
            message = client.masked_input(ask, self.world.nothing, binding=self.binding, dim=going.plan["dim"])
            if node != lost:
                server.add_masked(node, message)
        survivors = server.end_masked()
        assert going.sets is not None
        going.sets["survivors"] = sum(1 << i for i, n in enumerate(sorted([NODE, *self.own])) if n in survivors)

    def _commit(self, going: Going) -> Generator[Step, tuple[RecordDict, wire.Reply], Record | None]:
        """Gives the sets that the node knows of; None where it signs none."""
        if not read(going.request)["commit"]:
            return going.sets
        place = {"run": self.id, "round": read(going.request)["round"], "node": 0}
        request = write({"kind": COMMIT_REQUEST, **place, "sets": dict(going.sets or {})})
        sent, answer = yield going.step(wire.COMMIT, request)
        if answer.code:
            return None
        going.follow(payload(sent) == request)
        going.sets = read(payload(sent))["sets"]
        going.serve(lambda s: self._committed(s, going, answer.payload))
        return going.sets

    def _committed(self, server: SecAggServer, going: Going, own: bytes) -> None:
        ask = server.commit_request()
        server.add_commit(NODE, own)
        for node in self._survivors(going):
            server.add_commit(node, self.own[node].commit(ask))

    def _survivors(self, going: Going) -> list[int]:
        """The server's own clients among them."""
        assert going.sets is not None
        cohort = [a["node"] for a in read(going.request)["cohort"]]
        alive = (n for i, n in enumerate(cohort) if going.sets["survivors"] >> i & 1)
        return [n for n in alive if n in self.own]

    def _unmask(self, going: Going, left: Left | None) -> Generator[Step, tuple[RecordDict, wire.Reply], Going | None]:
        """Gives the next round, where its shares rode in the answer."""
        following = self._draw_up() if self.world.dice.random() < 0.4 else None
        parsed = read(going.request)
        place = {"run": self.id, "round": parsed["round"], "node": NODE}
        signed = [{"node": n, "signature": b""} for n in self._survivors(going)] if parsed["commit"] else []
        ride = following.request if following else b""
        ask = {"kind": UNMASK_REQUEST, **place, "sets": dict(going.sets or {}), "commits": signed, "next": ride}
        self.sign(ask)
        ask["commits"] = [c for c in signed if c["signature"]]  # a client that is not its own signed nothing
        request = write(ask)
        assert going.serve(lambda s: s.unmask_request(NODE, ride or None), request) == request
        sent, answer = yield going.step(wire.UNMASK, request)
        if answer.code or self.over:
            return None
        going.follow(read(payload(sent))["sets"] == ask["sets"])
        going.serve(lambda s: self._finish(s, going, left, answer.payload))
        shares = read(answer.payload)["next"]
        if not shares or following is None:
            return None
        self._took(following, read(payload(sent))["next"], shares)
        return following

    def _finish(self, server: SecAggServer, going: Going, left: Left | None, own: bytes) -> None:
        server.add_unmask(NODE, own)
        for node in self._survivors(going):
            server.add_unmask(node, self.own[node].unmask(server.unmask_request(node)))
        self.world.truth.summed(server.finish(), left, going.plan["clip"], going.plan["value_bits"])
        self.world.sums += 1
