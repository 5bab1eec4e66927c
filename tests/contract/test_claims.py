"""SECURITY.md, docs/VAULT_THREATS.md and docs/findings: each row says how it is known, and the tests it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    "SECURITY.md": ("Who trusts whom", "What is claimed"),
    "docs/VAULT_THREATS.md": ("Against whom",),
}
# A row without a test says in one of these words that there is none.
WITHOUT = re.compile(r"not covered|not claimed|assumed|argument|proved|by design|nothing|as above", re.IGNORECASE)


def _sources() -> list[Path]:
    rust = [p for p in ROOT.glob("aegis_engine/crates/*/**/*.rs") if "target" not in p.parts]
    return [*rust, *(ROOT / "tests").glob("**/*.py")]


def _tests() -> tuple[set[str], set[str]]:
    """Names of all tests, and of the files they are in."""
    names: set[str] = set()
    files: set[str] = set()
    for source in _sources():
        files.add(source.name)
        text = source.read_text()
        names |= set(re.findall(r"^\s*(?:async )?def (test_\w+)", text, re.MULTILINE))
        names |= set(re.findall(r"#\[test\](?:\s*(?:#\[[^\]]*\]|//[^\n]*))*\s*fn (\w+)", text))
        for block in re.findall(r"proptest!\s*\{(.*?)\n\}", text, re.DOTALL):
            names |= set(re.findall(r"fn (\w+)", block))
    return names, files


def _rows(page: str, heading: str) -> list[list[str]]:
    text = (ROOT / page).read_text()
    section = re.search(rf"^## {re.escape(heading)}[^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"{page} has no section {heading!r}"
    lines = [line for line in section[1].splitlines() if line.startswith("|")]
    cells = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if not set("".join(row)) <= set("-: ")]


@pytest.mark.parametrize(("page", "heading"), [(p, h) for p, headings in PAGES.items() for h in headings])
def test_every_row_says_how_it_is_known_and_the_tests_it_names_exist(page: str, heading: str) -> None:
    names, files = _tests()
    _header, *rows = _rows(page, heading)
    assert len(rows) >= 5
    for row in rows:
        known = " ".join(row[1:])
        quoted = re.findall(r"`([^`]+)`", known)
        files_named = {w for q in quoted for w in q.split() if re.fullmatch(r"\w+\.(?:rs|py)", w)}
        assert files_named <= files, f"{page}, {row[0]}: no file {files_named - files}"
        named = {w for q in quoted for w in q.split() if w.startswith("test_") and not w.endswith(".py")}
        named |= {q.split()[1] for q in quoted if re.fullmatch(r"\w+\.rs \w+", q)}
        assert named <= names, f"{page}, {row[0]}: no test {named - names}"
        assert named or files_named or WITHOUT.search(known), f"{page}, {row[0]}: says not how it is known"


FINDINGS = sorted((ROOT / "docs/findings").glob("*.md"))


@pytest.mark.parametrize("page", FINDINGS, ids=lambda p: p.name)
def test_every_test_that_a_table_of_findings_names_exists(page: Path) -> None:
    names, files = _tests()
    named = set(re.findall(r"\b(\w+\.(?:rs|py))::(\w+)", page.read_text()))
    assert len(named) >= 50
    missing = {f"{file}::{name}" for file, name in named if file not in files or name not in names}
    assert not missing


def test_there_are_tables_of_the_findings() -> None:
    assert FINDINGS


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs" / "findings").glob("*.md")))
def test_every_test_that_a_page_of_findings_names_exists_in_that_file(page: str) -> None:
    """``file.py::test`` and ``file.rs::test``; a page that names none would pass by saying nothing."""
    where: dict[str, str] = {}
    for source in _sources():
        where[source.name] = where.get(source.name, "") + source.read_text()
    named = re.findall(r"(\w+\.(?:py|rs))::(\w+)", (ROOT / "docs" / "findings" / page).read_text())
    assert len(named) >= 5
    gone = [f"{file}::{test}" for file, test in named if not re.search(rf"\b(?:def|fn) {test}\b", where.get(file, ""))]
    assert not gone, f"{page}: no such tests: {gone}"
