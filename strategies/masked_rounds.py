"""Masked rounds: the engine's state machine mapped onto Flower's messages, for one group of clients or several.

In the steady state a round is two trips: masked input (training happens here) and unmask, whose replies bring the shares
of the next round. The first round has two more, for the adverts of the clients' channel keys and for its shares; a client
that missed an unmask step joins by a share trip of its own. With a commit step the survivors sign who survived before they
unmask, one trip more.

Each group is a protocol round of its own, with its own share of the messages in the same trips; a group that fails costs the
others nothing. Messages are pulled as they arrive: each masked vector is added to its group's accumulator and forgotten.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from aegis_engine import SecAggServer, SecAggSum
from aegis_flower import wire
from aegis_flower.errors import AegisError, AppError, NotEnoughClients
from aegis_flower.strategies.cohort import alive
from aegis_flower.strategies.exchange import Exchange
from aegis_flower.strategies.grouping import Grouping
from aegis_flower.strategies.rounds import Lost, RoundRecord

log = logging.getLogger("aegis")
CONFIG = "config"  # where strategies put the settings of a round


class InputCheck(Protocol):
    """What a masked input must pass before it is added to the sum: the place of a proof of bounded norm.

    None is built: a proof has to travel beside the masked vector and speak about what is under the mask.
    """

    def admit(self, server_round: int, node: int, masked: bytes) -> None:
        """Raises an `AegisError` to leave the client out, as one that was lost before its masked input."""


@dataclass
class Group:
    """One group in one round.

    Attributes:
        server: its state machine.
        request: its share request.
        nodes: its cohort.
        failed: why it gives no sum; None while it may.
    """

    server: SecAggServer
    request: bytes
    nodes: list[int]
    failed: AegisError | None = None


@dataclass
class MaskedRounds:
    """The protocol rounds of one run.

    Args:
        base: the run's server, whose forks serve the rounds.
        exchange: the trips.
        grouping: who is summed with whom.
        most: clients a group may have: the ring is as wide as they need.
        check: what masked inputs must pass.
        observer: called with (round, node, masked vector).
    """

    base: SecAggServer
    exchange: Exchange
    grouping: Grouping
    most: int
    check: InputCheck | None = None
    observer: Callable[[int, int, bytes], None] | None = None
    advertised: set[int] = field(default_factory=set)
    groups: list[Group] = field(default_factory=list)
    _twins: dict[int, int] = field(default_factory=dict)
    _planned: list[Group] = field(default_factory=list)
    _number: int = 0

    # -- up to the masked inputs ----------------------------------------------------------------------------------

    def open(
        self, grid: Grid, record: RoundRecord, contents: dict[int, RecordDict], request: wire.Request
    ) -> Message | None:
        """Runs the trips up to the masked input, adding as they come in. Gives one of the messages.

        Args:
            grid: where the clients are.
            record: what becomes of the round is noted here.
            contents: what to send to each client for its training or evaluation; the same for all.
            request: what is asked of each: task, σ, whether to evaluate.

        Raises:
            AegisError: no group can go on.
        """
        binding = _binding(contents, request)
        started = time.monotonic()
        new = {n: wire.Request(record.round) for n in contents if n not in self.advertised}
        for node, payload in self._trip(grid, record, wire.ADVERTISE, new):
            before = _take(record, node, "advertise", self.base.add_advert, payload)
            if before is not _REFUSED:
                self.advertised.add(node)
                if before is not None:
                    self._twins[before] = node
        asks = self._begin(record, [n for n in contents if n in self.advertised])
        where = self._where()
        for node, payload in self._trip(
            grid, record, wire.SHARE, {n: wire.Request(record.round, r) for n, r in asks.items()}
        ):
            _take(record, node, "share", where[node].server.add_share, payload)
        for group in self.groups:
            group.server.bind(binding)
        inside = {n: g for g in self._going(lambda g: g.server.end_shares()) for n in g.server.end_shares()}
        record.seconds["share"] = time.monotonic() - started
        self._fail_when_all_have()

        started = time.monotonic()
        messages = []
        for node, group in sorted(inside.items()):
            if node not in contents:
                record.lose(Lost(node, "masked", "it is not there any more"))
                continue
            ask = replace(request, payload=group.server.masked_request(node))
            content = RecordDict({**contents[node], wire.RECORD: ask.to_record()})
            messages.append(Message(content=content, message_type=wire.MASKED, dst_node_id=node))
        for node, payload in self.exchange.replies(grid, messages, record):
            if self.observer is not None:
                self.observer(record.round, node, payload)
            _take(record, node, "masked", self._adding(record, inside[node].server), payload)
            record.bytes_up = max(record.bytes_up, len(payload))
        record.seconds["train"] = time.monotonic() - started
        return messages[0] if messages else None

    def _adding(self, record: RoundRecord, server: SecAggServer) -> Callable[[int, bytes], None]:
        def add(node: int, masked: bytes) -> None:
            if self.check is not None:
                self.check.admit(record.round, node, masked)
            server.add_masked(node, masked)

        return add

    def _begin(self, record: RoundRecord, nodes: list[int]) -> dict[int, bytes]:
        """Begins the round of every group; gives the share requests of those whose shares have not come yet."""
        asks: dict[int, bytes] = {}
        planned, self._planned = self._planned, []
        self.groups = []
        number = self._number + 1  # above the planned round, for clients that have begun that already
        for wanted in self.grouping.groups(nodes):
            there = set(wanted)
            plan = next((g for g in planned if there <= set(g.nodes) and len(there) >= g.server.need), None)
            if plan is None or len(there) == plan.server.need:
                # With others chosen, or too many gone, a fresh cohort is better than the planned one; also where that can
                # lose nobody more and a fresh one can, which is worth a share trip.
                fresh = self._draw_up(wanted, number)
                if plan is None or len(fresh.nodes) > fresh.server.need:
                    self._number = number
                    self.groups.append(fresh)
                    asks.update(dict.fromkeys(fresh.nodes, fresh.request))
                    if fresh.failed is None:
                        left = [n for n in wanted[: self.most] if n not in fresh.nodes]
                        for n in left:
                            record.lose(Lost(n, "share", self._why_left_out(n, len(wanted))))
                    continue
            self.groups.append(plan)
            asks.update({n: plan.request for n in plan.server.missing if n in there})
        record.cohort = len({node for group in self.groups for node in group.nodes})
        self._fail_when_all_have()
        return asks

    def _why_left_out(self, node: int, there: int) -> str:
        if (twin := self._twins.get(node)) is not None:
            return f"node {twin} gave keys under the same identity, which has one seat: give each node an identity of its own"
        return f"it takes part only with more clients than the {there} there are"

    def _draw_up(self, nodes: list[int], number: int) -> Group:
        server = self.base.fork()
        try:
            request = server.begin_round(number, nodes[: self.most])
        except AegisError as error:
            return Group(server, b"", [], error)
        return Group(server, request, list(server.cohort))

    # -- from the survivors to the sums ---------------------------------------------------------------------------

    def close(self, grid: Grid, record: RoundRecord, following: Collection[int]) -> list[SecAggSum]:
        """Runs the commit and unmask trips; gives the sums of the groups that have one.

        Args:
            grid: where the clients are.
            record: as for `open`.
            following: clients of the next round, whose shares ride in the replies; empty for none.

        Raises:
            AegisError: no group has a sum.
        """
        started = time.monotonic()
        survivors = {n: g for g in self._going(lambda g: g.server.end_masked()) for n in g.server.end_masked()}
        self._fail_when_all_have()
        signing = {
            n: wire.Request(record.round, g.server.commit_request())
            for n, g in survivors.items()
            if g.server.has_commit_step
        }
        for node, payload in self._trip(grid, record, wire.COMMIT, signing):
            _take(record, node, "commit", survivors[node].server.add_commit, payload)
        self._plan(following)
        nexts = {n: g for g in self._planned for n in g.nodes}
        asks: dict[int, wire.Request] = {}
        for node, group in survivors.items():
            riding = nexts[node].request if node in nexts else None
            try:
                asks[node] = wire.Request(record.round, group.server.unmask_request(node, riding))
            except NotEnoughClients as error:  # too few around it signed; the others may be enough
                record.lose(Lost(node, "unmask", str(error), error.code))
        for node, payload in self._trip(grid, record, wire.UNMASK, asks):
            share = _take(record, node, "unmask", survivors[node].server.add_unmask, payload)
            if isinstance(share, bytes) and node in nexts:
                # Refused shares are shares that did not come: the share trip of that round asks for them.
                _take(RoundRecord(record.round), node, "share", nexts[node].server.add_share, share)
        sums: list[SecAggSum] = []
        self._going(lambda g: sums.append(g.server.finish()))
        for holder, owner in (pair for s in sums for pair in s.false_shares):
            reason = f"its share of node {owner}'s secret is false, unless node {owner} gave it a false one; left out"
            record.lose(Lost(holder, "unmask", reason, "AEG-S018"))
        record.seconds["unmask"] = time.monotonic() - started
        record.groups_failed = [f"[{g.failed.code}] {g.failed}" for g in self.groups if g.failed is not None]
        self._fail_when_all_have()
        record.groups = [list(s.contributors) for s in sums]
        record.participants = sorted(n for members in record.groups for n in members)
        record.weight = sum(s.weight for s in sums)
        record.metrics = {name: sum(s.metrics[name] for s in sums) for name in sums[0].metrics}
        return sums

    def _plan(self, following: Collection[int]) -> None:
        """Draws up the next round, so that its share requests ride in this one's unmask step."""
        nodes = [n for n in following if n in self.advertised]
        if not nodes:
            return
        self._number += 1
        drawn = (self._draw_up(wanted, self._number) for wanted in self.grouping.groups(nodes))
        self._planned = [g for g in drawn if g.failed is None]

    # -- groups and messages --------------------------------------------------------------------------------------

    def _where(self) -> dict[int, Group]:
        return {n: g for g in self.groups for n in g.nodes}

    def _going(self, step: Callable[[Group], object]) -> list[Group]:
        """Takes a step with every group that has not failed; gives those that still have not."""
        for group in (g for g in self.groups if g.failed is None):
            try:
                step(group)
            except AegisError as error:
                group.failed = error
        return [g for g in self.groups if g.failed is None]

    def _fail_when_all_have(self) -> None:
        if not self.groups:
            raise NotEnoughClients("no client has given its keys")
        failures = [g.failed for g in self.groups if g.failed is not None]
        if len(failures) == len(self.groups):
            raise failures[0]

    def _trip(
        self, grid: Grid, record: RoundRecord, message_type: str, requests: dict[int, wire.Request]
    ) -> Iterator[tuple[int, bytes]]:
        messages = [
            Message(content=RecordDict({wire.RECORD: r.to_record()}), message_type=message_type, dst_node_id=n)
            for n, r in sorted(requests.items())
        ]
        return self.exchange.replies(grid, messages, record)

    def shape(self) -> tuple[int, int]:
        """Threshold of the largest group, and bits of one masked value."""
        return max((g.server.threshold for g in self.groups), default=0), self.base.ring_bits

    def present(self, grid: Grid) -> list[int]:
        """Nodes that are there and have given their keys."""
        return [n for n in alive(grid) if n in self.advertised]


def _binding(contents: dict[int, RecordDict], request: wire.Request) -> bytes:
    """What all clients are sent, as each of them hashes it.

    Raises:
        AppError: they are not all sent the same: the masks of such clients do not cancel.
    """
    found = None
    hashed: set[tuple[int, int]] = set()
    for content in contents.values():
        arrays, config = content[wire.ARRAYS], content.get(CONFIG)
        if (id(arrays), id(config)) in hashed:
            continue  # strategies make one record for all: it is hashed once
        hashed.add((id(arrays), id(config)))
        binding = wire.binding(content.array_records[wire.ARRAYS], request, wire.settings(content))
        if found not in (None, binding):
            raise AppError(
                "the inner strategy sends clients different models or settings: a secure sum is over clients that work on the "
                "same, and no other can be read; send all the same"
            )
        found = binding
    return found or bytes(32)


_REFUSED = object()


def _take(record: RoundRecord, node: int, step: str, add: Callable[[int, bytes], Any], payload: bytes) -> Any:
    """Gives a payload to the state machine; a bad one loses its sender, never the round."""
    try:
        return add(node, payload)
    except AegisError as error:
        record.lose(Lost(node, step, str(error), error.code))
        return _REFUSED
