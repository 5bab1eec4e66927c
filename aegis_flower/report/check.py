"""Checked records: how pydantic checks a report, and how what it finds is said in our words."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core import ErrorDetails

from aegis_flower.errors import ReportError

T = TypeVar("T")

# "always": a part is checked with the whole, since only then is it known where in the report it is.
RULES: Final = ConfigDict(strict=True, revalidate_instances="always", allow_inf_nan=False, extra="forbid")
# A mapping is checked, not copied: a report holds the one it was given.
Kept: Final = WrapValidator(lambda value, check: (check(value), value)[1])

HEX: Final = "^([0-9a-f]{2})*$"
SHA256: Final = "^[0-9a-f]{64}$"
INSTANT: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"
_FORMS: Final = {
    HEX: "lower-case hex, whole bytes",
    SHA256: "a SHA-256 in lower-case hex",
    INSTANT: "an RFC 3339 time with its offset",
}
_KINDS: Final = {
    "bool_type": "true or false",
    "dataclass_exact_type": "a {class_name}",
    "dataclass_type": "an object",
    "dict_type": "a mapping",
    "float_type": "a Python float",
    "int_type": "a whole number",
    "mapping_type": "a mapping",
    "string_type": "a text",
    "tuple_type": "{array}",
}
_BOUNDS: Final = {
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "one of {expected}",
    "string_too_short": "a text that is not empty",
}
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_NAMES: Final = {"missing": "missing", "unexpected_keyword_argument": "unknown"}


def says(text: str) -> Any:
    """The sentence about a field, for the schema and the documents."""
    return Field(description=text)


def checked(record: type[T]) -> type[T]:
    """Makes building `record` raise ReportError, in our words."""
    build: Callable[..., None] = getattr(record, "__init__")  # noqa: B009 - mypy: a class may change its __init__

    @functools.wraps(build)
    def init(self: T, *args: Any, **values: Any) -> None:
        try:
            build(self, *args, **values)
        except ValidationError as error:
            raise refusal(record, error) from None

    setattr(record, "__init__", init)  # noqa: B010
    return record


def refusal(record: type, error: ValidationError, *, array: str = "a tuple") -> ReportError:
    """The first of pydantic's findings as our error: which field, what it is, and what it must be; `array` is JSON's word."""
    errors = error.errors(include_url=False)
    first = errors[0]
    kind, value, facts = first["type"], first["input"], first.get("ctx", {})
    if kind in _NAMES:
        return _other_fields(record, first["loc"][:-1], errors)
    path = path_of(record, first["loc"])
    if kind in _SPECIAL:
        return _SPECIAL[kind](value, path)
    if kind in _KINDS:
        wanted = _KINDS[kind].format_map({**facts, "array": array})
        return ReportError(f"{path} is of type {type(value).__name__}, it must be {wanted}")
    if kind == "json_invalid":
        return ReportError(f"it is not JSON: {facts['error']}")
    wanted = _FORMS.get(facts.get("pattern", "")) or _BOUNDS[kind].format_map(facts).replace("'", "")
    return ReportError(f"{path} is {shown(value)}, it must be {wanted}")


def _other_fields(record: type, parent: tuple[str | int, ...], errors: list[ErrorDetails]) -> ReportError:
    found: dict[str, list[str]] = {"missing": [], "unknown": []}
    for each in errors:
        if each["type"] in _NAMES and each["loc"][:-1] == parent:
            name = str(each["loc"][-1])
            found[_NAMES[each["type"]]].append(name if each["type"] == "missing" else shown(name))
    return other_fields(path_of(record, parent), **found)


def other_fields(path: str, missing: list[str], unknown: list[str]) -> ReportError:
    """A record that lacks fields, or has some that it does not have."""
    lacks, has = (", ".join(sorted(names)) or "none" for names in (missing, unknown))
    return ReportError(f"{path or 'report'} has other fields than it must: missing {lacks}, unknown {has}")


def _not_finite(value: float, path: str) -> ReportError:
    return ReportError(
        f"{path} is {value}, which JSON cannot hold; record None when there is no value, and look at why the run produced it"
    )


def _not_unicode(value: str, path: str) -> ReportError:
    found = _SURROGATE.search(value)
    return ReportError(f"{path} is not valid Unicode at character {found.start() if found else 0}")


_SPECIAL: Final[dict[str, Callable[[Any, str], ReportError]]] = {
    "finite_number": _not_finite,
    "string_unicode": _not_unicode,
}


def path_of(record: type, place: tuple[str | int, ...]) -> str:
    """A field as the code would name it, such as ``rounds[2].metrics['x']``."""
    path, kind = "", record
    for part in place:
        if part == "[key]":
            return f"a key of {path.rpartition('[')[0]}"
        if isinstance(part, str) and dataclasses.is_dataclass(kind) and part in (known := hints(kind)):
            path, kind = f"{path}.{part}".removeprefix("."), _inner(known[part])
        else:
            path = f"{path}[{part if isinstance(part, int) else shown(part)}]"
    return path


def _inner(hint: Any) -> Any:
    """The record inside Annotated, Optional and tuple; of another type, the type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _inner(args[0])
    if origin in {Union, types.UnionType, tuple}:
        return _inner(next(each for each in args if each not in {types.NoneType, ...}))
    return hint


def holds_json(value: Any, path: str) -> None:
    """Refuses what JSON cannot hold, wherever it is in a report: pydantic looks into no `Any`, and at no plain text's Unicode.

    Raises:
        ReportError: names the place and what is there.
    """
    for place, item in _inside(value, path):
        holds_json(item, place)
    if isinstance(value, str) and _SURROGATE.search(value):
        raise _not_unicode(value, path)
    if isinstance(value, float) and not math.isfinite(value):
        raise _not_finite(value, path)


def _inside(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Place and value of each part, one level down."""
    if dataclasses.is_dataclass(value):
        yield from (
            (f"{path}.{each.name}".removeprefix("."), getattr(value, each.name)) for each in dataclasses.fields(value)
        )
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ReportError(f"a key of {path} is of type {type(key).__name__}, it must be a text")
            yield f"a key of {path}", key
            yield f"{path}[{shown(key)}]", item
    elif isinstance(value, list | tuple):
        yield from ((f"{path}[{index}]", item) for index, item in enumerate(value))
    elif value is not None and not isinstance(value, str | int | float):
        raise ReportError(f"{path} is of type {type(value).__name__}, it must be a text")


def shown(value: object) -> str:
    """A value as an error repeats it: cut to a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - fits a line of a terminal


def hints(kind: type) -> dict[str, Any]:
    """The annotations of a record's fields, rules included."""
    return get_type_hints(kind, include_extras=True)
