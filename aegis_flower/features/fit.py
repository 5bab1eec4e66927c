"""Whether a plan fits a data set, before a row is read: types of the columns, and what the data set's sealed schema promises.

A value that a plan refuses would end a training after it was charged, and tell of a row. So a plan may refuse gaps and unknown
values only where the schema, by which the rows were checked when they were imported, says that there are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from aegis_flower.data.schema import Column
from aegis_flower.errors import DataMismatch
from aegis_flower.features.categories import Ids, OneHot
from aegis_flower.features.columns import Feature
from aegis_flower.features.label import Label
from aegis_flower.features.plan import Plan

Layout = Iterable[tuple[str, str, int]]
_WHOLE: Final = ("i8", "i16", "i32", "i64", "u8", "u16", "u32")
_NUMBERS: Final = (*_WHOLE, "u64", "f32", "f64")
_TEXT: Final = ("Utf8", "LargeUtf8", "Utf8View", "text")  # the last one of CSV
_CODES: Final[dict[str, tuple[str, ...]]] = {  # what the engine calls them
    "number": _NUMBERS,
    "integer": _WHOLE,
    "boolean": ("bool",),
    "category": (*_TEXT, *_WHOLE, "bool"),
    "text": _TEXT,
}
_STARTS: Final[dict[str, tuple[str, ...]]] = {
    "number": ("Decimal",),
    "date": ("Date", "Timestamp", "date"),
    "time": ("Date", "Timestamp", "date"),
    "list": ("List(", "LargeList("),
}
_ITEMS: Final = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "Float32", "Float64")
# Kinds of a schema that a kind of a plan takes.
_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "number": ("number", "integer"),
    "integer": ("integer",),
    "boolean": ("boolean",),
    "category": ("category", "integer", "boolean"),
    "text": ("text", "category"),
    "date": ("date", "time"),
    "time": ("date", "time"),
    "tensor": ("tensor",),
    "list": ("list",),
}
_LEVELS_MAX: Final = 65_536


def check_types(plan: Plan, layout: Layout, what: str = "the data set") -> None:
    """Refuses a data set in which a column of the plan is not there or is stored as something else.

    Args:
        plan: of the experiment.
        layout: name, type and values of each column (``engine.layout(id)``).
        what: the data set, for the text.

    Raises:
        DataMismatch: which column, and what it holds.
    """
    there = {name: (code, count) for name, code, count in layout}
    for name, (kind, size) in _wanted(plan).items():
        if name not in there:
            raise DataMismatch(
                f"{what} has no column {name!r}, which the feature plan reads; it has {', '.join(there)}"
            )
        code, count = there[name]
        if size:
            if code not in _NUMBERS or count != size:
                raise DataMismatch(
                    f"column {name!r} holds {count} values of {code} per row, the feature plan takes it for a tensor of {size} "
                    "numbers"
                )
        elif count != 1 or not _stored_as(kind, code):
            many = f"{count} values of {code} per row" if count != 1 else code
            raise DataMismatch(f"column {name!r} holds {many}, which the feature plan cannot take for a {kind}")


def _stored_as(kind: str, code: str) -> bool:
    if kind == "list":
        inner = code.partition("(")[2].removeprefix("non-null ").partition(",")[0].rstrip(")")
        return code.startswith(_STARTS[kind]) and inner in _ITEMS
    return code in _CODES.get(kind, ()) or code.startswith(_STARTS.get(kind, ("\0",)))


def _wanted(plan: Plan) -> dict[str, tuple[str, int]]:
    """Kind of each column that the plan reads, and numbers of a row of a tensor."""
    features = {name: (feature.kind, feature.size_read) for name, feature in plan.columns.items()}
    weight = {plan.weight.column: ("number", 0)} if plan.weight is not None else {}
    return {**features, **{name: (kind, 0) for name, kind in plan.label.reads.items()}, **weight}


def check_promises(plan: Plan, schema: Mapping[str, Column], what: str = "the data set") -> None:
    """Refuses a plan that takes a column for another kind than the sealed schema, or that refuses values which may be there.

    Args:
        plan: of the experiment.
        schema: columns as sealed with the data set; empty where nobody described it.
        what: the data set, for the text.

    Raises:
        DataMismatch: which column, and what to write instead.
    """
    for name, (kind, _) in _wanted(plan).items():
        column = schema.get(name)
        if column is not None and column.kind not in _KINDS[kind]:
            raise DataMismatch(
                f"column {name!r} is a {column.kind} by the schema of {what}, the feature plan takes it for a {kind}"
            )
    for name, feature in plan.columns.items():
        gaps, others = feature.refuses
        _check_gaps(name, schema.get(name), what, refused=gaps, where=f"columns.{name}")
        if others and not _within(feature, schema.get(name)):
            raise DataMismatch(
                f"the feature plan refuses unknown values of {name!r}, and the schema of {what} does not promise that there are "
                f"none; say `unknown` in columns.{name}, or declare the same vocabulary in the schema"
            )
    if plan.weight is not None:
        _check_weight(plan.weight.column, schema.get(plan.weight.column), what)
    label = plan.label
    for name in label.reads:
        _check_gaps(name, schema.get(name), what, refused=label.missing is None, where="label")
        if label.reads[name] == "category" and label.unknown is None and not _labelled_within(label, schema.get(name)):
            raise DataMismatch(
                f"the schema of {what} does not promise that the label {name!r} has only the plan's levels; say `unknown` in "
                "label, or declare the same levels in the schema"
            )


def _check_gaps(name: str, column: Column | None, what: str, *, refused: bool, where: str) -> None:
    if refused and (column is None or column.missing):
        raise DataMismatch(
            f"the feature plan refuses gaps in {name!r}, and the schema of {what} does not promise that there are none; say "
            f"`missing` in {where}, or missing = false in the schema"
        )


def _check_weight(name: str, column: Column | None, what: str) -> None:
    """A record without a weight, or with one below 0, would have to be refused in the middle of a training."""
    if column is None or column.role != "weight" or column.missing or column.low is None or column.low < 0:
        raise DataMismatch(
            f"the feature plan weighs records by {name!r}, which is no weight by the schema of {what}: it needs "
            'role = "weight", low = 0 or more, high, and missing = false'
        )


def _within(feature: Feature, column: Column | None) -> bool:
    if isinstance(feature, OneHot):
        return _levels(column) <= set(feature.levels) if _levels(column) else False
    if isinstance(feature, Ids) and column is not None and column.low is not None and column.high is not None:
        return feature.low <= column.low and column.high <= feature.high
    return False


def _labelled_within(label: Label, column: Column | None) -> bool:
    return bool(_levels(column)) and _levels(column) <= set(label.levels_read)


def _levels(column: Column | None) -> set[str]:
    """Every value of a column, as text; empty where the schema does not say."""
    if column is None:
        return set()
    if column.kind == "boolean":
        return {"false", "true"}
    bounded = column.kind == "integer" and column.low is not None and column.high is not None
    if bounded and column.low is not None and column.high is not None and column.high - column.low < _LEVELS_MAX:
        return {str(n) for n in range(int(column.low), int(column.high) + 1)}
    return set(column.levels)
