"""Values as the schema says what they are: typed Arrow columns, and by row why it is a bad one. No value is in any message."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from aegis_flower.data.schema import Column, Schema, Source
from aegis_flower.errors import DataError
from aegis_flower.importer.kinds import MAKERS, arrow_type, decoded, text, where
from aegis_flower.importer.reading.batches import Batch

if TYPE_CHECKING:
    import pyarrow as pa

Mask = npt.NDArray[np.bool_]
# Characters that no identifier has: what is not seen, and what turns the direction of writing.
_UNSEEN: Final = r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]"
_SUBJECT_MAX: Final = 256
# A whole number that is written as one with a fraction.
WHOLE: Final = r"^([+-]?[0-9]+)\.0+$"
# Texts that come again and again are converted once each; whether they do, a sample says.
_SAMPLE: Final = 1024
_REPEATED: Final = frozenset({"number", "integer", "boolean", "category", "date", "time"})
_NAMES: Final = 20  # of columns, in a message


@dataclass
class Bad:
    """Bad rows by reason: how many, and where the first are."""

    shown: int = 20
    count: dict[tuple[str, str], int] = field(default_factory=dict)
    places: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    rows: int = 0

    def note(self, column: str, reason: str, mask: Mask, places: Mapping[int, int] | Callable[[int], int]) -> None:
        """Counts the rows of a mask for a reason."""
        found = np.flatnonzero(mask)
        if not len(found):
            return
        key = (column, reason)
        self.count[key] = self.count.get(key, 0) + len(found)
        kept = self.places.setdefault(key, [])
        place = places if callable(places) else places.__getitem__
        kept += [place(int(row)) for row in found[: self.shown - len(kept)]]


@dataclass(frozen=True)
class Converted:
    """Good rows of a batch.

    Attributes:
        table: the columns that are stored, in the schema's order and types.
        subjects: whom each row is about: a dictionary of the people of these rows, and each row's place in it.
        bad: rows of the batch that are not in it.
    """

    table: pa.Table
    subjects: pa.DictionaryArray
    bad: Mask


def arrow_schema(schema: Schema) -> pa.Schema:
    """Types of the stored columns."""
    import pyarrow as pa

    return pa.schema([pa.field(name, arrow_type(column)) for name, column in schema.stored.items()])


def convert(batch: Batch, schema: Schema, bad: Bad, alone: Callable[[int], str]) -> Converted:
    """Converts a batch.

    Args:
        batch: as it was read.
        schema: what it should be.
        bad: takes what is not so.
        alone: the subject of a row by its number in the file, where each row is a person of its own.

    Raises:
        DataError: a column of the schema is not in the file.
    """
    import pyarrow as pa

    if lacking := [
        name for name in schema.columns if name not in batch.columns and schema.columns[name].role != "leave out"
    ]:
        # JSON lines: a later object may have what the first had not.
        raise DataError(f"the file has no column {lacking[0]!r}; {_there(batch, schema)}")
    lines = batch.lines

    def place(row: int) -> int:
        return lines[row] if lines is not None else batch.first + row + 1

    out = np.zeros(batch.rows, dtype=bool)
    arrays: dict[str, pa.Array] = {}
    for name, column in schema.stored.items():
        with _named(name, batch, f"a {column.kind}"):
            array, wrong = typed(batch.columns[name], column, schema.source)
        for reason, mask in wrong.items():
            bad.note(name, reason, mask, place)
            out |= mask
        arrays[name] = array
    if schema.subject is None:
        subjects = pa.array([alone(batch.first + row) for row in range(batch.rows)], pa.string()).dictionary_encode()
    else:
        with _named(schema.subject, batch, "identifiers of people"):
            subjects, none = _subjects(batch.columns[schema.subject])
        bad.note(schema.subject, "no identifier of a person", none, place)
        out |= none
    bad.rows += int(out.sum())
    table = pa.table(list(arrays.values()), schema=arrow_schema(schema))
    if out.any():
        keep = pa.array(~out)
        table, subjects = table.filter(keep), of_these(subjects, keep)
    return Converted(table, subjects, out)


def of_these(subjects: pa.DictionaryArray, keep: pa.Array) -> pa.DictionaryArray:
    """The people of some rows, and nobody else in the dictionary."""
    return subjects.dictionary_decode().filter(keep).dictionary_encode()


def _there(batch: Batch, schema: Schema) -> str:
    """Which columns a file has. The first line of a file without names is a row: then nothing of it is told."""
    if not any(name in schema.columns for name in batch.columns):
        return "it has none of the schema's columns; is its first line a row (header = false)?"
    names = list(batch.columns)
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return f"its columns are {', '.join(names[:_NAMES])}{more}"


@contextlib.contextmanager
def _named(name: str, batch: Batch, wanted: str) -> Iterator[None]:
    """What a conversion cannot do is told by column and type: the converter's own words may hold a value."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, ValueError, OverflowError):
        kind = str(batch.columns[name].type).partition("<")[0]
        raise DataError(
            f"column {name!r}: values of {kind} cannot become {wanted}; change the file or the schema"
        ) from None


def _subjects(array: pa.Array) -> tuple[pa.DictionaryArray, Mask]:
    """Whom each row is about, and the rows that say nobody. Each different identifier is looked at once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = decoded(array)
    if pa.types.is_null(array.type):
        array = pc.cast(array, pa.string())
    coded = array.dictionary_encode(null_encoding="encode")
    texts, none = _identifiers(coded.dictionary)
    # Two spellings may be one person.
    people = texts.dictionary_encode()
    return pa.DictionaryArray.from_arrays(pc.take(people.indices, coded.indices), people.dictionary), none[
        coded.indices
    ]


def _identifiers(array: pa.Array) -> tuple[pa.Array, Mask]:
    """Identifiers of people in their one spelling, and which are none; these are empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if plain(array):
        return array, np.zeros(len(array), dtype=bool)
    if pa.types.is_floating(array.type):
        # "Not a number" is nobody, and above 2^53 different numbers are one.
        array = where(pc.less_equal(pc.abs(array), 2.0**53), array)
    texts = pc.utf8_trim_whitespace(text(array))
    # One person, whether or not a program on the way knew whole numbers.
    texts = pc.replace_substring_regex(texts, WHOLE, r"\1")
    long = pc.greater(pc.binary_length(texts), _SUBJECT_MAX)
    none = pc.or_(pc.is_null(texts), pc.fill_null(pc.or_(pc.equal(texts, ""), long), fill_value=True))
    none = pc.or_(none, pc.fill_null(pc.match_substring_regex(texts, _UNSEEN), fill_value=True))
    return pc.fill_null(texts, ""), _mask(none)


def plain(array: pa.Array) -> bool:
    """Whether all of a column are texts of visible ASCII without a point, of at most 256 bytes: identifiers as they are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(array.type) or array.null_count or not len(array):
        return False
    sizes = pc.min_max(pc.binary_length(array))
    if not 1 <= sizes["min"].as_py() <= sizes["max"].as_py() <= _SUBJECT_MAX:
        return False
    starts = np.frombuffer(array.buffers()[1], dtype=np.int32)
    read = np.frombuffer(array.buffers()[2], dtype=np.uint8)[starts[array.offset] : starts[array.offset + len(array)]]
    return bool(read.min() > ord(" ") and read.max() <= ord("~") and not (read == ord(".")).any())


def _mask(test: pa.Array) -> Mask:
    import pyarrow as pa

    return np.asarray(test.cast(pa.uint8())).astype(bool)


def typed(array: pa.Array, column: Column, source: Source) -> tuple[pa.Array, dict[str, Mask]]:
    """The column in its type, and the rows that do not fit, by reason."""
    import pyarrow.compute as pc

    array = decoded(array)
    if column.kind not in _REPEATED or not _repeats(array):
        return _typed(array, column, source)
    coded = array.dictionary_encode(null_encoding="encode")
    made, wrong = _typed(coded.dictionary, column, source)
    rows = np.asarray(coded.indices)
    return pc.take(made, coded.indices), {reason: mask[rows] for reason, mask in wrong.items()}


def _repeats(array: pa.Array) -> bool:
    """Whether the same few texts come again and again."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(array.type) or len(array) < 2 * _SAMPLE:
        return False
    return len(pc.unique(array.slice(0, _SAMPLE))) <= _SAMPLE // 4


def _typed(array: pa.Array, column: Column, source: Source) -> tuple[pa.Array, dict[str, Mask]]:
    """As `typed`, value by value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_null(array.type):
        array = pc.cast(array, pa.string())
    if pa.types.is_floating(array.type):
        # "Not a number" is how some programs write "missing".
        array = where(pc.invert(pc.is_nan(array)), array) if pc.any(pc.is_nan(array)).as_py() else array
    made, reason = MAKERS[column.kind](array, column, source)
    wrong = {}
    for why, good in _tests(array, made, column, reason):
        if pc.all(good).as_py() is False:
            wrong[why] = ~_mask(good)
    if not column.missing and made.null_count:
        told = np.logical_or.reduce(list(wrong.values())) if wrong else np.zeros(len(array), dtype=bool)
        lacks = ~_mask(pc.is_valid(made)) & ~told
        if lacks.any():
            wrong["missing"] = lacks
    if "not finite" in wrong:
        made = where(pc.is_finite(made), made)
    return made, wrong


def _tests(array: pa.Array, made: pa.Array, column: Column, reason: str) -> Iterator[tuple[str, pa.Array]]:
    """What must hold of every row, and why it is a bad one where it does not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def holds(test: pa.Array) -> pa.Array:
        return pc.fill_null(test, fill_value=True)

    # What was missing stays so: other rows are lost only where there are more of these.
    if made.null_count > array.null_count:
        had = pc.is_valid(array)
        if pa.types.is_string(array.type) and column.kind != "text":
            had = pc.and_(had, pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(array), ""), fill_value=False))
        yield reason, pc.or_(pc.is_valid(made), pc.invert(had))
    if column.kind == "number":
        yield "not finite", holds(pc.is_finite(made))
    if column.low is not None:
        yield "below its lowest value", holds(pc.greater_equal(made, column.low))
    if column.high is not None:
        yield "above its highest value", holds(pc.less_equal(made, column.high))
    if column.levels:
        yield "none of its levels", pc.or_(pc.is_in(made, pa.array(column.levels)), pc.is_null(made))
