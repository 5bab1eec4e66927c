"""Build: a folder of an app becomes the bundle that Flower would make of it. Flower reads its files and imports none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from aegis_flower.errors import BadBundle

_MOST: Final = 20_000  # entries of a folder that are looked at


def build(folder: Path) -> bytes:
    """The bundle of an app's folder, byte for byte that of ``flwr build`` and ``flwr run``.

    ``flwr build`` itself imports the app's package to see whether its modules are there. This does not.

    Raises:
        BadBundle: there is no app in the folder, or Flower would not bundle it; says why.
    """
    # The one place outside `service` that needs a module of Flower's own: its command runs code of the app.
    from flwr.cli.build import build_fab_from_disk

    try:
        fab: bytes = build_fab_from_disk(folder)
    except (ValueError, OSError, TypeError, AttributeError, RecursionError) as error:
        raise BadBundle(f"{folder} cannot be made a Flower App Bundle: {error}") from None
    return fab


def links(folder: Path) -> list[str]:
    """Symbolic links in a folder: what they lead to is bundled in their place, wherever that lies."""
    found: list[str] = []
    seen = 0
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            seen += 1
            if (Path(root) / name).is_symlink():
                found.append((Path(root) / name).relative_to(folder).as_posix())
        if seen > _MOST:
            found.append(f"more than {_MOST} files; not all were looked at")
            break
    return found
