"""Categories and ids: one-hot values over a declared vocabulary, or its places; whole numbers that are ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aegis_flower.features.columns import SLOT, Feature, known_only, present, require
from aegis_flower.features.values import Array, Values


@dataclass(frozen=True, kw_only=True)
class OneHot(Feature):
    """A category: a 1 at its level, in as many values as there are levels and slots.

    Attributes:
        levels: the public vocabulary, in order.
        unknown: ``slot``: other values have a place of their own; ``refuse``: there are none.
        missing: ``slot``: gaps have a place of their own; None refuses them.
    """

    kind = "category"
    form = "onehot"
    levels: tuple[str, ...]
    unknown: str = SLOT
    missing: str | None = None

    def check(self, path: str) -> None:
        require(f"{path}.levels", bool(self.levels), "a category needs at least one level")
        require(f"{path}.levels", len(set(self.levels)) == len(self.levels), "levels are different from each other")
        require(f"{path}.unknown", self.unknown in (SLOT, "refuse"), f"{self.unknown!r} is not one of slot, refuse")
        require(
            f"{path}.missing",
            self.missing in (None, SLOT),
            f"{self.missing!r} is not slot; leave it out to refuse gaps",
        )

    @property
    def levels_read(self) -> tuple[str, ...]:
        return self.levels

    @property
    def slots(self) -> list[str]:
        """Levels, and what stands beside them."""
        return [
            *(f"is {level!r}" for level in self.levels),
            *(["is another"] if self.unknown == SLOT else []),
            *(["is missing"] if self.missing else []),
        ]

    @property
    def outputs(self) -> list[str]:
        return self.slots

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, 1.0

    @property
    def refuses(self) -> tuple[bool, bool]:
        return self.missing is None, self.unknown != SLOT

    def codes(self, values: Values, name: str) -> Array:
        """The slot of each row."""
        present(values, name, promised=self.missing is None)
        other = ~values.missing & (values.data < 0)
        if self.unknown != SLOT:
            known_only(other, name)
        known = np.where(other, len(self.levels), values.data)
        return np.where(values.missing, len(self.slots) - 1, known).astype(np.int64)

    def encode(self, values: Values, name: str) -> Array:
        out = np.zeros((len(values), len(self.slots)), dtype=np.float32)
        out[np.arange(len(values)), self.codes(values, name)] = 1
        return out


@dataclass(frozen=True, kw_only=True)
class Index(OneHot):
    """A category as an id: the place of its level, then the slots, as of a `OneHot`."""

    form = "index"
    whole = True

    @property
    def outputs(self) -> list[str]:
        return [""]

    @property
    def bounds(self) -> tuple[float, float]:
        return 0, len(self.slots) - 1

    def encode(self, values: Values, name: str) -> Array:
        return self.codes(values, name)[:, None]


@dataclass(frozen=True, kw_only=True)
class Ids(Feature):
    """A whole number that is an id, such as of an embedding: kept as it is.

    Attributes:
        low, high: least and largest id.
        unknown: the id of values outside; None refuses them.
        missing: the id of gaps; None refuses them.
    """

    kind = "integer"
    form = "ids"
    whole = True
    low: int
    high: int
    unknown: int | None = None
    missing: int | None = None

    def check(self, path: str) -> None:
        check_ids(path, self.low, self.high, unknown=self.unknown, missing=self.missing)

    @property
    def outputs(self) -> list[str]:
        return [""]

    @property
    def bounds(self) -> tuple[float, float]:
        known = [self.low, self.high, *(n for n in (self.unknown, self.missing) if n is not None)]
        return min(known), max(known)

    @property
    def refuses(self) -> tuple[bool, bool]:
        return self.missing is None, self.unknown is None

    def encode(self, values: Values, name: str) -> Array:
        present(values, name, promised=self.missing is None)
        other = ~values.missing & ((values.data < self.low) | (values.data > self.high))
        if self.unknown is None:
            known_only(other, name)
        data = np.where(other, self.unknown or 0, values.data)
        return np.where(values.missing, self.missing or 0, data).astype(np.int64)[:, None]


def check_ids(path: str, low: int, high: int, **others: int | None) -> None:
    """Refuses ids that an embedding has no row for."""
    require(f"{path}.low", 0 <= low <= high, f"ids are from 0; low = {low}, high = {high}")
    require(f"{path}.high", high < 2**31, f"{high} is more than 2147483647")
    for key, value in others.items():
        require(f"{path}.{key}", value is None or 0 <= value < 2**31, f"{value} is no id from 0")
