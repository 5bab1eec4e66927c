"""No plaintext where it must not be: not in any byte that a whole life of a vault writes, not in a core dump.

The marker is 32 random bytes, made here and never given to the child process but inside the file it stores: what a core dump of
the child contains of it comes from the engine. Each test shows first that it would find something.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

# Looks like nothing else: a run of small numbers is in many libraries' tables.
KEY = hashlib.sha256(b"the key of this test").digest()
ROWS = 8192
# As UTF-8 in names and values of attributes; as numbers in records.
NAME = b"name-of-somebody-7c1e5f02a94be83d"
SUBJECT = b"subject-who-is-named-0b44c3d9e6f1"
CONTROL = "control-text-that-must-be-found-5e"

STRACE, GDB = shutil.which("strace"), shutil.which("gdb")


def child_of(place: Path, script: str) -> tuple[list[str], dict[str, str]]:
    (place / "child.py").write_text(script)
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG") if name in os.environ}
    env = {**kept, "TMPDIR": str(place / "scratch"), "HOME": str(place / "scratch"), "PYTHONDONTWRITEBYTECODE": "1"}
    # Library caches (torch, matplotlib) go to HOME when they are made; nothing else may.
    return [sys.executable, str(place / "child.py"), str(place)], env
