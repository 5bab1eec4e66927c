"""Which thresholds and graphs a client accepts, from docs/SECURE_AGGREGATION.md ("Privacy, step by step")."""

from __future__ import annotations

from fractions import Fraction
from math import comb
from typing import Any

from reference.secagg.wire import need

SECURITY = 2.0**-64


def threshold(n: int) -> int:
    return 2 * n // 3 + 1


def honest_inputs(n: int, t: int, c: int, *, commit: bool) -> int:
    """The smallest number of honest inputs that split views can bring into a sum."""
    if t > n or c >= 2 * t - n:
        return 0
    if commit:
        return t - c

    def possible(s: int) -> bool:
        counts = ((e, n - c - s - e) for e in range(n - t + 1))
        return any(d >= 0 and d * (t - c) <= s * (n - t - e) + (e + d) * (n - t) for e, d in counts)

    return next((s for s in range(1, n - c + 1) if possible(s)), n - c)


def sparse_is_secure(n: int, degree: int, t: int, colluders: int) -> bool:
    """P[some half-neighbourhood holds t - 1 - degree/2 colluders or more], over 2n of them, is at most 2^-64."""
    half, least = degree // 2, t - 1 - degree // 2
    if least < 1 or t > degree:
        return False
    ways = sum(comb(colluders, i) * comb(n - 1 - colluders, half - i) for i in range(least, half + 1))
    return Fraction(ways, comb(n - 1, half)) * 2 * n <= SECURITY


def check_shape(n: int, shape: dict[str, Any], limits: dict[str, Any]) -> None:
    degree, t = shape["degree"], shape["threshold"]
    complete = degree == n - 1
    holders = degree + 1
    minimum = max(limits["min_threshold"], threshold(n) if complete else holders // 2 + 1)
    need(minimum <= t <= holders, "the threshold", "ThresholdRefused")
    need(shape["commit"] or not limits["require_commit"], "no commit step", "ShapeRefused")
    colluders = n * limits["colluding_percent"] // 100
    if complete:
        floor = honest_inputs(n, t, colluders, commit=shape["commit"])
        need(floor >= limits["min_honest"], "too few honest inputs", "ShapeRefused")
    else:
        possible = 0 < degree < n and degree % 2 == 0 and shape["commit"]
        need(possible and sparse_is_secure(n, degree, t, min(colluders, n - 1)), "the graph", "ShapeRefused")
