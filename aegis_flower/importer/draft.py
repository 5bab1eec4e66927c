"""A first draft of a schema, from the names of the columns and the form of their first values. A person reviews it.

No value gets into the draft unless the steward asks for it: bounds and vocabularies of a category are drawn from rows, and a
schema is public.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aegis_flower.data.schema import Column, Kind, Role, Schema, Source
from aegis_flower.errors import DataError
from aegis_flower.importer.convert import typed
from aegis_flower.importer.kinds import decoded
from aegis_flower.importer.reading.batches import Malformed
from aegis_flower.importer.reading.dicom import HARMLESS, dicom_shape
from aegis_flower.importer.reading.files import format_of, image_shape, read, regular
from aegis_flower.importer.suspicious import advice, any_name, suspicious

if TYPE_CHECKING:
    import pyarrow as pa

_SAMPLE: Final = 50_000  # rows
_LEVELS: Final = 50  # different values of a category, at most
_ODD: Final = 0.01  # of the values may be of another form
_SHARE: Final = 0.05  # of different values among those there are, where there are more than twice as many rows
_DATES: Final = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%Y%m%d")
_SUBJECTS: Final = [
    "id",
    "subject",
    "subjectid",
    "person",
    "personid",
    "patient",
    "patientid",
    "pid",
    "customer",
    "customerid",
    "user",
    "userid",
    "member",
    "memberid",
    "client",
    "case",
    "caseid",
    "uid",
    "mrn",
]
_LABELS: Final = [
    "label",
    "target",
    "ill",
    "outcome",
    "y",
    "class",
    "diagnosis",
    "died",
    "event",
    "death",
    "response",
    "default",
    "readmitted",
    "survived",
]
_DELIMITERS: Final = ",;\t|"


@dataclass(frozen=True)
class Draft:
    """A draft, and what somebody should look at.

    Attributes:
        schema: the draft.
        notes: by column, sentences for people.
        rows: rows that were looked at.
        whole: whether that was the whole file.
        missing: by column, how many of them lack the value.
    """

    schema: Schema
    notes: dict[str, list[str]]
    rows: int
    whole: bool
    missing: dict[str, int]


def draft(
    path: Path,
    *,
    source: Source | None = None,
    subject: str | None = None,
    label: str | None = None,
    alone: bool = False,
    header: bool | None = None,
    show_ranges: bool = False,
) -> Draft:
    """Drafts the schema of a file from its first 50 000 rows.

    Args:
        path: the file, or a folder of images or of DICOM files.
        source: how it is written; found where it is not said.
        subject: the column that says whom a row is about; guessed by its name.
        label: the column to be predicted; guessed by its name.
        alone: each row is about a person of its own.
        header: whether the first line of CSV names the columns. A line that looks like a row is refused where it is not said.
        show_ranges: bounds and vocabularies from the rows go into the draft: it then holds values of people.

    Raises:
        DataError: the file does not read, or has no such column.
    """
    source = _source(path, source, header)
    first, rows, whole = _sample(path, source)
    _check_names(path, list(first), told=header is not None or not source.header or source.format != "csv")
    if source.format == "csv" and source.decimal == "." and _commas(first):
        source = replace(source, decimal=",")
    notes: dict[str, list[str]] = {}
    for named in (subject, label):
        if named is not None and named not in first:
            raise DataError(f"{path.name}: there is no column {named!r}; there are {', '.join(first)}")
    columns = {name: _column(name, array, source, notes.setdefault(name, [])) for name, array in first.items()}
    subject = _pictures(path, source, columns, notes, subject)
    subject = None if alone else subject or _guess(columns, first, _SUBJECTS, "subject", notes)
    label = label or _guess({n: c for n, c in columns.items() if n != subject}, first, _LABELS, "label", notes)
    for name, column in columns.items():
        role: Role = "subject" if name == subject else "label" if name == label else column.role
        looks = [] if role == "subject" else suspicious(name, column.kind, _texts(first[name]))
        if looks and role == "feature":
            role = "leave out"
        if looks:
            notes[name].append(advice(looks))
        odd = 0 if role == "leave out" else _misfits(first[name], column, source)
        if odd:
            notes[name].append(
                f"{odd} of these rows do not fit; the import counts them, and says on which lines they are"
            )
        about = _range(column, first[name], source) if show_ranges else {}
        # A file without a picture is a bad row.
        missing = role != "label" and source.format != "images" and (source.format, name) != ("dicom", "image")
        columns[name] = replace(column, role=role, missing=missing, **about)
    schema = Schema(columns=columns, source=source, each_row_a_person=alone or subject is None)
    if subject is None and not alone:
        notes[next(iter(columns))].append(
            'nothing says whom a row is about: each row counts as another person; if a column does, give it role = "subject"'
        )
    return Draft(schema, notes, rows, whole, {name: array.null_count for name, array in first.items()})


def sniff(path: Path) -> Source:
    """How a file is written, by its name and its first line."""
    regular(path)
    kind = format_of(path)
    if kind != "csv":
        return Source(format=kind)
    with path.open("rb") as file:
        head = file.read(1 << 16)
    encoding = "utf-8"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            encoding = "latin-1"
    line = head.decode(encoding, "replace").partition("\n")[0]
    delimiter = max(_DELIMITERS, key=lambda c: (line.count(c), -_DELIMITERS.index(c)))
    return Source(format="csv", delimiter=delimiter, encoding=encoding)


def _sample(path: Path, source: Source) -> tuple[dict[str, pa.Array], int, bool]:
    import pyarrow as pa

    parts: list[dict[str, pa.Array]] = []
    rows = 0
    batches = read(path, source, Malformed())
    for batch in batches:
        parts.append(batch.columns)
        rows += batch.rows
        if rows >= _SAMPLE:
            break
    if not rows:
        raise DataError(f"{path.name}: there are no rows")
    names = list(dict.fromkeys(itertools.chain.from_iterable(parts)))
    joined = {}
    for name in names:
        arrays = [part.get(name, pa.nulls(len(next(iter(part.values()))))) for part in parts]
        kinds = {a.type for a in arrays if not pa.types.is_null(a.type)}
        kind = kinds.pop() if len(kinds) == 1 else pa.string()
        try:
            joined[name] = pa.concat_arrays([a if a.type == kind else a.cast(kind) for a in arrays])
        except pa.ArrowException:
            raise DataError(f"{path.name}: column {name!r} is of several types that do not go together") from None
    return joined, rows, next(batches, None) is None


def _source(path: Path, source: Source | None, header: bool | None) -> Source:
    source = source or sniff(path)
    return source if header is None else replace(source, header=header)


def _check_names(path: Path, names: list[str], *, told: bool) -> None:
    """Refuses names of columns that are rather values of somebody: numbers by half, or a date or an address among them."""
    numbers = sum(bool(re.fullmatch(r"[+-]?\d+([.,]\d+)?(_\d+)?", name)) for name in names)
    value = re.compile(r"\d{4}-\d\d-\d\d.*|\d\d?[./]\d\d?[./]\d{4}|[^@\s]+@[^@\s]+\.\w+")
    if not told and (numbers * 2 >= len(names) or any(value.fullmatch(name) for name in names)):
        raise DataError(
            f"{path.name}: its first line looks like a row, not like names of columns; say --no-header, or --header if they are"
        )


def _texts(array: pa.Array) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    try:
        return array.cast(pa.string())
    except pa.ArrowException:
        return pa.nulls(len(array), pa.string())


def _commas(first: dict[str, pa.Array]) -> bool:
    """Whether some column has numbers with a comma in them, and none has numbers with a point."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = False
    for array in first.values():
        texts = array.drop_null()
        if not pa.types.is_string(array.type) or not len(texts):
            continue
        if pc.all(pc.match_substring_regex(texts, r"^\s*[+-]?\d+,\d+\s*$")).as_py():
            found = True
        elif pc.all(pc.match_substring_regex(texts, r"^\s*[+-]?\d+\.\d+\s*$")).as_py():
            return False
    return found


def _column(name: str, array: pa.Array, source: Source, notes: list[str]) -> Column:
    import pyarrow as pa

    array = decoded(array)
    kind = array.type
    if array.null_count == len(array):
        notes.append("it has no value in the rows that were looked at")
        return Column(kind="text", role="leave out")
    typed_kinds: tuple[tuple[Any, Kind], ...] = (
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_integer, "integer"),
        (pa.types.is_floating, "number"),
        (pa.types.is_decimal, "number"),
        (pa.types.is_date, "date"),
        (pa.types.is_timestamp, "time"),
    )
    for test, found in typed_kinds:
        if test(kind):
            return Column(kind=found)
    if pa.types.is_fixed_size_list(kind):
        return Column(kind="tensor", shape=(kind.list_size,), item=_item(kind.value_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return Column(kind="list", item=_item(kind.value_type))
    if not pa.types.is_string(kind):
        # Only the kind: names of the fields of an object may be of people.
        notes.append(f"columns of {str(kind).partition('<')[0]} are not imported")
        return Column(kind="text", role="leave out")
    del name
    return _of_text(array.cast(pa.string()), source, notes)


def _item(kind: Any) -> str:
    import pyarrow as pa

    known = {pa.float32(): "f32", pa.int32(): "i32", pa.uint8(): "u8", pa.int64(): "i64"}
    return known.get(kind, "i64" if pa.types.is_integer(kind) else "f64")


def _of_text(array: pa.Array, source: Source, notes: list[str]) -> Column:
    """The narrowest kind that all values fit."""
    import pyarrow.compute as pc

    there = array.drop_null()
    distinct = pc.count_distinct(there).as_py()
    first: tuple[Kind, ...] = ("boolean", "integer", "number", "date", "time")
    for kind in first:
        if kind == "boolean" and distinct != 2:  # noqa: PLR2004 - one value alone says nothing
            continue
        if _fits(there, Column(kind=kind), source):
            return Column(kind=kind)
    fitting = [form for form in _DATES if _fits(there, Column(kind="date", format=form), source)]
    if fitting:
        if len(fitting) > 1:
            notes.append(f"the days also read as {' and '.join(fitting[1:])}; look which is meant")
        return Column(kind="date", format=fitting[0])
    if distinct <= _LEVELS and (distinct <= max(2, len(there) * _SHARE) or distinct * 2 <= len(there)):
        return Column(kind="category")
    for item in ("i64", "f64"):
        if _fits(there, Column(kind="list", item=item), source):
            return Column(kind="list", item=item)
    return Column(kind="text")


def _fits(array: pa.Array, column: Column, source: Source) -> bool:
    """Whether all values fit, but for a few: a file has its typing mistakes, which the import counts."""
    # Most kinds are told by the first values: the whole sample is only read for what they say.
    return not any(_misfits(part, column, source) > len(part) * _ODD for part in (array.slice(0, 100), array))


def _misfits(array: pa.Array, column: Column, source: Source) -> int:
    return sum(int(mask.sum()) for mask in typed(array, column, source)[1].values())


def _pictures(
    path: Path, source: Source, columns: dict[str, Column], notes: dict[str, list[str]], subject: str | None
) -> str | None:
    """What pictures are, and what beside them may tell who somebody is; also the subject, where DICOM says it."""
    if source.format == "images":
        columns["image"] = Column(kind="tensor", item="u8", shape=image_shape(path))
        columns["file"] = Column(kind="text", role="leave out")
    if source.format != "dicom":
        return subject
    columns["image"] = Column(kind="tensor", item="f32", shape=dicom_shape(path))
    for name in columns.keys() - HARMLESS - {"image", "label", "PatientID"}:
        columns[name] = replace(columns[name], role="leave out")
        notes[name].append("an attribute that may tell who somebody is (DICOM PS3.15, annex E)")
    return subject or ("PatientID" if "PatientID" in columns else None)


def _guess(
    columns: dict[str, Column], first: dict[str, pa.Array], known: list[str], role: str, notes: dict[str, list[str]]
) -> str | None:
    found = [name for name in columns if any_name(name, known)]
    if role == "subject":
        found = [
            name
            for name in found
            if columns[name].kind in ("text", "integer", "category")
            and first[name].null_count <= len(first[name]) * _ODD
        ]
    if not found:
        return None
    # The last column is where a label mostly is, the first where an identifier is.
    taken = found[0] if role == "subject" else found[-1]
    notes[taken].append(f"taken for the {role} by its name; say so if it is another")
    return taken


def _range(column: Column, array: pa.Array, source: Source) -> dict[str, Any]:
    """Bounds or vocabulary, from the rows."""
    import pyarrow.compute as pc

    made, _ = typed(array, column, source)
    if column.kind in ("number", "integer"):
        bounds = pc.min_max(made).as_py()
        return {"low": bounds["min"], "high": bounds["max"]}
    if column.kind == "category":
        return {"levels": tuple(sorted(pc.unique(made.drop_null()).to_pylist()))}
    return {}


__all__ = ["Draft", "draft", "sniff"]
