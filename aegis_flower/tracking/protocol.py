"""`Tracker`: the three methods that whatever follows a run has. A tracker of one's own is a class with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aegis_flower.configs import Config
from aegis_flower.report import RunReport


@dataclass(frozen=True)
class Run:
    """The run that begins.

    Attributes:
        id: of the run, as in its report.
        name: for people.
        folder: the run's own folder.
        store: where trackers keep their files for all runs together: ``tracking.folder``, or else `folder`.
        tags: what finds it again: ``config_sha256``, ``epsilon`` (the most that the run may cost a record, or ``none``),
            ``delta``, ``private``, ``secure_aggregation``.
    """

    id: str
    name: str
    folder: Path
    store: Path
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Measured:
    """What is known of a round and of the model that it made.

    Attributes:
        round: its number; 0 is the start model.
        values: ``accuracy``, ``loss`` and other means over held-out rows, noised where there is DP; ``public/NAME`` of a public
            test set; ``epsilon_bound``, the most that the rounds so far cost a record; ``participants``, ``lost``, ``seconds``,
            ``bytes_up``. What was not measured is not there.
    """

    round: int
    values: Mapping[str, float]


class Tracker(Protocol):
    """Follows a run. What a method raises is told in the report, once, and costs the run nothing; the tracker gets no more."""

    def start(self, config: Config, run: Run) -> None:
        """The run begins; nothing has been asked of a node."""

    def round(self, measured: Measured) -> None:
        """A round is complete. Rounds come in their order, each once."""

    def end(self, report: RunReport) -> None:
        """The run is over, however it ended; its report is written."""
