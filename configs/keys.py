"""What is known of one key of the configuration: default, type, range, names, sentence, and what it does to the guarantee.

`schema` says each of these once, where the key is. `check` holds values against it, `make generated` writes it into
``docs/CONFIG.md``, the tests try its edges.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt

M = TypeVar("M")

# What a key may change. TERMS are sealed at ingest of a simulation; a deployment's own hold whatever the configuration says.
NONE: Final = "—"
DP: Final = "DP"
TERMS: Final = "terms"
MASKS: Final = "masks"
ASKED: Final = "— (the terms decide)"


def key(default: Any, says: str, guarantee: str = NONE) -> Any:
    """A field of a group: its default, what it means, and whether it changes what is guaranteed about privacy."""
    told = {"says": says, "guarantee": guarantee}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=default.copy, metadata=told)
    return dataclasses.field(default=default, metadata=told)


@dataclass(frozen=True)
class Within(GroupedMetadata):
    """The range a number lies in; NaN and infinity lie in none.

    Attributes:
        low: least value.
        high: largest value.
        open_low: whether `low` itself is outside.
        open_high: whether `high` itself is outside.
    """

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def __iter__(self) -> Iterator[object]:
        """The two bounds as pydantic knows them."""
        yield Gt(self.low) if self.open_low else Ge(self.low)
        yield Lt(self.high) if self.open_high else Le(self.high)

    def holds(self, value: float) -> bool:
        """Whether the value lies in the range."""
        above = self.low < value if self.open_low else self.low <= value
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.open_low else f"at least {_shown(self.low)}"
        high = f"below {self.high:g}" if self.open_high else f"at most {_shown(self.high)}"
        return f"must be {low} and {high}"


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


@dataclass(frozen=True)
class OneOf:
    """The names a text is one of."""

    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Only these."""
        from pydantic_core import core_schema

        return core_schema.literal_schema(list(self.names))


@dataclass(frozen=True)
class Key:
    """One key of the configuration, by its path.

    Attributes:
        path: such as ``privacy.epsilon``.
        kind: its type, without ranges and names.
        default: its value where nothing says another.
        says: what it means.
        guarantee: what it does to the guarantee.
        within: the range of its number, or of each in its list.
        names: what its text may be; empty where it may be any.
    """

    path: str
    kind: Any
    default: Any
    says: str
    guarantee: str
    within: Within | None
    names: Collection[str]


def keys(group: type, prefix: str = "") -> Iterator[Key]:
    """Every key of a group and of the groups in it, in their order."""
    kinds, hints = get_type_hints(group), get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        path, kind = f"{prefix}{field.name}", kinds[field.name]
        if dataclasses.is_dataclass(kind):
            yield from keys(cast("type", kind), f"{path}.")
            continue
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        names = _said(hints[field.name], OneOf)
        yield Key(
            path=path,
            kind=kind,
            default=default,
            says=field.metadata["says"],
            guarantee=field.metadata["guarantee"],
            within=_said(hints[field.name], Within),
            names=names.names if names else (),
        )


def kind_name(kind: Any) -> str:
    """A type as an error says it, such as ``int | None``."""
    if get_origin(kind) in {Union, UnionType}:
        return " | ".join("None" if each is NoneType else kind_name(each) for each in get_args(kind))
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _said(hint: Any, kind: type[M]) -> M | None:
    """The first `kind` in an annotation, however deep."""
    for each in get_args(hint):
        found = each if isinstance(each, kind) else _said(each, kind)
        if found is not None:
            return found
    return None


def number_of(kind: Any, value: Any) -> Any:
    """JSON does not tell 3 from 3.0; the hash of a config must not depend on which was written."""
    is_float = kind is float or float in get_args(kind)
    return (
        float(value) if is_float and isinstance(value, int) and not isinstance(value, bool) and finite(value) else value
    )


def finite(value: float) -> bool:
    """Whether a number is one that a float can be."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False
