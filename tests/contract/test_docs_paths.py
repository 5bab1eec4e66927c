"""docs/how-to: each file that a table names exists, and the names beside it are in it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import follow_moves

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/how-to").glob("*.md"))
# What a newcomer asks, and the page that answers it in two hops: docs/index.md, docs/how-to/index.md, this.
TASKS = {
    "gate": "add-a-gate.md",
    "shred level": "add-a-shred-level.md",
    "aggregation rule": "add-a-rule.md",
    "data set": "add-a-data-set.md",
    "key provider": "add-a-key-provider.md",
    "metric": "add-a-metric.md",
    "columns of texts": "feature-plans.md",
    "nonce": "where.md#nonce",
    "false share": "where.md#false-shares",
    "ε is charged": "where.md#privacy-budget",
    "without noise": "where.md#what-leaves",
}


def _rows(page: Path) -> list[tuple[str, list[str]]]:
    """File and names of each row of a table with the columns `file` and `names`."""
    rows = []
    columns: list[str] = []
    for line in page.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            columns = []
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not columns:
            columns = cells
        elif "file" in columns and not set("".join(cells)) <= set("-: "):
            (file,) = re.findall(r"`([^`]+)`", cells[columns.index("file")])
            rows.append((file, re.findall(r"`([^`]+)`", cells[columns.index("names")])))
    return rows


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_files_that_a_how_to_names_exist_and_hold_the_names(page: Path) -> None:
    rows = _rows(page)
    assert rows or page.name == "index.md"
    for file, names in rows:
        assert (ROOT / file).is_file(), f"{page.name}: no file {file}"
        assert names, f"{page.name}: {file} without a name to look for"
        text = (ROOT / file).read_text(encoding="utf-8")
        missing = [n for n in names if not re.search(rf"(?<!\w){re.escape(n)}(?!\w)", text)]
        assert not missing, f"{page.name}: not in {file}: {missing}"


def test_paths_are_written_in_tables_alone_so_that_a_script_can_follow_moves() -> None:
    path = re.compile(r"`(?:aegis_engine|aegis_flower|strategies|configs|simulations)/[\w/.-]+`")
    for page in PAGES:
        prose = [line for line in page.read_text(encoding="utf-8").splitlines() if not line.startswith("|")]
        assert not [line for line in prose if path.search(line)], page.name


@pytest.mark.parametrize("task", TASKS)
def test_a_newcomers_task_is_two_hops_from_the_start(task: str) -> None:
    start = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert "(how-to/index.md)" in start
    index = (ROOT / "docs/how-to/index.md").read_text(encoding="utf-8")
    assert re.search(rf"^\|[^|]*{task}[^|]*\|[^|]*\({re.escape(TASKS[task])}\)", index, re.MULTILINE)
    page, _, anchor = TASKS[task].partition("#")
    text = (ROOT / "docs/how-to" / page).read_text(encoding="utf-8")
    assert not anchor or re.search(rf"^## {anchor.replace('-', ' ')}$", text, re.MULTILINE | re.IGNORECASE)


def test_paths_follow_moves_as_whole_paths() -> None:
    moved = {
        "aegis_engine/crates/vault/src/chunk.rs": "aegis_engine/crates/vault/src/format/chunk.rs",
        "aegis_flower/report.py": "aegis_flower/report/model.py",
    }
    before = (
        "`aegis_engine/crates/vault/src/chunk.rs`, `crates/vault/src/chunk.rs`, `src/chunk.rs`, aegis_flower/report.py."
    )
    after = (
        "`aegis_engine/crates/vault/src/format/chunk.rs`, `crates/vault/src/format/chunk.rs`, `src/chunk.rs`, "
        "aegis_flower/report/model.py."
    )
    assert follow_moves.follow(before, moved) == after
    assert follow_moves.follow("aegis_flower/report.pyi x/aegis_flower/report.py", moved).startswith(
        "aegis_flower/report.pyi x/a"
    )


def test_a_row_of_a_split_file_is_led_to_where_its_name_is_defined(tmp_path: Path) -> None:
    room = tmp_path / "aegis_engine/crates/policy/src/engine"
    room.mkdir(parents=True)
    (room / "mod.rs").write_text("impl Engine {\n    pub fn authorize(&self) {}\n}\n")
    (room / "rows.rs").write_text("fn ask() { engine.authorize() }\n")
    row = "| a decision | `aegis_engine/crates/policy/src/engine.rs` | `authorize` |\n"
    text, left = follow_moves.split(row, tmp_path)
    assert text == row.replace("engine.rs", "engine/mod.rs")
    assert not left
    assert follow_moves.split(row.replace("authorize", "ask_all"), tmp_path)[1] == [
        "aegis_engine/crates/policy/src/engine.rs"
    ]


# Folders, files with their suffix; not patterns, placeholders (NAME, <id>) or what only a vault has.
_PATH = re.compile(
    r"`((?:aegis_engine|aegis_flower|strategies|configs|simulations|tests|docs|benches|examples|crates)/[\w./-]*?(?:/|\.\w+))`"
)


@pytest.mark.parametrize(
    "page",
    sorted(
        p
        for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "aegis_engine/README.md"]
        # the changelog is of the past; ARCHITECTURE writes paths from the crates' and the plugin's folders
        if p.name not in {"CHANGELOG.md", "ARCHITECTURE.md"} and "findings" not in p.parts
    ),
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_every_path_that_a_document_writes_out_exists(page: Path) -> None:
    named = {found for found in _PATH.findall(page.read_text(encoding="utf-8")) if "NAME" not in found}
    places = (ROOT, ROOT / "aegis_engine", ROOT / "aegis_engine/python")
    assert not {n for n in named if not any((place / n).exists() for place in places)}
