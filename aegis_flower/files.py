"""Files: written whole or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
from collections.abc import Mapping
from pathlib import Path


def write_atomically(contents: Mapping[Path, bytes]) -> None:
    """Writes every file in one step each (temporary file, ``fsync``, rename), none before all could be written.

    Raises:
        OSError: a file cannot be written. No temporary file stays behind.
    """
    token = secrets.token_hex(8)
    drafts = {target: target.with_name(f".{target.name}.{token}.tmp") for target in contents}
    try:
        for target, draft in drafts.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("xb") as file:
                file.write(contents[target])
                file.flush()
                os.fsync(file.fileno())
        for target, draft in drafts.items():
            draft.replace(target)
        for folder in {target.parent for target in contents}:
            _sync_folder(folder)
    finally:
        for draft in drafts.values():
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes the renames in `folder` durable, where the platform lets a folder be opened (Windows does not)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def claim(folder: Path) -> Path:
    """Takes a folder for one run: `folder` itself, or with ``-2``, ``-3`` and so on behind its name where another run has it.

    Two processes that ask at once get two folders; the marker ``.run`` is made exclusively.

    Raises:
        OSError: no folder can be made there.
    """
    for number in itertools.count(1):
        chosen = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        chosen.mkdir(parents=True, exist_ok=True)
        try:
            os.close(os.open(chosen / ".run", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        except FileExistsError:
            continue
        return chosen
    raise AssertionError  # count() does not end
