"""Groups of a round: who is summed together, each with a state machine of its own; one that fails costs the others nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from flwr.app import Message, RecordDict

from aegis_engine import SecAggServer
from aegis_flower import wire
from aegis_flower.errors import AegisError, NotEnoughClients
from aegis_flower.strategies.rounds import Lost, RoundRecord

CONFIG = "config"  # where strategies put the settings of a round


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


@dataclass(frozen=True)
class Taken:
    """What a state machine made of a payload that it accepted."""

    value: Any


def taken(record: RoundRecord, node: int, step: str, add: Callable[[int, bytes], Any], payload: bytes) -> Taken | None:
    """Gives a payload to the state machine. A bad one loses its sender, never the round; then there is none."""
    try:
        return Taken(add(node, payload))
    except AegisError as error:
        record.lose(Lost(node, step, str(error), error.code))
        return None


def each_going(groups: Iterable[Group], step: Callable[[Group], Any]) -> Iterator[tuple[Group, Any]]:
    """Takes a step with every group that has not failed; gives those that still have not, with what came of it."""
    for group in groups:
        if group.failed is None:
            try:
                value = step(group)
            except AegisError as error:
                group.failed = error
            else:
                yield group, value


def fail_when_all_have(groups: list[Group]) -> None:
    """Ends a round of which nothing is left.

    Raises:
        AegisError: that of the first group.
    """
    if not groups:
        raise NotEnoughClients("no client has given its keys")
    failures = [g.failed for g in groups if g.failed is not None]
    if len(failures) == len(groups):
        raise failures[0]


def asking(message_type: str, requests: dict[int, wire.Request]) -> list[Message]:
    """Messages of one trip: the requests alone."""
    return [
        Message(content=RecordDict({wire.RECORD: r.to_record()}), message_type=message_type, dst_node_id=n)
        for n, r in sorted(requests.items())
    ]
