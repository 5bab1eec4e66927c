"""What the property tests of secure aggregation share: real releases, one client's contribution, and the server's side."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from aegis_engine.errors import SecAggError

from aegis_engine import ComplianceEngine, Limits, Proposal, Release, Request, SecAggClient, SecAggServer, encode_update

METRICS = ["correct", "examples"]
PLAN: dict[str, Any] = {"clip": 1.0, "value_bits": 20, "weight_max": 1000, "metric_max": 2**31 - 1, "max_clients": 16}
# the constants of the clients here; and what all of them work on, unless a test says otherwise
SUMS: dict[str, Any] = {"metrics": METRICS, "metric_max": PLAN["metric_max"], "weight_max": PLAN["weight_max"]}
BINDING = bytes(range(32))
runs = itertools.count(1)


@dataclass
class Owner:
    """One governed vault; every release of these tests is one of its real ones."""

    engine: ComplianceEngine
    dataset: str

    def release(self, update: np.ndarray, weight: int, metrics: dict[str, int]) -> Release:
        permits = [
            self.engine.authorize(self.dataset, Request(action=a, purpose="research")) for a in ("train", "evaluate")
        ]
        shapes = [("w", [len(update)])]
        proposal = Proposal(update, tensors=shapes, metrics=metrics, secure_aggregation=True, weight=weight)
        limits = Limits(contract=shapes, metrics_allowed=METRICS, weight_max=PLAN["weight_max"], max_norm=1e6)
        return self.engine.gate(permits, proposal, limits)


@dataclass
class Case:
    """One contribution, and the first step its node is gone at; the driver of a test numbers its steps."""

    update: np.ndarray
    weight: int
    metrics: dict[str, int]
    gone: int

    def encoded(self) -> list[int]:
        return encode_update(self.update, self.weight, [self.metrics[m] for m in METRICS], names=METRICS, **PLAN)


def revived(client: SecAggClient) -> SecAggClient:
    """Each message of a deployment gets a fresh process: the state goes through bytes every time."""
    return SecAggClient.from_bytes(client.to_bytes())


class Steady:
    """The server's side of a run in which the shares of a round ride in the unmask replies of the one before.

    The one place that knows how the engine lets two rounds overlap.
    """

    def __init__(self, server: SecAggServer) -> None:
        # adverts go to the base, so that every fork made later knows who came
        self.base, self.server = server, server
        self._next: tuple[SecAggServer, bytes] | None = None
        self._last = 0

    def begin(self, round_: int, cohort: Sequence[int]) -> tuple[bytes, list[int]]:
        """The share request of a round, planned or fresh, and who has not shared in it yet."""
        planned, self._next, self._last = self._next, None, round_
        if planned is None:
            self.server = self.base.fork()
            self.server.bind(BINDING)
            return self.server.begin_round(round_, list(cohort)), list(cohort)
        self.server, request = planned
        return request, self.server.missing

    def plan(self, cohort: Sequence[int]) -> None:
        """Draws up the next round; before the first unmask request of this one."""
        following = self.base.fork()
        following.bind(BINDING)
        self._next = following, following.begin_round(self._last + 1, list(cohort))

    def unmask_request(self, node: int) -> bytes:
        rides = self._next is not None and node in self._next[0].cohort
        return self.server.unmask_request(node, self._next[1] if rides else None)

    def add_unmask(self, node: int, message: bytes) -> None:
        """Takes an answer, and the shares that ride in it."""
        share = self.server.add_unmask(node, message)
        if share is not None and self._next is not None:
            self._next[0].add_share(node, share)


def refused(call: Any, *args: Any) -> str:
    """Makes a call that must be refused by the protocol; gives the code."""
    try:
        call(*args)
    except SecAggError as error:
        return error.code
    raise AssertionError(f"{call} took what it must refuse")
