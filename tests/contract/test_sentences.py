"""The documents are read by people: few sentences of more than 35 words, and the counter that says so counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import sentences

MOST = 10
LONG = " ".join(["Word"] * 36) + "."
SHORT = " ".join(["Word"] * 35) + "."


def test_the_documents_have_few_long_sentences() -> None:
    found = {
        f"{path.relative_to(sentences.ROOT)}:{s.line}": s.text
        for path in sentences.documents()
        for s in sentences.long_sentences(path)
    }
    assert len(found) <= MOST, found


def test_the_documents_are_all_read_and_the_findings_are_not() -> None:
    names = {p.relative_to(sentences.ROOT).as_posix() for p in sentences.documents()}
    assert {"README.md", "SECURITY.md", "docs/ENCRYPTION.md", "aegis_engine/README.md"} <= names
    assert not {n for n in names if n.startswith("docs/findings/")}


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (LONG, [36]),
        (SHORT, [35]),
        (f"{SHORT} {LONG}", [35, 36]),
        ("One. Two three! Four five six? Seven.", [1, 2, 3, 1]),
        ("One two\nthree.", [3]),
        ("One.\n\nTwo.", [1, 1]),
        ("# A heading of words\n\nOne.", [1]),
        (f"```sh\n{LONG}\n```\n\nOne.", [1]),
        (f"````md\n```sh\n{LONG}\n```\n{LONG}\n````\nOne.", [1]),
        (f"Before:\n\n    {LONG}\n    {LONG}\n\nOne.", [1, 1]),
        (f"<!-- {LONG}\n{LONG} -->\nOne.", [1]),
        ("- one two\n- three\n  four five", [2, 3]),
        ("1. one two\n2. three", [2, 1]),
        (f"| a | b c |\n|---|---|\n| {SHORT} | {LONG} |", [1, 2, 35, 36]),
        ("`a b c` is [one two](https://example.org/a.b.c) word.", [5]),
        ("See e.g. one, i.e. two.", [5]),
        ("x = 3.5 and y.z stay one sentence", [7]),
        ("One (two three.) Four.", [3, 1]),
    ],
)
def test_the_counter_counts_words_by_sentence_item_and_cell(page: str, words: list[int]) -> None:
    assert [s.words for s in sentences.sentences(page)] == words


def test_a_long_sentence_is_found_with_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{SHORT}\n\n- {LONG}\n")
    (found,) = sentences.long_sentences(page)
    assert (found.line, found.words) == (5, 36)
    script = Path(sentences.__file__)
    done = subprocess.run(
        [sys.executable, str(script), "--list", str(page)], capture_output=True, text=True, check=True
    )
    assert "1 of    2 sentences" in done.stdout
    assert "line 5, 36 words" in done.stdout
