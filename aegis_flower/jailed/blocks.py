"""Blocks: a round as sample and aggregate (Nissim, Raskhodnikova, Smith 2007). Each block of people trains in a task of its own.

A block's update must depend on that block's rows and on nothing of the others'. So the tasks start at fixed times, whatever the
others did and whether or not a block has rows: a task that could tell when it began could tell how long the one before it took.
The engine clips each update and sums them; a block without rows, one that crashes and one that is late add nothing.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from aegis_engine.errors import JailError

from aegis_engine import DpSession, Permit, Vault
from aegis_flower.jail import Jail, Limits
from aegis_flower.jailed import rows, tasks
from aegis_flower.jailed.rows import Arrays
from aegis_flower.jailed.tasks import Asked
from aegis_flower.mechanism import BLOCKS, noised_blocks

PEOPLE: Final = 20  # of a block
_LATE: Final = 0.02  # of a slot that a start may be late
ROOM: Final = (
    0.25  # seconds between the end of a task's time and the start of the next, for the kernel to clear it away
)


@dataclass(frozen=True)
class Pace:
    """What tells the time and waits: seconds."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def until(self, due: float) -> None:
        """Waits for a time."""
        while (left := due - self.clock()) > 0:
            self.sleep(left)


PACE: Final = Pace()


def suggested(people: int) -> int:
    """How many blocks suit so many people: one for 20.

    A block must be large enough to train on, and there must be many: the noise in their mean falls with their number. Tried on
    5 000, 20 000 and 60 000 people with blocks of 5, 10, 20 and 50: blocks of 20 came within half a point of the best
    (``benches/jail.py``). The number is public, so `people` is a number that may be known, not one read from the rows.
    """
    return max(BLOCKS[0], min(BLOCKS[1], people // PEOPLE))


def slot(seconds: float) -> float:
    """Seconds from the start of one block's task to the start of the next."""
    return seconds + ROOM


def lasts(blocks: int, seconds: float) -> float:
    """Seconds that a round's blocks take, with the time to read their rows: the same for any data."""
    return (blocks + 1) * slot(seconds)


def places(vault: Vault, permit: Permit, blocks: int) -> list[npt.NDArray[np.int64]]:
    """The places of each block's rows among the permitted ones: by whom a row is about, under a key of the vault."""
    of = np.frombuffer(vault.blocks(permit, blocks), dtype="<u4")
    order = np.argsort(of, kind="stable")
    return np.split(order, np.searchsorted(of[order], np.arange(1, blocks)))


def train(
    jail: Jail,
    asked: Asked,
    data: Arrays,
    chosen: list[npt.NDArray[np.int64]],
    session: DpSession,
    limits: Limits,
    *,
    began: float,
    named: str = "",
    pace: Pace = PACE,
) -> npt.NDArray[np.float32]:
    """Trains each block and gives the noised sum of their clipped updates over the number of blocks: what may leave.

    Args:
        jail: of the app.
        asked: what the round asks of it.
        data: all rows of the permit.
        chosen: the places of each block's rows; as many as the session has blocks.
        session: the engine's, of these blocks; used up.
        limits: of each block's task; ``limits.seconds`` of wall time.
        began: when the round's message came, by the clock of `pace`: the fixed times are counted from there.
        named: what the log calls the round.
        pace: what tells the time and waits.

    Raises:
        JailError: the jail failed, or the machine did not end a task in time, so that the next could not start at its own.
            Nothing leaves.
    """
    each = slot(limits.seconds)
    # Short of a whole slot the time that reading took is not to be told.
    start = began + math.ceil(max(pace.clock() - began, 0.0) / each) * each
    for number, wait in enumerate(_on_time(start, each, len(chosen), pace)):
        at = chosen[number]
        inside = rows.of_block(data, at) if len(at) else None
        wait()
        if inside is None:
            continue
        update = tasks.run(jail, asked, inside, limits, f"{named}block {number + 1}")
        rows.clear(inside)
        if update is not None:
            session.add_block(update)
            update[...] = 0
    noised = noised_blocks(session)
    pace.until(start + len(chosen) * each)
    return noised / np.float32(len(chosen))


def _on_time(start: float, each: float, count: int, pace: Pace) -> Iterator[Callable[[], None]]:
    """For each block what waits until its time.

    Raises:
        JailError: the time is over.
    """
    for number in range(count):
        due = start + number * each

        def wait(due: float = due) -> None:
            late = pace.clock() - due
            if late > each * _LATE:
                raise JailError(
                    f"a block's task could not start at its own time, {late:.2f} s late: this machine did not clear the one "
                    "before it away in time. Give tasks less memory, or raise block_seconds; nothing was released",
                    "AEG-J005",
                )
            pace.until(due)

        yield wait


def of(limits: Limits, seconds: float) -> Limits:
    """The limits of one block's task."""
    return dataclasses.replace(limits, seconds=seconds, cpu_seconds=max(1, math.ceil(seconds * limits.threads)))
