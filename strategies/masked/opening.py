"""Opening a masked round: keys of who is new, groups, and shares; it gives who may send a masked input."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from flwr.serverapp import Grid

from aegis_engine import SecAggServer
from aegis_flower import wire
from aegis_flower.errors import AegisError
from aegis_flower.strategies.masked.exchange import Exchange
from aegis_flower.strategies.masked.group import Group, asking, each_going, fail_when_all_have, taken
from aegis_flower.strategies.masked.grouping import Grouping
from aegis_flower.strategies.rounds import Lost, RoundRecord


@dataclass
class Opening:
    """Draws up the groups of each round.

    Args:
        base: the run's server, whose forks serve the rounds.
        exchange: the trips.
        grouping: who is summed with whom.
        most: clients a group may have: the ring is as wide as they need.
    """

    base: SecAggServer
    exchange: Exchange
    grouping: Grouping
    most: int
    advertised: set[int] = field(default_factory=set)
    groups: list[Group] = field(default_factory=list)
    _twins: dict[int, int] = field(default_factory=dict)
    _planned: list[Group] = field(default_factory=list)
    _number: int = 0

    def open(self, grid: Grid, record: RoundRecord, nodes: list[int], binding: bytes) -> dict[int, Group]:
        """Runs the trips of keys and shares.

        Args:
            grid: where the clients are.
            record: what becomes of the round is noted here.
            nodes: who is asked.
            binding: hash of what all of them are sent; each group binds its masks to it.

        Returns:
            The group of each client that may send a masked input. `groups` has all of the round.

        Raises:
            AegisError: no group can go on.
        """
        started = time.monotonic()
        new = {n: wire.Request(record.round) for n in nodes if n not in self.advertised}
        for node, payload in self.exchange.replies(grid, asking(wire.ADVERTISE, new), record):
            known = taken(record, node, "advertise", self.base.add_advert, payload)
            if known is not None:
                self.advertised.add(node)
                if known.value is not None:
                    self._twins[known.value] = node
        asks = self._begin(record, [n for n in nodes if n in self.advertised])
        where = {n: g for g in self.groups for n in g.nodes}
        requests = {n: wire.Request(record.round, r) for n, r in asks.items()}
        for node, payload in self.exchange.replies(grid, asking(wire.SHARE, requests), record):
            taken(record, node, "share", where[node].server.add_share, payload)
        for group in self.groups:
            group.server.bind(binding)
        inside = {n: g for g, there in each_going(self.groups, lambda g: g.server.end_shares()) for n in there}
        record.seconds["share"] = time.monotonic() - started
        fail_when_all_have(self.groups)
        return inside

    def plan(self, following: list[int]) -> dict[int, Group]:
        """Draws up the next round, so that its share requests ride in this one's unmask step; gives each client's group."""
        nodes = [n for n in following if n in self.advertised]
        if nodes:
            self._number += 1
            drawn = (self._draw_up(wanted, self._number) for wanted in self.grouping.groups(nodes))
            self._planned = [g for g in drawn if g.failed is None]
        return {n: g for g in self._planned for n in g.nodes}

    def _begin(self, record: RoundRecord, nodes: list[int]) -> dict[int, bytes]:
        """Begins the round of every group; gives the share requests of those whose shares have not come yet."""
        asks: dict[int, bytes] = {}
        groups = self.groups = []
        planned, self._planned = self._planned, []
        number = self._number + 1  # above the planned round, for clients that have begun that already
        for wanted in self.grouping.groups(nodes):
            there = set(wanted)
            plan = next((g for g in planned if there <= set(g.nodes) and len(there) >= g.server.need), None)
            if plan is None or len(there) == plan.server.need:
                # A new cohort is drawn if the planned one changed, or if it has no client to spare and a new one would have.
                # The second costs a share trip.
                fresh = self._draw_up(wanted, number)
                if plan is None or len(fresh.nodes) > fresh.server.need:
                    self._number = number
                    groups.append(fresh)
                    asks.update(dict.fromkeys(fresh.nodes, fresh.request))
                    if fresh.failed is None:
                        for node in wanted[: self.most]:
                            if node not in fresh.nodes:
                                record.lose(Lost(node, "share", self._why_left_out(node, len(wanted))))
                    continue
            groups.append(plan)
            asks.update({n: plan.request for n in plan.server.missing if n in there})
        record.cohort = len({node for group in groups for node in group.nodes})
        fail_when_all_have(groups)
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
