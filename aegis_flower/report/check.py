"""Checked records: a frozen dataclass whose annotations are rules, and the walk that holds a value against them."""

from __future__ import annotations

import dataclasses
import math
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from aegis_flower.errors import ReportError


@dataclass(frozen=True, slots=True)
class Within:
    """The closed range a number lies in."""

    low: float = -math.inf
    high: float = math.inf

    def holds(self, value: Any) -> bool:
        """Whether the value is in the range."""
        return bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        return f"at least {self.low:g}" if self.high == math.inf else f"between {self.low:g} and {self.high:g}"


@dataclass(frozen=True, slots=True)
class Matches:
    """The form a text has."""

    pattern: str
    meaning: str

    def holds(self, value: Any) -> bool:
        """Whether the text has the form."""
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.meaning


def conform(hint: Any, value: Any, path: str) -> None:  # noqa: C901, PLR0912 - one case a kind of type
    """Refuse `value` unless it is what the annotation `hint` says; `path` names it in the error."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        conform_json(value, path)
    elif origin is Annotated:
        conform(args[0], value, path)
        for rule in args[1:]:
            if not rule.holds(value):
                raise ReportError(f"{path} is {shown(value)}, it must be {rule}")
    elif origin in {Union, types.UnionType}:
        if value is not None:
            (kind,) = (arg for arg in args if arg is not types.NoneType)
            conform(kind, value, path)
    elif origin is Literal:
        if value not in args or isinstance(value, bool):
            raise ReportError(f"{path} is {shown(value)}, it must be one of {', '.join(map(str, args))}")
    elif origin is tuple:
        require(isinstance(value, tuple), "a tuple", value, path)
        for index, item in enumerate(value):
            conform(args[0], item, f"{path}[{index}]")
    elif origin is Mapping:
        require(isinstance(value, Mapping), "a mapping", value, path)
        for key, item in value.items():
            conform(str, key, f"a key of {path}")
            conform(args[1], item, f"{path}[{shown(key)}]")
    elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
        require(isinstance(value, hint), f"a {hint.__name__}", value, path)
        for name, kind in hints(hint).items():
            conform(kind, getattr(value, name), f"{path}.{name}".removeprefix("report."))
    else:
        conform_scalar(hint, value, path)


def conform_scalar(hint: Any, value: Any, path: str) -> None:
    """As `conform`, for a number, a flag or a text."""
    if hint is bool:
        require(isinstance(value, bool), "true or false", value, path)
    elif hint is int:
        require(isinstance(value, int) and not isinstance(value, bool), "a whole number", value, path)
    elif hint is float:
        require(isinstance(value, int | float) and not isinstance(value, bool), "a Python float", value, path)
        if isinstance(value, float) and not math.isfinite(value):
            raise ReportError(
                f"{path} is {value}, which JSON cannot hold; record None when there is no value, and look at why "
                "the run produced it"
            )
    else:
        require(isinstance(value, str), "a text", value, path)
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ReportError(f"{path} is not valid Unicode at character {error.start}; decode it first") from None


def conform_json(value: Any, path: str) -> None:
    """As `conform`, for what JSON holds."""
    if isinstance(value, Mapping):
        conform(Mapping[str, Any], value, path)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            conform_json(item, f"{path}[{index}]")
    elif value is not None and not isinstance(value, bool):
        conform_scalar(float if isinstance(value, int | float) else str, value, path)


def require(holds: bool, kind: str, value: object, path: str) -> None:
    """Raises ReportError where `holds` is false."""
    if not holds:
        raise ReportError(f"{path} is of type {type(value).__name__}, it must be {kind}")


def shown(value: object) -> str:
    """A value as an error repeats it: cut to a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - fits a line of a terminal


def hints(kind: type) -> dict[str, Any]:
    """The annotations of a record's fields, rules included."""
    return get_type_hints(kind, include_extras=True)
