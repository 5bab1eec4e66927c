"""A hostile server against a node with the strictest terms: it knows the protocol, and has all the other clients for itself.

It runs rounds (`hostile_rounds`), and before each step sends others: a field of the message changed (`hostile_messages`), one of
another round, run or step, out of order, with another model, or on a state that was put back.

Whatever it sends: the node answers with a code, or with the message of the step; a masked vector is one that passed the gates,
once for a round; no row is read before a charge; a ledger is never below what happened (`hostile_truth`); no exception escapes.

``make test-hostile`` sends 100 000; ``AEGIS_HOSTILE`` and ``AEGIS_HOSTILE_SEED`` choose how many, and which.
"""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter, deque
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from by_hand import START, ByHand, code_heard, config, model
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hostile_learners import KINDS
from hostile_messages import ADVERT as ADVERTISED
from hostile_messages import COMMIT, MASKED, SHARES, UNMASKED, Changer, Signers, read, write
from hostile_rounds import NODE, Run, Step, Talk, World, payload
from hostile_truth import Truth

from aegis_engine import ComplianceEngine, Vault
from aegis_flower import Terms, wire
from aegis_flower.gate import METRICS
from aegis_flower.node.node import Node, NodeConfig, close_nodes

NUMBER = int(os.environ.get("AEGIS_HOSTILE", "750"))
SEED = int(os.environ.get("AEGIS_HOSTILE_SEED", "11"))
BUDGET, EVALUATIONS = 12.0, 2
PER_NODE, PER_AUDIT = min(1250, max(100, NUMBER // len(KINDS))), 250
TERMS = Terms(["research"], min_rows=2, min_subjects=2, budget_epsilon=BUDGET)
EXTREME: list[Any] = [
    *(0, 1, -1, 2, 2**31 - 1, 2**31, 2**62, -(2**62), 0.0, -0.0, 0.05, 1.0, -1.0),
    *(1e300, -1e300, 1e-300, 5e-324, 1e-155, 1e4, 1e5, math.nan, math.inf, -math.inf),
    *("", "train", "evaluate", "../x", "x" * 5000, b"", b"junk", b"\x00" * 64, True, False),
    *([], [0], [1.5], ["a"], [b"b"], [True]),
]
# what a request may hold, by its fields: extreme, and still a request
TAKEN: dict[str, list[Any]] = {
    "round": [1, 2, 3, 2**31 - 1],
    "task": ["train", "evaluate"],
    "noise-multiplier": [0.0, 5e-324, 1e-300, 1e-155, 0.05, 0.5, 10.0, 1e4],
    "evaluate": [True, False],
}
# how often each kind of attack is tried, where it can be; what is asked for is changed where it cannot
ATTACKS = {"fields": 50, "asked": 14, "model": 10, "replay": 10, "exchange": 5, "blind": 4, "plain": 3, "state": 4}
STEPS = {
    wire.ADVERTISE: ADVERTISED,
    wire.SHARE: SHARES,
    wire.MASKED: MASKED,
    wire.UNMASK: UNMASKED,
    wire.COMMIT: COMMIT,
}
NO_ROWS = RecordDict({"metrics": MetricRecord({"num-examples": 0, "loss": 0.0, "accuracy": 0.0})})
PARSER = ("AEG-N010", "AEG-S001")


class Hostile:
    """The server. It goes from node to node, so that budgets are fresh, and talks to each in two runs at a time."""

    def __init__(self, folder: Path, dice: Random, truth: Truth) -> None:
        self.folder, self.dice, self.truth = folder, dice, truth
        vault = Vault.create(str(folder / "own"), key_file=str(folder / "own.key"), make_key=True)
        vault.govern("core")
        engine = ComplianceEngine(vault)
        nothing = engine.release_nothing(list(METRICS), secure_aggregation=True)
        self.changer = Changer(dice)
        self.world = World(dice, truth, Signers(), engine.bundle_hash, nothing, self.note)
        self.material: deque[Step] = deque(maxlen=80)
        self.seen: Counter[str] = Counter()
        self.sent = self.masked = self.runs_had = self.nodes_had = 0
        self.nodes: ByHand
        self.next_node()

    def next_node(self) -> None:
        close_nodes()
        if self.nodes_had:
            shutil.rmtree(self.nodes.folder)
        kind = self.kind = KINDS[self.nodes_had % len(KINDS)]
        self.nodes_had += 1
        overrides = ("privacy.steps_per_round=1", "privacy.epsilon=8", "strategy.rounds=8", "evaluation.epsilon=1.0")
        cfg = config(*overrides, *kind.overrides)
        self.nodes = ByHand(
            self.folder / f"nodes-{self.nodes_had}",
            cfg,
            nodes=1,
            terms=TERMS,
            holdout=TERMS if kind.holdout else None,
            number=12,
            held=4,
            client=kind.client,
            node={"aegis-max-evaluations": EVALUATIONS, "aegis-min-cohort": 3, **kind.settings},
        )
        self.cfg, self.given = cfg, dict(self.nodes.contexts[NODE].node_config)
        self.world.sigma, self.world.commit = self.nodes.sigma, kind.commit
        self.truth.begin(cfg, self.nodes.folder / f"node-{NODE}", self.nodes.sigma)
        self.records = 0  # of the node's audit log, as its answers say
        self.runs: list[Run] = []
        self.talks = [self.begin(), self.begin()]

    def begin(self) -> tuple[Run, Talk, Step]:
        """A talk in a new run, or in one of the last two."""
        going = [run for run in self.runs[-2:] if not run.over]
        if going and self.dice.random() < 0.6:
            run = self.dice.choice(going)
        else:
            self.runs_had += 1
            own = [2, 3] if self.dice.random() < 0.8 else [2, 3, 4, 5]
            run = Run(self.world, self.runs_had, self.given, own)
            self.runs.append(run)
        talk = run.talk()
        return run, talk, next(talk)

    def note(self, message: bytes) -> None:
        self.changer.note(read(message))

    # -- what is sent ---------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Some attacks in a talk, and its own message, unless the node took one of theirs for it."""
        at = self.dice.randrange(len(self.talks))
        run, talk, (kind, content) = self.talks[at]
        taken = content
        reply: wire.Reply | None = None
        often = {wire.ADVERTISE: 2, wire.MASKED: 10}.get(kind, 6)
        for _ in range(self.dice.randrange(often)):
            sent = self.attack(run, kind, content)
            found = self.send(run, *sent)
            if sent[0] == kind and found is not None and not found.code and kind != wire.ADVERTISE:
                taken, reply = sent[1], found
                break
        if reply is None:
            if message := payload(content):
                self.note(message)
            self.material.append((kind, content))
            run.states.append((RecordDict(dict(run.context.state)), (kind, content)))
            reply = self.send(run, kind, content)
        try:
            if run.over or reply is None or self.dice.random() < 0.04:
                raise StopIteration
            self.talks[at] = run, talk, talk.send((taken, reply))
        except StopIteration:
            self.talks[at] = self.begin()
        if NUMBER > self.sent >= self.nodes_had * PER_NODE:
            self.audit()
            self.next_node()

    def send(self, run: Run, kind: str, content: RecordDict) -> wire.Reply | None:
        """Sends a message in a run; gives the answer of a step of the protocol."""
        self.nodes.contexts[NODE] = run.context
        self.truth.message(run.id)
        reply = self.nodes.send(NODE, kind, content)
        # A node without held-out rows says so to Flower's own evaluation, whatever it is sent.
        nobody = kind == "evaluate" and not self.kind.holdout and not reply.has_error()
        code = "no rows" if nobody else code_heard(reply)
        self.sent += 1
        self.seen[code or f"answered {kind}"] += 1
        assert not self.truth.failed, self.truth.failed
        assert code != "AEG-X000", f"an error without a code: {kind}"
        assert code or kind in STEPS, f"{kind} was answered in clear"
        assert not nobody or (reply.content == NO_ROWS and not self.truth.touched)
        if self.sent % PER_AUDIT == 0:
            self.audit()
        if kind not in STEPS or reply.has_error():
            return None
        found = wire.Reply.from_content(reply.content)
        assert found is not None
        assert not found.audit_head or found.audit_records >= self.records, "the log went back"
        self.records = max(self.records, found.audit_records)
        if not code:
            self.answered(run, kind, found.payload)
        return found

    def answered(self, run: Run, kind: str, message: bytes) -> None:
        """An answer is the step's own message, of this run and node; secrets of a round are told once."""
        found = read(message)
        assert (found["kind"], found["run"], found["node"]) == (STEPS[kind], run.id, NODE)
        round_ = found["round"]
        if kind == wire.ADVERTISE:
            run.over = run.keys not in (b"", message)  # its state was taken away: it began anew
            run.keys = message
        elif kind == wire.SHARE:
            run.once(("share", round_), message)
        elif kind == wire.MASKED:
            self.masked += 1
            run.once(("masked", round_), self.masked)
            self.truth.masked()
            assert len(found["vector"]) == found["width"] * found["length"]
        elif kind == wire.COMMIT:
            run.once(("commit", round_), message)
        else:
            for what in ("seeds", "secrets"):
                for one in found[what]:
                    run.once(("share of", round_, one["node"]), (what, one["share"]))
            if found["next"]:
                following = read(found["next"])
                assert (following["kind"], following["run"], following["node"]) == (SHARES, run.id, NODE)
                run.once(("share", following["round"]), found["next"])
        if kind != wire.MASKED:
            self.changer.note(found)

    # -- how it is changed ----------------------------------------------------------------------------------------------------

    def attack(self, run: Run, kind: str, content: RecordDict) -> Step:
        """Another message in place of the one that is due, or that on a state of another time."""
        dice = self.dice
        how = dice.choices(list(ATTACKS), list(ATTACKS.values()))[0]
        if how == "fields" and payload(content):
            content = self.fields(run, content)
        elif how == "model" and kind == wire.MASKED:
            content = dice.choice([self.arrays, self.settings])(content)
        elif how == "replay":  # of another step, round or run, as it was or changed
            kind, content = dice.choice(self.material or [(kind, content)])
            if payload(content) and dice.random() < 0.5:
                content = self.fields(run, content)
        elif how == "exchange":  # this step with the message of another, or the other way round
            other = dice.choice(self.material or [(kind, content)])[1]
            kind, content = dice.choice([kind, *STEPS]), self.with_payload(content, payload(other))
        elif how == "blind":
            content = dice.choice([self.blind, self.records_changed, self.extreme])(content)
        elif how == "plain":
            settings = ConfigRecord({"server-round": 1, "noise-multiplier": self.world.sigma})
            content = RecordDict({wire.ARRAYS: model(START), "config": settings})
            kind = dice.choice(["train", "evaluate", "query.aegis_other"])
        elif how == "state":
            self.put_back(run, kind, content)
        else:
            content = self.asked(content)
        return kind, content

    def put_back(self, run: Run, kind: str, content: RecordDict) -> None:
        """In a simulation the server keeps the node's state: it gives another back, for a message of now or of that time."""
        newest, dice = RecordDict(dict(run.context.state)), self.dice
        others = [RecordDict(), *(other.context.state for other in self.runs[-2:])]
        state = dice.choice(others)
        if run.states and dice.random() < 0.8:
            state, then = dice.choice(run.states)
            if dice.random() < 0.7:
                kind, content = then
        run.context.state = RecordDict(dict(state))
        reply = self.send(run, kind, content)
        if reply is None or reply.code:
            run.context.state = newest

    @staticmethod
    def with_payload(content: RecordDict, message: bytes) -> RecordDict:
        record: Any = content.config_records.get(wire.RECORD, {})
        return RecordDict({**content, wire.RECORD: ConfigRecord({**record, "payload": message})})

    def fields(self, run: Run, content: RecordDict) -> RecordDict:
        """One or two fields of the protocol's message changed, and signed anew at times."""
        message = read(payload(content))
        for _ in range(self.dice.choice([1, 1, 1, 2])):
            self.changer.change(message)
        if self.dice.random() < 0.8:
            run.sign(message)
        return self.with_payload(content, write(message))

    def asked(self, content: RecordDict) -> RecordDict:
        """What is asked for, within what a request may hold."""
        record: dict[str, Any] = dict(content.config_records.get(wire.RECORD, {}))
        for _ in range(self.dice.choice([1, 1, 2])):
            name = self.dice.choice(list(TAKEN))
            sigma = self.world.sigma
            near = [sigma, math.nextafter(sigma, 0), sigma * 2] if name == "noise-multiplier" else []
            record[name] = self.dice.choice([*TAKEN[name], *near])
        return RecordDict({**content, wire.RECORD: ConfigRecord(record)})

    def extreme(self, content: RecordDict) -> RecordDict:
        """A field of the request is anything at all, is missing, or is one more."""
        record: dict[str, Any] = dict(content.config_records.get(wire.RECORD, {}))
        name = self.dice.choice([*TAKEN, "payload", "reason", "\x00"])
        if self.dice.random() < 0.15:
            record.pop(name, None)
        else:
            record[name] = self.dice.choice(EXTREME)
        return RecordDict({**content, wire.RECORD: ConfigRecord(record)})

    def blind(self, content: RecordDict) -> RecordDict:
        """Bytes of the protocol's message changed, cut or added, whatever they mean."""
        dice = self.dice
        data = bytearray(payload(content))
        how = dice.randrange(4)
        if how == 0:
            del data[dice.randrange(len(data) + 1) :]
        elif how == 1:
            data += dice.randbytes(dice.choice([1, 4, 100]))
        elif how == 2 and len(data) >= 8:
            at = dice.randrange(len(data) - 7)
            data[at : at + 8] = dice.choice([bytes(8), b"\xff" * 8, (2**31).to_bytes(8, "little")])
        else:
            for _ in range(dice.choice([1, 1, 8]) if data else 0):
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        return self.with_payload(content, bytes(data))

    def arrays(self, content: RecordDict) -> RecordDict:
        """Another model: other values, shapes, types, names; or what is none."""
        dice = self.dice
        value = dice.choice([0.0, 1.0, -1.0, 1e-30, 1e30, 3e38, 3e38, np.nan, np.inf])
        tensors: list[Any] = [np.full((2, 4), value, np.float32), np.zeros(2, np.float32)]
        how = dice.randrange(12)
        if how == 0:
            tensors[0] = tensors[0].T
        elif how == 1:
            tensors = tensors[: dice.randrange(2)]
        elif how == 2:
            tensors.append(np.zeros(dice.choice([0, 1, 100]), np.float32))
        elif how == 3:
            dtype = dice.choice([np.float16, np.float64, np.int64, np.bool_, np.complex64, np.uint8])
            with np.errstate(all="ignore"):
                tensors[0] = np.nan_to_num(tensors[0]).clip(-1, 1).astype(dtype)
        elif how == 4:
            tensors = [np.zeros(10, np.float32)]
        record = model(tensors)
        if how == 5:
            good = Array(tensors[0])
            shape = dice.choice([(2, 4), (-1, 4), (2**40,), (2**31, 2**31), (8,), (), (0,)])
            data = good.data[: dice.choice([0, 5, 60, len(good.data)])]
            kind = dice.choice(["float32", "object", "no dtype", "<f8", "float128"])
            record["0"] = Array(kind, shape, "numpy.ndarray", data)
        elif how == 6:
            record = ArrayRecord({dice.choice(["", "../x", "x" * 5000, "\x00"]): a for a in record.values()})
        return RecordDict({**content, "other" if how == 7 else wire.ARRAYS: record})

    def settings(self, content: RecordDict) -> RecordDict:
        given: dict[str, Any] = dict(content.config_records.get("config", {}))
        known = ["server-round", "noise-multiplier", "proximal-mu", "lr", "round"]
        others = ["steps_per_round", "epochs", "clip", "sample_rate", "budget_epsilon", "warmup"]
        given[self.dice.choice(known if self.dice.random() < 0.8 else others)] = self.dice.choice(
            [*EXTREME, 0, 1, 0.1, 1e3, 1e-300]
        )
        return RecordDict({**content, "config": ConfigRecord(given)})

    def records_changed(self, content: RecordDict) -> RecordDict:
        """A record too few, of another sort, or of an older protocol."""
        records: dict[str, Any] = dict(content)
        how = self.dice.randrange(4)
        if how == 0:
            del records[self.dice.choice(list(records))]
        elif how == 1:
            records["metrics"] = MetricRecord({"a": 1.0})
        elif how == 2:
            records[wire.RECORD] = self.dice.choice([ArrayRecord({}), MetricRecord({}), ConfigRecord({})])
        else:
            records["fitins.parameters"] = model(START)
        return RecordDict(records)

    # -- what must hold -------------------------------------------------------------------------------------------------------

    def audit(self) -> None:
        self.truth.check(Node(NodeConfig.from_context(self.nodes.contexts[NODE], self.cfg)), BUDGET, EVALUATIONS)

    def parsed(self) -> float:
        """The share of the messages that got past the parsers."""
        return 1 - sum(self.seen[code] for code in PARSER) / self.sent

    def told(self, seconds: float) -> str:
        truth = self.truth
        return (
            f"{self.sent} messages in {seconds:.0f} s ({self.sent / seconds:.0f}/s) to {self.nodes_had} nodes in {self.runs_had} "
            f"runs; {self.masked} masked vectors, {self.world.sums} sums unmasked; {self.parsed():.1%} parsed; variance of the "
            f"noise over what is charged: {truth.gradients.check()} coordinates, {truth.told.check()} counts\n"
            + "\n".join(f"{n:7} {code}" for code, n in self.seen.most_common())
        )
