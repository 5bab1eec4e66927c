"""Rows of a file as they were read: columns of Arrow, and on which lines they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_KEPT = 1000


@dataclass
class Batch:
    """Columns of some rows, and where these rows are in the file.

    Attributes:
        columns: arrays by name.
        first: number of the first row, from 0.
        lines: line of each row, from 1; None where the format has no lines.
    """

    columns: dict[str, pa.Array]
    first: int
    rows: int
    lines: list[int] | range | None = None


@dataclass
class Malformed:
    """Lines that are no rows: another number of fields than the header has."""

    lines: list[int] = field(default_factory=list)
    count: int = 0

    def add(self, line: int) -> None:
        """Counts a line; the first ones are kept."""
        self.count += 1
        if len(self.lines) < _KEPT:
            self.lines.append(line)
