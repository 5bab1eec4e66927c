"""Schemas: what the columns of a table mean, as a file that people review and commit (``schema.toml``).

A schema is public: it names columns, kinds, declared bounds and vocabularies, and no value of a row. It is sealed with the
data set, so that a column keeps its meaning to whoever is permitted to read it.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from aegis_engine.errors import AegisError

from aegis_engine import normal_name
from aegis_flower.errors import ConfigError

Kind = Literal["number", "integer", "boolean", "category", "text", "date", "time", "tensor", "list"]
Role = Literal["subject", "feature", "label", "weight", "group", "leave out"]
KINDS: Final = get_args(Kind)
ROLES: Final = get_args(Role)
VERSION: Final = 1
# What a list or a tensor may be made of, by its name in a schema and in Arrow.
ITEMS: Final = {"f32": "float32", "f64": "float64", "i32": "int32", "i64": "int64", "u8": "uint8"}
_LEVELS_MAX, _COLUMNS_MAX = 65_536, 100_000
_ORDERED = ("number", "integer")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column.

    Attributes:
        kind: what a value is: ``number`` (float64), ``integer`` (int64), ``boolean``, ``category`` (text of few values),
            ``text``, ``date``, ``time`` (microseconds, UTC), ``tensor`` (numbers of a fixed shape), ``list`` (numbers, as many as
            there are).
        role: ``subject`` (whom the row is about; kept as a keyed pseudonym, never as a column), ``feature``, ``label``,
            ``weight`` (how much the row counts in training; with `low` of 0 or more, `high`, and no gaps), ``group`` (for metrics
            by group), or ``leave out``.
        low, high: bounds of a number that everybody may know; rows outside are bad rows.
        levels: values of a category that everybody may know, in their order; other values are bad rows. Empty: any value.
        missing: whether a row may lack the value.
        item: type of the numbers of a tensor or list: f32, f64, i32, i64, u8.
        shape: of a tensor.
        format: of a date or time in text, as ``strptime`` takes it; empty for ISO 8601.
        unit: for people.
        about: for people.
    """

    kind: Kind = "number"
    role: Role = "feature"
    low: float | None = None
    high: float | None = None
    levels: tuple[str, ...] = ()
    missing: bool = True
    item: str = "f32"
    shape: tuple[int, ...] = ()
    format: str = ""
    unit: str = ""
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Source:
    """How a file is written that the schema is for.

    Attributes:
        format: csv, parquet, arrow, json (a JSON object per line), images (a folder per label), dicom (a folder) or sql
            (a query, for the database that ``AEGIS_DATABASE`` names).
        delimiter, quote, encoding: of CSV.
        header: whether the first line of CSV names the columns; without, they are ``column_0``, ``column_1``, ...
        nulls: text that means "no value", apart from the empty one.
        decimal: the character between whole and fraction.
        true, false: text that means so, in any case of letters.
        separator: between the numbers of a list in text.
    """

    format: str = "csv"
    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    header: bool = True
    nulls: tuple[str, ...] = ("NA", "N/A", "NaN", "nan", "null", "NULL")
    decimal: str = "."
    true: tuple[str, ...] = ("true", "yes", "t", "y", "1", "ja", "oui")
    false: tuple[str, ...] = ("false", "no", "f", "n", "0", "nein", "non")
    separator: str = " "

    def __post_init__(self) -> None:
        _check_source(self)


FORMATS: Final = ("csv", "parquet", "arrow", "json", "images", "dicom", "sql")


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Columns by name, in their order, and how the file is written.

    Attributes:
        columns: what is not named here is not imported.
        source: how the file is written.
        each_row_a_person: the file names nobody, and each row is about somebody else. Consent cannot be traced to such people.

    Raises:
        ConfigError: something that means nothing; names the column and the key.
    """

    columns: Mapping[str, Column]
    source: Source = field(default_factory=Source)
    each_row_a_person: bool = False

    def __post_init__(self) -> None:
        if not self.columns or len(self.columns) > _COLUMNS_MAX:
            raise _wrong("columns", f"a schema has 1 to {_COLUMNS_MAX} columns, this one {len(self.columns)}")
        for name, column in self.columns.items():
            _check_name(name)
            _check_column(name, column)
        subjects = self.of_role("subject")
        if len(subjects) > 1:
            raise _wrong("columns", f"{', '.join(subjects)} are all subjects; a row is about one person")
        if self.each_row_a_person == bool(subjects):
            problem = (
                "each_row_a_person = true, and a column names the person; take one of both"
                if subjects
                else 'nothing says whom a row is about; give one column role = "subject", or say each_row_a_person = true'
            )
            raise _wrong("columns", problem)
        if not self.stored:
            raise _wrong("columns", "every column is left out; keep at least one beside the subject")

    def of_role(self, role: Role) -> list[str]:
        """Names of the columns with that role, in their order."""
        return [name for name, column in self.columns.items() if column.role == role]

    @property
    def subject(self) -> str | None:
        """The column that says whom a row is about."""
        named = self.of_role("subject")
        return named[0] if named else None

    @property
    def stored(self) -> dict[str, Column]:
        """Columns that become columns of the data set."""
        return {name: c for name, c in self.columns.items() if c.role not in ("subject", "leave out")}

    def text(self, holdout: float = 0.0) -> str:
        """As it is sealed with the data set, and with its holdout of that share: JSON of what differs from the defaults."""
        columns = {name: _plain(column) for name, column in self.stored.items()}
        whole = {"version": VERSION, "columns": columns, **({"holdout": holdout} if holdout else {})}
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))


def described(text: str | None) -> dict[str, Column]:
    """Columns as `Schema.text` wrote them; empty for data sets that nobody described.

    Raises:
        ConfigError: it was written by a later version.
    """
    if not text:
        return {}
    whole = json.loads(text)
    if whole.get("version") != VERSION:
        raise _wrong(
            "version", f"the data set's schema has version {whole.get('version')!r}; this AEGIS knows {VERSION}"
        )
    return {name: _column(name, about) for name, about in whole["columns"].items()}


def read(path: str | Path) -> Schema:
    """Reads a schema file.

    Raises:
        ConfigError: names the line, or the column and the key.
    """
    try:
        whole = tomllib.loads(Path(path).read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"is no TOML: {error}") from None
    version = whole.pop("version", VERSION)
    if version != VERSION:
        raise _wrong("version", f"{version!r} is not known; this AEGIS knows {VERSION}")
    columns, source = whole.pop("columns", {}), whole.pop("source", {})
    alone = whole.pop("each_row_a_person", False)
    if whole:
        raise _wrong(next(iter(whole)), "no such key; a schema has version, each_row_a_person, source and columns")
    if not isinstance(columns, dict) or not isinstance(source, dict) or not isinstance(alone, bool):
        raise _wrong("columns", "columns and source are tables, each_row_a_person is true or false")
    return Schema(
        columns={name: _column(name, about) for name, about in columns.items()},
        source=_made(Source, "source", source),
        each_row_a_person=alone,
    )


def write(schema: Schema, notes: Mapping[str, list[str]] | None = None, title: str = "") -> str:
    """The schema as TOML, with comments: `notes` by column, what somebody should look at."""
    lines = [f"# {line}".rstrip() for line in title.splitlines()]
    lines += [f"version = {VERSION}"]
    if schema.each_row_a_person:
        lines.append("each_row_a_person = true  # nobody's consent can be traced to a row")
    lines += ["", "[source]", *(f"{key} = {_toml(value)}" for key, value in _plain(schema.source).items())]
    for name, column in schema.columns.items():
        lines += ["", *(f"# {note}" for note in (notes or {}).get(name, ()))]
        lines.append(f"[columns.{_key(name)}]")
        lines += [f"{key} = {_toml(value)}" for key, value in {"kind": column.kind, **_plain(column)}.items()]
    return "\n".join(lines) + "\n"


def _wrong(key: str, problem: str) -> ConfigError:
    return ConfigError(f"schema: {key}", problem)


def _check_name(name: str) -> None:
    try:
        plain = normal_name(name) == name
    except (AegisError, TypeError):
        plain = False
    if not plain:
        raise _wrong(f"columns.{name!r:.80}", "is no name of a column; give text without space around it")


def _check_source(source: Source) -> None:
    if source.format not in FORMATS:
        raise _wrong("source.format", f"{source.format!r} is not one of {', '.join(FORMATS)}")
    for key in ("delimiter", "quote", "decimal"):
        value = getattr(source, key)
        if len(value) != 1 or not value.isascii() or value in "\r\n\0":
            raise _wrong(f"source.{key}", f"{value!r} is not one character of ASCII")
    if source.delimiter == source.quote:
        raise _wrong("source.quote", f"{source.quote!r} is the delimiter, too")
    if not source.separator:
        raise _wrong("source.separator", "is empty; give the text between the numbers of a list")
    if both := {t.casefold() for t in source.true} & {t.casefold() for t in source.false}:
        raise _wrong("source.true", f"{min(both)!r} means true and false")
    try:
        "".encode(source.encoding)
    except (LookupError, UnicodeError):
        raise _wrong("source.encoding", f"{source.encoding!r} is no encoding that Python knows") from None


def _check_column(name: str, column: Column) -> None:
    path = f"columns.{name}"
    if column.kind not in KINDS:
        raise _wrong(f"{path}.kind", f"{column.kind!r} is not one of {', '.join(KINDS)}")
    if column.role not in ROLES:
        raise _wrong(f"{path}.role", f"{column.role!r} is not one of {', '.join(ROLES)}")
    _check_bounds(path, column)
    if column.levels and column.kind != "category":
        raise _wrong(f"{path}.levels", f"a {column.kind} has no levels; a category has")
    if len(set(column.levels)) != len(column.levels) or len(column.levels) > _LEVELS_MAX:
        raise _wrong(f"{path}.levels", f"levels are different from each other, and at most {_LEVELS_MAX}")
    if column.kind in ("tensor", "list") and column.item not in ITEMS:
        raise _wrong(f"{path}.item", f"{column.item!r} is not one of {', '.join(ITEMS)}")
    if column.kind == "tensor" and (not column.shape or any(n < 1 for n in column.shape)):
        raise _wrong(f"{path}.shape", f"{list(column.shape)} is no shape; a tensor has one or more positive sizes")
    if column.role == "weight":
        _check_weight(path, column)


def _check_weight(path: str, column: Column) -> None:
    """How much a row counts is public at most, and never missing: other rows are bad ones, told by their lines."""
    if column.kind not in _ORDERED:
        raise _wrong(f"{path}.role", "a weight is a number")
    for key in ("low", "high"):
        if getattr(column, key) is None:
            raise _wrong(f"{path}.{key}", "a weight has declared bounds: low of 0 or more, and high")
    if column.low is not None and column.low < 0:
        raise _wrong(f"{path}.low", f"{column.low} is below 0; no row counts less than nothing")
    if not column.high:
        raise _wrong(f"{path}.high", "is 0: no row would count")
    if column.missing:
        raise _wrong(f"{path}.missing", "a row without a weight means nothing; say missing = false")


def _check_bounds(path: str, column: Column) -> None:
    for key in ("low", "high"):
        bound = getattr(column, key)
        if bound is None:
            continue
        if column.kind not in _ORDERED:
            raise _wrong(f"{path}.{key}", f"a {column.kind} has no bounds; numbers and integers have")
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not _finite(bound):
            raise _wrong(f"{path}.{key}", f"{bound!r} is no finite number")
    if column.low is not None and column.high is not None and column.low > column.high:
        raise _wrong(f"{path}.low", f"{column.low} is above high = {column.high}")


def _finite(bound: float) -> bool:
    try:
        return math.isfinite(bound)
    except OverflowError:
        return False  # a whole number that no float is near


def _column(name: str, about: Any) -> Column:
    if not isinstance(about, dict):
        raise _wrong(f"columns.{name}", 'is a table, such as kind = "number"')
    return cast("Column", _made(Column, f"columns.{name}", about))


def _made(kind: type[Any], path: str, about: dict[str, Any]) -> Any:
    fields = {f.name: f for f in kind.__dataclass_fields__.values()}
    given: dict[str, Any] = {}
    for key, value in about.items():
        if key not in fields:
            raise _wrong(f"{path}.{key}", f"no such key; there are {', '.join(fields)}")
        given[key] = _fitting(f"{path}.{key}", str(fields[key].type), value)
    return kind(**given)


def _fitting(path: str, wanted: str, value: Any) -> Any:
    """The value as the field's annotation, which is text here, wants it."""
    if wanted.startswith("tuple"):
        item: type = int if "int" in wanted else str
        if not isinstance(value, list) or any(not isinstance(v, item) or isinstance(v, bool) for v in value):
            raise _wrong(path, f"{value!r:.80} is no list of {'whole numbers' if item is int else 'texts'}")
        return tuple(value)
    if wanted == "bool":
        if not isinstance(value, bool):
            raise _wrong(path, f"{value!r:.80} is not true or false")
        return value
    if "float" in wanted:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(path, f"{value!r:.80} is no number")
        return value
    if not isinstance(value, str):
        raise _wrong(path, f"{value!r:.80} is no text")
    return value


def _plain(part: Any) -> dict[str, Any]:
    """Fields that differ from their default."""
    default = type(part)()
    names = part.__dataclass_fields__
    return {
        name: list(value) if isinstance(value := getattr(part, name), tuple) else value
        for name in names
        if getattr(part, name) != getattr(default, name)
    }


def _toml(value: Any) -> str:
    # What JSON writes of texts, numbers, flags and lists is TOML, too, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else _toml(name)
