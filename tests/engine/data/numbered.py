"""Rows that carry their number."""

from __future__ import annotations

import io

import numpy as np
from aegis import Vault
from aegis_engine.dataset import VaultDataset

KEY = bytes(32)
CHUNK = 2**20


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=version)
    return out.getvalue()


def numbered(vault: Vault, count: int, width: int = 300) -> str:
    """Rows that carry their number; more than a chunk of them."""
    rows = np.zeros((count, width), np.float32)
    rows[:, 0] = np.arange(count)
    rows[:, 1:] = 7
    return str(vault.store_bytes(npy(rows), "rows.npy"))


def order(dataset: VaultDataset) -> list[int]:
    return [int(row[0]) for row in dataset]
