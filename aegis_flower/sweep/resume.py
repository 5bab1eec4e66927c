"""Going on with a sweep: trials that finished are not run again, one that stopped in the middle goes on after its last round."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aegis_flower import checkpoint
from aegis_flower.configs import Config
from aegis_flower.errors import DataError
from aegis_flower.report.model import RunReport
from aegis_flower.sweep import plan, trials


@dataclass(frozen=True)
class Earlier:
    """What an earlier start of the same trial left.

    Attributes:
        report: of a trial that finished; None where it has to run.
        config: of the rounds that a stopped one did not do; None where it starts anew.
    """

    report: RunReport | None = None
    config: Config | None = None


def earlier(sweep: Path, number: int, overrides: Sequence[str]) -> Earlier:
    """What there is of a trial in a sweep that was resumed; nothing in a sweep that begins.

    Args:
        sweep: folder of the sweep.
        number: of the trial.
        overrides: of the trial; another trial of that number is none of it.
    """
    known = plan.read(sweep)
    if known is None or not known.resumed:
        return Earlier()
    mine = [(n, r) for n, r in trials.read(sweep) if n.number == number and sorted(n.overrides) == sorted(overrides)]
    for note, report in mine:
        if note.status == "finished" and report is not None:
            return Earlier(report=report)
    for note, _ in reversed(mine):
        with contextlib.suppress(DataError):
            return Earlier(config=checkpoint.resumed(Path(note.folder)))
    return Earlier()
