"""Exchange: one trip of messages to clients and back, its replies given as they come and its losses noted."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace

from flwr.app import Message
from flwr.serverapp import Grid

from aegis_flower import wire
from aegis_flower.steps import Step
from aegis_flower.strategies.rounds import Lost, RoundRecord

_CODE = re.compile(r"(AEG-[A-Z][0-9]{3})?")
# Pauses between looks for replies, in seconds: short at first, for the quick steps and for simulations.
FIRST_PAUSE, LAST_PAUSE = 0.0005, 0.5


class Exchange:
    """The trips of one run.

    Attributes:
        deadline: seconds a trip may take.
        checkpoints: newest audit checkpoint of each node, records and head; a node that contradicts it is lost.
        names: what each node calls itself, for the report. It is the node's word, and nothing is decided by it.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.checkpoints: dict[int, tuple[int, bytes]] = {}
        self.names: dict[int, str] = {}

    def replies(self, grid: Grid, messages: list[Message], record: RoundRecord) -> Iterator[tuple[int, bytes]]:
        """Sends, and gives each client's payload as it arrives; whoever sent none in time is noted as lost in `record`."""
        if not messages:
            return
        record.trips += 1
        step = str(Step.of(messages[0].metadata.message_type) or messages[0].metadata.message_type)
        asked = {m.metadata.dst_node_id for m in messages}
        reasons: dict[int, tuple[str, str]] = {}
        unheard = f"no reply within {self.deadline:g} s"
        for message in self._arrivals(grid, messages):
            node = message.metadata.src_node_id
            if message.has_error():
                reason = explain_error(message.error.reason or f"Flower error {message.error.code}")
                if node in asked:
                    reasons[node] = ("", reason)
                else:  # a SuperLink reports a dead node in its own name
                    unheard = reason
                continue
            if node not in asked:
                continue
            reply = _read(message)
            if reply is None:
                reasons[node] = ("AEG-F001", "the reply is not AEGIS's; make the node's app with aegis_client_app()")
            elif not self._witness(node, reply):
                reasons[node] = ("AEG-A001", "the node's audit log went back or was rewritten")
            elif reply.code:
                reasons[node] = (reply.code, reply.reason)
            else:
                asked.discard(node)
                yield node, reply.payload
        for node in sorted(asked):
            code, reason = reasons.get(node, ("", unheard))
            record.lose(Lost(node, step, reason, code))

    def _arrivals(self, grid: Grid, messages: list[Message]) -> Iterator[Message]:
        """Replies as they come, until all have or the deadline is over."""
        until = time.monotonic() + self.deadline
        open_ids = set(grid.push_messages(messages))
        pause = FIRST_PAUSE
        while open_ids:
            came = list(grid.pull_messages(open_ids))
            for message in came:
                if message.metadata.reply_to_message_id in open_ids:  # else it came before, or answers an earlier trip
                    open_ids.discard(message.metadata.reply_to_message_id)
                    yield message
            if time.monotonic() > until:
                return
            pause = FIRST_PAUSE if came else min(pause * 1.5, LAST_PAUSE)
            if open_ids and not came:
                time.sleep(pause)

    def _witness(self, node: int, reply: wire.Reply) -> bool:
        """Keeps a node's name and its newest audit checkpoint; False when that contradicts the one kept."""
        if reply.name:
            self.names[node] = reply.name
        if not reply.audit_records:
            return True
        records, head = self.checkpoints.get(node, (0, b""))
        if reply.audit_records < records or (reply.audit_records == records and reply.audit_head != head):
            return False
        self.checkpoints[node] = (reply.audit_records, reply.audit_head)
        return True


def _read(message: Message) -> wire.Reply | None:
    """The reply in a message; None for whatever else a client sent. Its words go to logs and reports, so they are kept plain."""
    try:
        reply = wire.Reply.from_content(message.content)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if reply is None or not _CODE.fullmatch(reply.code):
        return None
    plain = "".join(c for c in reply.reason[:300] if c.isprintable())
    name = "".join(c for c in reply.name[:128] if c.isprintable())
    return replace(reply, reason=plain, name=name)


def explain_error(reason: str) -> str:
    """Says what to do about errors that a mixture of Flower's APIs gives."""
    if "fitins.parameters" in reason or "No query function registered" in reason:
        return (
            "the node runs an app of Flower's old API or one without AEGIS's actions; make it with "
            "aegis_client_app(client_fn) instead of ClientApp(client_fn)"
        )
    return reason.strip().splitlines()[-1][:300] if reason.strip() else "unknown error"
