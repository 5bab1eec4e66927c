"""Sequences: words of texts, numbers of a fixed shape, lists cut or filled up to a length."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aegis_flower.features.categories import check_ids
from aegis_flower.features.columns import EMPTY, WIDEST, Feature, check_range, indicated, present, require, scaled
from aegis_flower.features.tokens import words
from aegis_flower.features.values import Array, Values


@dataclass(frozen=True, kw_only=True)
class TextIds(Feature):
    """A text as ids of its first words, by a hash; 0 fills up, for gaps entirely.

    Attributes:
        ids: number of ids, 0 among them; words may share one.
        length: ids of a row.
        missing: ``empty``: a gap is a text without words; None refuses gaps.
    """

    kind = "text"
    form = "ids"
    whole = True
    ids: int
    length: int
    missing: str | None = None

    def check(self, path: str) -> None:
        _check_ids(path, self.ids, self.missing)
        require(f"{path}.length", 1 <= self.length <= WIDEST, f"{self.length} is not from 1 to {WIDEST}")

    @property
    def outputs(self) -> list[str]:
        return [f"word {at + 1}" for at in range(self.length)]

    @property
    def bounds(self) -> tuple[float, float]:
        return 0, self.ids - 1

    @property
    def refuses(self) -> tuple[bool, bool]:
        return self.missing is None, False

    def encode(self, values: Values, name: str) -> Array:
        present(values, name, promised=self.missing is None)
        out = np.zeros((len(values), self.length), dtype=np.int64)
        row, place, found = words(values, self.ids, self.length)
        out[row, place] = found
        return out


@dataclass(frozen=True, kw_only=True)
class TextBag(Feature):
    """A text as which words are in it: a 1 at the id of each, by a hash. Id 0 is 1 where there is no word.

    Attributes:
        ids: number of ids, 0 among them; words may share one.
        missing: ``empty``: a gap is a text without words; None refuses gaps.
    """

    kind = "text"
    form = "bag"
    ids: int
    missing: str | None = None

    def check(self, path: str) -> None:
        _check_ids(path, self.ids, self.missing)

    @property
    def outputs(self) -> list[str]:
        return ["has no word", *(f"has word {at}" for at in range(1, self.ids))]

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, 1.0

    @property
    def refuses(self) -> tuple[bool, bool]:
        return self.missing is None, False

    def encode(self, values: Values, name: str) -> Array:
        present(values, name, promised=self.missing is None)
        out = np.zeros((len(values), self.ids), dtype=np.float32)
        row, _, found = words(values, self.ids, None)
        out[:, 0] = 1
        out[row, 0] = 0
        out[row, found] = 1
        return out


def _check_ids(path: str, ids: int, missing: str | None) -> None:
    require(f"{path}.ids", 1 < ids <= WIDEST, f"{ids} is not from 2 to {WIDEST}")
    require(f"{path}.missing", missing in (None, EMPTY), f"{missing!r} is not empty; leave it out to refuse gaps")


@dataclass(frozen=True, kw_only=True)
class Tensor(Feature):
    """Numbers of a fixed shape, such as pixels: clipped to [low, high] and scaled to [-1, 1].

    Attributes:
        shape: of a row; flat in the output.
        low, high: public bounds of each number.
        missing: what stands for every number of a gap, or of a row with a gap; an indicator tells where.
    """

    kind = "tensor"
    shape: tuple[int, ...]
    low: float
    high: float
    missing: float | None = None

    def check(self, path: str) -> None:
        require(f"{path}.shape", bool(self.shape) and all(n > 0 for n in self.shape), "one or more positive sizes")
        require(f"{path}.shape", self.size_read <= WIDEST, f"has more than {WIDEST} numbers")
        check_range(path, self.low, self.high)
        within = self.missing is None or self.low <= self.missing <= self.high
        require(f"{path}.missing", within, f"{self.missing} is outside low = {self.low:g} to high = {self.high:g}")

    @property
    def size_read(self) -> int:
        return math.prod(self.shape)

    @property
    def outputs(self) -> list[str]:
        return [*(f"[{at}]" for at in range(self.size_read)), *(["is missing"] if self.missing is not None else [])]

    @property
    def refuses(self) -> tuple[bool, bool]:
        return self.missing is None, False

    def encode(self, values: Values, name: str) -> Array:
        present(values, name, promised=self.missing is None)
        data = np.where(values.missing[:, None], self.missing or 0.0, values.data)
        return indicated(scaled(data, self.low, self.high), values.missing, told=self.missing is not None)


@dataclass(frozen=True, kw_only=True)
class ListNumbers(Feature):
    """A list of numbers: cut or filled up to a length, clipped to [low, high], scaled to [-1, 1].

    Attributes:
        length: numbers of a row.
        low, high: public bounds of each number.
        pad: what fills up and stands for gaps inside, from -1 to 1.
        missing: ``empty``: a gap is a list without numbers, and an indicator tells where; None refuses gaps.
    """

    kind = "list"
    form = "numbers"
    length: int
    low: float
    high: float
    pad: float = 0.0
    missing: str | None = None

    def check(self, path: str) -> None:
        check_range(path, self.low, self.high)
        require(f"{path}.length", 1 <= self.length <= WIDEST, f"{self.length} is not from 1 to {WIDEST}")
        require(
            f"{path}.pad", -1 <= self.pad <= 1, f"{self.pad:g} is not from -1 to 1, in which the numbers are scaled"
        )
        require(f"{path}.missing", self.missing in (None, EMPTY), f"{self.missing!r} is not empty")

    @property
    def outputs(self) -> list[str]:
        return [*(f"[{at}]" for at in range(self.length)), *(["is missing"] if self.missing else [])]

    @property
    def refuses(self) -> tuple[bool, bool]:
        return self.missing is None, False

    def encode(self, values: Values, name: str) -> Array:
        present(values, name, promised=self.missing is None)
        row, place, data = items(values, self.length)
        out = np.full((len(values), self.length), self.pad)
        numbers = scaled(data.astype(np.float64), self.low, self.high)
        out[row, place] = np.where(np.isnan(numbers), self.pad, numbers)
        return indicated(out, values.missing, told=self.missing is not None)


@dataclass(frozen=True, kw_only=True)
class ListIds(Feature):
    """A list of ids, such as tokens: cut or filled up to a length, kept as they are.

    Attributes:
        length: ids of a row.
        low, high: least and largest id.
        pad: the id that fills up.
        unknown: the id of numbers outside and of gaps inside.
        missing: ``empty``: a gap is a list without ids; None refuses gaps.
    """

    kind = "list"
    form = "ids"
    whole = True
    length: int
    low: int
    high: int
    pad: int
    unknown: int
    missing: str | None = None

    def check(self, path: str) -> None:
        check_ids(path, self.low, self.high, pad=self.pad, unknown=self.unknown)
        require(f"{path}.length", 1 <= self.length <= WIDEST, f"{self.length} is not from 1 to {WIDEST}")
        require(f"{path}.missing", self.missing in (None, EMPTY), f"{self.missing!r} is not empty")

    @property
    def outputs(self) -> list[str]:
        return [f"[{at}]" for at in range(self.length)]

    @property
    def bounds(self) -> tuple[float, float]:
        known = (self.low, self.high, self.pad, self.unknown)
        return min(known), max(known)

    @property
    def refuses(self) -> tuple[bool, bool]:
        return self.missing is None, False

    def encode(self, values: Values, name: str) -> Array:
        present(values, name, promised=self.missing is None)
        row, place, data = items(values, self.length)
        out = np.full((len(values), self.length), self.pad, dtype=np.int64)
        known = (data >= self.low) & (data <= self.high) & (np.floor(data) == data)
        out[row, place] = np.where(known, data, self.unknown).astype(np.int64)
        return out


def items(values: Values, length: int) -> tuple[Array, Array, Array]:
    """Row, place and number of the first items of each list."""
    assert values.ends is not None
    kept = np.minimum(values.lengths, length)
    row = np.repeat(np.arange(len(values)), kept)
    place = np.arange(len(row)) - np.repeat(np.cumsum(kept) - kept, kept)
    return row, place, values.data[values.ends[:-1][row] + place]
