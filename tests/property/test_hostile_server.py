"""A hostile server: every field of every message changed, cut, repeated, reordered, sent to a node with the strictest terms.

Whatever it sends: the node answers with a code, or with a message of the protocol; a masked vector comes only of a release after
a charge; no row is read without a charge; what the ledger says was spent is never below the truth; no exception escapes.

``make test-hostile`` sends 100 000; ``AEGIS_HOSTILE`` and ``AEGIS_HOSTILE_SEED`` choose how many, and which.
"""

from __future__ import annotations

import copy
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from by_hand import START, ByHand, Server, code_heard, config, model
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from aegis_flower import Terms, stream, wire
from aegis_flower.accountant import Mechanism, epsilon
from aegis_flower.node import Node, NodeConfig, close_nodes

NUMBER = int(os.environ.get("AEGIS_HOSTILE", "400"))
SEED = int(os.environ.get("AEGIS_HOSTILE_SEED", "11"))
BUDGET = 12.0
KINDS = (wire.ADVERTISE, wire.SHARE, wire.MASKED, wire.COMMIT, wire.UNMASK, "train", "evaluate")
EXTREME: list[Any] = [
    *(0, 1, -1, 2, 2**31 - 1, 2**31, 2**62, -(2**62), 0.0, -0.0, 0.05, 1.0, -1.0),
    *(1e300, -1e300, 1e-300, 5e-324, 1e-155, 1e4, 1e5, float("nan"), float("inf"), float("-inf")),
    *("", "train", "evaluate", "../x", "x" * 5000, b"", b"junk", b"\x00" * 64, True, False),
    *([], [0], [1.5], ["a"], [b"b"], [True]),
]
TERMS = Terms(["research"], min_rows=2, min_subjects=2, budget_epsilon=BUDGET)


class Hostile:
    """The server: it runs honest rounds for fresh material, and sends variations of everything it ever sent."""

    def __init__(self, folder: Path, dice: Random, read: set[str]) -> None:
        self.dice, self.read = dice, read
        self.cfg = config("privacy.steps_per_round=1", "strategy.rounds=8", "evaluation.epsilon=1.0")
        self.nodes = ByHand(
            folder, self.cfg, terms=TERMS, holdout=TERMS, number=12, held=4, node={"aegis-max-evaluations": 3}
        )
        self.real = self.nodes.send
        self.material: list[tuple[str, RecordDict]] = []
        self.states: list[RecordDict] = []
        self.seen: Counter[str] = Counter()
        self.sent = self.masked = self.run = 0
        self.fresh()

    # -- what is sent ---------------------------------------------------------------------------------------------------------

    def fresh(self) -> None:
        """An honest beginning of a run; its messages to node 1 are material."""
        self.run += 1
        self.nodes.new_run(self.run)
        self.server = Server(self.cfg, run_id=self.run)
        self.material = self.material[-60:]

        def send(node: int, kind: str, content: RecordDict) -> Message:
            if node != 1:
                return self.real(node, kind, content)
            self.material.append((kind, copy.deepcopy(content)))
            self.states.append(copy.deepcopy(self.nodes.contexts[1].state))
            if self.dice.random() < 0.5:  # its own message comes changed, or another first
                self.send(*self.changed(kind, content))
            return self.answered(kind, self.real(node, kind, content))

        self.nodes.send = send  # type: ignore[method-assign]
        try:
            task = self.dice.choice(["train", "train", "evaluate"])
            sigma = self.nodes.sigma if task == "train" else 0.0
            self.nodes.round_(
                self.server, [1, 2, 3], task=task, noise_multiplier=sigma, evaluate=self.dice.random() < 0.3
            )
        except AssertionError:
            pass  # the round was spoiled by what was sent in between: a refused step ends it
        finally:
            del self.nodes.send
        settings = ConfigRecord({"server-round": 1, "noise-multiplier": self.nodes.sigma})
        self.material += [(k, RecordDict({"arrays": model(START), "config": settings})) for k in ("train", "evaluate")]
        self.states = self.states[-20:]

    def send(self, kind: str, content: RecordDict) -> None:
        self.answered(kind, self.real(1, kind, content))

    def answered(self, kind: str, reply: Message) -> Message:
        code = code_heard(reply)
        self.sent += 1
        self.seen[code or f"answered {kind}"] += 1
        if not code and kind == wire.MASKED:
            self.masked += 1
        assert code or kind.startswith(("query.aegis_", "train.aegis_")), f"{kind} was answered in clear"
        return reply

    def step(self) -> None:
        dice = self.dice
        if dice.random() < 0.004:
            self.fresh()
            return
        if dice.random() < 0.02:  # in a simulation the server keeps the state
            self.nodes.contexts[1].state = copy.deepcopy(dice.choice([RecordDict(), *self.states]))
        kind, content = dice.choice(self.material)
        for _ in range(dice.choice([0, 1, 1, 1, 2, 3])):
            kind, content = self.changed(kind, content)
        self.send(kind, copy.deepcopy(content))

    # -- how it is changed ----------------------------------------------------------------------------------------------------

    def changed(self, kind: str, content: RecordDict) -> tuple[str, RecordDict]:
        content = copy.deepcopy(content)
        how = self.dice.choice(
            [self.field, self.field, self.field, self.payload, self.payload, self.arrays, self.setting, self.records]
        )
        if self.dice.random() < 0.1:
            return self.dice.choice(KINDS), content
        how(content)
        return kind, content

    def field(self, content: RecordDict) -> None:
        record = content.config_records.get(wire.RECORD)
        if record is None:
            return
        given: dict[str, Any] = dict(record)
        name = self.dice.choice(["round", "payload", "task", "noise-multiplier", "evaluate", "reason", "\x00"])
        if self.dice.random() < 0.15:
            given.pop(name, None)
        else:
            given[name] = self.dice.choice(EXTREME)
        content[wire.RECORD] = ConfigRecord(given)

    def payload(self, content: RecordDict) -> None:
        record = content.config_records.get(wire.RECORD)
        if record is None:
            return
        old = record.get("payload")
        data = bytearray(old if isinstance(old, bytes) else b"")
        how = self.dice.randrange(6)
        if how == 0:
            del data[self.dice.randrange(len(data) + 1) :]
        elif how == 1 and data:
            for _ in range(self.dice.choice([1, 1, 2, 8])):
                data[self.dice.randrange(len(data))] ^= 1 << self.dice.randrange(8)
        elif how == 2:
            data += self.dice.randbytes(self.dice.choice([1, 4, 100]))
        elif how == 3:
            data = bytearray(self.dice.randbytes(self.dice.choice([0, 1, 7, 300])))
        elif how == 4 and len(data) >= 8:
            at = self.dice.randrange(len(data) - 7)
            data[at : at + 8] = self.dice.choice(
                [b"\x00" * 8, b"\xff" * 8, (2**31).to_bytes(8, "little"), b"\x00" * 7 + b"\x80"]
            )
        else:  # the payload of another step
            other = self.dice.choice(self.material)[1].config_records.get(wire.RECORD)
            if other is not None and isinstance(other.get("payload"), bytes):
                data = bytearray(other["payload"])  # type: ignore[arg-type]
        content[wire.RECORD] = ConfigRecord({**record, "payload": bytes(data)})

    def arrays(self, content: RecordDict) -> None:
        value = self.dice.choice([0.0, 1.0, -1.0, 1e-30, 1e30, 3e38, np.nan, np.inf])
        tensors: list[Any] = [np.full((2, 4), value, np.float32), np.zeros(2, np.float32)]
        how = self.dice.randrange(9)
        if how == 0:
            tensors[0] = tensors[0].T
        elif how == 1:
            tensors = tensors[: self.dice.randrange(2)]
        elif how == 2:
            tensors.append(np.zeros(self.dice.choice([0, 1, 100]), np.float32))
        elif how == 3:
            dtype = self.dice.choice([np.float16, np.float64, np.int64, np.bool_, np.complex64, np.uint8])
            with np.errstate(all="ignore"):
                tensors[0] = np.nan_to_num(tensors[0]).clip(-1, 1).astype(dtype)
        elif how == 4:
            tensors[1] = np.zeros((), np.float32)
        record = model(tensors)
        if how >= 7:
            good = Array(tensors[0])
            shape = self.dice.choice([(2, 4), (-1, 4), (2**40,), (2**31, 2**31), (8,), (), (0,)])
            data = good.data[: self.dice.choice([0, 5, 60, len(good.data)])]
            record["0"] = Array(
                self.dice.choice(["float32", "object", "no dtype", "<f8", "float128"]), shape, "numpy.ndarray", data
            )
        content[self.dice.choice([wire.ARRAYS] * 5 + ["other"])] = record

    def setting(self, content: RecordDict) -> None:
        name = self.dice.choice(["server-round", "noise-multiplier", "proximal-mu", "lr", "round", "warmup"])
        given: dict[str, Any] = dict(content.config_records.get("config", {}))
        given[name] = self.dice.choice(EXTREME)
        content["config"] = ConfigRecord(given)

    def records(self, content: RecordDict) -> None:
        how = self.dice.randrange(4)
        if how == 0 and content:
            del content[self.dice.choice(list(content))]
        elif how == 1:
            content["metrics"] = MetricRecord({"a": 1.0})
        elif how == 2:
            content[wire.RECORD] = self.dice.choice([ArrayRecord({}), MetricRecord({}), ConfigRecord({})])
        else:
            content["fitins.parameters"] = model(START)

    # -- what must hold -------------------------------------------------------------------------------------------------------

    def audit(self) -> str:
        """Compares what the node's log and ledgers say with what came out, and recomputes what was spent."""
        node = Node(NodeConfig.from_context(self.nodes.contexts[1], self.cfg))
        allowed = [r for r in node.vault.audit_records("release") if r["decision"] == "allow"]
        assert len(allowed) >= self.masked, "a masked vector without a release"
        charged = {
            e["id"]: e
            for ledger in (node.ledger, node.holdout_ledger)
            for e in ledger.entries()
            if e["kind"] == "reserve"
        }
        permits: Counter[str] = Counter()
        truth: dict[str, Counter[Mechanism]] = {"train": Counter(), "holdout": Counter()}
        for release in allowed:
            assert release["secure_aggregation"]
            for part in release["parts"]:
                permits[part["permit"]] += 1
                assert part["reservation"] in charged, "a release without a charge"
                assert part["dp"] == "secure"
            if release["mechanism"] is not None:
                m = release["mechanism"]
                made = Mechanism(float(m["noise_multiplier"]), float(m["sample_rate"]), float(m["clip"]))
                assert made.noise_multiplier >= self.nodes.sigma * (1 - 1e-6), (
                    "less noise than the node's own configuration"
                )
                truth["train"][made] += m["steps"]
            if release["counts"] is not None:
                truth["holdout"][Mechanism(float(release["counts"]["noise_multiplier"]), 1.0, 10.0, "counts")] += 1
        assert all(n == 1 for n in permits.values()), "one permit, one release"
        granted = {r["permit"] for r in node.vault.audit_records("authorize") if r["decision"] == "allow"}
        assert self.read <= granted
        assert len(self.read) <= len(charged), "rows were read without a charge"
        for name, ledger in (("train", node.ledger), ("holdout", node.holdout_ledger)):
            said, true = ledger.spent(1e-5).epsilon, epsilon(truth[name], 1e-5) if truth[name] else 0.0
            assert true <= said * (1 + 1e-9) <= BUDGET * (1 + 1e-6)
        return (
            f"{self.sent} messages, {self.masked} masked vectors, {len(allowed)} releases, {len(charged)} charges; "
            + ", ".join(f"{n} {code}" for code, n in self.seen.most_common())
        )


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    """The permits under which rows of node 1 are read are noted."""
    read: set[str] = set()
    opened, taken = stream.PermitDataset.__init__, stream.PermitDataset.__getitems__

    def opening(self: Any, vault: Any, permit: Any, spec: Any) -> None:
        self.noted = {permit.id} if Path(vault.path).name == "node-1" else set()
        opened(self, vault, permit, spec)

    def taking(self: Any, indices: Any) -> Any:
        read.update(self.noted)
        return taken(self, indices)

    monkeypatch.setattr(stream.PermitDataset, "__init__", opening)
    monkeypatch.setattr(stream.PermitDataset, "__getitems__", taking)
    logging.disable(logging.CRITICAL)
    yield Hostile(tmp_path, Random(SEED), read)
    logging.disable(logging.NOTSET)
    close_nodes()


@pytest.mark.timeout(6 * 3600)
def test_nothing_leaves_a_strict_node_but_codes_and_what_was_charged(hostile: Hostile) -> None:
    checked = max(500, NUMBER // 20)
    while hostile.sent < NUMBER:
        before = hostile.sent // checked
        hostile.step()
        if hostile.sent // checked != before:
            hostile.audit()
    print(hostile.audit())  # noqa: T201 - what `make test-hostile` is for
    assert hostile.masked > 0, "the honest part of it worked"
    assert hostile.seen["AEG-X000"] == 0, "every refusal has a code of its own"
