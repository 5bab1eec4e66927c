"""Masked rounds: the engine's state machine mapped onto Flower's messages, for one group of clients or several.

In the steady state a round is two trips: masked input (training happens here) and unmask, whose replies bring the shares
of the next round. The first round has two more, for the adverts of the clients' channel keys and for its shares; a client
that missed an unmask step joins by a share trip of its own. With a commit step the survivors sign who survived before they
unmask, one trip more.

Each group is a protocol round of its own, with its own share of the messages in the same trips; a group that fails costs the
others nothing. Messages are pulled as they arrive: each masked vector is added to its group's accumulator and forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from aegis_engine import SecAggSum
from aegis_flower import wire
from aegis_flower.strategies.cohort import alive
from aegis_flower.strategies.masked import closing
from aegis_flower.strategies.masked.group import Group
from aegis_flower.strategies.masked.masking import InputCheck, Masking, binding_of
from aegis_flower.strategies.masked.opening import Opening
from aegis_flower.strategies.rounds import RoundRecord


@dataclass
class MaskedRounds:
    """The protocol rounds of one run: opening, masking, closing; each phase takes what the one before it gave.

    Args:
        opening: draws up the groups, on the run's server.
        check: what masked inputs must pass.
        observer: called with (round, node, masked vector).
    """

    opening: Opening
    check: InputCheck | None = None
    observer: Callable[[int, int, bytes], None] | None = None

    def __post_init__(self) -> None:
        self._exchange = self.opening.exchange
        self._masking = Masking(self._exchange, self.check, self.observer)

    @property
    def groups(self) -> list[Group]:
        """The groups of the newest round."""
        return self.opening.groups

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
        binding = binding_of(contents, request)
        inside = self.opening.open(grid, record, list(contents), binding)
        return self._masking.collect(grid, record, inside, contents, request)

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
        survivors = closing.commit(grid, record, self._exchange, self.groups)
        planned = self.opening.plan(list(following))
        closing.unmask(grid, record, self._exchange, survivors, planned)
        try:
            return closing.finish(record, self.groups)
        finally:
            record.seconds["unmask"] = time.monotonic() - started

    def shape(self) -> tuple[int, int]:
        """Threshold of the largest group, and bits of one masked value."""
        return max((g.server.threshold for g in self.groups), default=0), self.opening.base.ring_bits

    def present(self, grid: Grid) -> list[int]:
        """Nodes that are there and have given their keys."""
        return [n for n in alive(grid) if n in self.opening.advertised]
