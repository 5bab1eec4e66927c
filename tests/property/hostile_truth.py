"""What really happened at a node, noted where it happens and not by what the node's log or ledger say of it.

Every sum that was noised and every evaluation that read a row counts, whether or not anything left. The noise is measured: on the
steps beside the engine's session, of whichever framework, and on the counts in a sum that the server unmasked.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aegis_engine import SecAggSum
from aegis_flower import gate, mechanism, stream, train, whole_update
from aegis_flower.accountant import Mechanism, counts_mechanism, epsilon
from aegis_flower.configs import Config
from aegis_flower.learners import rounds
from aegis_flower.ledger import RoundMechanism
from aegis_flower.node.node import Node

DELTA = 1e-5  # of the terms


@dataclass
class Left:
    """What passed the gates in one message: the clipped update, and the counts before their noise."""

    update: np.ndarray
    metrics: dict[str, int]
    counts: gate.Counts | None


@dataclass
class Measured:
    """Squares of noise in units of what it should be; their mean is 1."""

    squares: float = 0.0
    samples: int = 0

    def add(self, values: np.ndarray) -> None:
        self.squares += float(values @ values)
        self.samples += len(values)

    def check(self) -> str:
        """The mean of n squares of a normal variable has the standard deviation √(2/n); six of them come once in 10^9."""
        mean = self.squares / max(1, self.samples)
        assert self.samples == 0 or abs(mean - 1) < 6 * np.sqrt(2 / self.samples), f"noise of variance {mean}"
        return f"{mean:.4f} of {self.samples}"


class Truth:
    """Counts at one node after the other; `begin` says which, `message` that it gets another one."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.gradients, self.told = Measured(), Measured()
        self.rows, self.rows_expected, self.rows_variance = 0, 0.0, 0.0
        self.left: Left | None = None
        self.failed: list[str] = []
        self.sessions: dict[int, tuple[Any, RoundMechanism, int]] = {}
        self._install(patch)

    def _must(self, holds: bool, what: str) -> None:
        """For what is seen inside the node, whose door makes a code of any error."""
        if not holds:
            self.failed.append(what)

    def begin(self, cfg: Config, folder: Path, sigma: float) -> None:
        """Another node: its configuration, its vault, the least noise that it may train with."""
        self.folder, self.sigma, self.privacy = folder, sigma, cfg.privacy
        self.train: Counter[Mechanism] = Counter()
        self.holdout: Counter[Mechanism] = Counter()
        self.read: dict[str, str] = {}  # permit to what it was for
        self.evaluations: Counter[int] = Counter()  # by run
        self.passed = 0
        e = cfg.evaluation
        self.counts = counts_mechanism(e.epsilon, DELTA, loss_max=e.loss_max)
        self.message(0)

    def message(self, run: int) -> None:
        """Another message, in a run."""
        self.run = run
        self.left, self.noised, self.touched = None, 0, False
        self.sessions.clear()

    def _install(self, patch: pytest.MonkeyPatch) -> None:
        whole = whole_update.session
        opened, taken = stream.PermitDataset.__init__, stream.PermitDataset.__getitems__
        noised, release = mechanism.noised_sum, gate.release

        def opening(data: Any, vault: Any, permit: Any, spec: Any) -> None:
            data.noted = permit
            opened(data, vault, permit, spec)

        def taking(data: Any, indices: Any) -> Any:
            if len(indices):
                self._rows(data.noted, len(indices))
            return taken(data, indices)

        def charged(make: Any) -> Any:
            def making(what: Any, permit: Any, reservation: Any, *rest: Any) -> Any:
                made = make(what, permit, reservation, *rest)
                self.sessions[id(made)] = made, reservation.mechanism, permit.rows
                return made

            return making

        def charged_whole(permit: Any, reservation: Any, *rest: Any) -> Any:
            return charged(lambda _, *given: whole(*given))(None, permit, reservation, *rest)

        def noising(session: Any, sums: np.ndarray) -> np.ndarray:
            _, asked, rows = self.sessions[id(session)]
            self._sampled(asked, rows)
            far = float(np.linalg.norm(sums))
            self._must(asked.kind != "update" or far <= asked.clip * (1 + 1e-6), f"a whole update of norm {far}")
            out = noised(session, sums)
            self.gradients.add((out - sums) / (asked.noise_multiplier * asked.sensitivity))
            return out

        def releasing(node: Any, permits: Any, proposal: Any, limits: Any, **how: Any) -> Any:
            session, counts = proposal.session, proposal.counts
            dim = proposal.update.size
            self._must((session is None) == (dim == 0), "an update without a session")
            spent = (self.noised, self.noised, self.noised * dim, True)
            self._must(session is None or session.spent == spent, "the engine counts other steps than were seen")
            right = counts is None or (counts.mechanism == self.counts and counts.insecure_seed is None)
            self._must(right, "counts with other noise than configured")
            self._must(counts is not None or not any(proposal.metrics.values()), "counts without noise")
            self._must(how["secure_aggregation"], "a release in clear")
            freed = release(node, permits, proposal, limits, **how)
            self.left = Left(proposal.update.copy(), dict(proposal.metrics), counts)  # the gate clips in place
            self.passed += 1
            return freed

        patch.setattr(stream.PermitDataset, "__init__", opening)
        patch.setattr(stream.PermitDataset, "__getitems__", taking)
        patch.setattr(train, "session", charged(train.session))
        patch.setattr(whole_update, "session", charged_whole)
        for module in (train, rounds, whole_update):
            patch.setattr(module, "noised_sum", noising)
        patch.setattr(gate, "release", releasing)

    def _rows(self, permit: Any, rows: int) -> None:
        self.touched = True
        if permit.id not in self.read:
            self.read[permit.id] = permit.action
            if permit.action == "evaluate":
                self.holdout[self.counts] += 1
                self.evaluations[self.run] += 1
            charges = sum(p.read_text().count('"kind": "reserve"') for p in self.folder.glob("privacy/*.jsonl"))
            self._must(charges >= len(self.read), "rows are read before the charge")
        if permit.action == "train":
            self.rows += rows

    def _sampled(self, asked: RoundMechanism, rows: int) -> None:
        """A noised sum, of rows that were drawn or of none; of a whole update, after all its batches."""
        self.noised += 1
        self._must(asked.noise_multiplier >= self.sigma * (1 - 1e-6), "less noise than the node's own configuration")
        self._must(asked.clip == self.privacy.clip, "another clip than configured")
        self.train[asked.step] += 1
        rate, batches = self.privacy.sample_rate, 1 if asked.kind == "dpsgd" else self.privacy.steps_per_round
        self.rows_expected += batches * rate * rows
        self.rows_variance += batches * rate * (1 - rate) * rows

    def masked(self) -> None:
        """A masked vector left: of something that passed the gates, or of a node that has no rows for it."""
        assert self.left is not None or not self.touched

    def summed(self, total: SecAggSum, left: Left | None, clip: float, value_bits: int) -> None:
        """A sum over the node and clients that gave zeros: it is what passed the gates, with the noise of its counts."""
        mean = np.frombuffer(total.mean(), np.float64) * total.weight
        update = left.update if left is not None and left.update.size else np.zeros(len(mean), np.float32)
        step = clip / (2 ** (value_bits - 1) - 1)
        np.testing.assert_allclose(mean, update.astype(np.float64).clip(-clip, clip), rtol=1e-6, atol=step)
        if left is None or left.counts is None:
            assert not any(total.metrics.values())
            return
        z, blocks = left.counts.mechanism.noise_multiplier, left.counts.blocks
        scales = {name: cap for cap, names in blocks for name in names}
        assert all(not value for name, value in total.metrics.items() if name not in scales)
        joint = z * np.sqrt(len(blocks))
        noise = [(total.metrics[k] - left.metrics[k]) / (joint * scale) for k, scale in scales.items()]
        self.told.add(np.array(noise))

    def check(self, node: Node, budget: float, most: int) -> None:
        """Holds the node's ledgers and log against what happened."""
        books = {"train": (node.ledger, self.train)}
        if node.has_holdout:
            books["evaluate"] = (node.holdout_ledger, self.holdout)
        assert self.holdout.total() == 0 or node.has_holdout
        granted = {r["permit"] for r in node.vault.audit_records("authorize") if r["decision"] == "allow"}
        assert self.read.keys() <= granted
        charges: dict[str, str] = {}
        for action, (ledger, true) in books.items():
            reserved = [e for e in ledger.entries() if e["kind"] == "reserve"]
            charges |= {e["id"]: action for e in reserved}
            booked = ledger.mechanisms()
            assert all(booked[m] >= n for m, n in true.items()), "steps that nobody was charged for"
            assert sum(a == action for a in self.read.values()) <= len(reserved)
            for accountant in ("rdp", "pld"):
                said = ledger.spent(DELTA, accountant=accountant).epsilon
                assert epsilon(true, DELTA, accountant) <= said * (1 + 1e-9), "the ledger is below the truth"
            assert said <= budget * (1 + 1e-6), "more was granted than the budget"
        assert max(self.evaluations.values(), default=0) <= most, "more evaluations of a run than the node gives"
        self._check_log(node, charges)
        spread = np.sqrt(self.rows_variance)
        assert abs(self.rows - self.rows_expected) <= 6 * spread + 1, "rows were not drawn at the rate"
        self.gradients.check()
        self.told.check()

    def _check_log(self, node: Node, charges: dict[str, str]) -> None:
        allowed = [r for r in node.vault.audit_records("release") if r["decision"] == "allow" and r["parts"]]
        assert len(allowed) == self.passed, "a release that was not on record"
        used: Counter[str] = Counter()
        for release in allowed:
            assert release["secure_aggregation"]
            for part in release["parts"]:
                used[part["permit"]] += 1
                assert part["dp"] == "secure"
                assert part["reservation"] in charges, "a release without a charge"
        assert all(n == 1 for n in used.values()), "one permit, one release"
