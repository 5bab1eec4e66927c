"""One vault for all examples of a property, and pyarrow."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from aegis_engine import Vault

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pc = pytest.importorskip("pyarrow.csv")

KEPT: list[Any] = []


def vault() -> Vault:
    if not KEPT:
        folder = tempfile.TemporaryDirectory()
        KEPT.extend([folder, Vault.create(folder.name + "/v", bytes(32))])
    return KEPT[1]


def scratch() -> Path:
    vault()
    return Path(KEPT[0].name)
