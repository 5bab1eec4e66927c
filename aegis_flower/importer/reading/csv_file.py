"""CSV as batches of text, with the line of every row: what a value is says the schema."""

from __future__ import annotations

import contextlib
import csv
import io
import secrets
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
_COLUMNS_MAX = 100_000
# Lines of odd records that are kept, for messages.
_ODD_SHOWN = 1000


def read_csv(path: Path, source: Source, malformed: Malformed | None) -> Iterator[Batch]:
    """Batches of a CSV file; see `aegis_flower.importer.reading.files.read`."""
    import pyarrow as pa
    import pyarrow.csv as pc

    names, skipped = _header(path, source)
    place = _Place(1 + skipped, 1 + skipped)
    # A row of our own behind the last one: in a quote that is never closed, it is not seen as a row.
    end = secrets.token_hex(16)

    def odd(row: Any) -> str:
        if malformed is None:
            return "error"
        malformed.count += 1
        place.skipped.append((row.number, 1 + _ends(row.text.rstrip("\r\n"))))
        return "skip"

    ended = False
    with _decoded(path, source.encoding, "\n" + end + source.delimiter * (len(names) - 1) + "\n") as stream:
        try:
            reader = pc.open_csv(
                stream,
                read_options=pc.ReadOptions(
                    use_threads=False, block_size=_BLOCK, column_names=names, skip_rows=skipped
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
            raise _told(error, path, place) from None
        first = 0
        for read in _whole(reader, path, place):
            ended = read.num_rows > 0 and read.column(0)[-1].as_py() == end
            rows = read.slice(0, read.num_rows - 1) if ended else read
            lines = place.advance(rows)
            batch, kept = _without_blank(rows, lines)
            if not batch.num_rows:
                continue
            yield Batch(dict(zip(names, batch.columns, strict=True)), first, batch.num_rows, kept)
            first += batch.num_rows
        place.pass_odd()
        if not ended:
            raise DataError(f"{path.name}: a quote that is opened in line {place.last} or later is never closed")
        if malformed is not None:
            malformed.lines += place.odd


def _whole(reader: Any, path: Path, place: _Place) -> Iterator[pa.RecordBatch]:
    """Batches of a reader. Where no row ends within a block, the parser's own words help nobody."""
    import pyarrow as pa

    try:
        yield from reader
    except pa.ArrowInvalid as error:
        raise _told(error, path, place) from None


def _told(error: Exception, path: Path, place: _Place) -> Exception:
    if "straddl" not in str(error):
        return error
    long = f"a row is longer than {_BLOCK >> 20} MiB; is a quote never closed?"
    return DataError(f"{path.name}: behind line {place.line - 1}, {long}")


def _header(path: Path, source: Source) -> tuple[list[str], int]:
    """Names of the columns, of the first line or by place; and how many lines they take."""
    with path.open(encoding=signed(source.encoding), newline="") as file:
        try:
            head = file.read(_BLOCK)
        except UnicodeError as error:
            where = f"byte {error.start}" if isinstance(error, UnicodeDecodeError) else "it"
            raise DataError(
                f"{path.name}: {where} is no {source.encoding}; say the encoding, such as latin-1"
            ) from None
    first, lines = _first(path, source, head, strict=False)
    if lines > 1:
        # More than one line: only where each quote is closed.
        _first(path, source, head, strict=True)
    if not first:
        raise DataError(f"{path.name}: {'its first line' if head else 'it'} is empty")
    if len(first) > _COLUMNS_MAX:
        raise DataError(f"{path.name}: it has {len(first)} columns, at most {_COLUMNS_MAX} are read")
    if not source.header:
        return [f"column_{at}" for at in range(len(first))], 0
    names: dict[str, int] = {}
    for at, name in enumerate(first):
        plain = name.strip() or f"column_{at}"
        unique = plain
        while unique in names:
            names[plain] += 1
            unique = f"{plain}_{names[plain]}"
        names[unique] = 1
    return _one_column(path, source, list(names)), lines


def _first(path: Path, source: Source, head: str, *, strict: bool) -> tuple[list[str], int]:
    """The first record, and how many lines it takes."""
    # The standard library's reader, for one line: it knows quotes, and is lenient where nothing depends on it.
    lines = csv.reader(io.StringIO(head, newline=""), delimiter=source.delimiter, quotechar=source.quote, strict=strict)
    try:
        first = next(lines, [])
    except csv.Error as error:
        what = "a quote is never closed" if strict else str(error)
        raise DataError(f"{path.name}: line 1: {what}") from None
    return first, lines.line_num


def _one_column(path: Path, source: Source, names: list[str]) -> list[str]:
    if len(names) == 1 and (other := next((c for c in ";\t|," if c != source.delimiter and c in names[0]), None)):
        raise DataError(f"{path.name}: it reads as one column; its delimiter seems to be {other!r}: say --delimiter")
    return names


def signed(encoding: str) -> str:
    """A byte order mark is no part of the first name."""
    return "utf-8-sig" if encoding.lower().replace("-", "") in ("utf8", "utf8sig") else encoding


@contextlib.contextmanager
def _decoded(path: Path, encoding: str, tail: str) -> Iterator[Any]:
    """The file as UTF-8, which is what the parser reads, with a tail."""
    import pyarrow as pa

    with path.open("rb") as raw:
        if encoding.lower().replace("-", "") in ("utf8", "utf8sig"):
            yield pa.PythonFile(_Tailed(raw, tail.encode()), mode="r")
        else:
            decoded = pa.transcoding_input_stream(pa.PythonFile(raw, mode="r"), encoding, "utf-8")
            yield pa.PythonFile(_Tailed(decoded, tail.encode()), mode="r")


class _Tailed(io.RawIOBase):
    """A stream, and some bytes behind it."""

    def __init__(self, stream: Any, tail: bytes) -> None:
        self._stream, self._tail = stream, tail

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        found: bytes = self._stream.read(size)
        if size < 0 or len(found) < size:
            room = len(self._tail) if size < 0 else size - len(found)
            found, self._tail = found + self._tail[:room], self._tail[room:]
        return found


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
    # Number and lines of each.
    skipped: list[tuple[int, int]] = field(default_factory=list)
    odd: list[int] = field(default_factory=list)
    last: int = 1  # line of the last record

    def advance(self, batch: pa.RecordBatch) -> list[int] | range:
        """Lines on which the rows of a batch start. A field in quotes may span lines: its line ends are counted."""
        import numpy as np
        import pyarrow.compute as pc

        spans = np.ones(batch.num_rows, dtype=np.int64)
        for column in batch.columns:
            if not _has_ends(column):
                continue
            ends = pc.fill_null(pc.count_substring(column, "\n"), 0)
            returns = pc.fill_null(pc.count_substring(column, "\r"), 0)
            if pc.max(returns).as_py():
                ends = pc.fill_null(pc.count_substring_regex(column, r"\r\n|\r|\n"), 0)
            if pc.max(ends).as_py():
                spans += np.asarray(ends)
        if not self.skipped and int(spans.sum()) == batch.num_rows:
            lines = range(self.line, self.line + batch.num_rows)
            self.record += batch.num_rows
            self.line += batch.num_rows
            self.last = max(self.last, self.line - 1)
            return lines
        starts = []
        for span in spans.tolist():
            self.pass_odd()
            starts.append(self.line)
            self.last = self.line
            self.record += 1
            self.line += span
        return starts

    def pass_odd(self) -> None:
        """Goes past records that are no rows."""
        while self.skipped and self.skipped[0][0] <= self.record:
            _, span = self.skipped.pop(0)
            if len(self.odd) < _ODD_SHOWN:
                self.odd.append(self.line)
            self.last = self.line
            self.record += 1
            self.line += span


def _has_ends(column: pa.Array) -> bool:
    """Whether a line ends within some value; a look at the bytes, which is all that most files need."""
    bytes_of = column.buffers()[2]
    read = bytes_of.to_pybytes() if bytes_of is not None else b""
    return b"\n" in read or b"\r" in read


def _ends(text: str) -> int:
    """Line ends in a text."""
    return text.count("\n") + text.count("\r") - text.count("\r\n")
