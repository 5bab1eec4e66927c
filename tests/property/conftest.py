"""One governed vault for all property tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from secure import Owner

from aegis_engine import ComplianceEngine, Vault
from aegis_flower.ingest import Terms, ingest


@pytest.fixture(scope="session")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Owner:
    folder: Path = tmp_path_factory.mktemp("owner")
    vault = Vault.create(str(folder / "vault"), key_file=str(folder / "key"), make_key=True)
    vault.govern("core")
    people = [f"person-{i}" for i in range(20)]
    dataset = ingest(vault, "rows", {"x": np.zeros(20, np.float32)}, people, Terms(["research"], require_dp=False))
    return Owner(ComplianceEngine(vault), dataset)
