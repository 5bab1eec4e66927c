"""AEGIS's secure aggregation for `secagg.py`: the engine's state machines, driven as the strategy drives them.

A client's state goes through its bytes at every step, as in a deployment where each message finds a fresh process; the vault that
seals those bytes is left out. The graph is the complete one (profile S), or the sparse one (profile D) that bears 10 %
colluding clients and the loss of the case. Weights are all 1, values have 16 bits at clip 1.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from aegis_engine.errors import AegisError
from secagg_measure import Failed, Meter, Peak, difference, lost_of, measured, vectors

from aegis_engine import (
    ComplianceEngine,
    Limits,
    Proposal,
    Release,
    Request,
    SecAggClient,
    SecAggPlan,
    SecAggServer,
    Vault,
    encode_update,
)
from aegis_flower.ingest import Terms, ingest

PLAN: dict[str, Any] = {"clip": 1.0, "value_bits": 16, "weight_max": 1, "metric_max": 0}
SUMS: dict[str, Any] = {"metrics": [], "metric_max": 0, "weight_max": 1}
BINDING = bytes(32)
HALF_STEP = 1 / (2**15 - 1) / 2
COLLUDING = 10  # percent, what a client assumes by default
CORES = os.cpu_count() or 1
for name in ("aegis", "flwr"):
    logging.getLogger(name).setLevel(logging.ERROR)


class Owner:
    """One governed vault, whose gate releases the updates; the others' releases are these, too."""

    def __init__(self, folder: str) -> None:
        vault = Vault.create(f"{folder}/vault", key_file=f"{folder}/key", make_key=True)
        vault.govern("core")
        people = [f"person-{i}" for i in range(20)]
        self.dataset = ingest(
            vault, "rows", {"x": np.zeros(20, np.float32)}, people, Terms(["research"], require_dp=False)
        )
        self.engine = ComplianceEngine(vault)

    def release(self, update: np.ndarray) -> Release:
        permit = self.engine.authorize(self.dataset, Request(action="train", purpose="research"))
        shapes = [("w", [len(update)])]
        proposal = Proposal(update, tensors=shapes, metrics={}, secure_aggregation=True, weight=1)
        limits = Limits(contract=shapes, metrics_allowed=[], weight_max=1, max_norm=1e6)
        return self.engine.gate([permit], proposal, limits)


def releases(updates: list[np.ndarray]) -> list[Release]:
    with tempfile.TemporaryDirectory() as folder:
        owner = Owner(folder)
        return [owner.release(update) for update in updates]


class Cohort:
    """n clients, as bytes, and the server, one step at a time; clients run on all cores."""

    def __init__(self, n: int, dim: int, lost: int | None = None) -> None:
        """A complete graph; or a sparse one, that bears `lost` percent."""
        sparse = None if lost is None else (COLLUDING, lost)
        plan = SecAggPlan(dim=dim, metrics=[], max_clients=n, min_clients=max(3, n // 2), sparse=sparse, **PLAN)
        self.server = SecAggServer(1, plan)
        nodes = range(1, n + 1)
        self.server.bind(BINDING)
        self.clients = {node: SecAggClient(1, node, min_cohort=3, min_threshold=2, **SUMS).to_bytes() for node in nodes}

    def advertise(self, gone: Iterable[int] = ()) -> bytes:
        """Adverts of all but those who are gone; gives the share request."""
        nodes = sorted(set(self.clients) - set(gone))
        for node in nodes:
            self.server.add_advert(node, SecAggClient.from_bytes(self.clients[node]).advertise())
        return self.server.begin_round(1, nodes)

    def step(
        self,
        nodes: Iterable[int],
        ask: Callable[[int], bytes],
        answer: Callable[[int, SecAggClient, bytes], bytes],
        take: Callable[[int, bytes], object],
        meter: Meter | None = None,
    ) -> None:
        """One step of these clients, a batch at a time; `meter` runs while the server takes the replies, and nothing else."""

        def one(job: tuple[int, bytes]) -> bytes:
            node, request = job
            client = SecAggClient.from_bytes(self.clients[node])
            reply = answer(node, client, request)
            self.clients[node] = client.to_bytes()
            return reply

        left = list(nodes)
        with ThreadPoolExecutor(CORES) as pool:
            for at in range(0, len(left), 4 * CORES):
                batch = left[at : at + 4 * CORES]
                replies = list(pool.map(one, [(node, ask(node)) for node in batch]))
                with meter or Meter():
                    for node, reply in zip(batch, replies, strict=True):
                        take(node, reply)

    def share(self, request: bytes, gone: Iterable[int] = ()) -> list[int]:
        """The share step; gives who goes on."""
        nodes = [node for node in self.clients if node not in set(gone)]
        self.step(nodes, lambda _: request, lambda _, client, ask: client.share(ask), self.server.add_share)
        return self.server.end_shares()

    def mask(self, nodes: Iterable[int], released: list[Release]) -> Meter:
        """The masked step; gives what adding the vectors took the server."""
        meter = Meter()
        self.step(
            nodes,
            self.server.masked_request,
            lambda node, client, ask: client.masked_input(ask, released[node % 2], binding=BINDING),
            self.server.add_masked,
            meter,
        )
        return meter

    def unmask(self, gone: Iterable[int] = ()) -> tuple[Any, Meter]:
        """Commit and unmask steps; gives the sum, and what they took the server: sets, signatures, shares, masks, the mean."""
        server, meter, gone = self.server, Meter(), set(gone)
        with meter:
            survivors = server.end_masked()
        if server.has_commit_step:
            with meter:
                request = server.commit_request()
            there = [node for node in survivors if node not in gone]
            self.step(there, lambda _: request, lambda _, c, ask: c.commit(ask), server.add_commit, meter)

        def ask(node: int) -> bytes:
            with meter:
                return server.unmask_request(node)

        there = [node for node in survivors if node not in gone]
        self.step(there, ask, lambda _, client, request: client.unmask(request), server.add_unmask, meter)
        with meter:
            summed = server.finish()
            summed.mean()
        return summed, meter


def unmask(n: int, dim: int, percent: int, *, sparse: bool) -> dict[str, Any]:
    """Costs of the server from the masked vectors on, with so many clients lost before they send one."""
    updates, lost = vectors(dim), lost_of(n, percent)
    released = releases(updates)
    cohort = Cohort(n, dim, max(percent, 10) if sparse else None)
    inside = cohort.share(cohort.advertise())
    shape = {"degree": cohort.server.degree, "threshold": cohort.server.threshold}
    summing = cohort.mask([node for node in inside if node not in lost], released)
    with Peak() as peak:
        summed, server = cohort.unmask()
    check(summed, sorted(set(inside) - lost), updates, n)
    off = difference(np.frombuffer(summed.mean(), np.float64), summed.contributors, updates)
    return {**measured(server, summing, peak, off), **shape}


def check(summed: Any, contributors: list[int], updates: list[np.ndarray], n: int) -> None:
    """The sum is that of the plain integers, bit for bit; of long vectors, whose integers Python would hold for minutes,
    the mean is compared."""
    assert summed.contributors == contributors
    if len(updates[0]) <= 100_000:
        counts = [sum(node % 2 == kind for node in contributors) for kind in range(len(updates))]
        plain = [encode_update(update, 1, [], names=[], max_clients=n, **PLAN) for update in updates]
        total = sum(count * np.array(one) for count, one in zip(counts, plain, strict=True))
        assert np.array_equal(summed.integers(), total), "the sum is not that of the plain integers"
    off = difference(np.frombuffer(summed.mean(), np.float64), contributors, updates)
    assert off <= HALF_STEP * (1 + 1e-9), f"the mean is off by {off}"


class OneClient:
    """Client 1 of a cohort, at its share step and its masked step; all others share in earnest."""

    def __init__(self, n: int, dim: int, *, sparse: bool) -> None:
        self.cohort, self.dim = Cohort(n, dim, 10 if sparse else None), dim
        request = self.cohort.advertise()
        self._share = request, self.cohort.clients[1]
        self.cohort.share(request)
        self._mask = self.cohort.server.masked_request(1), self.cohort.clients[1]
        self.degree, self.threshold = self.cohort.server.degree, self.cohort.server.threshold

    def share(self) -> dict[str, Any]:
        request, state = self._share
        with Meter() as meter:
            client = SecAggClient.from_bytes(state)
            reply = client.share(request)
            client.to_bytes()
        return {"cpu": meter.cpu, "bytes": len(reply)}

    def mask(self) -> dict[str, Any]:
        """The masked step: checks keys, opens shares, quantises, masks, packs. `peak` is above what it is handed."""
        request, state = self._mask
        update = vectors(self.dim)[0]
        with tempfile.TemporaryDirectory() as folder:
            owner = Owner(folder)
            with Peak() as before:
                released = owner.release(update)
        with Peak() as peak, Meter() as meter:
            client = SecAggClient.from_bytes(state)
            reply = client.masked_input(request, released, binding=BINDING)
            client.to_bytes()
        return {"cpu": meter.cpu, "bytes": len(reply), "peak": peak.mb, "peak_model": peak.above(before)}


def survives(n: int, step: str, percent: int) -> str:
    """A round in which so many are gone from one step on: ``yes``, when there is a sum and it is exact."""
    updates, lost = vectors(1000), lost_of(n, percent)
    cohort = Cohort(n, 1000)
    gone = {name: lost if name == step else set() for name in ("advertise", "share", "masked", "unmask")}
    try:
        request = cohort.advertise(gone["advertise"])
        inside = cohort.share(request, gone["share"] | gone["advertise"])
        contributors = [node for node in inside if node not in gone["masked"]]
        cohort.mask(contributors, releases(updates))
        summed, _ = cohort.unmask(gone["unmask"])
    except AegisError as error:
        raise Failed(f"aborts: {error}") from error
    check(summed, contributors, updates, n)
    return "yes"


def exact(n: int) -> dict[str, Any]:
    """A whole round in a sparse graph at d = 1000, a tenth lost before the masked step; checked bit for bit."""
    return unmask(n, 1000, 10, sparse=True)


def trips() -> list[int]:
    """Trips of three rounds of a run of the strategy in profile S."""
    from flwr.serverapp import ServerApp

    from aegis_flower.client import aegis_client_app
    from aegis_flower.configs import compose
    from aegis_flower.node.node import close_nodes
    from aegis_flower.server import build_strategy, initial_arrays
    from aegis_flower.simulations.inprocess import run_inprocess
    from aegis_flower.simulations.provision import provision

    logging.getLogger("flwr").setLevel(logging.ERROR)  # its import sets it
    cfg = compose("quickstart", ["strategy.rounds=3", "privacy=off", "policy.require_dp=false"])
    strategy, server = build_strategy(cfg, 0.0), ServerApp()

    @server.main()
    def main(grid: Any, context: Any) -> None:
        strategy.start(grid, initial_arrays(cfg), num_rounds=cfg.strategy.rounds)

    with tempfile.TemporaryDirectory() as folder:
        nodes = provision(cfg, Path(folder) / "vaults")
        try:
            run_inprocess(server, aegis_client_app(config=cfg), [node.node_config for node in nodes])
        finally:
            close_nodes()
    return [record.trips for record in strategy.rounds if record.task == "train"]
