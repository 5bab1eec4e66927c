"""Rewrites paths in the documents after files have moved: `python tests/contract/follow_moves.py OLD_COMMIT [NEW_COMMIT]`.

Reads the renames between two commits from git, and replaces each old path in the documents by the new one, with and without the
prefix `aegis_engine/`. Of files that were split, a row of a how-to is led to the one file of the same room that defines its first
name. Bare file names (`durable.rs`) and what is left are for a person to look at: they are printed.
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


def _defines(name: str, file: Path) -> bool:
    keyword = r"(?:fn|struct|enum|trait|const|static|type|class|def|attr)"
    text = file.read_text(encoding="utf-8")
    return bool(
        re.search(rf"\b{keyword} {re.escape(name)}\b|^(?:    )?{re.escape(name)}\b.*(?::=|=|:)", text, re.MULTILINE)
    )


def split(text: str, root: Path = ROOT) -> tuple[str, list[str]]:
    """The text with the rows of gone files led to where their first name is defined, or alone stands; and the files left over."""
    left = []
    for row in [line for line in text.splitlines() if line.startswith("|")]:
        found = re.findall(r"`([^`]+)`", row)
        gone = next(
            (f for f in found if re.match(r"[\w.-]+/[\w./-]+\.(rs|py|pyi)$", f) and not (root / f).exists()), None
        )
        if gone is None:
            continue
        names = found[found.index(gone) + 1 :]
        room = "/".join(gone.split("/")[: 3 if gone.startswith("aegis_engine/crates/") else 1])
        inside = [f for f in sorted((root / room).rglob(f"*{Path(gone).suffix}")) if "tests" not in f.parts]
        there = [f for f in inside if names and _defines(names[0], f)]
        there = there or [f for f in inside if names and names[0] in f.read_text(encoding="utf-8")]
        if len(there) == 1:
            text = text.replace(row, row.replace(f"`{gone}`", f"`{there[0].relative_to(root).as_posix()}`"))
        else:
            left.append(gone)
    return text, left


def main() -> None:
    """Rewrites the documents of this checkout."""
    old, new = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "HEAD"
    moved = moves(old, new)
    names = {Path(before).name for before, after in moved.items() if Path(before).name != Path(after).name}
    for page in sorted({p for pattern in PAGES for p in ROOT.glob(pattern)}):
        before = page.read_text(encoding="utf-8")
        after = follow(before, moved)
        after, left = split(after) if page.parent.name == "how-to" else (after, [])
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"{page.relative_to(ROOT)}: paths follow")
        if left:
            print(f"{page.relative_to(ROOT)}: gone and split: {', '.join(left)}")
        bare = sorted(n for n in names if re.search(rf"(?<![\w/.-]){re.escape(n)}(?![\w/-])", after))
        if bare:
            print(f"{page.relative_to(ROOT)}: look at {', '.join(bare)}")


if __name__ == "__main__":
    main()
