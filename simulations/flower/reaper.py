"""Kills what a deployment left behind. A program of its own: ``python -I -S reaper.py MARK``, with process groups on its input.

Its input ends when the deployment closes it or dies, however it dies; then it kills what is left. On Linux it finds
descendants that left their group (a SuperLink's SuperExec, Ray) by the mark in their environment; elsewhere those watch their
parent and go by themselves.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

PROC = Path("/proc")


def groups_of(lines: Iterable[str]) -> set[int]:
    """Process groups that were started (``+PGID``) and not ended (``-PGID``)."""
    found: set[int] = set()
    for line in lines:
        (found.add if line[0] == "+" else found.discard)(int(line[1:]))
    return found


def marked(mark: bytes) -> Iterator[int]:
    """Processes with the mark in their environment."""
    for folder in PROC.iterdir() if (PROC / "self").is_dir() else ():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


def kill(how: Callable[[int, int], None], whom: int) -> None:
    """Sends SIGKILL; who is gone already is gone."""
    with contextlib.suppress(OSError):
        how(whom, signal.SIGKILL)


def main(mark: str) -> None:
    """Waits for the end of the input, then kills."""
    for group in groups_of(sys.stdin):
        kill(os.killpg, group)
    for _ in range(50):
        left = list(marked(mark.encode()))
        if not left:
            break
        for pid in left:
            kill(os.kill, pid)
        time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1])
