"""Small vaults, made by the package's own ingest: one that is governed, one with a ledger, one whose rows are streamed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from governed_vaults import govern, governed
from ledgers import Book

from aegis_engine import ComplianceEngine, Request, Vault
from aegis_flower.data import Spec
from aegis_flower.ingest import Terms, ingest

__all__ = ["govern", "governed"]


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
        permit = engine.authorize(dataset, Request(action="train", purpose="research"))
        return PermitDataset(vault, permit, Spec({"x": columns["x"].shape[1]}, "y", 2))

    return make
