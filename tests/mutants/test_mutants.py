"""The mutants are up to date, and a few of them die; `make test-mutants` runs all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from mutants import ALL, PYTHON
from run import GREEN, RED, ROOT, copied, mutated, run


def test_each_mutant_has_its_place_and_its_test() -> None:
    for mutant in ALL:
        assert (ROOT / mutant.file).read_text().count(mutant.old) == 1, mutant.name
        test = mutant.test.rpartition("::")[2]
        where = ROOT / (
            mutant.test.partition("::")[0] if not mutant.crate else f"aegis_engine/crates/{mutant.crate[6:]}"
        )
        files = [where] if where.is_file() else list(where.rglob("*.rs"))
        assert any(f" {test}(" in file.read_text() for file in files), mutant.name


@pytest.mark.parametrize("number", ["L14", "G03"])
def test_a_mutant_turns_its_test_red(tmp_path: Path, number: str) -> None:
    (mutant,) = [m for m in PYTHON if m.name.startswith(number)]
    copy = copied(tmp_path)
    assert run(mutant, copy) == GREEN
    assert mutated(mutant, copy) == RED
