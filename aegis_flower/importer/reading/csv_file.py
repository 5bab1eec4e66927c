"""CSV as batches of text, with the line of every row: what a value is says the schema."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aegis_flower.data.schema import Source
from aegis_flower.errors import DataError
from aegis_flower.importer.reading.batches import Batch, Malformed

if TYPE_CHECKING:
    import pyarrow as pa

# Bytes of a file parsed at a time: some ten thousand rows.
_BLOCK = 4 << 20


def read_csv(path: Path, source: Source, malformed: Malformed | None) -> Iterator[Batch]:
    """Batches of a CSV file; see `aegis_flower.importer.reading.files.read`."""
    import pyarrow as pa
    import pyarrow.csv as pc

    names = _header(path, source)
    place = _Place(1 + int(source.header), 1 + int(source.header))

    def odd(row: Any) -> str:
        if malformed is None:
            return "error"
        malformed.count += 1
        place.skipped.append(row.number)
        return "skip"

    with _decoded(path, source.encoding) as stream:
        try:
            reader = pc.open_csv(
                stream,
                read_options=pc.ReadOptions(
                    use_threads=False, block_size=_BLOCK, column_names=names, skip_rows=int(source.header)
                ),
                parse_options=pc.ParseOptions(
                    delimiter=source.delimiter,
                    quote_char=source.quote,
                    double_quote=True,
                    newlines_in_values=True,
                    ignore_empty_lines=False,
                    invalid_row_handler=odd,
                ),
                convert_options=pc.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=True,
                    null_values=["", *source.nulls],
                ),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                return
            raise
        first = 0
        for read in reader:
            lines = place.advance(read)
            batch, kept = _without_blank(read, lines)
            yield Batch(dict(zip(names, batch.columns, strict=True)), first, batch.num_rows, kept)
            first += batch.num_rows
        place.pass_odd()
        if malformed is not None:
            malformed.lines += place.odd


def _header(path: Path, source: Source) -> list[str]:
    """Names of the columns: of the first line, or by place."""
    # The standard library's reader, for one line: it knows quotes, and is lenient where nothing depends on it.
    with path.open(encoding=signed(source.encoding), newline="") as file:
        try:
            first = next(csv.reader(file, delimiter=source.delimiter, quotechar=source.quote), [])
        except csv.Error as error:
            raise DataError(f"{path.name}: line 1: {error}") from None
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path.name}: byte {error.start} is no {source.encoding}; say the encoding, such as latin-1"
            ) from None
    if not first:
        raise DataError(f"{path.name}: it is empty")
    if not source.header:
        return [f"column_{at}" for at in range(len(first))]
    names: list[str] = []
    for at, name in enumerate(first):
        plain = name.strip() or f"column_{at}"
        number, unique = 2, plain
        while unique in names:
            unique, number = f"{plain}_{number}", number + 1
        names.append(unique)
    if len(names) == 1 and (other := next((c for c in ";\t|," if c != source.delimiter and c in names[0]), None)):
        raise DataError(f"{path.name}: it reads as one column; its delimiter seems to be {other!r}: say --delimiter")
    return names


def signed(encoding: str) -> str:
    """A byte order mark is no part of the first name."""
    return "utf-8-sig" if encoding.lower().replace("-", "") in ("utf8", "utf8sig") else encoding


@contextlib.contextmanager
def _decoded(path: Path, encoding: str) -> Iterator[Any]:
    """The file as UTF-8, which is what the parser reads."""
    import pyarrow as pa

    with path.open("rb") as raw:
        if encoding.lower().replace("-", "") in ("utf8", "utf8sig"):
            yield pa.PythonFile(raw, mode="r")
        else:
            yield pa.transcoding_input_stream(pa.PythonFile(raw, mode="r"), encoding, "utf-8")


def _blank(batch: pa.RecordBatch) -> Any:
    """Rows without a value: blank lines, which are no rows."""
    import pyarrow.compute as pc

    mask = None
    for column in batch.columns:
        empty = pc.is_null(column)
        mask = empty if mask is None else pc.and_(mask, empty)
        if not pc.any(mask).as_py():
            return None
    return mask


def _without_blank(batch: pa.RecordBatch, lines: list[int] | range) -> tuple[pa.RecordBatch, list[int] | range]:
    import pyarrow.compute as pc

    blank = _blank(batch)
    if blank is None:
        return batch, lines
    kept = [line for line, out in zip(lines, blank.to_pylist(), strict=True) if not out]
    return batch.filter(pc.invert(blank)), kept


@dataclass
class _Place:
    """How far a CSV file is read: the record and the line that come next, from 1."""

    record: int
    line: int
    # Records with another number of fields, ascending, that were not passed yet.
    skipped: list[int] = field(default_factory=list)
    odd: list[int] = field(default_factory=list)

    def advance(self, batch: pa.RecordBatch) -> list[int] | range:
        """Lines on which the rows of a batch start. A field in quotes may span lines: its line ends are counted."""
        import numpy as np
        import pyarrow.compute as pc

        spans = np.ones(batch.num_rows, dtype=np.int64)
        for column in batch.columns:
            ends = pc.fill_null(pc.count_substring(column, "\n"), 0)
            if pc.max(ends).as_py():
                spans += np.asarray(ends)
        if not self.skipped and int(spans.sum()) == batch.num_rows:
            lines = range(self.line, self.line + batch.num_rows)
            self.record += batch.num_rows
            self.line += batch.num_rows
            return lines
        starts = []
        for span in spans.tolist():
            self.pass_odd()
            starts.append(self.line)
            self.record += 1
            self.line += span
        return starts

    def pass_odd(self) -> None:
        """Goes past records that are no rows; line ends in their fields are not known, and not counted."""
        while self.skipped and self.skipped[0] <= self.record:
            self.skipped.pop(0)
            self.odd.append(self.line)
            self.record += 1
            self.line += 1
