"""`benches/secagg.py` at its smallest: every row is there, and both sums are right. No time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "benches" / "secagg.py"
ROWS = [
    "mask",
    "share",
    "unmask-50",
    "unmask-100",
    "unmask-100",
    "upload",
    "memory",
    "survive",
    "exact",
    "exact",
    "trips",
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict]:
    out = tmp_path_factory.mktemp("bench") / "out.json"
    # The bench forks: it needs a process that pytest, torch and their threads are not in.
    run = subprocess.run(
        [sys.executable, BENCH, "--tiny", "--json", out], capture_output=True, text=True, check=False, timeout=280
    )
    assert run.returncode == 0, run.stderr
    return run.stdout, json.loads(out.read_text())


def test_every_row_of_the_goals_table_is_there_with_both_sides(ran: tuple[str, dict]) -> None:
    text, out = ran
    assert [row["key"] for row in out["rows"]] == ROWS
    for row in out["rows"]:
        assert row["figure"] in text
        assert row["flower"]
        assert row["aegis"]
        assert row["goal"]
        assert row["met"] is None, "small cases decide nothing"


def test_both_sums_agree_with_the_plain_mean(ran: tuple[str, dict]) -> None:
    servers = ran[1]["servers"]
    assert len(servers) == 6
    for line in servers:
        assert line["flower"]["difference"] < 16 / 2**22
        assert line["aegis"]["difference"] <= 1 / (2**15 - 1) / 2 * (1 + 1e-9)


def test_a_case_that_masks_one_value_for_a_long_vector_gives_the_plain_mean_too(ran: tuple[str, dict]) -> None:
    (row,) = (row for row in ran[1]["rows"] if row["key"] == "unmask-50")
    assert row["ratio"] > 0, "a mean that is not the plain one would have ended the run with an error"


def test_bytes_are_those_of_the_masked_vectors(ran: tuple[str, dict]) -> None:
    for line in ran[1]["clients"]:
        assert 8 * line["d"] <= line["flower_mask"]["bytes"] < 8 * line["d"] + 500
        assert 3 * line["d"] <= line["aegis_mask"]["bytes"] < 3 * line["d"] + 100


def test_ours_survives_at_every_step(ran: tuple[str, dict]) -> None:
    assert [row["aegis"] for row in ran[1]["rows"] if row["key"] == "survive"] == ["yes"]


def test_help_says_what_the_figures_mean() -> None:
    run = subprocess.run([sys.executable, BENCH, "--help"], capture_output=True, text=True, check=True, timeout=120)
    for word in ("CPU seconds", "--quick", "--only", "--json", "unmask-100"):
        assert word in run.stdout
