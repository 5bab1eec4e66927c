"""One kind of column a function: text or numbers become a typed Arrow array, with null where a value is none of the kind."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aegis_flower.data.schema import ITEMS, Column, Source

if TYPE_CHECKING:
    import pyarrow as pa

_NUMBER: Final = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"
_WHOLE: Final = r"^[+-]?\d{1,19}$"
Made = tuple[Any, str]  # the array, and why a value is none


def arrow_type(column: Column) -> pa.DataType:
    """The type that a column is stored in."""
    import pyarrow as pa

    plain: dict[str, Any] = {
        "number": pa.float64(),
        "integer": pa.int64(),
        "boolean": pa.bool_(),
        "category": pa.string(),
        "text": pa.string(),
        "date": pa.date32(),
        "time": pa.timestamp("us", "UTC"),
    }
    if column.kind in plain:
        return plain[column.kind]
    item = pa.field("item", pa.type_for_alias(ITEMS[column.item]), nullable=False)
    return pa.list_(item, int(np.prod(column.shape))) if column.kind == "tensor" else pa.list_(item)


def text(array: pa.Array) -> pa.Array:
    """As text; a dictionary as its values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = decoded(array)
    if pa.types.is_string(array.type):
        return array
    if pa.types.is_floating(array.type):
        # Programs that know no whole numbers write 17 as 17.0, whatever else is in the column.
        whole = pc.and_(pc.equal(pc.floor(array), array), pc.less_equal(pc.abs(array), 2.0**53))
        plain = pc.cast(pc.cast(where(whole, array), pa.int64()), pa.string())
        return pc.if_else(pc.fill_null(whole, fill_value=False), plain, pc.cast(array, pa.string()))
    return pc.cast(array, pa.string())


def decoded(array: pa.Array) -> pa.Array:
    """Without a dictionary, and text as the one type of text."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    return array


def _number(array: pa.Array, _: Column, source: Source) -> Made:
    import pyarrow as pa
    import pyarrow.compute as pc

    reason = "not a number"
    if not pa.types.is_string(array.type):
        return _cast(array, pa.float64()), reason
    if source.decimal != ".":
        array = pc.replace_substring(pc.replace_substring(array, ".", "?"), source.decimal, ".")
    try:
        return pc.cast(array, pa.float64()), reason
    except pa.ArrowInvalid:
        trimmed = pc.utf8_trim_whitespace(array)
        return pc.cast(where(pc.match_substring_regex(trimmed, _NUMBER), trimmed), pa.float64()), reason


def _integer(array: pa.Array, _: Column, __: Source) -> Made:
    import pyarrow as pa
    import pyarrow.compute as pc

    reason = "not a whole number"
    if not pa.types.is_string(array.type):
        if pa.types.is_floating(array.type):
            # Whole numbers above 2^53 fall together in floats.
            safe = pc.and_(pc.equal(pc.floor(array), array), pc.less_equal(pc.abs(array), 2.0**53))
            array = where(safe, array)
        return _cast(array, pa.int64()), reason
    try:
        return pc.cast(array, pa.int64()), reason
    except pa.ArrowInvalid:
        trimmed = pc.utf8_trim_whitespace(array)
        whole = where(pc.match_substring_regex(trimmed, _WHOLE), trimmed)
        try:
            return pc.cast(pc.utf8_ltrim(whole, "+"), pa.int64()), reason
        except pa.ArrowInvalid:
            # 19 digits may be too many: one by one.
            return pa.array([_int64(text) for text in whole.to_pylist()], pa.int64()), reason


def _int64(text: str | None) -> int | None:
    number = None if text is None else int(text)
    return number if number is not None and -(2**63) <= number < 2**63 else None


def _boolean(array: pa.Array, _: Column, source: Source) -> Made:
    import pyarrow as pa
    import pyarrow.compute as pc

    reason = "neither true nor false"
    if pa.types.is_boolean(array.type):
        return array, reason
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(text(array)))
    true = pc.is_in(lower, pa.array([text.lower() for text in source.true], lower.type))
    false = pc.is_in(lower, pa.array([text.lower() for text in source.false], lower.type))
    return where(pc.or_(true, false), true), reason


def _words(array: pa.Array, _: Column, __: Source) -> Made:
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(text(array))
    return where(pc.not_equal(trimmed, ""), trimmed), "no text"


def _text_as_it_is(array: pa.Array, _: Column, __: Source) -> Made:
    return text(array), "no text"


def _date(array: pa.Array, column: Column, _: Source) -> Made:
    import pyarrow as pa
    import pyarrow.compute as pc

    reason = "not a date"
    if pa.types.is_string(array.type):
        trimmed = pc.utf8_trim_whitespace(array)
        if column.format:
            return _parsed(trimmed, column.format, pa.date32()), reason
        iso = where(pc.match_substring_regex(trimmed, r"^\d{4}-\d{2}-\d{2}$"), trimmed)
        try:
            return pc.cast(iso, pa.date32()), reason
        except pa.ArrowInvalid:
            return _parsed(iso, "%Y-%m-%d", pa.date32()), reason
    if pa.types.is_timestamp(array.type):
        return pc.cast(array, pa.date32(), safe=False), reason
    return _cast(array, pa.date32()), reason


def _time(array: pa.Array, column: Column, _: Source) -> Made:
    import pyarrow as pa
    import pyarrow.compute as pc

    reason, utc = "not a time", pa.timestamp("us", "UTC")
    if pa.types.is_string(array.type):
        trimmed = pc.utf8_trim_whitespace(array)
        if column.format:
            return _parsed(trimmed, column.format, utc), reason
        plain = pc.replace_substring_regex(trimmed, r"(Z|[+]00:?00)$", "")
        zoned = pc.match_substring_regex(plain, r"\d[+-]\d\d:?\d\d$")
        plain = where(pc.match_substring_regex(plain, r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?$"), plain)
        if pc.any(zoned).as_py():
            texts = trimmed.to_pylist()
            return pa.array([_instant(text) for text in texts], utc), reason
        try:
            return pc.cast(pc.cast(plain, pa.timestamp("us")), utc), reason
        except pa.ArrowInvalid:
            return pa.array([_instant(text) for text in plain.to_pylist()], utc), reason
    return _cast(array, utc), reason


def _instant(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return _utc(dt.datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def _utc(found: dt.datetime) -> dt.datetime:
    return found.astimezone(dt.UTC) if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _parsed(array: pa.Array, form: str, kind: pa.DataType) -> Any:
    """Text of a declared format. By Python, each different text once: Arrow takes the 31st of February for the 3rd of March."""
    import pyarrow as pa
    import pyarrow.compute as pc

    coded = pc.dictionary_encode(array)
    found = pa.array([_strptime(text, form) for text in coded.dictionary.to_pylist()], pa.timestamp("us", "UTC"))
    return pc.cast(found.take(coded.indices), kind, safe=False)


def _strptime(text: str | None, form: str) -> Any:
    try:
        return _utc(dt.datetime.strptime(text or "", form))  # noqa: DTZ007 - made UTC where it has no zone
    except (ValueError, OverflowError):
        return None


def _tensor(array: pa.Array, column: Column, source: Source) -> Made:
    import pyarrow as pa
    import pyarrow.compute as pc

    size = int(np.prod(column.shape))
    reason = f"not {size} numbers"
    lists, wanted = _lists(array, column, source)
    if lists is None:
        return pa.nulls(len(array), wanted), reason
    fits = pc.equal(pc.list_value_length(lists), size)
    lists = where(fits, lists)
    # A list of a fixed size has room where it is missing, too.
    flat = pc.list_flatten(lists)
    valid = np.asarray(pc.is_valid(lists).cast(pa.uint8())).astype(bool)
    values = np.zeros((len(lists), size), dtype=ITEMS[column.item])
    values[valid] = np.asarray(flat).reshape(-1, size)
    made = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), size, mask=pa.array(~valid))
    return made.cast(wanted), reason


def _list(array: pa.Array, column: Column, source: Source) -> Made:
    import pyarrow as pa

    lists, wanted = _lists(array, column, source)
    reason = "not a list of numbers"
    return (pa.nulls(len(array), wanted) if lists is None else lists.cast(wanted)), reason


def _lists(array: pa.Array, column: Column, source: Source) -> tuple[Any, Any]:
    """As lists of the item's type; rows with anything else are null. None where no row is a list."""
    import pyarrow as pa
    import pyarrow.compute as pc

    item, wanted = pa.type_for_alias(ITEMS[column.item]), arrow_type(column)
    if pa.types.is_string(array.type):
        # "1 2 3", or as JSON writes it.
        plain = pc.utf8_trim(pc.utf8_trim_whitespace(array), "[]")
        if source.separator != " ":
            plain = pc.replace_substring(plain, source.separator, " ")
        plain = pc.utf8_trim_whitespace(pc.replace_substring_regex(plain, r"[,\s]+", " "))
        texts = pc.split_pattern(plain, " ")
        texts = pc.if_else(pc.equal(plain, ""), pa.scalar([], texts.type), texts)
        array = texts
    if (
        pa.types.is_fixed_size_list(array.type)
        or pa.types.is_large_list(array.type)
        or pa.types.is_list_view(array.type)
    ):
        array = array.cast(pa.list_(array.type.value_type))
    if not pa.types.is_list(array.type):
        return None, wanted
    values = _items(pc.list_flatten(array), item)
    good = np.asarray(pc.is_valid(array).cast(pa.uint8())).astype(bool)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0), dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    if values.null_count:
        parents = np.repeat(np.arange(len(array)), lengths)
        good[parents[np.asarray(pc.is_null(values).cast(pa.uint8())).astype(bool)]] = False
    made = pa.ListArray.from_arrays(pa.array(offsets), pc.fill_null(values, pa.scalar(0, item)), mask=pa.array(~good))
    return made, wanted


def _items(values: pa.Array, item: pa.DataType) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(values.type):
        form = _NUMBER if pa.types.is_floating(item) else _WHOLE
        values = where(pc.match_substring_regex(values, form), values)
    if pa.types.is_floating(values.type) and pa.types.is_integer(item):
        values = where(pc.equal(pc.floor(values), values), values)
    return _cast(values, item)


def _cast(array: pa.Array, kind: pa.DataType) -> Any:
    """Cast; null where a value would be another one, or is none of the kind."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return pc.cast(array, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    if pa.types.is_floating(array.type) and pa.types.is_floating(kind):
        return pc.cast(array, kind, safe=False)
    made = []
    for at in range(len(array)):
        try:
            made.append(pc.cast(array.slice(at, 1), kind)[0].as_py())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            made.append(None)
    return pa.array(made, kind)


def where(mask: Any, array: Any) -> Any:
    """The array, with null wherever the mask is false or null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.fill_null(mask, fill_value=False), array, pa.scalar(None, array.type))


MAKERS: Final[dict[str, Callable[[Any, Column, Source], Made]]] = {
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "category": _words,
    "text": _text_as_it_is,
    "date": _date,
    "time": _time,
    "tensor": _tensor,
    "list": _list,
}
