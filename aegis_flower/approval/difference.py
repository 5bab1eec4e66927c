"""Difference: what changed between two versions of an app, in lines; bounded, whatever the files are."""

from __future__ import annotations

import difflib
from typing import Final

from aegis_flower.approval.bundle import Bundle

_FILE_MAX: Final = 256 << 10  # bytes: the comparison is quadratic in the worst case
_FILE_LINES: Final = 3000
_LINES: Final = 10_000
_MANIFEST: Final = ".info/CONTENT"  # of hashes, which the files' own lines say already


def difference(old: Bundle, new: Bundle) -> list[str]:
    """A unified diff from one bundle to the other, a line each; empty where nothing changed.

    A file that is no text, or too long to be compared, has one line with both hashes. The lines are the apps' own words: print
    them by `aegis.cli.output.plain`.
    """
    found: list[str] = []
    before, after = ({file.name: file for file in each.files} for each in (old, new))
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if name == _MANIFEST or (was is not None and now is not None and was.sha256 == now.sha256):
            continue
        lines = [_lines(each.contents.get(name, b"")) for each in (old, new)]
        if lines[0] is None or lines[1] is None:
            hashes = " to ".join("nothing" if each is None else each.sha256[:16] for each in (was, now))
            found.append(f"file {name} changed from {hashes}: no text, or too long to be compared")
            continue
        sides = [f"a/{name}" if was else "/dev/null", f"b/{name}" if now else "/dev/null"]
        said = list(difflib.unified_diff(lines[0], lines[1], sides[0], sides[1], lineterm=""))
        found += said or [
            f"file {name} {'is new' if was is None else 'is gone' if now is None else 'changed'}, and empty"
        ]
        if len(found) > _LINES:
            return [*found[:_LINES], f"more than {_LINES} lines changed; compare the bundles by other means"]
    return found


def _lines(data: bytes) -> list[str] | None:
    try:
        lines = data.decode("utf-8").split("\n") if len(data) <= _FILE_MAX else None
    except UnicodeDecodeError:
        return None
    return lines if lines is not None and len(lines) <= _FILE_LINES else None
