"""Labels: what a model learns to say, by task, and how a column becomes it; and how much a record counts in that."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from aegis_flower.features.columns import EMPTY, WIDEST, check_range, known_only, present, require, scaled
from aegis_flower.features.sequences import items
from aegis_flower.features.values import Array, Values

_LEVELS_LEAST: Final = {"binary": 2, "multiclass": 2, "ordinal": 3}
TASKS: Final = ("binary", "multiclass", "multilabel", "regression", "ordinal", "time-to-event", "next-token")
_NUMBERS: Final = ("regression", "next-token")
_VOCABULARY_MAX: Final = 1 << 20
_TWO: Final = 2
_WEIGHT_MAX: Final = 1e6


@dataclass(frozen=True, kw_only=True)
class Weight:
    """How much a record counts in training: its loss is multiplied by this number.

    The gradient of the product is what is clipped, so a record moves a step by no more than it does without weights. Metrics
    count each record once.

    Attributes:
        column: of the numbers; the data set has to promise that each record has one, of 0 or more.
        high: public bound; what is above counts as this.

    Raises:
        ConfigError: names the key.
    """

    column: str
    high: float

    def check(self, path: str) -> None:
        """Refuses what means nothing, by its key."""
        require(f"{path}.column", bool(self.column), "names no column")
        possible = math.isfinite(self.high) and 0 < self.high <= _WEIGHT_MAX
        require(f"{path}.high", possible, f"{self.high:g} is not above 0, to {_WEIGHT_MAX:g}")

    def encode(self, values: Values) -> Array:
        """Weights of a batch, float32 of shape (rows,), from 0 to `high`."""
        present(values, self.column, promised=True)
        return np.clip(values.data, 0.0, self.high).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Label:
    """What is to be predicted.

    Attributes:
        task: ``binary`` and ``multiclass`` give the place of the level (int64); ``multilabel`` a flag per column; ``ordinal`` a
            flag per level but the last, whether the value is above it; ``regression`` the number, scaled from [low, high] to
            [-1, 1]; ``time-to-event`` a number per interval of time: 1 where the event was in it, 0 where it passed without, -1
            from there on, and from the interval in which a record was censored; ``next-token`` the place in the vocabulary of
            the token after each of the first `length` ones (int64), -1 where there is none or it is not from `low` to `high`.
        column: the column, but for multilabel; of time-to-event the time from 0 to the event or to the end of observation.
        event: of time-to-event, the column of flags: whether the time ended with the event; else the record is censored.
        edges: of time-to-event, where the intervals end, the first of which begins at 0; the last one is the horizon.
        columns: for multilabel, columns of flags.
        levels: for classes, the public vocabulary in order; whole numbers and flags count by their text (``true``, ``false``).
        low, high: for regression, public bounds; for next-token the least and the largest token.
        length: for next-token, tokens of a row that a model is given, as the feature of the same column has it.
        missing: the level, number or flag that stands for a gap; of next-token ``empty``. None refuses gaps.
        unknown: the level that stands for values outside the vocabulary. None refuses them.

    Raises:
        ConfigError: names the key.
    """

    task: str
    column: str = ""
    columns: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    missing: str | float | None = None
    unknown: str | None = None
    event: str = ""
    edges: tuple[float, ...] = ()
    length: int = 0

    def check(self, path: str) -> None:
        """Refuses what means nothing, by its key."""
        require(f"{path}.task", self.task in TASKS, f"{self.task!r} is not one of {', '.join(TASKS)}")
        many = self.task == "multilabel"
        for key, wanted, of in (
            ("column", not many, "every task but multilabel"),
            ("columns", many, "multilabel"),
            ("levels", self.task in _LEVELS_LEAST, "binary, multiclass and ordinal"),
        ):
            require(f"{path}.{key}", bool(getattr(self, key)) == wanted, f"is for {of}, and needed there")
        require(
            f"{path}.columns", not many or len(set(self.columns)) == len(self.columns) >= _TWO, "two or more columns"
        )
        for key in ("low", "high"):
            is_there = getattr(self, key) is not None
            of_numbers = self.task in _NUMBERS
            require(f"{path}.{key}", is_there == of_numbers, "is for regression and next-token, and needed there")
        require(f"{path}.unknown", self.unknown is None or self.unknown in self.levels, f"{self.unknown!r} is no level")
        self._check_time(path)
        following = self.task == "next-token"
        require(f"{path}.length", bool(self.length) == following, "is for next-token, and needed there")
        if following:
            self._check_tokens(path)
        elif self.low is not None and self.high is not None:
            check_range(path, self.low, self.high)
            number = isinstance(self.missing, int | float) and self.low <= self.missing <= self.high
            require(f"{path}.missing", self.missing is None or number, f"{self.missing!r} is outside low to high")
        elif self.task == "time-to-event":
            require(f"{path}.missing", self.missing is None, "a record without a time or an event tells nothing")
        elif many:
            require(f"{path}.missing", self.missing in (None, 0, 1), f"{self.missing!r} is not 0 or 1")
        else:
            self._check_levels(path)

    def _check_time(self, path: str) -> None:
        timed = self.task == "time-to-event"
        for key in ("event", "edges"):
            require(f"{path}.{key}", bool(getattr(self, key)) == timed, "is for time-to-event, and needed there")
        if timed:
            require(f"{path}.event", self.event != self.column, "is the column of the time")
            rising = all(a < b for a, b in itertools.pairwise((0.0, *self.edges)))
            finite = all(math.isfinite(edge) for edge in self.edges)
            require(f"{path}.edges", rising and finite and len(self.edges) >= _TWO, "two or more, rising from above 0")

    def _check_tokens(self, path: str) -> None:
        require(f"{path}.length", _TWO <= self.length <= WIDEST, f"{self.length} is not from 2 to {WIDEST}")
        low, high = self.tokens
        whole = low == self.low and high == self.high and 0 < high - low < _VOCABULARY_MAX
        require(f"{path}.high", whole, f"low to high are whole numbers, 2 to {_VOCABULARY_MAX} of them")
        require(f"{path}.missing", self.missing in (None, EMPTY), f"{self.missing!r} is not {EMPTY}")

    def _check_levels(self, path: str) -> None:
        least = _LEVELS_LEAST[self.task]
        enough = len(self.levels) == _TWO if self.task == "binary" else len(self.levels) >= least
        require(
            f"{path}.levels", enough, f"{self.task} needs {'exactly' if self.task == 'binary' else 'at least'} {least}"
        )
        require(f"{path}.levels", len(set(self.levels)) == len(self.levels), "levels are different from each other")
        known = self.missing is None or self.missing in self.levels
        require(f"{path}.missing", known, f"{self.missing!r} is no level")

    @property
    def tokens(self) -> tuple[int, int]:
        """Of next-token, the least and the largest token."""
        assert self.low is not None
        assert self.high is not None
        finite = math.isfinite(self.low) and math.isfinite(self.high)
        return (int(self.low), int(self.high)) if finite else (0, 0)

    @property
    def reads(self) -> dict[str, str]:
        """Columns that are read, and as what kind."""
        if self.task == "multilabel":
            return dict.fromkeys(self.columns, "category")
        if self.task == "time-to-event":
            return {self.column: "number", self.event: "category"}
        if self.task == "next-token":
            return {self.column: "list"}
        return {self.column: "number" if self.task == "regression" else "category"}

    @property
    def levels_read(self) -> tuple[str, ...]:
        """Vocabulary with which the columns are read; whole numbers 0 and 1 are flags, too."""
        return ("false", "true", "0", "1") if self.task in ("multilabel", "time-to-event") else self.levels

    @property
    def outputs(self) -> int:
        """Numbers that a model gives for a row; of next-token, for each of its places."""
        if self.task == "next-token":
            low, high = self.tokens
            return high - low + 1
        several = {"multilabel": len(self.columns), "ordinal": len(self.levels) - 1, "time-to-event": len(self.edges)}
        return 1 if self.task == "regression" else several.get(self.task, len(self.levels))

    @property
    def given(self) -> tuple[int, ...]:
        """Shape of a model's outputs for a row; of next-token the places come last, as torch's cross-entropy has them."""
        return (self.outputs, self.length) if self.task == "next-token" else (self.outputs,)

    @property
    def width(self) -> int:
        """Values of a label."""
        if self.task == "next-token":
            return self.length
        return self.outputs if self.task in ("multilabel", "ordinal", "time-to-event") else 1

    @property
    def dtype(self) -> str:
        """Type of the labels."""
        return "int64" if self.task in ("binary", "multiclass", "next-token") else "float32"

    def encode(self, read: Callable[[str, str], Values]) -> Array:
        """Labels of a batch: shape (rows,), or (rows, values) for multilabel and ordinal.

        Args:
            read: gives a column by its name, as a kind.
        """
        if self.task == "multilabel":
            return np.column_stack([self._flags(read(name, "category"), name) for name in self.columns])
        if self.task == "time-to-event":
            return self._intervals(read(self.column, "number"), self._flags(read(self.event, "category"), self.event))
        values = read(self.column, self.reads[self.column])
        if self.task == "next-token":
            return self._following(values)
        present(values, self.column, promised=self.missing is None)
        if self.low is not None and self.high is not None:
            data = np.where(values.missing, 0.0 if self.missing is None else float(self.missing), values.data)
            return scaled(data, self.low, self.high).astype(np.float32)
        codes = self._codes(values)
        if self.task != "ordinal":
            return codes
        # a flag per step of the scale (Frank and Hall 2001): above the first level, above the second, ...
        return (codes[:, None] > np.arange(self.outputs)).astype(np.float32)

    def decode(self, outputs: Array) -> dict[str, Array]:
        """What a model's outputs say, in the words of the plan.

        Args:
            outputs: shape (rows, *`given`): what the model gives before a softmax or sigmoid.

        Returns:
            Columns by name: ``prediction`` (the level, or the number within its bounds; not for multilabel), and probabilities
            ``p(LEVEL)``, for ordinal ``p(above LEVEL)``, for multilabel ``p(COLUMN)``, for time-to-event ``p(event by EDGE)``.
            Of next-token, the likeliest token after each place, ``after PLACE`` from 1.
        """
        if self.task == "next-token":
            best = np.asarray(outputs).reshape(len(outputs), *self.given).argmax(axis=1) + self.tokens[0]
            return {f"after {at + 1}": best[:, at] for at in range(self.length)}
        data = np.asarray(outputs, dtype=np.float64).reshape(len(outputs), self.outputs)
        if self.low is not None and self.high is not None:
            scale = (np.clip(data[:, 0], -1, 1) + 1) / 2
            return {"prediction": self.low + scale * (self.high - self.low)}
        if self.task in ("binary", "multiclass"):
            shifted = np.exp(data - data.max(axis=1, keepdims=True))
            chances = shifted / shifted.sum(axis=1, keepdims=True)
            named = {f"p({level})": chances[:, at] for at, level in enumerate(self.levels)}
            return {"prediction": np.array(self.levels)[chances.argmax(axis=1)], **named}
        chances = 0.5 * (1 + np.tanh(data / 2))  # the logistic function, without an overflow
        if self.task == "time-to-event":
            passed = np.cumprod(1 - chances, axis=1)
            return {f"p(event by {edge:g})": 1 - passed[:, at] for at, edge in enumerate(self.edges)}
        if self.task == "multilabel":
            return {f"p({column})": chances[:, at] for at, column in enumerate(self.columns)}
        # Steps are modelled apart, so they may cross: the levels passed are counted (Frank and Hall 2001).
        above = {f"p(above {level})": chances[:, at] for at, level in enumerate(self.levels[:-1])}
        return {"prediction": np.array(self.levels)[(chances > 0.5).sum(axis=1)], **above}  # noqa: PLR2004 - more likely than not

    def _following(self, values: Values) -> Array:
        """The token after each of the first ones, counted from the least."""
        present(values, self.column, promised=self.missing is None)
        low, high = self.tokens
        row, place, data = items(values, self.length + 1)
        known = (data >= low) & (data <= high) & (np.floor(data) == data)
        later = place > 0
        out = np.full((len(values), self.length), -1, dtype=np.int64)
        out[row[later], place[later] - 1] = np.where(known, data - low, -1)[later].astype(np.int64)
        return out

    def _intervals(self, times: Values, happened: Array) -> Array:
        """Intervals passed, ended by the event, and not seen (Tutz and Schmid 2016, 3.4): censored records count up to the last
        interval that they passed whole.
        """
        present(times, self.column, promised=True)
        edges, time = np.asarray(self.edges), np.nan_to_num(times.data.astype(np.float64)).clip(min=0.0)[:, None]
        event = happened[:, None] > 0
        out = np.where(np.where(event, edges < time, edges <= time), 0.0, -1.0)
        place = np.searchsorted(edges, time[:, 0])  # an event at an edge is in the interval that ends there
        rows = np.flatnonzero(event[:, 0] & (place < len(edges)))
        out[rows, place[rows]] = 1.0
        return out.astype(np.float32)

    def _codes(self, values: Values) -> Array:
        other = ~values.missing & (values.data < 0)
        if self.unknown is None:
            known_only(other, self.column)
        codes = np.where(other, self.levels.index(self.unknown) if self.unknown is not None else 0, values.data)
        gap = self.levels.index(str(self.missing)) if self.missing is not None else 0
        return np.where(values.missing, gap, codes).astype(np.int64)

    def _flags(self, values: Values, name: str) -> Array:
        present(values, name, promised=self.missing is None)
        known_only(~values.missing & (values.data < 0), name)
        return np.where(values.missing, float(self.missing or 0), values.data % 2).astype(np.float32)
