"""An empty vault."""

from __future__ import annotations

from pathlib import Path

import pytest
from aegis import Vault


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.create(tmp_path / "v", key_file=tmp_path / "key", make_key=True)
