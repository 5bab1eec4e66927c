"""CSV: ``metrics.csv`` in the run's folder, a line a round; what was not measured is empty."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from aegis_flower.configs import Config
from aegis_flower.files import write_atomically
from aegis_flower.report import RunReport
from aegis_flower.tracking.protocol import Measured, Run

NAME = "metrics.csv"


class Csv:
    """Writes the file anew after each round: a column may come late, and a reader never sees half a line."""

    def __init__(self) -> None:
        self._path = Path(NAME)
        self._rows: list[Measured] = []

    def start(self, config: Config, run: Run) -> None:
        """Notes where the file goes."""
        self._path = run.folder / NAME

    def round(self, measured: Measured) -> None:
        """Adds a line."""
        self._rows.append(measured)
        names = sorted({name for row in self._rows for name in row.values})
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["round", *names])
        for row in self._rows:
            writer.writerow([row.round, *(_shown(row.values.get(name)) for name in names)])
        write_atomically({self._path: out.getvalue().encode()})

    def end(self, report: RunReport) -> None:
        """Nothing more: the file is whole after each round."""


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if value.is_integer() else repr(value)
