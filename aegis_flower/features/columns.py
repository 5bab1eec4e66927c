"""Columns: what a plan does with one column of a table, a class per transform; here numbers and flags.

An output is float32 within declared bounds, or int64 ids of a declared number. Row k of it depends on row k of the input alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from aegis_flower.errors import ConfigError, DataMismatch
from aegis_flower.features.values import Array, Values

SLOT, EMPTY = "slot", "empty"
_FLOAT32: Final = 3e38  # float32 holds less than 3.4028235e38
WIDEST: Final = 1_048_576  # values of a row


@dataclass(frozen=True, kw_only=True)
class Feature(ABC):
    """A transform of one column. Its fields are the keys of the plan's file.

    Attributes:
        kind: what the column must be, as in a schema.
        form: what becomes of it, where a kind has several; the file's key is ``as``.
        whole: whether the output is int64 ids; else float32.
    """

    kind: ClassVar[str]
    form: ClassVar[str] = ""
    whole: ClassVar[bool] = False

    @abstractmethod
    def check(self, path: str) -> None:
        """Refuses what means nothing.

        Raises:
            ConfigError: names the key.
        """

    @property
    @abstractmethod
    def outputs(self) -> list[str]:
        """What each value of the output is, in words that go behind the column's name."""

    @property
    def width(self) -> int:
        """Values of a row of the output."""
        return len(self.outputs)

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which every value of the output lies."""
        return -1.0, 1.0

    @property
    def levels_read(self) -> tuple[str, ...]:
        """Vocabulary with which the column is read."""
        return ()

    @property
    def size_read(self) -> int:
        """Numbers of a row with which the column is read."""
        return 0

    @property
    def refuses(self) -> tuple[bool, bool]:
        """Whether a missing value, and whether an unknown one, is refused: the data set must promise that it has none."""
        return False, False

    @abstractmethod
    def encode(self, values: Values, name: str) -> Array:
        """The output, of shape (rows, width); `name` is for errors, which never show a value."""


def require(path: str, ok: bool, problem: str) -> None:
    """Raises a `ConfigError` for a key that is not `ok`."""
    if not ok:
        raise ConfigError(path, problem)


def check_range(path: str, low: float, high: float) -> None:
    """Refuses bounds without room between them, or beyond what float64 can scale."""
    require(f"{path}.low", math.isfinite(low) and math.isfinite(high), "low and high are finite numbers")
    require(f"{path}.low", low < high and math.isfinite(high - low), f"{low:g} is not below high = {high:g}")


def scaled(data: Array, low: float, high: float) -> Array:
    """Values clipped to their bounds, and these to -1 and 1; NaN stays."""
    return np.clip((np.clip(data, low, high) - low) / (high - low) * 2 - 1, -1.0, 1.0)


def present(values: Values, name: str, *, promised: bool) -> None:
    """Refuses a column with gaps whose plan has nothing for them."""
    if promised and values.missing.any():
        raise DataMismatch(f"column {name!r} has missing values, and its plan no `missing` that stands for them")


def known_only(unknown: Array, name: str) -> None:
    """Refuses values that are not in the plan's vocabulary."""
    if unknown.any():
        raise DataMismatch(f"column {name!r} has values that its plan does not know, and refuses")


def indicated(data: Array, missing: Array, *, told: bool) -> Array:
    """float32 rows, with a last value that is 1 where there was none."""
    whole = data if data.ndim > 1 else data[:, None]
    if told:
        whole = np.column_stack([whole, missing])
    return whole.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Number(Feature):
    """A number: clipped to [low, high], then scaled to [-1, 1], or by a public mean and deviation.

    Attributes:
        low, high: public bounds.
        scale: ``range``, or ``standard`` with `mean` and `deviation`.
        missing: what stands for a gap, between the bounds; an indicator tells where. None refuses gaps.
    """

    kind = "number"
    low: float
    high: float
    scale: str = "range"
    mean: float = 0.0
    deviation: float = 1.0
    missing: float | None = None

    def check(self, path: str) -> None:
        check_range(path, self.low, self.high)
        require(f"{path}.scale", self.scale in ("range", "standard"), f"{self.scale!r} is not one of range, standard")
        within = self.missing is None or self.low <= self.missing <= self.high
        require(f"{path}.missing", within, f"{self.missing} is outside low = {self.low:g} to high = {self.high:g}")
        standard = self.scale == "standard"
        require(f"{path}.deviation", self.deviation > 0, f"{self.deviation:g} is not above 0")
        for key, plain in (("mean", 0.0), ("deviation", 1.0)):
            require(f"{path}.{key}", standard or getattr(self, key) == plain, "goes with scale: standard")
        most = max(abs(bound) for bound in self.bounds)
        require(f"{path}.deviation", most < _FLOAT32, "makes values that float32 cannot hold")

    @property
    def outputs(self) -> list[str]:
        return ["", *(["is missing"] if self.missing is not None else [])]

    @property
    def bounds(self) -> tuple[float, float]:
        if self.scale == "range":
            return -1.0, 1.0
        low, high = ((bound - self.mean) / self.deviation for bound in (self.low, self.high))
        return (low, high) if self.missing is None else (min(low, 0.0), max(high, 1.0))

    @property
    def refuses(self) -> tuple[bool, bool]:
        return self.missing is None, False

    def encode(self, values: Values, name: str) -> Array:
        present(values, name, promised=self.missing is None)
        data = values.data.astype(np.float64)
        if self.missing is not None:
            data = np.where(values.missing, self.missing, data)
        if self.scale == "range":
            data = scaled(data, self.low, self.high)
        else:
            data = (np.clip(data, self.low, self.high) - self.mean) / self.deviation
        return indicated(data, values.missing, told=self.missing is not None)


@dataclass(frozen=True, kw_only=True)
class Whole(Number):
    """A whole number, as a `Number`."""

    kind = "integer"
    form = "number"


@dataclass(frozen=True, kw_only=True)
class Boolean(Feature):
    """A flag: 0 or 1.

    Attributes:
        missing: what stands for a gap, from 0 to 1; an indicator tells where. None refuses gaps.
    """

    kind = "boolean"
    missing: float | None = None

    def check(self, path: str) -> None:
        require(f"{path}.missing", self.missing is None or 0 <= self.missing <= 1, f"{self.missing} is not from 0 to 1")

    @property
    def outputs(self) -> list[str]:
        return ["", *(["is missing"] if self.missing is not None else [])]

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, 1.0

    @property
    def refuses(self) -> tuple[bool, bool]:
        return self.missing is None, False

    def encode(self, values: Values, name: str) -> Array:
        present(values, name, promised=self.missing is None)
        data = np.where(values.missing, self.missing or 0.0, values.data)
        return indicated(data, values.missing, told=self.missing is not None)
