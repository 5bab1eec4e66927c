"""Counts long sentences in the documents. `python tests/contract/sentences.py --list` prints them.

A sentence is prose: code blocks, HTML, front matter and headings are left out. A list item and a cell of a table are each read
by themselves.
"""

# ruff: noqa: T201

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


def _prose(markdown: str) -> Iterator[str]:
    """The lines, blank where they are no prose: front matter, fenced code, comments, headings."""
    lines = markdown.splitlines()
    if lines and lines[0] == "---" and "---" in lines[1:]:
        lines[: lines.index("---", 1) + 1] = [""] * (lines.index("---", 1) + 1)
    fence = ""
    comment = False
    for line in lines:
        mark = re.match(r"\s*(```+|~~~+)", line)
        starts = not fence and line.lstrip().startswith("<!--")
        if fence or mark or comment or starts or re.match(r"#{1,6}\s", line):
            yield ""
        else:
            yield line
        if fence:
            fence = "" if mark and mark[1].startswith(fence) else fence
        elif mark:
            fence = mark[1]
        elif comment or starts:
            comment = "-->" not in line


def _without_indented_code(lines: Iterator[str]) -> Iterator[str]:
    """The lines, blank where a block is code because it is indented behind a blank line outside a list."""
    blank, item = True, False
    for line in lines:
        if not line.strip():
            blank = True
            yield ""
        elif blank and not item and line.startswith("    "):
            yield ""  # still behind a blank line, for the next one
        else:
            item = bool(_ITEM.match(line)) or (item and (not blank or line.startswith("  ")))
            blank = False
            yield line


def _blocks(markdown: str) -> Iterator[tuple[int, str]]:
    """Paragraphs, list items and cells, each with its first line."""
    held: list[str] = []
    start = 0
    for at, line in enumerate([*_without_indented_code(_prose(markdown)), ""], 1):
        row = line.lstrip().startswith("|")
        if held and (row or not line.strip() or _ITEM.match(line)):
            yield start, " ".join(held)
            held.clear()
        if row and not _RULE.match(line):
            yield from ((at, cell.strip()) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|")))
        elif line.strip() and not row:
            start = start if held else at
            held.append(_ITEM.sub("", line).strip().lstrip("> "))


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
