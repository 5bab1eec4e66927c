"""Moments: days and points in time as time since a declared origin, and as months and weekdays."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

import numpy as np

from aegis_flower.errors import ConfigError
from aegis_flower.features.columns import Feature, check_range, present, require, scaled
from aegis_flower.features.values import DAY, Array, Values

_SECOND: Final = 1_000_000
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
PARTS: Final = {"month": _MONTHS, "weekday": _WEEKDAYS}


@dataclass(frozen=True, kw_only=True)
class Date(Feature):
    """A day or a point in time (UTC): time since an origin, scaled to [-1, 1], and parts as one-hot values.

    Attributes:
        origin: ISO 8601, such as ``2000-01-01``; needed with `low` and `high`.
        unit: ``days`` or ``seconds``, of `low`, `high` and `missing`.
        low, high: bounds of the time since the origin; without them only the parts are there.
        parts: ``month``, ``weekday``; all 0 for gaps.
        missing: what stands for a gap, between the bounds (any number without them); an indicator tells where.
    """

    kind = "date"
    origin: str = ""
    unit: str = "days"
    low: float | None = None
    high: float | None = None
    parts: tuple[str, ...] = ()
    missing: float | None = None

    def check(self, path: str) -> None:
        require(f"{path}.unit", self.unit in ("days", "seconds"), f"{self.unit!r} is not one of days, seconds")
        for part in self.parts:
            require(f"{path}.parts", part in PARTS, f"{part!r} is not one of {', '.join(PARTS)}")
        require(f"{path}.parts", len(set(self.parts)) == len(self.parts), "a part is there twice")
        require(f"{path}.high", (self.low is None) == (self.high is None), "low and high go together")
        require(f"{path}.origin", bool(self.origin) == (self.low is not None), "origin goes with low and high")
        if self.low is not None and self.high is not None:
            _micros(path, self.origin)
            check_range(path, self.low, self.high)
            within = self.missing is None or self.low <= self.missing <= self.high
            require(f"{path}.missing", within, f"{self.missing} is outside low = {self.low:g} to high = {self.high:g}")
        else:
            require(f"{path}.low", bool(self.parts), "give origin, low and high, or parts, or both")

    @property
    def outputs(self) -> list[str]:
        return [
            *([""] if self.low is not None else []),
            *(f"is in {name}" if part == "month" else f"is a {name}" for part in self.parts for name in PARTS[part]),
            *(["is missing"] if self.missing is not None else []),
        ]

    @property
    def refuses(self) -> tuple[bool, bool]:
        return self.missing is None, False

    def encode(self, values: Values, name: str) -> Array:
        present(values, name, promised=self.missing is None)
        out = np.zeros((len(values), self.width), dtype=np.float32)
        at = 0
        if self.low is not None and self.high is not None:
            unit = DAY if self.unit == "days" else _SECOND
            since = (values.data.astype(np.float64) - _micros(name, self.origin)) / unit
            since = np.where(values.missing, self.missing or 0.0, since)
            out[:, 0] = scaled(since, self.low, self.high)
            at = 1
        there = np.flatnonzero(~values.missing)
        days = values.data[there] // DAY
        for part in self.parts:
            # 1970-01-01 was a Thursday
            found = (days + 3) % 7 if part == "weekday" else days.astype("M8[D]").astype("M8[M]").astype(np.int64) % 12
            out[there, at + found] = 1
            at += len(PARTS[part])
        if self.missing is not None:
            out[:, -1] = values.missing
        return out


@dataclass(frozen=True, kw_only=True)
class Time(Date):
    """A point in time, as a `Date`."""

    kind = "time"


def _micros(path: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{path}.origin", f"{text!r} is no date or time of ISO 8601, such as 2000-01-01") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime.combine(date(1970, 1, 1), datetime.min.time(), UTC)
    return (since.days * 86_400 + since.seconds) * _SECOND + since.microseconds
