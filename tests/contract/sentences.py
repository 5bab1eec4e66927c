"""Counts long sentences in the documents. `python tests/contract/sentences.py --list` prints them.

A sentence is prose: code blocks, HTML, front matter and headings are left out. A list item and a table's cell are each read by themselves.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
LONGEST = 35
OTHERS = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "aegis_engine/README.md")

_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+")
_RULE = re.compile(r"^\s*\|?[\s:|-]+\|?\s*$")
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|cf|vs|al|etc|no|fig|sec|resp)\.", re.IGNORECASE)
# A sentence ends in . ! or ?, perhaps behind a closing mark, before white space and a capital, digit or opening mark.
_END = re.compile(r"(?<=[.!?])[\"'”’)\]*_]*\s+(?=[\"'“‘(\[*_`]*[A-ZÀ-Þ0-9ε-ωα-δσμ√`])")


class Sentence(NamedTuple):
    """Where a sentence begins, how many words it has, what it says."""

    line: int
    words: int
    text: str


def documents(root: Path = ROOT) -> list[Path]:
    """The documents that are counted: `docs/` but for the tables of findings, and the pages of the root."""
    docs = [p for p in sorted((root / "docs").rglob("*.md")) if "findings" not in p.relative_to(root).parts]
    return [*docs, *(root / name for name in OTHERS if (root / name).exists())]


def _plain(text: str) -> str:
    """The words as a reader meets them: code is one word, a link is its text."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`+[^`]*`+", "`code`", text)
    return _ABBREVIATION.sub(r"\1", re.sub(r"<[^>]+>", " ", text))


def _blocks(markdown: str) -> Iterator[tuple[int, str]]:
    """Paragraphs, list items and cells, each with its first line."""
    held: list[str] = []
    start = 0
    fence = ""
    comment = False

    def flush() -> Iterator[tuple[int, str]]:
        if held:
            yield start, " ".join(held)
            held.clear()

    lines = markdown.splitlines()
    if lines and lines[0] == "---" and "---" in lines[1:]:
        end = lines.index("---", 1)
        lines[: end + 1] = [""] * (end + 1)
    inside_item = False
    for at, line in enumerate(lines, 1):
        mark = re.match(r"^\s*(```+|~~~+)", line)
        if fence:
            fence = "" if mark and mark[1].startswith(fence) else fence
            continue
        if mark:
            yield from flush()
            fence = mark[1]
            continue
        if comment or line.lstrip().startswith("<!--"):
            yield from flush()
            comment = "-->" not in line
            continue
        if not line.strip():
            yield from flush()
            continue
        after_blank = at == 1 or not lines[at - 2].strip()
        if line.startswith("    ") and after_blank and not inside_item and not _ITEM.match(line):
            lines[at - 1] = ""  # code by indent: its next line follows a blank one, too
            continue
        inside_item = inside_item and (not after_blank or line.startswith("  "))
        if re.match(r"^#{1,6}\s", line):
            yield from flush()
            inside_item = False
            continue
        if line.lstrip().startswith("|"):
            yield from flush()
            if not _RULE.match(line):
                for cell in re.split(r"(?<!\\)\|", line.strip().strip("|")):
                    yield at, cell.strip()
            continue
        if _ITEM.match(line):
            yield from flush()
            inside_item = True
        if not held:
            start = at
        held.append(_ITEM.sub("", line).strip().lstrip("> "))
    yield from flush()


def sentences(markdown: str) -> Iterator[Sentence]:
    """Every sentence of a page."""
    for line, block in _blocks(markdown):
        for text in _END.split(_plain(block)):
            words = [w for w in text.split() if re.search(r"\w", w)]
            if words:
                yield Sentence(line, len(words), text.strip())


def long_sentences(path: Path, longest: int = LONGEST) -> list[Sentence]:
    """The sentences of a page with more than `longest` words."""
    return [s for s in sentences(path.read_text(encoding="utf-8")) if s.words > longest]


def main() -> None:
    """Prints how many long sentences each page has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="print each long sentence")
    parser.add_argument("--longest", type=int, default=LONGEST, help="words that a sentence may have")
    parser.add_argument("pages", nargs="*", type=Path, help="pages to read; all by default")
    arguments = parser.parse_args()
    total = 0
    for path in arguments.pages or documents():
        every = list(sentences(path.read_text(encoding="utf-8")))
        found = [s for s in every if s.words > arguments.longest]
        total += len(found)
        mean = sum(s.words for s in every) / max(1, len(every))
        print(f"{len(found):4} of {len(every):4} sentences, mean {mean:4.1f} words  {path}")
        if arguments.list:
            for s in found:
                print(f"      line {s.line}, {s.words} words: {s.text}")
    print(f"{total:4} sentences of more than {arguments.longest} words")


if __name__ == "__main__":
    main()
