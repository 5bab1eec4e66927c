"""Small vaults, made by the package's own ingest: one that is governed, one with a ledger, one whose rows are streamed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ledgers import Book

from aegis_engine import ComplianceEngine, Vault
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
        return self.engine().authorize(self.dataset, **{"action": "train", "purpose": "research", "run": "1", **asked})


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


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


@pytest.fixture
def stream(tmp_path: Path) -> Any:
    """Takes rows through a vault and a permit. The next call's consents revoke the stream of the one before."""
    from aegis_flower.stream import PermitDataset

    vault = Vault.create(str(tmp_path / "vault"), key_file=str(tmp_path / "key"), make_key=True)
    vault.govern("core")
    engine, number = ComplianceEngine(vault), itertools.count()

    def make(x: np.ndarray, y: np.ndarray) -> Any:
        columns = {"x": np.asarray(x, np.float32), "y": np.asarray(y, np.int64)}
        subjects = [f"person-{i}" for i in range(len(y))]
        dataset = ingest(vault, f"rows-{next(number)}", columns, subjects, Terms(["research"]), allow_missing=True)
        permit = engine.authorize(dataset, action="train", purpose="research")
        return PermitDataset(vault, permit, Spec({"x": columns["x"].shape[1]}, "y", 2))

    return make
