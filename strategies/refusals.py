"""Refusals: what a round's losses come to, in one sentence; and whether a later round can go otherwise."""

from __future__ import annotations

from collections.abc import Collection

from aegis_flower import errors
from aegis_flower.strategies.rounds import Lost, RoundRecord

LASTING = errors.LASTING
SHOWN = 5


def summary(lost: Collection[Lost]) -> str:
    """Losses by code, the most frequent first: ``AEG-B001 of 3 nodes (1, 2, 3), no answer of 1 node (4)``."""
    by_code: dict[str, list[int]] = {}
    for one in lost:
        nodes = by_code.setdefault(one.code or "no answer", [])
        if one.node not in nodes:
            nodes.append(one.node)
    parts = []
    for code, nodes in sorted(by_code.items(), key=lambda item: (-len(item[1]), item[0])):
        more = ", ..." if len(nodes) > SHOWN else ""
        some = ", ".join(str(n) for n in sorted(nodes)[:SHOWN])
        parts.append(f"{code} of {len(nodes)} {'node' if len(nodes) == 1 else 'nodes'} ({some}{more})")
    return ", ".join(parts)


def lasting(record: RoundRecord, asked: Collection[int]) -> str:
    """One sentence where every node that was asked refused for a reason that lasts; empty otherwise."""
    refused = [one for one in record.lost if one.code in LASTING and one.node in asked]
    if not asked or {one.node for one in refused} != set(asked):
        return ""
    reason = next((f": {one.reason}" for one in refused if one.reason), "")
    return (
        f"every node refused, for a reason that lasts: {summary(refused)}{reason}; the run stops after round {record.round}, "
        "since a later round would go the same way. docs/ERRORS.md says what to do, the nodes' logs have the details"
    )
