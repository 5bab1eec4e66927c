"""Labels: what a model learns to say, by task, and how a column becomes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from aegis_flower.features.columns import check_range, known_only, present, require, scaled
from aegis_flower.features.values import Array, Values

_LEVELS_LEAST: Final = {"binary": 2, "multiclass": 2, "ordinal": 3}
TASKS: Final = ("binary", "multiclass", "multilabel", "regression", "ordinal")
_TWO: Final = 2


@dataclass(frozen=True, kw_only=True)
class Label:
    """What is to be predicted.

    Attributes:
        task: ``binary`` and ``multiclass`` give the place of the level (int64); ``multilabel`` a flag per column; ``ordinal`` a
            flag per level but the last, whether the value is above it; ``regression`` the number, scaled from [low, high] to
            [-1, 1].
        column: the column, but for multilabel.
        columns: for multilabel, columns of flags.
        levels: for classes, the public vocabulary in order; whole numbers and flags count by their text (``true``, ``false``).
        low, high: for regression, public bounds.
        missing: the level, number or flag that stands for a gap. None refuses gaps.
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
            require(f"{path}.{key}", is_there == (self.task == "regression"), "is for regression, and needed there")
        require(f"{path}.unknown", self.unknown is None or self.unknown in self.levels, f"{self.unknown!r} is no level")
        if self.low is not None and self.high is not None:
            check_range(path, self.low, self.high)
            number = isinstance(self.missing, int | float) and self.low <= self.missing <= self.high
            require(f"{path}.missing", self.missing is None or number, f"{self.missing!r} is outside low to high")
        elif many:
            require(f"{path}.missing", self.missing in (None, 0, 1), f"{self.missing!r} is not 0 or 1")
        else:
            self._check_levels(path)

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
    def reads(self) -> dict[str, str]:
        """Columns that are read, and as what kind."""
        if self.task == "multilabel":
            return dict.fromkeys(self.columns, "category")
        return {self.column: "number" if self.task == "regression" else "category"}

    @property
    def levels_read(self) -> tuple[str, ...]:
        """Vocabulary with which the columns are read; whole numbers 0 and 1 are flags, too."""
        return ("false", "true", "0", "1") if self.task == "multilabel" else self.levels

    @property
    def outputs(self) -> int:
        """Numbers that a model gives for a row."""
        return {"multilabel": len(self.columns), "ordinal": len(self.levels) - 1, "regression": 1}.get(
            self.task, len(self.levels)
        )

    @property
    def width(self) -> int:
        """Values of a label."""
        return self.outputs if self.task in ("multilabel", "ordinal") else 1

    @property
    def dtype(self) -> str:
        """Type of the labels."""
        return "int64" if self.task in ("binary", "multiclass") else "float32"

    def encode(self, read: Callable[[str, str], Values]) -> Array:
        """Labels of a batch: shape (rows,), or (rows, values) for multilabel and ordinal.

        Args:
            read: gives a column by its name, as a kind.
        """
        if self.task == "multilabel":
            return np.column_stack([self._flags(read(name, "category"), name) for name in self.columns])
        values = read(self.column, self.reads[self.column])
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
            outputs: shape (rows, `outputs`): what the model gives before a softmax or sigmoid.

        Returns:
            Columns by name: ``prediction`` (the level, or the number within its bounds; not for multilabel), and probabilities
            ``p(LEVEL)``, for ordinal ``p(above LEVEL)``, for multilabel ``p(COLUMN)``.
        """
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
        if self.task == "multilabel":
            return {f"p({column})": chances[:, at] for at, column in enumerate(self.columns)}
        # Steps are modelled apart, so they may cross: the levels passed are counted (Frank and Hall 2001).
        above = {f"p(above {level})": chances[:, at] for at, level in enumerate(self.levels[:-1])}
        return {"prediction": np.array(self.levels)[(chances > 0.5).sum(axis=1)], **above}  # noqa: PLR2004 - more likely than not

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
