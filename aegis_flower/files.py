"""Files: written whole or not at all."""

from __future__ import annotations

import contextlib
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
