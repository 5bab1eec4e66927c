"""The cohort: who is there, and the grid as an inner strategy may see it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

from flwr.app import Message
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid

log = logging.getLogger("aegis")


class _CohortGrid(Grid):
    def __init__(self, grid: Grid, nodes: list[int]) -> None:
        self._grid, self._nodes = grid, nodes

    def set_run(self, run: Any) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        return self._grid.run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        return self._grid.create_message(*args, **kwargs)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._nodes)

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [n for n in self._grid.get_nodes() if n.node_id in self._nodes]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self._grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self._grid.send_and_receive(messages, timeout=timeout)


def cohort_grid(grid: Grid, nodes: list[int]) -> Grid:
    """A grid of these nodes alone, so that an inner strategy's sampling cannot wait for ever."""
    return _CohortGrid(grid, nodes)


def alive(grid: Grid) -> list[int]:
    """Nodes that are there now, sorted."""
    return sorted(grid.get_node_ids())


def join(grid: Grid, want: int, deadline: float) -> list[int]:
    """Waits for `want` nodes, at most `deadline` seconds, says how far it got, and gives those that are there."""
    until = time.monotonic() + deadline
    nodes = alive(grid)
    while len(nodes) < want and time.monotonic() < until:
        log.info("aegis: %d of %d clients joined", len(nodes), want)
        time.sleep(min(1.0, max(0.01, until - time.monotonic())))
        nodes = alive(grid)
    if len(nodes) < want:
        log.warning("aegis: %d of %d clients joined in %g s; going on with them", len(nodes), want, deadline)
    return nodes
