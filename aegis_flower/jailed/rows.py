"""Rows: what a permit opens, in arrays that may go into a jail. Numbers as they are stored, texts as texts; nothing is pickled.

What form a column has depends on its declared type and on nothing in the rows: else one person's value would change what the
tasks on other people's rows get. So every whole number, text, date and flag of a table comes with `MISSING`, whether or not a
value is missing; numbers with a fraction have NaN there. And no value makes a round end: a refusal would tell of it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aegis_engine import Permit, Vault
from aegis_flower.data import Spec
from aegis_flower.errors import AegisError, DataMismatch
from aegis_flower.features import plan_of
from aegis_flower.planned import Planned
from aegis_flower.stored import Records

Arrays = dict[str, npt.NDArray[Any]]
MISSING: Final = ".missing"  # behind a column's name: flags, true where a row has no value
LABEL: Final = "label"  # what a feature plan's label is called
TEXT_MOST: Final = 1024  # characters of a text; what is behind is cut off, whatever else there is
_TABLE: Final = "AEG-V022"  # what the engine says where records are asked of a table


def read(vault: Vault, permit: Permit, spec: Spec) -> Arrays:
    """All rows that the permit opens, in their order: by a feature plan, else column by column. Empty where it opens none.

    Raises:
        DataMismatch: a column of a kind that no array holds.
        PermitError: the permit has ended.
    """
    plan = plan_of(spec)
    if plan is not None:
        planned = Planned(vault, permit, plan)
        made = planned.read(np.arange(len(planned)))
        named = {name or "x": values for name, values in made.inputs.items()}
        if made.label is not None:
            named[LABEL] = made.label
        return {name: np.array(values) for name, values in named.items()}
    try:
        records = Records(vault, permit)
    except AegisError as error:
        if error.code != _TABLE:
            raise
        return _of_table(vault, permit)
    names = [name for name, _, _ in records.layout]
    found = records.read(np.arange(len(records)), names)
    widths = {name: count for name, _, count in records.layout}
    return {name: values[:, 0].copy() if widths[name] == 1 else values for name, values in found.items()}


def of_block(rows: Arrays, places: npt.NDArray[np.int64]) -> Arrays:
    """Some of the rows, as if there had never been others: texts are as wide as the longest of them."""
    return {name: fitted(values[places]) for name, values in rows.items()}


def fitted(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array in memory of its own; texts no wider than need be."""
    if values.dtype.kind != "U":
        return np.ascontiguousarray(values)
    width = max((len(text) for text in values.tolist()), default=0)
    return values.astype(f"<U{max(1, width)}")


def clear(rows: Arrays) -> None:
    """Zeros in place of the rows."""
    for values in rows.values():
        if values.size:
            values[...] = "" if values.dtype.kind == "U" else 0


def _of_table(vault: Vault, permit: Permit) -> Arrays:
    import pyarrow as pa

    table = pa.table(vault.table(permit.object, permit=permit))
    found: Arrays = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        values, missing = _column(name, column.type, column)
        found[name] = values
        if missing is not None:
            found[name + MISSING] = missing
    return found


def _column(name: str, kind: Any, column: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """A column's values, and which of them are missing where no value says so."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    missing = np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)
    if pa.types.is_floating(kind):
        return np.array(column.to_numpy(zero_copy_only=False)), None
    if pa.types.is_integer(kind):
        return np.array(pc.fill_null(column, 0).to_numpy(zero_copy_only=False)), missing
    if pa.types.is_boolean(kind):
        return np.array(pc.fill_null(column, False).to_numpy(zero_copy_only=False)), missing
    if pa.types.is_date(kind):
        days = pc.fill_null(column.cast(pa.date32()).cast(pa.int32()), 0)
        return np.array(days.to_numpy(zero_copy_only=False)), missing
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = [(text or "")[:TEXT_MOST] for text in column.to_pylist()]
        width = max((len(text) for text in texts), default=0)
        return np.array(texts, dtype=f"<U{max(1, width)}"), missing
    if pa.types.is_fixed_size_list(kind) and pa.types.is_primitive(kind.value_type):
        size = kind.list_size
        inner = column.values[column.offset * size : (column.offset + len(column)) * size]
        gaps = np.asarray(inner.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_).reshape(len(column), size)
        missing |= gaps.any(axis=1)
        flat = np.array(pc.fill_null(inner, 0).to_numpy(zero_copy_only=False)).reshape(len(column), size)
        flat[missing] = 0
        return flat, missing
    raise DataMismatch(
        f"column {name!r} of the table holds {kind}, which no array of a jail holds; ask for other columns (policy.columns), or "
        "read it by a feature plan (data.features)"
    )
