"""The bits of a channel in time, against numbers worked out by hand."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benches"))
import covert


@pytest.mark.parametrize(
    ("symbols", "error", "bits"),
    [
        (16, 0.0, 4.0),
        (2, 0.5, 0.0),
        (2, 0.11, 0.5),
        (2, 1.0, 1.0),  # always wrong is always known
        (4, 0.75, 0.0),
        (60_000, 0.0, math.log2(60_000)),
    ],
)
def test_the_bits_of_a_symmetric_channel(symbols: int, error: float, bits: float) -> None:
    assert covert.bits(symbols, error) == pytest.approx(bits, abs=0.001)


def test_more_errors_say_less() -> None:
    found = [covert.bits(100, error / 100) for error in range(0, 99, 3)]
    assert found == sorted(found, reverse=True)
