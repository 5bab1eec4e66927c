"""Small governed vaults, made by the package's own ingest. A conftest that imports the fixtures gives them to its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aegis_engine import ComplianceEngine, Request, Vault
from aegis_flower.data import Spec
from aegis_flower.ingest import Terms, ingest

TINY = Spec({"height": 1, "pulse": 3}, "ill", 2)


@dataclasses.dataclass
class Governed:
    """A vault under the core bundle with one data set, and what was put into it."""

    vault: Vault
    key_file: Path
    dataset: str
    columns: dict[str, np.ndarray]
    subjects: list[str]
    spec: Spec = TINY
    name: str = "tiny"

    @property
    def folder(self) -> Path:
        return Path(self.vault.path)

    def reopen(self) -> Vault:
        return Vault.open(str(self.folder), key_file=str(self.key_file))

    def engine(self) -> ComplianceEngine:
        return ComplianceEngine(self.vault)

    def permit(self, **asked: Any) -> Any:
        return self.engine().authorize(
            self.dataset, Request(**{"action": "train", "purpose": "research", "run": "1", **asked})
        )


@pytest.fixture
def govern(tmp_path: Path) -> Callable[..., Governed]:
    """Makes governed vaults: rows tell themselves apart by value, two rows to a subject."""

    def make(rows: int = 40, **terms: Any) -> Governed:
        number = len(list(tmp_path.glob("vault-*")))
        key_file = tmp_path / f"key-{number}"
        vault = Vault.create(str(tmp_path / f"vault-{number}"), key_file=str(key_file), make_key=True)
        vault.govern("core")
        values = np.arange(rows, dtype=np.float32)
        columns = {
            "height": values,
            "pulse": np.stack([values + 1000, values + 2000, values + 3000], axis=1),
            "ill": (np.arange(rows) % 2).astype(np.int64),
        }
        subjects = [f"person-{i // 2}" for i in range(rows)]
        dataset = ingest(vault, "tiny", columns, subjects, Terms(**{"purposes": ["research"], **terms}))
        return Governed(vault, key_file, dataset, columns, subjects)

    return make


@pytest.fixture
def governed(govern: Callable[..., Governed]) -> Governed:
    return govern()
