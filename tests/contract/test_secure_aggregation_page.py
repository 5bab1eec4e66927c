"""docs/SECURE_AGGREGATION.md says what the engine computes."""

from __future__ import annotations

import re
from pathlib import Path

from aegis_engine import honest_inputs

PAGE = Path(__file__).parents[2] / "docs" / "SECURE_AGGREGATION.md"


def test_the_table_of_forced_sums_is_what_the_engine_enforces() -> None:
    rows = re.findall(r"^ *\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == 5
    for row in rows:
        n, *said = map(int, row)
        colluders = (0, n // 10, n // 5)
        found = [honest_inputs(n, c) for c in colluders] + [honest_inputs(n, (n - 1) // 3, commit=True)]
        assert said == found, f"n = {n}"
