"""Bundles for tests: built by Flower itself, or by hand where Flower would not build them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

PROJECT = """
[project]
name = "study"
version = "1.2.0"
dependencies = ["flwr>=1.41"]
license = "MIT"

[tool.flwr.app]
publisher = "clinic"

[tool.flwr.app.components]
serverapp = "study.server:app"
clientapp = "study.client:app"

[tool.flwr.app.config]
aegis-experiment = "quickstart"
rounds = 3
deep.lr = 0.1
"""
FILES = {
    "pyproject.toml": PROJECT.encode(),
    "study/__init__.py": b"raise SystemExit('an app was imported')\n",
    "study/client.py": b"app = 1\n",
    "study/server.py": b"app = 2\n",
}


def built(**changed: bytes) -> bytes:
    """A bundle of Flower's own making; names of `changed` have __ for / and lack .py."""
    from flwr.cli.build import build_fab_from_files

    more = {f"{name.replace('__', '/')}.py": data for name, data in changed.items()}
    fab: bytes = build_fab_from_files({**FILES, **more})[0]
    return fab


def packed(
    files: Mapping[str, bytes] | Sequence[tuple[str | zipfile.ZipInfo, bytes]], *, manifest: bool = True, **options: Any
) -> bytes:
    """An archive of these files as they are, with a manifest of them."""
    whole = io.BytesIO()
    pairs = list(files.items()) if isinstance(files, Mapping) else list(files)
    with zipfile.ZipFile(whole, "w", options.get("compression", zipfile.ZIP_DEFLATED)) as archive:
        lines = []
        for name, data in pairs:
            archive.writestr(name, data)
            shown = name if isinstance(name, str) else name.filename
            lines.append(f"{shown},{hashlib.sha256(data).hexdigest()},{len(data) * 8}")
        if manifest:
            archive.writestr(".info/CONTENT", "\n".join(lines))
    return whole.getvalue()
