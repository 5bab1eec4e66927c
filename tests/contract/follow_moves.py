"""Rewrites paths in the documents after files have moved: `python tests/contract/follow_moves.py OLD_COMMIT [NEW_COMMIT]`.

Reads the renames between two commits from git, and replaces each old path in the documents by the new one, with and without the
prefix `aegis_engine/`. Bare file names (`durable.rs`) and split files are for a person to look at: they are printed.
"""

# ruff: noqa: T201

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PREFIX = "aegis_engine/"
PAGES = ("docs/**/*.md", "*.md", "aegis_engine/README.md")


def moves(old: str, new: str) -> dict[str, str]:
    """Old path to new path of each file that git takes for renamed."""
    listed = subprocess.run(
        ["git", "diff", "--name-status", "--diff-filter=R", "-M40%", "-l0", old, new],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {parts[1]: parts[2] for parts in (line.split("\t") for line in listed.stdout.splitlines())}


def follow(text: str, moved: dict[str, str]) -> str:
    """The text with each old path replaced, as a whole path only."""
    pairs = dict(moved)
    for before, after in moved.items():
        if before.startswith(PREFIX) and after.startswith(PREFIX):
            pairs[before.removeprefix(PREFIX)] = after.removeprefix(PREFIX)
    for before in sorted(pairs, key=len, reverse=True):
        text = re.sub(rf"(?<![\w/.-]){re.escape(before)}(?![\w/-])", pairs[before], text)
    return text


def main() -> None:
    """Rewrites the documents of this checkout."""
    old, new = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "HEAD"
    moved = moves(old, new)
    names = {Path(before).name for before, after in moved.items() if Path(before).name != Path(after).name}
    for page in sorted({p for pattern in PAGES for p in ROOT.glob(pattern)}):
        before = page.read_text(encoding="utf-8")
        after = follow(before, moved)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"{page.relative_to(ROOT)}: paths follow")
        bare = sorted(n for n in names if re.search(rf"(?<![\w/.-]){re.escape(n)}(?![\w/-])", after))
        if bare:
            print(f"{page.relative_to(ROOT)}: look at {', '.join(bare)}")


if __name__ == "__main__":
    main()
