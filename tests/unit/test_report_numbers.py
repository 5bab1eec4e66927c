"""Numbers as a report writes and draws them: none is made to look better, no gap in a line is bridged."""

from __future__ import annotations

import math
import re

import pytest

from aegis_flower.report import words
from aegis_flower.report.page import charts as svg


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.87, "2.87"), (2.8701, "2.88"), (3.0, "3.00"), (0.0, "0.00"), (0.0123456, "0.0124"), (1e-7, "0.000000100"),
     (1.234567e-12, "1.24e-12"), (12345.678, "12345.68")],
)  # fmt: skip
def test_epsilon_is_rounded_up(value: float, text: str) -> None:
    shown = words.epsilon(value)
    assert float(shown) >= value
    assert shown == text or math.isclose(float(shown), float(text))


@pytest.mark.parametrize(
    ("value", "text"), [(1e-5, "1e-5"), (2.5e-6, "2.5e-6"), (1e-4, "1e-4"), (0.05, "0.05"), (0.0, "0")]
)
def test_delta(value: float, text: str) -> None:
    assert words.delta_text(value) == text


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.41, 0.89), (5, 5), (0, 0), (-3, 7), (1e-9, 2e-9), (0, 1e6)])
def test_ticks_cover_the_range(low: float, high: float) -> None:
    ticks = svg.nice_ticks(low, high)
    assert ticks == sorted(set(ticks))
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + 1e-12
    assert ticks[-1] >= high - 1e-12


def test_gap_in_a_line_is_not_bridged() -> None:
    series = svg.Series("x", ((1, 0.5), (2, None), (3, 0.5)), "accent")
    drawn = svg.line_chart([series], title="t", x_label="round", show_x=words.whole, show_y=words.percent, whole_x=True)
    path = re.search(r'class="line" d="([^"]*)"', drawn)
    assert path is not None
    assert path[1].count("M") == 2
