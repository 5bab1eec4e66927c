"""The masked inputs of a round: sent for, checked, and added as they come; each is forgotten once it is added."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from aegis_engine import SecAggServer
from aegis_flower import wire
from aegis_flower.errors import AppError
from aegis_flower.strategies.masked.exchange import Exchange
from aegis_flower.strategies.masked.group import CONFIG, Group, taken
from aegis_flower.strategies.rounds import Lost, RoundRecord


class InputCheck(Protocol):
    """What a masked input must pass before it is added to the sum: the place of a proof of bounded norm.

    None is built: a proof has to travel beside the masked vector and speak about what is under the mask.
    """

    def admit(self, server_round: int, node: int, masked: bytes) -> None:
        """Raises an `AegisError` to leave the client out, as one that was lost before its masked input."""


@dataclass
class Masking:
    """Adds masked inputs to the accumulators of their groups.

    Args:
        exchange: the trips.
        check: what masked inputs must pass.
        observer: called with (round, node, masked vector).
    """

    exchange: Exchange
    check: InputCheck | None = None
    observer: Callable[[int, int, bytes], None] | None = None

    def collect(
        self,
        grid: Grid,
        record: RoundRecord,
        inside: dict[int, Group],
        contents: dict[int, RecordDict],
        request: wire.Request,
    ) -> Message | None:
        """Asks each client inside for its masked input, and adds what comes. Gives one of the messages.

        Args:
            grid: where the clients are.
            record: what becomes of the round is noted here.
            inside: the group of each client that may send one.
            contents: what to send to each client for its training or evaluation; the same for all.
            request: what is asked of each: task, σ, whether to evaluate.
        """
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
            taken(record, node, "masked", self._adding(record, inside[node].server), payload)
            record.bytes_up = max(record.bytes_up, len(payload))
        record.seconds["train"] = time.monotonic() - started
        return messages[0] if messages else None

    def _adding(self, record: RoundRecord, server: SecAggServer) -> Callable[[int, bytes], None]:
        def add(node: int, masked: bytes) -> None:
            if self.check is not None:
                self.check.admit(record.round, node, masked)
            server.add_masked(node, masked)

        return add


def binding_of(contents: dict[int, RecordDict], request: wire.Request) -> bytes:
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
