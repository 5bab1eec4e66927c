"""docs/SECURE_AGGREGATION.md says what the engine computes."""

from __future__ import annotations

import re
from pathlib import Path

from aegis_engine import honest_inputs

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "SECURE_AGGREGATION.md"


def test_the_table_of_forced_sums_is_what_the_engine_enforces() -> None:
    rows = re.findall(r"^ *\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == 5
    for row in rows:
        n, *said = map(int, row)
        colluders = (0, n // 10, n // 5)
        found = [honest_inputs(n, c) for c in colluders] + [honest_inputs(n, (n - 1) // 3, commit=True)]
        assert said == found, f"n = {n}"


def test_the_tests_named_for_attacks_exist() -> None:
    section = PAGE.read_text().split("## Attacks and the tests that try them")[1].split("\n## ")[0]
    rows = [row.split("|")[1:-1] for row in section.splitlines() if row.startswith("| ")][1:]
    named = [re.findall(r"`(\w+)`", tests) for _, _, tests in rows]
    assert len(rows) > 20
    assert all(named), "an attack without a test"
    assert sorted({name for names in named for name in names} - known_tests()) == []


def test_the_tests_named_beside_claims_exist() -> None:
    claims = re.findall(r"\*\*Claim\.\*\*.*?(?=\n### |\n## )", PAGE.read_text(), re.DOTALL)
    assert claims
    for claim in claims:
        assert all(f"**{part}" in claim for part in ("Assumptions", "Why", "Tested by")), claim[:80]
        named = re.findall(r"`(\w+)`", claim.split("**Tested by**")[1])
        assert named
        assert sorted(set(named) - known_tests()) == []


def known_tests() -> set[str]:
    sources = [*ROOT.glob("aegis_engine/crates/*/src/**/*.rs"), *ROOT.glob("tests/**/*.py")]
    text = "\n".join(source.read_text() for source in sources)
    return set(re.findall(r"#\[test\](?:\s*#\[[^\]]*\])*\s*fn (\w+)", text)) | set(
        re.findall(r"^def (test_\w+)", text, re.MULTILINE)
    )
