"""A binding converts: no file access and no writing in `crates/python`. What it did would not hold for users of the crates."""

from __future__ import annotations

import re
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "aegis_engine/crates/python/src"
FILES = re.compile(r"\bstd::fs\b|\bstd::io::(?:\{[^}]*\b)?(?:Read|Write)\b|\bfs::|\bOpenOptions\b|\bFile::")


def test_the_bindings_touch_no_file() -> None:
    sources = sorted(SOURCES.rglob("*.rs"))
    assert len(sources) > 20
    hits = {
        f"{source.relative_to(SOURCES)}:{number}"
        for source in sources
        for number, line in enumerate(source.read_text().splitlines(), 1)
        if FILES.search(line.partition("//")[0])
    }
    assert not hits


def test_the_search_finds_what_it_is_for() -> None:
    for line in ("use std::fs;", "use std::io::Write as _;", "use std::io::{self, Write};", "std::fs::read(path)"):
        assert FILES.search(line), line
