"""Closing a masked round: survivors sign where they must, send the shares that unmask, and the sums come out."""

from __future__ import annotations

from flwr.serverapp import Grid

from aegis_engine import SecAggSum
from aegis_flower import wire
from aegis_flower.errors import NotEnoughClients
from aegis_flower.strategies.masked.exchange import Exchange
from aegis_flower.strategies.masked.group import Group, asking, each_going, fail_when_all_have, taken
from aegis_flower.strategies.rounds import Lost, RoundRecord


def commit(grid: Grid, record: RoundRecord, exchange: Exchange, groups: list[Group]) -> dict[int, Group]:
    """Ends the masked inputs, and runs the commit trip of the groups that have one; gives the group of each survivor.

    Raises:
        AegisError: no group can go on.
    """
    survivors = {n: g for g, there in each_going(groups, lambda g: g.server.end_masked()) for n in there}
    fail_when_all_have(groups)
    signing = {
        n: wire.Request(record.round, g.server.commit_request())
        for n, g in survivors.items()
        if g.server.has_commit_step
    }
    for node, payload in exchange.replies(grid, asking(wire.COMMIT, signing), record):
        taken(record, node, "commit", survivors[node].server.add_commit, payload)
    return survivors


def unmask(
    grid: Grid, record: RoundRecord, exchange: Exchange, survivors: dict[int, Group], following: dict[int, Group]
) -> None:
    """Runs the unmask trip. Shares of the next round, of the groups of `following`, ride in its replies."""
    asks: dict[int, wire.Request] = {}
    for node, group in survivors.items():
        riding = following[node].request if node in following else None
        try:
            asks[node] = wire.Request(record.round, group.server.unmask_request(node, riding))
        except NotEnoughClients as error:  # too few around it signed; the others may be enough
            record.lose(Lost(node, "unmask", str(error), error.code))
    for node, payload in exchange.replies(grid, asking(wire.UNMASK, asks), record):
        share = taken(record, node, "unmask", survivors[node].server.add_unmask, payload)
        if share is not None and isinstance(share.value, bytes) and node in following:
            # Refused shares are shares that did not come: the share trip of that round asks for them.
            taken(RoundRecord(record.round), node, "share", following[node].server.add_share, share.value)


def finish(record: RoundRecord, groups: list[Group]) -> list[SecAggSum]:
    """The sums of the groups that have one; notes them in the record.

    Raises:
        AegisError: no group has a sum.
    """
    sums: list[SecAggSum] = [s for _, s in each_going(groups, lambda g: g.server.finish())]
    for holder, owner in (pair for s in sums for pair in s.false_shares):
        reason = f"its share of node {owner}'s secret is false, unless node {owner} gave it a false one; left out"
        record.lose(Lost(holder, "unmask", reason, "AEG-S018"))
    record.groups_failed = [f"[{g.failed.code}] {g.failed}" for g in groups if g.failed is not None]
    fail_when_all_have(groups)
    record.groups = [list(s.contributors) for s in sums]
    record.participants = sorted(n for members in record.groups for n in members)
    record.weight = sum(s.weight for s in sums)
    record.metrics = {name: sum(s.metrics[name] for s in sums) for name in sums[0].metrics}
    return sums
