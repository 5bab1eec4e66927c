"""What is made from the code is as the code makes it: `make generated` writes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from generated import ROOT, between, files

FILES = files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_committed_file_is_what_the_code_makes_of_it(path: Path) -> None:
    assert path.read_bytes() == FILES[path].encode(), f"{path.relative_to(ROOT)} is out of date: make generated"


def test_text_around_a_table_stays() -> None:
    text = "before\n<!-- generated: a -->\n\nold\n\n<!-- end -->\nafter <!-- end -->\n"
    assert between(text, "a", "new") == text.replace("old", "new")
    with pytest.raises(ValueError, match="must stand there once"):
        between(text, "b", "new")
