"""What a strategy knows of its rounds."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Lost:
    """A client that dropped out of a round, at which step and why."""

    node: int
    step: str
    reason: str
    code: str = ""


@dataclass
class RoundRecord:
    """What the server knows of a round: who took part, who was lost, the sums.

    Attributes:
        task: ``train`` or ``evaluate``.
        cohort: clients whom the round began with: those who were masked together, whatever became of them.
        participants: clients inside the sums.
        groups: the same, by group; one group but for shards and buckets.
        weight: sum of the clients' weights.
        metrics: sums over the clients that took part, of the model that was sent; empty where nothing was counted.
        seconds: wall time by step.
        bytes_up: largest masked input of a client, in bytes.
        trips: round trips of messages it took, adverts and share steps among them.
        failed: why the round gave no model; empty when it did.
        groups_failed: why single groups gave no sum, while others did.
    """

    round: int
    task: str = "train"
    cohort: int = 0
    participants: list[int] = field(default_factory=list)
    groups: list[list[int]] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    weight: int = 0
    metrics: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    bytes_up: int = 0
    trips: int = 0
    failed: str = ""
    groups_failed: list[str] = field(default_factory=list)

    def lose(self, lost: Lost) -> None:
        """Notes a loss. A client is lost once in a round: where it was first, and why."""
        if all(known.node != lost.node for known in self.lost):
            self.lost.append(lost)


class Stop(enum.Enum):
    """The type of `STOP`."""

    STOP = "stop"


# What `on_round` returns to end the run: the round's model is kept, and measured where the last one would be.
STOP: Final = Stop.STOP
OnRound = Callable[[RoundRecord], Stop | None]


class Stopped(Exception):
    """No later round is wanted, or none can go otherwise: the way out of Flower's loop."""


class Ending:
    """Whether a strategy's run ends before its last round, by a wish of the server's own side.

    Attributes:
        ended: why; empty while it goes on.
    """

    ended = ""

    def end(self, reason: str) -> None:
        """Ends the run before its next round; the first reason counts."""
        self.ended = self.ended or reason

    def heard(self, answer: object) -> None:
        """Takes what `on_round` returned."""
        if answer is STOP:
            self.end("on_round returned STOP")

    def check_end(self, *, running: bool) -> None:
        """For the start of a round.

        Raises:
            Stopped: the run ends here.
        """
        if running and self.ended:
            raise Stopped
